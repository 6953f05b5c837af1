"""The run store: one folder a run, in which every value lands the moment it exists, so that a killed run goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import StoreError
from harness.store.folder import RunFolder, now
from harness.store.values import (
    JudgeRecord,
    decode_answer,
    decode_generation,
    decode_instruction,
    decode_judge,
    decode_method,
    decode_rating,
    decode_trial,
    encode,
    encode_labeling,
)
from harness.types import Abstention, Concept, Generation, Instruction, Json, Labeling, Method, Rating, Trial, digest

_PAGE = 500


@dataclass(frozen=True)
class Record:
    """A trial with what exists of it so far. ``rating`` is one judge's."""

    trial: Trial
    generation: Generation | None
    rating: Rating | None


@dataclass(frozen=True)
class Note:
    """Something worth keeping that is no value of the evaluation: a warning, a timing, library versions. ``created`` is ISO 8601, UTC."""

    created: str
    kind: str
    value: Json


class RunStore(RunFolder):
    """A run on disk. Open with :meth:`create_or_open` (a run's own process) or :meth:`open` (a later look, or another judge).

    Values are those of :mod:`harness.types` and come back equal and in the order in which they were added. What is added is committed
    before the call returns; the methods that take an iterable of generations or ratings commit each as the iterable yields it. Adding
    what is there already changes nothing, so a resumed run may repeat its steps.

    A run is written by one process at a time; others may read it meanwhile.
    """

    # --------------------------------------------------------------------------------------------------- what is to be evaluated

    def add_concepts(self, concepts: Sequence[Concept]) -> None:
        """Store the run's concepts. Raises StoreError if other ones are stored."""
        with self._database.transaction("store the concepts"):
            digests = self._concepts.store(concepts)
            stored = [row[0] for row in self._database.rows("SELECT digest FROM concepts ORDER BY position")]
            if stored and stored != digests:
                raise StoreError(f"the run in {self.folder} has other concepts than those given now; choose another folder (--out)")
            if not stored:
                self._database.execute_many("INSERT INTO concepts (digest) VALUES (?)", [(item,) for item in digests])

    def concepts(self) -> list[Concept]:
        """The run's concepts; empty before they were added."""
        return [self._concepts.get(row[0]) for row in self._database.rows("SELECT digest FROM concepts ORDER BY position")]

    def add_instructions(self, instructions: Sequence[Instruction]) -> None:
        """Store instructions. Raises StoreError for an id that is stored with another text."""
        self._add_unique("instructions", "instruction", [(item.id, encode(item, f"instruction {item.id!r}")) for item in instructions])

    def instructions(self) -> list[Instruction]:
        """The instructions stored."""
        return [decode_instruction(row[0]) for row in self._database.rows("SELECT value FROM instructions ORDER BY position")]

    def add_labelings(self, labeler_key: str, answers: Sequence[Labeling | Abstention]) -> None:
        """Store all answers of a labeler, which thereby has finished.

        Args:
            labeler_key: the labeler with its options (and whatever else its answers depend on within the run).
            answers: in the labeler's order, which is kept. May be empty.

        Raises:
            StoreError: the labeler has finished with other answers; evidence that is no JSON.
        """
        with self._database.transaction("store the labelings"):
            digests = self._concepts.store([answer.concept for answer in answers])
            rows: list[tuple[Any, ...]] = []
            for position, (answer, concept) in enumerate(zip(answers, digests, strict=True)):
                if isinstance(answer, Labeling):
                    rows.append((labeler_key, position, "labeling", answer.id, concept, encode_labeling(answer)))
                else:
                    rows.append((labeler_key, position, "abstention", None, concept, encode({"reason": answer.reason}, "an abstention")))
            answers_digest = digest([row[2:] for row in rows], 32)
            stored = self._database.value("SELECT answers_digest FROM labelers WHERE key = ?", (labeler_key,))
            if stored is None:
                self._database.execute("INSERT INTO labelers VALUES (?, ?, ?)", (labeler_key, answers_digest, now()))
                self._database.execute_many("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?)", rows)
            elif stored != answers_digest:
                raise StoreError(f"labeler {labeler_key!r} gave other answers before in the run in {self.folder}; choose another folder")

    def labelings(self, labeler_key: str) -> list[Labeling | Abstention] | None:
        """A labeler's answers in its order, or None if it has not finished."""
        if self._database.value("SELECT 1 FROM labelers WHERE key = ?", (labeler_key,)) is None:
            return None
        sql = "SELECT kind, concept_digest, value FROM answers WHERE labeler_key = ? ORDER BY position"
        rows = self._database.rows(sql, (labeler_key,))
        return [decode_answer(kind, self._concepts.get(concept), value) for kind, concept, value in rows]

    def labeling(self, labeling_id: str) -> Labeling | None:
        """A labeling of any labeler by its id, or None. Labelers that agree on concept and features share an id."""
        sql = "SELECT concept_digest, value FROM answers WHERE labeling_id = ? ORDER BY labeler_key, position LIMIT 1"
        for concept, value in self._database.rows(sql, (labeling_id,)):
            answer = decode_answer("labeling", self._concepts.get(concept), value)
            return answer if isinstance(answer, Labeling) else None
        return None

    def add_methods(self, methods: Iterable[Method]) -> None:
        """Store methods."""
        self._add_unique("methods", "method", [(method.id, encode(method, f"method {method.name}")) for method in methods])

    def methods(self) -> list[Method]:
        """The methods stored."""
        return [decode_method(row[0]) for row in self._database.rows("SELECT value FROM methods ORDER BY position")]

    def _add_unique(self, table: str, what: str, items: Sequence[tuple[str, str]]) -> None:
        """Store (id, value) pairs that are new; refuse another value under an id that is stored."""
        with self._database.transaction(f"store the {table}"):
            for identity, value in items:
                stored = self._database.value(f"SELECT value FROM {table} WHERE id = ?", (identity,))
                if stored is None:
                    self._database.execute(f"INSERT INTO {table} (id, value) VALUES (?, ?)", (identity, value))
                elif stored != value:
                    raise StoreError(f"the run in {self.folder} has another {what} {identity!r}; choose another folder (--out)")

    # --------------------------------------------------------------------------------------------------- trials and their texts

    def add_trials(self, trials: Iterable[Trial]) -> None:
        """Store trials; those that are stored keep their place. One transaction."""
        rows = [(trial.id, trial.method_id, encode(trial, f"trial {trial.id}")) for trial in trials]
        with self._database.transaction("store the trials"):
            self._database.execute_many("INSERT OR IGNORE INTO trials (id, method_id, value) VALUES (?, ?, ?)", rows)

    def trials(self, method_id: str | None = None) -> list[Trial]:
        """The trials stored, of all methods or one."""
        return [record.trial for record in self.records(method_id=method_id)]

    def missing_trials(self, method_id: str | None = None) -> list[Trial]:
        """The trials that have no text yet, of all methods or one."""
        return [record.trial for record in self.records(method_id=method_id) if record.generation is None]

    def add_generation(self, generation: Generation) -> None:
        """Store the text of a trial. Raises StoreError for a trial that is not stored, or that has another text."""
        value = encode(generation, f"the text of trial {generation.trial_id}")
        with self._database.transaction("store a text"):
            stored = self._database.value("SELECT value FROM generations WHERE trial_id = ?", (generation.trial_id,))
            if stored is None:
                if self._database.value("SELECT 1 FROM trials WHERE id = ?", (generation.trial_id,)) is None:
                    raise StoreError(
                        f"the run in {self.folder} has no trial {generation.trial_id} to which a text belongs; add the trial first"
                    )
                self._database.execute("INSERT INTO generations VALUES (?, ?, ?)", (generation.trial_id, now(), value))
            elif stored != value:
                raise StoreError(f"trial {generation.trial_id} of the run in {self.folder} has another text already; it was kept")

    def add_generations(self, generations: Iterable[Generation]) -> None:
        """Store texts, each committed as the iterable yields it. Raises as :meth:`add_generation`."""
        for generation in generations:
            self.add_generation(generation)

    def generations(self) -> dict[str, Generation]:
        """The texts so far, by trial id, in the trials' order."""
        return {record.trial.id: record.generation for record in self.records() if record.generation is not None}

    # ------------------------------------------------------------------------------------------------------------------ ratings

    def add_judge(self, judge: JudgeRecord) -> str:
        """Store which judge is at work; the key under which its ratings are kept."""
        row = (judge.key, encode(judge, f"judge {judge.name}"))
        with self._database.transaction("store the judge"):
            self._database.execute("INSERT OR IGNORE INTO judges (key, value) VALUES (?, ?)", row)
        return judge.key

    def judges(self) -> list[JudgeRecord]:
        """The judges stored; the first is the one that the run was started with."""
        return [decode_judge(row[0]) for row in self._database.rows("SELECT value FROM judges ORDER BY position")]

    def add_ratings(self, judge_key: str, ratings: Iterable[Rating], *, replace: bool = False) -> int:
        """Store a judge's ratings, each committed as the iterable yields it. ``Rating.item_id`` is the trial's id.

        A rating takes the place of a pending or unrated one. One that differs from a ``rated`` one is put down as a note of kind
        ``rating-ignored`` instead, so nothing is lost and the first answer stands; ``replace`` lets it take the place.

        Returns:
            How many were stored.

        Raises:
            StoreError: an unknown judge key (see :meth:`add_judge`), or a rating of a text that the run does not have.
        """
        if self._database.value("SELECT 1 FROM judges WHERE key = ?", (judge_key,)) is None:
            raise StoreError(f"judge {judge_key!r} is unknown to the run in {self.folder}; call add_judge first")
        return sum(self._add_rating(judge_key, rating, replace) for rating in ratings)

    def _add_rating(self, judge_key: str, rating: Rating, replace: bool) -> bool:
        value = encode(rating, f"the rating of {rating.item_id}")
        sql = "SELECT status, value FROM ratings WHERE judge_key = ? AND trial_id = ?"
        with self._database.transaction("store a rating"):
            stored = self._database.rows(sql, (judge_key, rating.item_id))
            if not stored and self._database.value("SELECT 1 FROM generations WHERE trial_id = ?", (rating.item_id,)) is None:
                raise StoreError(
                    f"the run in {self.folder} has no text of {rating.item_id!r}, which was rated; Rating.item_id is a trial's id"
                )
            if stored and stored[0][1] == value:
                return False
            if stored and stored[0][0] == "rated" and not replace:
                self.note("rating-ignored", {"judge": judge_key, "ignored": json.loads(value)})
                return False
            row = (judge_key, rating.item_id, rating.status, now(), value)
            self._database.execute("INSERT OR REPLACE INTO ratings VALUES (?, ?, ?, ?, ?)", row)
            return True

    def ratings(self, judge_key: str) -> dict[str, Rating]:
        """A judge's ratings so far, whatever their status, by trial id, in the trials' order."""
        return {record.trial.id: record.rating for record in self.records(judge_key) if record.rating is not None}

    def missing_ratings(self, judge_key: str, *, retry_unrated: bool = False) -> list[Generation]:
        """The texts that the judge has still to be shown: those it has not seen, with ``retry_unrated`` also those it could not rate."""
        again = ("unrated",) if retry_unrated else ()
        return [
            record.generation
            for record in self.records(judge_key)
            if record.generation is not None and (record.rating is None or record.rating.status in again)
        ]

    def unrated(self, judge_key: str) -> list[Rating]:
        """The texts that the judge could not rate, with its reasons."""
        return [rating for rating in self.ratings(judge_key).values() if rating.status == "unrated"]

    def pending(self, judge_key: str) -> list[Rating]:
        """The ratings that are still to come, with the tickets to collect them by."""
        return [rating for rating in self.ratings(judge_key).values() if rating.status == "pending"]

    def rating_counts(self, judge_key: str) -> dict[str, int]:
        """How many of a judge's ratings are ``rated``, ``unrated`` and ``pending``."""
        rows = self._database.rows("SELECT status, count(*) FROM ratings WHERE judge_key = ? GROUP BY status", (judge_key,))
        return {"rated": 0, "unrated": 0, "pending": 0, **dict(rows)}

    def counts(self) -> dict[str, int]:
        """How many ``trials`` there are, and how many have their text (``generations``)."""
        return {table: int(self._database.value(f"SELECT count(*) FROM {table}")) for table in ("trials", "generations")}

    def records(self, judge_key: str | None = None, method_id: str | None = None) -> Iterator[Record]:
        """Every trial with its text and its rating by one judge (none without ``judge_key``), in order; read in pages."""
        last = -1
        sql = (
            "SELECT t.position, t.value, g.value, r.value FROM trials t LEFT JOIN generations g ON g.trial_id = t.id "
            "LEFT JOIN ratings r ON r.trial_id = t.id AND r.judge_key = ? "
            f"WHERE t.position > ? {'AND t.method_id = ?' if method_id is not None else ''} ORDER BY t.position LIMIT {_PAGE}"
        )
        while rows := self._database.rows(sql, (judge_key, last, *([method_id] if method_id is not None else []))):
            last = rows[-1][0]
            for _, trial, generation, rating in rows:
                yield Record(
                    decode_trial(trial),
                    None if generation is None else decode_generation(generation),
                    None if rating is None else decode_rating(rating),
                )

    # -------------------------------------------------------------------------------------------------------------------- notes

    def note(self, kind: str, value: Json) -> None:
        """Keep a warning, a timing, versions, … under a kind of the caller's choice."""
        text = encode(value, f"a note of kind {kind!r}")
        with self._database.transaction("store a note"):
            self._database.execute("INSERT INTO notes (created, kind, value) VALUES (?, ?, ?)", (now(), kind, text))

    def notes(self, kind: str | None = None) -> list[Note]:
        """The notes of a kind (None: of all kinds), oldest first."""
        where, values = ("", ()) if kind is None else ("WHERE kind = ?", (kind,))
        rows = self._database.rows(f"SELECT created, kind, value FROM notes {where} ORDER BY id", values)
        return [Note(created, stored_kind, json.loads(value)) for created, stored_kind, value in rows]
