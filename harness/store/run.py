"""The run store: one folder per run, in which every value lands the moment it exists, so that a killed run goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import StoreError
from harness.store.folder import now
from harness.store.items import ITEM, OUTCOME, PAGE, ItemStore
from harness.store.values import (
    GENERATE,
    ITEM_COLUMNS,
    RATE,
    STEERING,
    JudgeRecord,
    decode,
    decode_answer,
    decode_text,
    encode,
    encode_labeling,
    item_trial,
    of_judge,
    outcome_rating,
    rating_outcome,
    row_item,
    row_outcome,
    text_outcome,
)
from harness.types import ASPECTS, Abstention, Concept, DetectionMethod, Generation, Instruction, Labeling, Method, Rating, Trial, digest

_TEXTS = f"o.stage = '{GENERATE}' AND o.status = 'done'"


@dataclass(frozen=True)
class Record:
    """A trial with what exists of it so far. ``rating`` is one judge's."""

    trial: Trial
    generation: Generation | None
    rating: Rating | None


class RunStore(ItemStore):
    """A run on disk. Open with :meth:`create_or_open` (a run's own process) or :meth:`open` (a later look, or another judge).

    Values are those of :mod:`harness.types` and come back equal and in the order in which they were added. What is added is committed
    before the call returns; the method that takes an iterable of ratings commits each as the iterable yields it. Adding
    what is there already changes nothing, so a resumed run may repeat its steps.

    A trial is an item of kind ``steering``, its text the outcome of stage ``generate``, a rating the outcome of stage ``rate`` whose source is
    the judge's key. The methods here speak of trials, texts and ratings; those of :class:`ItemStore` of items and outcomes of any kind.

    A run is written by one process at a time; others may read it meanwhile.
    """

    def read_everything(self) -> None:
        with self._understood():
            _ = self.started, self.status, self.plan_digest
            if not self.incomplete:
                _ = self.manifest
            self.concepts(), self.instructions(), self.methods(), self.detection_methods(), self.judges(), self.notes()
            for (key,) in self._database.rows("SELECT key FROM labelers"):
                self.labelings(key)
            for (name,) in self._database.rows("SELECT name FROM facts"):
                self.record(name)
            self.trials(), self.generations(), self.items()
            for (stage,) in self._database.rows("SELECT DISTINCT stage FROM outcomes"):
                for outcome in self.outcomes(stage):
                    if stage == RATE:
                        outcome_rating(outcome)

    # --------------------------------------------------------------------------------------------------- what is to be evaluated

    def add_concepts(self, concepts: Sequence[Concept]) -> None:
        """Store the run's concepts. Raises StoreError if other ones are stored."""
        with self._database.transaction("store the concepts"):
            digests = self._concepts.store(concepts)
            stored = [row[0] for row in self._database.rows("SELECT digest FROM concepts ORDER BY position")]
            if stored and stored != digests:
                message = f"the run in {self.folder} has other concepts than those given now"
                raise StoreError(message, given=[concept.id for concept in concepts], hint="choose another folder (--out)")
            if not stored:
                self._database.execute_many("INSERT INTO concepts (digest) VALUES (?)", [(item,) for item in digests])

    def concepts(self) -> list[Concept]:
        """Return the run's concepts; empty before they were added."""
        return [self._concepts.get(row[0]) for row in self._database.rows("SELECT digest FROM concepts ORDER BY position")]

    def add_instructions(self, instructions: Sequence[Instruction]) -> None:
        """Store instructions. Raises StoreError for an id that is stored with another text."""
        self._add_unique("instructions", "instruction", [(item.id, encode(item, f"instruction {item.id!r}")) for item in instructions])

    def instructions(self) -> list[Instruction]:
        """Return the instructions stored."""
        return [decode(Instruction, row[0]) for row in self._database.rows("SELECT value FROM instructions ORDER BY position")]

    def add_labelings(self, labeler_key: str, answers: Sequence[Labeling | Abstention]) -> None:
        """Store all answers of a labeler, which thereby has finished.

        Args:
            labeler_key: the labeler with its options (and whatever else its answers depend on within the run).
            answers: in the labeler's order, which is kept. May be empty.

        Raises:
            StoreError: the labeler has finished with other answers; evidence that is not JSON.
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
                message = f"labeler {labeler_key!r} gave other answers before in the run in {self.folder}"
                raise StoreError(message, given=labeler_key, hint="choose another folder (--out)")

    def labeled_by(self) -> set[str]:
        """Return the keys of the labelers that have finished."""
        return {row[0] for row in self._database.rows("SELECT key FROM labelers")}

    def labelings(self, labeler_key: str) -> list[Labeling | Abstention] | None:
        """Return a labeler's answers in its order, or None if it has not finished."""
        if self._database.value("SELECT 1 FROM labelers WHERE key = ?", (labeler_key,)) is None:
            return None
        sql = "SELECT kind, concept_digest, value FROM answers WHERE labeler_key = ? ORDER BY position"
        rows = self._database.rows(sql, (labeler_key,))
        return [decode_answer(kind, self._concepts.get(concept), value) for kind, concept, value in rows]

    def labeling(self, labeling_id: str) -> Labeling | None:
        """Return a labeling of any labeler by its id, or None. Labelers that agree on concept and features share an id."""
        sql = "SELECT concept_digest, value FROM answers WHERE labeling_id = ? ORDER BY labeler_key, position LIMIT 1"
        for concept, value in self._database.rows(sql, (labeling_id,)):
            answer = decode_answer("labeling", self._concepts.get(concept), value)
            return answer if isinstance(answer, Labeling) else None
        return None

    def add_methods(self, methods: Iterable[Method | DetectionMethod]) -> None:
        """Store methods, with the role that the manifest gives them. Raises StoreError for an id that is stored with another content."""
        roles = {} if self.incomplete else {method.id: method.role for method in self.manifest.methods}
        with self._database.transaction("store the methods"):
            for method in methods:
                kind = STEERING if isinstance(method, Method) else "detection"
                self._add_unique("methods", "method", [(method.id, encode(method, f"method {method.name}"))], kind=kind, role=roles.get(method.id))

    def methods(self) -> list[Method]:
        """Return the steering methods stored."""
        return [decode(Method, value) for value in self._methods(STEERING)]

    def detection_methods(self) -> list[DetectionMethod]:
        """Return the detection methods stored."""
        return [decode(DetectionMethod, value) for value in self._methods("detection")]

    def method_names(self) -> dict[str, str]:
        """What people call each method stored, by its id, in order."""
        names = {method.id: method.name for method in self.methods()} | {method.id: method.name for method in self.detection_methods()}
        labels = {} if self.incomplete else {method.id: method.name for method in self.manifest.methods}
        return {method_id: labels.get(method_id, name) for method_id, name in names.items()}

    def _methods(self, kind: str) -> list[str]:
        return [row[0] for row in self._database.rows("SELECT value FROM methods WHERE kind = ? ORDER BY position", (kind,))]

    def _add_unique(self, table: str, what: str, items: Sequence[tuple[str, str]], **columns: str | None) -> None:
        """Store (id, value) pairs that are new; refuse another value under an id that is stored."""
        names = ", ".join(("id", "value", *columns))
        with self._database.transaction(f"store the {table}"):
            for identity, value in items:
                stored = self._database.value(f"SELECT value FROM {table} WHERE id = ?", (identity,))
                if stored is None:
                    row = (identity, value, *columns.values())
                    self._database.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", row)
                elif stored != value:
                    message = f"the run in {self.folder} has another {what} {identity!r}"
                    raise StoreError(message, given=identity, hint="choose another folder (--out)")

    # --------------------------------------------------------------------------------------------------- trials and their texts

    def trials(self, method_id: str | None = None) -> list[Trial]:
        """Return the trials stored, of all methods or one."""
        return [item_trial(item) for item in self.items(STEERING, method_id)]

    def add_generation(self, generation: Generation, source: str = "") -> None:
        """Store the text of a trial, made by an engine of this key. Raises StoreError for a trial that is not stored, or that has another text."""
        with self._database.transaction("store a text"):
            sql = f"SELECT value FROM outcomes o WHERE o.item_id = ? AND {_TEXTS}"
            stored = self._database.value(sql, (generation.trial_id,))
            outcome = text_outcome(generation, source)
            if stored is not None:
                if stored != encode(outcome.value, f"the text of trial {generation.trial_id}"):
                    message = f"trial {generation.trial_id} of the run in {self.folder} has another text already; it was kept"
                    raise StoreError(message, given=generation.trial_id, hint="choose another folder (--out)")
                return
            if self._database.value("SELECT 1 FROM items WHERE id = ? AND kind = ?", (generation.trial_id, STEERING)) is None:
                message = f"the run in {self.folder} has no trial {generation.trial_id} to which a text belongs"
                raise StoreError(message, given=generation.trial_id, hint="add the trial first")
            self._put_outcome(GENERATE, outcome)

    def generations(self) -> dict[str, Generation]:
        """Return the texts so far, by trial id, in the trials' order."""
        sql = f"SELECT i.id, o.value FROM items i CROSS JOIN outcomes o ON o.item_id = i.id WHERE i.kind = ? AND {_TEXTS} ORDER BY i.position"
        return {trial_id: decode_text(trial_id, value) for trial_id, value in self._database.rows(sql, (STEERING,))}

    # ------------------------------------------------------------------------------------------------------------------ ratings

    def add_judge(self, judge: JudgeRecord) -> str:
        """Store which judge is at work; the key under which its ratings are kept."""
        with self._database.transaction("store the judge"):
            alike = of_judge(judge, self.judges())
            stored = next((other for other in alike[:-1] if other.key == judge.key), None)
            if stored is not None:  # its code, or its files, are again what they were: it comes last once more
                self._database.execute("DELETE FROM judges WHERE key = ?", (judge.key,))
            row = (judge.key, encode(stored or judge, f"judge {judge.name}"))
            self._database.execute("INSERT OR IGNORE INTO judges (key, value) VALUES (?, ?)", row)
        return judge.key

    def judges(self) -> list[JudgeRecord]:
        """Return the judges stored; the first is the one that the run was started with."""
        return [decode(JudgeRecord, row[0]) for row in self._database.rows("SELECT value FROM judges ORDER BY position")]

    def judge_named(self, wanted: str | None) -> JudgeRecord | None:
        """Return a judge by its key or name (of several, the one that rated last); None takes the one that the run was started with.

        None where nobody is asked for and nobody has rated. Raises StoreError for one that has not rated this run.
        """
        if wanted is None:
            return self.own_judge()
        judges = self.judges()
        found = [judge for judge in judges if wanted in (judge.key, judge.name, judge.ranking_key)]
        if not found:
            known = tuple(judge.key for judge in judges) or "none"
            raise StoreError(f"{wanted!r} has not rated the run in {self.folder}", given=wanted, allowed=known, hint="name one of its judges")
        return found[-1]

    def own_judge(self) -> JudgeRecord | None:
        """The judge that the run was started with, as it rated last; None where nobody has rated."""
        judges = self.judges()
        return of_judge(judges[0], judges)[-1] if judges else None

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
            message = f"judge {judge_key!r} is unknown to the run in {self.folder}"
            raise StoreError(message, given=judge_key, hint="call add_judge first")
        return sum(self._add_rating(judge_key, rating, replace) for rating in ratings)

    def _add_rating(self, judge_key: str, rating: Rating, replace: bool) -> bool:
        with self._database.transaction("store a rating"):
            if self._database.value(f"SELECT 1 FROM outcomes o WHERE o.item_id = ? AND {_TEXTS}", (rating.item_id,)) is None:
                message = f"the run in {self.folder} has no text of {rating.item_id!r}, which was rated"
                raise StoreError(message, given=rating.item_id, hint="Rating.item_id must be a trial's id")
            return self._put_outcome(RATE, rating_outcome(rating, judge_key), replace)

    def ratings(self, judge_key: str) -> dict[str, Rating]:
        """Return a judge's ratings so far, whatever their status, by trial id, in the trials' order."""
        return {outcome.item_id: outcome_rating(outcome) for outcome in self.outcomes(RATE, judge_key)}

    def missing_ratings(self, judge_key: str, *, retry_unrated: bool = False) -> list[Generation]:
        """Return the texts that the judge has still to be shown: those it has not seen, with ``retry_unrated`` also those it could not rate."""
        sql = (
            "SELECT i.id, o.value FROM items i CROSS JOIN outcomes o ON o.item_id = i.id "
            "LEFT JOIN outcomes r ON r.item_id = i.id AND r.stage = ? AND r.source = ? "
            f"WHERE i.kind = ? AND {_TEXTS} AND (r.status IS NULL{' OR r.status = ' + repr('failed') if retry_unrated else ''}) ORDER BY i.position"
        )
        return [decode_text(trial_id, value) for trial_id, value in self._database.rows(sql, (RATE, judge_key, STEERING))]

    def unrated(self, judge_key: str) -> list[Rating]:
        """Return the texts that the judge could not rate, with its reasons."""
        return [outcome_rating(outcome) for outcome in self.outcomes(RATE, judge_key, status="failed")]

    def pending(self, judge_key: str) -> list[Rating]:
        """Return the ratings that are still to come, with the tickets to collect them by."""
        return [outcome_rating(outcome) for outcome in self.outcomes(RATE, judge_key, status="pending")]

    def rating_counts(self, judge_key: str) -> dict[str, int]:
        """Return how many of a judge's ratings are ``rated``, ``unrated`` and ``pending``."""
        counts = self.outcome_counts(RATE, judge_key)
        return {"rated": counts["done"], "unrated": counts["failed"], "pending": counts["pending"]}

    def counts(self) -> dict[str, int]:
        """Return how many ``trials`` there are, and how many have their text (``generations``)."""
        trials = self._database.value("SELECT count(*) FROM items WHERE kind = ?", (STEERING,))
        return {"trials": int(trials), "generations": self.outcome_counts(GENERATE)["done"]}

    def records(self, judge_key: str | None = None, method_id: str | None = None) -> Iterator[Record]:
        """Yield every trial with its text and its rating by one judge (none without ``judge_key``), in order; read in pages."""
        where = f"i.position > ? {'AND i.method_id = ?' if method_id is not None else ''} ORDER BY i.position LIMIT {PAGE}"
        last = -1
        while rows := self._database.rows(_RECORDS + where, (RATE, judge_key, STEERING, last, *([method_id] if method_id is not None else []))):
            last = rows[-1][0]
            yield from map(_record, rows)

    def records_at(self, positions: Sequence[int], judge_key: str | None = None) -> Iterator[Record]:
        """Yield the trials at these places (:meth:`positions`), as :meth:`records` does, in the order of the trials; read in pages."""
        for start in range(0, len(positions), PAGE):
            page = positions[start : start + PAGE]
            where = f"i.position IN ({', '.join('?' * len(page))}) ORDER BY i.position"
            yield from map(_record, self._database.rows(_RECORDS + where, (RATE, judge_key, STEERING, *page)))

    def positions(self) -> dict[str, list[int]]:
        """Return the places of the trials by concept id, concepts in the order in which they come: what :meth:`records_at` is given."""
        found: dict[str, list[int]] = {}
        for concept, position in self._database.rows("SELECT concept_id, position FROM items WHERE kind = ? ORDER BY position", (STEERING,)):
            found.setdefault(concept, []).append(position)
        return found

    def positions_of(self, method_id: str) -> dict[str, list[int]]:
        """Return the places of a method's trials by labeling id."""
        found: dict[str, list[int]] = {}
        sql = "SELECT labeling_id, position FROM items WHERE kind = ? AND method_id = ? ORDER BY position"
        for labeling, position in self._database.rows(sql, (STEERING, method_id)):
            found.setdefault(labeling, []).append(position)
        return found

    def steered_labelings(self) -> list[tuple[str, str, str]]:
        """Return method, labeling and concept of the trials, each once, in the order in which they come."""
        sql = "SELECT method_id, labeling_id, concept_id FROM items WHERE kind = ? GROUP BY 1, 2, 3 ORDER BY min(position)"
        return [(method, labeling, concept) for method, labeling, concept in self._database.rows(sql, (STEERING,))]

    def rated(self, judge_key: str, method_id: str) -> Iterator[tuple[Trial, tuple[float, float, float]]]:
        """Yield the trials of a method that a judge has rated, with concept, instruction and fluency, in order; texts are not read."""
        sql = (
            f"SELECT i.position, {ITEM}, {', '.join(f'o.{name}' for name in ASPECTS)} FROM items i CROSS JOIN outcomes o ON o.item_id = i.id "
            f"WHERE o.stage = ? AND o.source = ? AND o.status = 'done' AND i.kind = ? AND i.method_id = ? AND i.position > ? "
            f"ORDER BY i.position LIMIT {PAGE}"
        )
        last, numbers = -1, 1 + len(ITEM_COLUMNS)
        while rows := self._database.rows(sql, (RATE, judge_key, STEERING, method_id, last)):
            last = rows[-1][0]
            for row in rows:
                concept, instruction, fluency = row[numbers:]
                yield item_trial(row_item(row[1:numbers])), (concept, instruction, fluency)


_RECORDS = (
    f"SELECT i.position, {ITEM}, t.value, {OUTCOME} FROM items i "
    f"LEFT JOIN outcomes t ON t.item_id = i.id AND t.stage = '{GENERATE}' AND t.status = 'done' "
    "LEFT JOIN outcomes o ON o.item_id = i.id AND o.stage = ? AND o.source = ? WHERE i.kind = ? AND "
)


def _record(row: tuple[Any, ...]) -> Record:
    """Return the record of a row of :data:`_RECORDS`."""
    text = 1 + len(ITEM_COLUMNS)
    generation = None if row[text] is None else decode_text(row[1], row[text])
    rated = row[text + 2] is not None
    return Record(item_trial(row_item(row[1:text])), generation, outcome_rating(row_outcome(row[text + 1 :])) if rated else None)
