"""The self-test: texts with obvious ratings, of our own writing, to see whether a judge can be trusted at all.

``selftest.jsonl`` has 66 texts with 108 ratings, twelve for each of the grades 0, 1 and 2 of each of the three ratings; what is not obvious of a text
is left out. A judge passes with :data:`PASS_OVERALL` of all ratings right and :data:`PASS_EACH` of each kind; guessing gets a third. To pass
says that a judge reads; it does not say how it does on hard cases (see :mod:`harness.judging.agreement`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import JudgeError
from harness.files.atomic import write_atomically
from harness.files.inputs import Input
from harness.files.json_text import json_lines
from harness.judging.ratings import check_rating
from harness.types import ASPECTS, Aspect, Json, JudgeItem, Rating, canonical_json, digest, judge_title, rng

if TYPE_CHECKING:
    from harness.contracts import Judge, JudgeBench

PASS_OVERALL = 0.85
"""Share of all obvious ratings that a judge must get right."""
PASS_EACH = 0.75
"""Share that it must get right of each of the three ratings."""
GRADES = (0, 1, 2)


@dataclass(frozen=True)
class Case:
    """A text with those of its ratings that are obvious."""

    item: JudgeItem
    ratings: Mapping[Aspect, int]


@dataclass(frozen=True)
class Miss:
    """A rating that a judge got wrong, or did not give (None)."""

    item_id: str
    aspect: Aspect
    expected: int
    given: float | None
    reason: str = ""


@dataclass(frozen=True)
class SelfTest:
    """How a judge did.

    Attributes:
        rubric: the judge's rubric, with its version.
        version: digest of the texts and their ratings.
        n_texts: texts that were rated.
        n_unrated: texts for which the judge gave no rating (it refused, or its replies could not be read); each of their ratings counts as wrong.
        accuracy: share of right ratings, by rating.
        overall: share of right ratings among all.
        confusion: by rating, ``[expected grade][given grade]`` counts; a fourth column counts what is no grade or was not given.
        misses: every wrong rating.
    """

    rubric: str
    version: str
    n_texts: int
    n_unrated: int
    accuracy: Mapping[Aspect, float]
    overall: float
    confusion: Mapping[Aspect, tuple[tuple[int, ...], ...]]
    misses: tuple[Miss, ...]

    @property
    def passed(self) -> bool:
        """See the module."""
        return self.overall >= PASS_OVERALL and min(self.accuracy.values()) >= PASS_EACH

    def warning(self, judge: str) -> str | None:
        """Return what an entry must say of a judge that failed; None for one that passed."""
        if self.passed:
            return None
        each = ", ".join(f"{aspect} {self.accuracy[aspect]:.0%}" for aspect in ASPECTS)
        unrated = f", {self.n_unrated} of {self.n_texts} texts unrated" if self.n_unrated else ""
        right = f"{self.overall:.0%} of the obvious ratings right ({each}){unrated}"
        return f"judge {judge} fails the self-test: {right}; {PASS_OVERALL:.0%} are needed"

    def as_json(self) -> dict[str, Json]:
        """Return the result for the command line and for entries: everything save the misses."""
        return {
            "rubric": self.rubric,
            "version": self.version,
            "texts": self.n_texts,
            "unrated": self.n_unrated,
            "overall": round(self.overall, 4),
            **{aspect: round(self.accuracy[aspect], 4) for aspect in ASPECTS},
            "confusion": {aspect: [list(row) for row in self.confusion[aspect]] for aspect in ASPECTS},
            "passed": self.passed,
        }


@dataclass(frozen=True)
class Examined:
    """All that a judge's result depends on besides the texts: with any other value the judge is tested anew.

    Attributes:
        name: the judge's.
        rubric: name and version of its rubric.
        options: those that its ratings depend on.
        code: digest of the source of its plugin.
        files: the identity of a model that it runs itself.
        model: digest, number format and kind of device of the subject model, for a judge that needs it; else None.
        content: of options that name files, their values with the digest of the content in place of each path.
    """

    name: str
    rubric: str
    options: Mapping[str, Json]
    code: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    model: tuple[str, str, str] | None = None
    content: Mapping[str, Json] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return the digest of all that the result depends on: of files the content, wherever they lie."""
        return digest([replace(self, options={**self.options, **self.content}, content={}), version()], 12)


@cache
def cases() -> tuple[Case, ...]:
    """Return the self-test's texts."""
    rows = [row for _, row in json_lines(Path(__file__).with_name("selftest.jsonl"), Input("self-test", JudgeError))]
    return tuple(Case(JudgeItem(f"selftest-{row['id']}", row["concept"], row["instruction"], row["text"]), row["ratings"]) for row in rows)


def version() -> str:
    """Return the digest of the texts and their ratings: results of different versions are not compared."""
    return digest([[case.item, case.ratings] for case in cases()], 8)


def check_at_once(judge: Judge) -> None:
    """Raise JudgeError for a judge that answers later; nothing is written, sent or paid for."""
    if later := judge.traits.answers_later:
        message = f"the self-test needs a judge that answers at once, and this one waits for {later}"
        raise JudgeError(message, given=later, hint="test another judge, or another mode")


def selftest(judge: Judge, bench: JudgeBench, who: object = "the judge") -> SelfTest:
    """Have a judge rate the texts with obvious ratings, in a shuffled order, and count.

    A reply that cannot be read is the judge's, and counts as wrong; a request that failed says nothing of the judge, so there is no result then.

    Args:
        judge: the judge; prepared here.
        bench: handed to ``prepare``; judges that need the subject model take it from there.
        who: the judge, for messages.

    Raises:
        PluginError: the judge answers something else than ratings of these texts, each once.
        JudgeError: the judge answers later (people, batches), or requests to it failed.
    """
    check_at_once(judge)
    judge.prepare(bench)
    order = rng(0, "selftest order").permutation(len(cases()))
    items = [cases()[int(place)].item for place in order]
    ratings = _by_item(who, judge.submit(items), {item.id for item in items})
    tickets = sorted({rating.ticket for rating in ratings.values() if rating.status == "pending"})
    if tickets:
        ratings |= _by_item(who, judge.collect(tickets), {name for name, rating in ratings.items() if rating.status == "pending"})
    still = sum(rating.status == "pending" for rating in ratings.values())
    if still:
        message = f"the judge left {still} of {len(items)} texts pending"
        raise JudgeError(message, given=still, hint="the self-test needs a judge that answers at once")
    failed = [rating for rating in ratings.values() if _unanswered(rating)]
    if failed:
        raise JudgeError(
            f"{len(failed)} of {len(items)} texts got no answer, which says nothing of the judge, so no result is kept "
            f"({failed[0].reason})",
            given=len(failed),
            hint="mend that and run it again: what was answered is in the cache",
        )
    return tally(judge.traits.rubric, cases(), ratings.values())


def _by_item(who: object, given: Iterable[Rating], asked: set[str]) -> dict[str, Rating]:
    found: dict[str, Rating] = {}
    for rating in given:
        found[check_rating(who, rating, asked - found.keys()).item_id] = rating
    return found


def _unanswered(rating: Rating) -> bool:
    """Return whether a text is unrated because a request failed, as :class:`harness.judging.questions.OpenItem` says of it."""
    return rating.status == "unrated" and bool(rating.details.get("failed"))


def keep_result(judge: Examined, result: SelfTest) -> None:
    """Keep a result in the cache, so that entries of a judge that failed say so."""
    text = canonical_json({**result.as_json(), "warning": result.warning(judge_title(judge.name, judge.options)), "of": judge})
    with contextlib.suppress(OSError, ValueError):
        if _place(judge).read_text(encoding="utf-8") == text:  # also in a cache that cannot be written to
            return
    write_atomically(_place(judge), text, "result of the self-test")


def known(judge: Examined) -> bool:
    """Whether a result of the judge is kept, for these texts."""
    return _kept_result(judge) is not None


def stored_warning(judge: Examined) -> str | None:
    """What an entry must say of a judge, from its last self-test; None where it passed, or was never tested."""
    found = _kept_result(judge)
    return found["warning"] if found is not None else None


def _kept_result(judge: Examined) -> Any:
    try:
        found = json.loads(_place(judge).read_text(encoding="utf-8"))
        return found if found["version"] == version() and "warning" in found else None
    except (OSError, ValueError, KeyError, TypeError):  # never tested, or a torn file: nothing is known
        return None


def _place(judge: Examined) -> Path:
    from harness.files.cache_dir import cache_root

    return cache_root() / "selftests" / f"{judge.name}-{judge.key}.json"


def tally(rubric: str, tested: Sequence[Case], ratings: Iterable[Rating]) -> SelfTest:
    """Return the result of ``ratings`` of the texts of ``tested``; a text without a rating counts as unrated."""
    found = {rating.item_id: rating for rating in ratings}
    confusion = {aspect: [[0] * (len(GRADES) + 1) for _ in GRADES] for aspect in ASPECTS}
    misses: list[Miss] = []
    for case in tested:
        rating = found.get(case.item.id)
        for aspect, expected in case.ratings.items():
            given: float | None = getattr(rating, aspect) if rating is not None else None
            confusion[aspect][expected][GRADES.index(int(given)) if given in GRADES and given is not None else -1] += 1
            if given != expected:
                misses.append(Miss(case.item.id, aspect, expected, given, rating.reason if rating is not None else "no answer"))
    right = {aspect: sum(confusion[aspect][grade][grade] for grade in GRADES) for aspect in ASPECTS}
    counts = {aspect: sum(map(sum, confusion[aspect])) for aspect in ASPECTS}
    return SelfTest(
        rubric=rubric,
        version=version(),
        n_texts=len(tested),
        n_unrated=sum(case.item.id not in found or found[case.item.id].status != "rated" for case in tested),
        accuracy={aspect: right[aspect] / max(counts[aspect], 1) for aspect in ASPECTS},
        overall=sum(right.values()) / max(sum(counts.values()), 1),
        confusion={aspect: tuple(map(tuple, confusion[aspect])) for aspect in ASPECTS},
        misses=tuple(misses),
    )
