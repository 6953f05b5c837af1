"""Does a judge keep its contract?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from harness.contracts import Judge
from harness.errors import HarnessError
from harness.run.bench import TaskBench
from harness.run.traits import problem
from harness.testing.at_work import Factory, anew, check_interrupted, made, settled, watched
from harness.testing.require import ContractError, require, require_json
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
            same = name not in found or _content(rating) == _content(found[name])
            require(check, same, f"item {name!r} was answered {_content(found[name]) if found else ''}, and {what} {_content(rating)}")


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
    found = _by_item(lambda: judge.submit(items), names, "submit")
    require("values", set(found) == names, f"submit left items without an answer: {', '.join(sorted(names - set(found)))}")
    tickets = {rating.ticket for rating in found.values() if rating.status == "pending"}
    if tickets:
        owed = {name for name, rating in found.items() if rating.status == "pending"}
        for _ in range(2):  # a program that was stopped asks for the same tickets again
            found.update(_collected(judge, sorted(tickets), owed))
    return found


def _collected(judge: Judge, tickets: Sequence[str], owed: set[str]) -> dict[str, Rating]:
    try:
        return _by_item(lambda: judge.collect(tickets), owed, "collect")
    except ContractError as error:
        raise ContractError("tickets", error.message) if error.check == "values" else error from error.__cause__


def _by_item(ask: Callable[[], Iterable[Rating]], names: set[str], method: str) -> dict[str, Rating]:
    found: dict[str, Rating] = {}
    for rating in _stepwise(ask, method):
        require("values", isinstance(rating, Rating), f"{method} gave {type(rating).__name__}; it must give Rating values")
        require("values", rating.item_id in names, f"{method} answered item {rating.item_id!r}, which it was not asked for")
        require("values", rating.item_id not in found, f"{method} answered item {rating.item_id!r} twice")
        require_json(dict(rating.details), f"the details of item {rating.item_id!r}")
        found[rating.item_id] = rating
    return found


def _stepwise(ask: Callable[[], Iterable[Rating]], method: str) -> Iterator[Rating]:
    """Yield a judge's ratings. Raises ContractError for whatever it raises meanwhile, but an error that it has for its user."""
    try:
        yield from ask()
    except (HarnessError, ContractError):
        raise
    except ValueError as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        refused = trace is not None and trace.tb_frame.f_code is Rating.__post_init__.__code__
        raise ContractError("ratings" if refused else "unrated", f"{method} raised {error!r}") from error
    except Exception as error:
        message = f"{method} raised {error!r}; what cannot be rated is Rating(item.id, 'unrated', reason=…)"
        raise ContractError("unrated", message) from error


def _content(rating: Rating) -> tuple[object, ...]:
    """Return what a rating says, without its ticket."""
    return rating.status, rating.concept, rating.instruction, rating.fluency, rating.reason
