"""Whether an entry says of its plugins what these say of themselves: an offline judge, a labeler that chose by all texts, a strength's unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.leaderboard.entry import Entry, Row
from harness.leaderboard.findings import Finding
from harness.leaderboard.subject import DetectionSubject, DictionarySubjectRef, SteeringSubject
from harness.plugin.host import PluginHost
from harness.plugin.registry import Kind
from harness.types import canonical_json

NAMES = 6
"""So many plugins that are not installed are named."""


def against_plugins(entry: Entry, host: PluginHost) -> tuple[list[Finding], list[str]]:
    """Return where an entry and its plugins disagree, and the plugins that cannot be asked: not installed, or of other options by now."""
    asked = _Asked(host)
    found = [Finding("provenance", "", message) for message in _judge(entry, asked)]
    for row in entry.rows:
        if not isinstance(row.subject, DictionarySubjectRef):
            found += [Finding("provenance", row.subject.name, message) for message in _row(row, row.subject, asked)]
    return found, list(asked.absent)


class _Asked:
    """Traits of plugins, each made once."""

    def __init__(self, host: PluginHost) -> None:
        self._host = host
        self._traits: dict[str, Any] = {}
        self.absent: dict[str, None] = {}

    def traits(self, kind: Kind, name: str, options: Mapping[str, Any]) -> Any:
        """The traits of a plugin with these options; None where it cannot be made here."""
        key = canonical_json([kind, name, dict(options)])
        if key not in self._traits:
            try:
                self._traits[key] = self._host.get(kind, name).create(options).traits
            except Exception:  # a plugin may raise anything; nobody asked for it
                self._traits[key] = None
                self.absent[f"{kind} {name}"] = None
        return self._traits[key]


def _judge(entry: Entry, asked: _Asked) -> Iterator[str]:
    judge = entry.judge
    traits = None if judge is None else asked.traits("judge", judge.name, judge.options)
    if judge is None or traits is None or traits.rubric != judge.rubric:  # another rubric may be another judge
        return
    if traits.offline != judge.offline:
        yield f"judge.offline is {judge.offline}, but judge {judge.name} ({judge.rubric}) says {traits.offline}"


def _row(row: Row, subject: SteeringSubject | DetectionSubject, asked: _Asked) -> Iterator[str]:
    if isinstance(subject, SteeringSubject):
        traits = asked.traits("steerer", subject.steerer, subject.steerer_options.all)
        if traits is not None and traits.unit != subject.strength_unit:
            yield f"the unit of strength is {subject.strength_unit}, but steerer {subject.steerer} says {traits.unit}"
    elif subject.labeler is not None and row.eligible:
        traits = asked.traits("labeler", subject.labeler, subject.labeler_options.all)
        if traits is not None and traits.selects_on == "all":
            yield f"labeler {subject.labeler} chose by all texts, those that are reported on among them: the row may not be eligible"
