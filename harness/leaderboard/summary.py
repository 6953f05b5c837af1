"""What a reader wants to know of a group first, in sentences: who is ahead of whom, and who is beyond its controls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.leaderboard.columns import number
from harness.leaderboard.comparisons import AgainstControl, Comparison
from harness.leaderboard.controls import lacks_random
from harness.leaderboard.grouping import item_noun
from harness.leaderboard.layout import fold
from harness.leaderboard.places import Group, Place

NAMED = 4
"""So many methods are named in a sentence, and so many have a sentence of their own above the table."""
LINES, WIDTH = 2, 77
"""So many lines a method has above the table of a screen of 80 columns, which leaves so many for text; what is longer stands below it."""
PAIRS = 6
"""So many pairs are listed below a table; ``--json`` has all."""


def who_is_ahead(group: Group) -> str:
    """Return who leads the group, and who is behind; empty where there are no two methods to compare."""
    ranked = [place for place in group.places if place.standing == "ranked"]
    if len(ranked) < 2:
        return ""
    if not group.tested:
        return f"who is ahead: not tested ({group.criterion}); by score {names(ranked)}"
    leaders = [place for place in ranked if place.rank is not None and place.rank[0] == 1]
    behind = [place for place in ranked if place not in leaders]
    if not behind:
        return f"who is ahead: not shown, {names(ranked)} cannot be told apart{_lead(group, ranked)}"
    far = f"of {names(behind)}" if len(behind) == 1 else f"of all {len(behind)} others"
    if len(leaders) == 1 and leaders[0].rank == (1, 1):
        return f"ahead: {leaders[0].name}, {far}{_lead(group, ranked)}"
    if all(place.rank is not None and place.rank[1] <= len(leaders) for place in leaders):  # each of them is ahead of each of the others
        return f"ahead: {names(leaders)}, who cannot be told apart; behind: {names(behind, ranks=True)}"
    return f"may be first: {names(leaders, ranks=True)}; shown to be behind another: {names(behind, ranks=True)}"


def _lead(group: Group, ranked: Sequence[Place]) -> str:
    """Return how far the first of two methods is ahead; nothing of more."""
    if len(ranked) != 2 or not group.comparisons:
        return ""
    pair = group.comparisons[0]
    return f" ({lead(pair)})" if pair.difference is not None else ""


def names(places: Sequence[Place], ranks: bool = False) -> str:
    """Return names in a sentence, ``A, B and C``; of many the first."""
    return _listed([f"{place.name} ({place.rank_text})" if ranks else place.name for place in places])


def _listed(found: Sequence[str]) -> str:
    if len(found) > NAMED:
        return f"{', '.join(found[:NAMED])} and {len(found) - NAMED} more"
    return " and ".join([", ".join(found[:-1]), found[-1]]) if len(found) > 1 else found[0]


def lead(pair: Comparison | AgainstControl) -> str:
    """Return a lead with its interval: ``lead 0.12 [0.03, 0.20]``."""
    return f"lead {number(pair.difference, 2)}{_interval(pair)}"


def _interval(pair: Comparison | AgainstControl) -> str:
    return "" if pair.low is None else f" [{number(pair.low, 2)}, {number(pair.high, 2)}]"


# --------------------------------------------------------------------------------------------------------------------------- verdicts


def verdicts(group: Group) -> list[str]:
    """Return a sentence for each method on whether it beats its controls, in the order of the places."""
    return [line for place in group.places if (line := verdict_of(place))]


def verdict_of(place: Place) -> str:
    """Return the sentence of one method; empty where it has no control, and needs none."""
    return _verdict(place) if place.against or lacks_random(place) else ""


def opening_verdicts(group: Group, lead: str = "") -> tuple[list[str], list[str]]:
    """Return what is said of methods above a table and below it.

    Above: of the first methods a sentence of at most two lines, shortened where the whole one is longer. Below: the whole ones of those that were
    shortened, and of all other methods. ``lead`` stands before each above.
    """
    above: list[str] = []
    below: list[str] = []
    for place in group.places:
        if whole := verdict_of(place):
            short = next((text for text in (whole, *_shortened(place)) if _fits(text, lead)), whole) if len(above) < NAMED else ""
            above += [short] if short else []
            below += [whole] if short != whole else []
    return above, below


def _fits(text: str, lead: str) -> bool:
    return len(fold(f"{lead} {text}" if lead else text, WIDTH)) <= LINES


def _shortened(place: Place) -> Iterator[str]:
    """Yield a method's verdict in ever fewer words: that on random features whole, on the others the answers alone, then how many, then none."""
    in_order = _in_order(place)
    first = _lacking(place) or [_clause(in_order[0], len(place.runs))]
    others = in_order if lacks_random(place) else in_order[1:]
    by_answer: dict[str, list[str]] = {}
    for found in others:
        by_answer.setdefault(found.answer, []).append(found.name)
    answers = [f"{', '.join(names)}: {answer}" for answer, names in by_answer.items()]
    yield f"{place.name} {'; '.join([*first, *answers])}"
    counted = ", ".join(f"{answer} {len(names)}" for answer, names in by_answer.items())
    yield f"{place.name} {first[0]}; {len(others)} other controls: {counted}"
    yield f"{place.name} {first[0]}"


def _is_behind(found: AgainstControl) -> bool:
    return found.difference is not None and found.high is not None and found.difference < 0 and found.high <= 0


def _in_order(place: Place) -> list[AgainstControl]:
    """Return the verdicts of a method, that on random features first."""
    return sorted(place.against, key=lambda found: found.kind != "random features")


def _lacking(place: Place) -> list[str]:
    return ["beats random: not tested (no random control of it was run)"] * lacks_random(place)


def _verdict(place: Place) -> str:
    clauses = _lacking(place)
    untested = [found for found in _in_order(place) if found.answer == "not tested"]
    for reason in dict.fromkeys(found.reason for found in untested):
        same = [found.name for found in untested if found.reason == reason]
        clauses.append(f"beats {', '.join(same)}: not tested ({reason})")
    clauses += [_clause(found, len(place.runs)) for found in _in_order(place) if found.answer != "not tested"]
    return f"{place.name} {'; '.join(clauses)}"


def _clause(found: AgainstControl, n_runs: int) -> str:
    """Return the verdict against one control."""
    if found.answer == "not tested":
        return f"beats {found.name}: not tested ({found.reason})"
    if found.answer == "yes":
        return f"beats {found.name}: yes, by {number(found.difference, 2)}{_interval(found)}"
    if found.seed_pairs is not None and found.answer == "not shown" and found.low is not None and found.low > 0:
        ahead, n = found.seed_pairs
        return f"against {found.name}: not shown (ahead in {ahead} of {n} pairs of seeds; {lead(found)})"
    if found.answer == "no" and _is_behind(found) and found.low is not None:
        difference, low, high = found.difference or 0.0, found.low, found.high or 0.0
        return f"beats {found.name}: no, it is behind by {number(-difference, 2)} [{number(-high, 2)}, {number(-low, 2)}]"
    if found.answer == "no":
        limit = "" if found.smallest is None else f", less than {found.smallest:g}"
        return f"beats {found.name}: no ({lead(found)}{limit})"
    if found.low is None:
        return f"beats {found.name}: not shown ({found.reason})"
    these = "this run" if n_runs == 1 else "these runs"
    shown = f"; {these} could have shown {number(found.shown_from, 2)}" if found.shown_from is not None else ""
    return f"against {found.name}: not shown ({lead(found)}{shown})"


# ------------------------------------------------------------------------------------------------------------------------------ pairs


def pair_lines(group: Group) -> list[str]:
    """Return the pairs of methods, where they are few; of many, how many there are."""
    if not group.tested:
        return []
    if len(group.comparisons) > PAIRS:
        apart = sum(pair.apart for pair in group.comparisons)
        return [f"{apart} of {len(group.comparisons)} pairs of methods are apart; `--json` has each with its interval"]
    return [_pair(group, pair) for pair in group.comparisons]


def _pair(group: Group, pair: Comparison) -> str:
    first, second = group.places[pair.first].name, group.places[pair.second].name
    if pair.low is None:
        return f"{first} and {second}: not tested ({pair.reason})"
    noun = item_noun(group.key.kind) + "s" * (pair.n_shared != 1)
    p_value = f", p {pair.p_value:.2g}" if pair.p_value is not None else ""
    answer = "apart" if pair.apart else "not apart"
    answer += ", by stepping down alone" if pair.apart and 0.0 in (pair.low, pair.high) else ""
    return f"{first} and {second}: {answer} ({lead(pair)}{p_value}, paired on {pair.n_shared} {noun})"


def spread_lines(group: Group) -> list[str]:
    """Return how the runs of each method that was run several times differ: a line for all that have as many, of the same seeds."""
    alike: dict[str, list[str]] = {}
    for place in group.places:
        if len(place.runs) > 1 and place.spread.lowest is not None:
            seeds = ", ".join(str(seed) for seed in sorted({run.entry.seed for run in place.runs}))
            sd = f", SD {number(place.spread.sd)}" if place.spread.sd is not None else ""
            ends = f"{number(place.spread.lowest)} and {number(place.spread.highest)}"
            alike.setdefault(f"{len(place.runs)} runs (seed{'s' * (',' in seeds)} {seeds})", []).append(f"{place.name} {ends}{sd}")
    return [f"means of {runs}, lowest and highest score: {'; '.join(methods)}" for runs, methods in alike.items()]
