"""Does a judge keep its contract?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from harness.contracts import Judge
from harness.run.bench import TaskBench
from harness.run.traits import problem
from harness.testing.require import require, require_json, watched
from harness.types import JudgeItem, Rating


def check_judge(
    factory: Callable[[], Judge], bench: TaskBench, items: Sequence[JudgeItem] | None = None, *, deterministic: bool = True
) -> dict[str, Rating]:
    """Have a judge rate items and check its answers.

    * Its traits state rubric and ``offline``; no items give no ratings.
    * Every item is answered, once, as rated, unrated or pending, and no other item; :class:`Rating` itself refuses a rating outside 0 to 2,
      an unrated item without a reason and a pending one without a ticket.
    * ``collect`` answers tickets, for items that are pending, and a second collection is allowed.
    * Ratings do not depend on the order of the items or on which others are beside them (with ``deterministic``).

    Args:
        factory: makes the judge anew, e.g. ``lambda: MyJudge(MyOptions())``.
        bench: handed to ``prepare``, e.g. :func:`harness.testing.toy_bench`.
        items: what to rate; by default texts of the bench's corpus, an empty one and a very long one among them.
        deterministic: False for a judge that may answer differently each time (people, sampled language models).

    Returns:
        The ratings by item; pending ones as far as they were collected.

    Raises:
        AssertionError: the contract is broken; the message says where.
    """
    judge = factory()
    require(isinstance(judge, Judge), f"{type(judge).__name__} lacks members of harness.contracts.Judge")
    traits = judge.traits
    require(not (why := problem("judge", traits)), why)
    shown = list(items) if items is not None else example_items(bench)
    with watched(bench, "judge", judge, "prepare"):
        judge.prepare(bench)
    require(list(judge.submit([])) == [], "the judge rated something where there was nothing to rate")
    with watched(bench, "judge", judge, "submit"):
        found = _answered(judge, shown)
    if deterministic:
        for order, what in ((shown[::-1], "in another order"), (shown[:1], "alone")):
            other = factory()
            other.prepare(bench)
            for name, rating in _answered(other, order).items():
                same = _content(rating) == _content(found[name])
                require(same, f"item {name!r} was answered {_content(found[name])}, and {what} {_content(rating)}")
    return found


def example_items(bench: TaskBench) -> list[JudgeItem]:
    """Return texts of the corpus as replies, each beside its own and beside another concept; an empty and a long reply."""
    concepts, instructions = bench.concepts, bench.instructions
    texts = ["", *(document.text for document in bench.corpus[:6]), " ".join(document.text for document in bench.corpus[:60])]
    return [
        JudgeItem(f"item-{place}", concepts[place % len(concepts)].text, instructions[place % len(instructions)].text, text)
        for place, text in enumerate(texts)
    ]


def _answered(judge: Judge, items: Sequence[JudgeItem]) -> dict[str, Rating]:
    """Return the judge's answers to ``items``, checked; pending ones collected once."""
    names = {item.id for item in items}
    found = _by_item(judge.submit(items), names, "submit")
    require(set(found) == names, f"submit left items without an answer: {', '.join(sorted(names - set(found)))}")
    tickets = {rating.ticket for rating in found.values() if rating.status == "pending"}
    if tickets:
        owed = {name for name, rating in found.items() if rating.status == "pending"}
        for _ in range(2):  # a program that was stopped asks for the same tickets again
            found.update(_by_item(judge.collect(sorted(tickets)), owed, "collect"))
    return found


def _by_item(ratings: Iterable[Rating], names: set[str], method: str) -> dict[str, Rating]:
    found: dict[str, Rating] = {}
    for rating in ratings:
        require(isinstance(rating, Rating), f"{method} gave {type(rating).__name__}; it must give Rating values")
        require(rating.item_id in names, f"{method} answered item {rating.item_id!r}, which it was not asked for")
        require(rating.item_id not in found, f"{method} answered item {rating.item_id!r} twice")
        require_json(dict(rating.details), f"the details of item {rating.item_id!r}")
        found[rating.item_id] = rating
    return found


def _content(rating: Rating) -> tuple[object, ...]:
    """Return what a rating says, without its ticket."""
    return rating.status, rating.concept, rating.instruction, rating.fluency, rating.reason
