"""Does a judge keep its contract?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.contracts import Judge, RatesMeanwhile
from harness.run.bench import TaskBench
from harness.run.traits import problem
from harness.testing.at_work import Factory, anew, check_interrupted, made, settled, watched
from harness.testing.meanwhile import check_meanwhile
from harness.testing.require import ContractError, require
from harness.testing.stepwise import by_item, content
from harness.types import JudgeItem, Rating

_ODD = (" \n", "🙂 … —", "<s></s><|endoftext|> [INST] 中文", "ha " * 300)


def check_judge(
    factory: Factory[Judge], bench: TaskBench, items: Sequence[JudgeItem] | None = None, *, deterministic: bool = True
) -> dict[str, Rating]:
    """Have a judge rate items and check its answers.

    * Its traits state rubric and ``offline``; no items give no ratings.
    * Every item is answered, once, as rated, unrated or pending, and no other item; :class:`Rating` itself refuses a rating outside 0 to 2,
      an unrated item without a reason and a pending one without a ticket.
    * No text ends the work: one that cannot be rated (an empty one, one of symbols alone, a very long one) is unrated, with the reason.
    * ``collect`` answers tickets, for items that are pending, and a second collection is allowed.
    * Ratings do not depend on the order of the items or on which others are beside them, and a second judge gives the same (with
      ``deterministic``).
    * One that offers :class:`harness.contracts.RatesMeanwhile` answers each text that it is sent once, as ``submit`` does (with ``deterministic``),
      and may be stopped at any time: nothing is lost, and it may be sent texts again.
    * Process, model and dictionaries are as before, the model also where an error breaks ``submit`` off.

    Args:
        factory: makes the judge anew, e.g. ``lambda: MyJudge(MyOptions())``; or the registered plugin.
        bench: handed to ``prepare``, e.g. :func:`harness.testing.toy_bench`.
        items: what to rate; by default texts of the bench's corpus, an empty one and a very long one among them.
        deterministic: False for a judge that may answer differently each time (people, sampled language models).

    Returns:
        The ratings by item; pending ones as far as they were collected.

    Raises:
        ContractError: the contract is broken; the message says where.
    """
    judge = made(factory)
    require("members", isinstance(judge, Judge), f"{type(judge).__name__} lacks members of harness.contracts.Judge")
    traits = judge.traits
    require("traits", not (why := problem("judge", traits)), why)
    shown = list(items) if items is not None else example_items(settled(bench))
    with watched(settled(bench), "judge", judge, "prepare", first=True):
        judge.prepare(bench)
    require("values", list(judge.submit([])) == [], "the judge rated something where there was nothing to rate")
    with watched(bench, "judge", judge, "submit", first=True):
        found = _answered(judge, shown)
    _check_others(factory, bench, shown, found if deterministic else {})
    if isinstance(judge, RatesMeanwhile) and not (traits.answers_later or traits.needs_model):
        check_meanwhile(factory, bench, shown, found if deterministic else {})
    check_interrupted(bench, "judge", lambda: _prepared(factory, bench), "submit", lambda judge: list(judge.submit(shown)))
    return found


def _check_others(factory: Factory[Judge], bench: TaskBench, items: Sequence[JudgeItem], found: Mapping[str, Rating]) -> None:
    """Have a second judge rate one item alone and then all, and a third one all in another order, and compare with what was ``found``."""
    second = made(factory)
    with anew(bench), watched(bench, "judge", second, "prepare and submit"):
        second.prepare(bench)
        alone, again = _answered(second, items[:1]), _answered(second, items)
    with anew(bench):
        turned = _answered(_prepared(factory, bench), items[::-1]) if found else {}
    ways = ((again, "by a second judge", "determinism"), (turned, "in another order", "batch-invariance"), (alone, "alone", "batch-invariance"))
    for answers, what, check in ways:
        for name, rating in answers.items():
            same = name not in found or content(rating) == content(found[name])
            require(check, same, f"item {name!r} was answered {content(found[name]) if found else ''}, and {what} {content(rating)}")


def _prepared(factory: Factory[Judge], bench: TaskBench) -> Judge:
    judge = made(factory)
    judge.prepare(bench)
    return judge


def example_items(bench: TaskBench) -> list[JudgeItem]:
    """Return texts of the corpus as replies, each beside its own and beside another concept; empty, odd and long replies among them."""
    concepts, instructions = bench.concepts, bench.instructions
    texts = ["", *_ODD, *(document.text for document in bench.corpus[:6]), " ".join(document.text for document in bench.corpus[:60])]
    return [
        JudgeItem(f"item-{place}", concepts[place % len(concepts)].text, instructions[place % len(instructions)].text, text)
        for place, text in enumerate(texts)
    ]


def _answered(judge: Judge, items: Sequence[JudgeItem]) -> dict[str, Rating]:
    """Return the judge's answers to ``items``, checked; pending ones collected once."""
    names = {item.id for item in items}
    found = by_item(lambda: judge.submit(items), names, "submit")
    require("values", set(found) == names, f"submit left items without an answer: {', '.join(sorted(names - set(found)))}")
    tickets = {rating.ticket for rating in found.values() if rating.status == "pending"}
    if tickets:
        owed = {name for name, rating in found.items() if rating.status == "pending"}
        for _ in range(2):  # a program that was stopped asks for the same tickets again
            found.update(_collected(judge, sorted(tickets), owed))
    return found


def _collected(judge: Judge, tickets: Sequence[str], owed: set[str]) -> dict[str, Rating]:
    try:
        return by_item(lambda: judge.collect(tickets), owed, "collect")
    except ContractError as error:
        raise ContractError("tickets", error.message) if error.check == "values" else error from error.__cause__
