"""The leaderboard for programs: JSON, as ``docs/leaderboard.md`` describes it."""

from __future__ import annotations

from dataclasses import asdict

from harness.leaderboard.columns import given_options
from harness.leaderboard.comparisons import AgainstControl, Comparison
from harness.leaderboard.merging import MethodRun
from harness.leaderboard.places import Group, Place
from harness.leaderboard.table import Board
from harness.types import Json


def board_json(board: Board) -> Json:
    """Return the board as JSON: groups with their rows (whole entries are left to their files), published tables, problems."""
    return {
        "groups": [_group(group) for group in board.groups],
        "published": [{**table.model_dump(mode="json"), "ranked": False} for table in board.published],
        "bridges": [bridge.as_json() for bridge in board.bridges],
        "problems": list(board.problems),
    }


def _group(group: Group) -> Json:
    return {
        **asdict(group.key),
        "offline": group.offline,
        "unpaired": group.unpaired,
        "higher_is_better": group.higher_is_better,
        "varies": list(group.varies),
        "tested": group.tested,
        "criterion": group.criterion,
        "verdict_criterion": group.verdict_criterion,
        "smallest_difference": group.smallest,
        "warnings": list(group.warnings),
        "groups": [list(places) for places in group.groups],
        "comparisons": [_comparison(group, pair) for pair in group.comparisons],
        "rows": [_place(group, place) for place in group.places],
    }


def _comparison(group: Group, pair: Comparison) -> Json:
    return {**asdict(pair), "first_name": group.places[pair.first].name, "second_name": group.places[pair.second].name}


def _against(group: Group, found: AgainstControl) -> Json:
    return {**asdict(found), "control_name": group.places[found.control].name}


def _place(group: Group, place: Place) -> Json:
    row = place.row.model_dump(mode="json", exclude={"items", "samples", "reasons"})
    return {
        "rank": None if place.rank is None else list(place.rank),
        "standing": place.standing,
        "reasons": list(place.reasons),
        "entry": place.entry.id,
        "file": place.entry.file_name,
        "created": place.entry.created,
        "seed": place.entry.seed,
        "runs": [_run_json(run) for run in place.runs],
        "spread": asdict(place.spread),
        "name": place.name,
        "options": given_options(place.row.subject),
        "score": place.score.model_dump(mode="json"),
        **row,
        "items": [
            {"id": item.id, "text": item.text, "features": list(item.features), "values": item.values, "strength": item.strength}
            for item in place.row.items
        ],
        "against": [_against(group, found) for found in place.against],
        "win_rate": None if place.win_rate is None else {**asdict(place.win_rate), "against_name": group.places[place.win_rate.against].name},
    }


def _run_json(run: MethodRun) -> Json:
    score = run.row.score
    about = {"entry": run.entry.id, "file": run.entry.file_name, "created": run.entry.created, "seed": run.entry.seed}
    return {**about, "value": score.value, "low": score.low, "high": score.high}
