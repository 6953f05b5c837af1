"""A bridge between two judges: the same texts rated by both, and by how much scores and differences between methods shift from one to the other.

It stands beside the rankings of either judge and changes no number: nothing is converted. A bridge is a JSON file below ``leaderboard/bridges``; its
``id`` is a digest of its content, so a file that was edited afterwards is found out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from harness.errors import StoreError
from harness.files.atomic import write_atomically
from harness.leaderboard.entry import JudgeRef
from harness.leaderboard.files import describe_problem, faulty_value, read_json
from harness.leaderboard.grouping import GroupKey
from harness.store.manifest import Count, Part, Protocol, TaskRef, Text
from harness.types import Json, Role, digest, judge_title

BRIDGE_SCHEMA_VERSION = 1
FOLDER = Path("leaderboard") / "bridges"
"""Where bridges lie, below ``--out``."""


class Shifted(Part):
    """A number by either judge, and its shift (second − first), paired over concepts.

    ``low`` and ``high`` are the ends of the 95 % interval of ``shift``; null with the reason in ``warning``.
    """

    first: float | None
    second: float | None
    shift: float | None
    low: float | None = None
    high: float | None = None
    n: Count
    """Concepts that both judges gave a value."""
    n_effective: float = Field(ge=0)
    """Effective clusters of concepts, which the interval rests on."""
    warning: str = ""


class MethodShift(Shifted):
    """The shift of a method's score."""

    subject: Text
    """Digest of the method's names and options, as in entries."""
    name: Text
    role: Role


class DifferenceShift(Shifted):
    """The shift of the difference between two methods: ``first`` and ``second`` are (upper − lower) by either judge."""

    upper: Text
    """Name of the method that the other is taken from."""
    lower: Text


class AspectAgreement(Part):
    """How far the judges agree in one rating, over texts that both rated. ``kappa`` is quadratically weighted, ``bias`` second less first."""

    n: Count
    n_missing: Count
    exact: float | None
    kappa: float | None
    kappa_low: float | None
    kappa_high: float | None
    bias: float | None


class Bridge(Part):
    """What two judges make of one run's texts."""

    schema_version: Literal[1] = 1
    id: str = ""
    """Digest of everything but ``created``; filled in where it is not given, checked where it is."""
    created: Text
    harness_version: Text
    task: TaskRef
    protocol: Protocol = Protocol()
    run_digest: Text
    first: JudgeRef
    second: JudgeRef
    metric: Text
    methods: tuple[MethodShift, ...]
    differences: tuple[DifferenceShift, ...]
    agreement: dict[Text, AspectAgreement]
    """By rating, and ``overall``."""

    @model_validator(mode="after")
    def _sealed(self) -> Bridge:
        if self.first.key == self.second.key:
            raise ValueError(f"both judges are {self.first.key}: a bridge needs two")
        expected = self.content_digest()
        if self.id not in ("", expected):
            raise ValueError(f"the id is {self.id}, but the content's is {expected}: the bridge was changed after it was written")
        self.__dict__["id"] = expected
        return self

    def content_digest(self) -> str:
        """Return the digest of everything but ``id`` and ``created``."""
        return digest({name: value for name, value in self.as_json().items() if name not in ("id", "created")})

    def as_json(self) -> dict[str, Json]:
        """Return the bridge as JSON, in the order of the file."""
        found: dict[str, Json] = self.model_dump(mode="json")
        return found

    @property
    def file_name(self) -> str:
        """Return the file's name: the same run, judges and protocol take one place."""
        task = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in self.task.name)
        return f"{task}-{digest([self.run_digest, self.first.key, self.second.key, self.protocol.title])}.json"

    @property
    def title(self) -> str:
        """Return who is bridged to whom; judges of one title are told apart by their rubrics, or else their keys."""
        names = [judge_title(judge.name, judge.options) for judge in (self.first, self.second)]
        if names[0] == names[1]:
            alike = self.first.rubric == self.second.rubric
            names = [
                f"{name} ({judge.key if alike else judge.rubric})" for name, judge in zip(names, (self.first, self.second), strict=True)
            ]
        return " → ".join(names)

    def concerns(self, key: GroupKey) -> bool:
        """Return whether the bridge begins or ends at the judge of a ranking."""
        return bool(key.judge_key) and key.judge_key in (self.first.key, self.second.key)

    def line(self, key: GroupKey) -> str:
        """Return what stands beside a ranking by either judge: the shifts in one sentence."""
        here = (key.task, key.version, key.task_digest) == (self.task.name, self.task.version, self.task.digest)
        where = "" if here else f", measured on task {self.task.name} {self.task.version}"
        where += "" if key.protocol in ("", self.protocol.title) else f", by protocol {self.protocol.title}"
        own = [shift for shift in self.methods if shift.role == "method"] or list(self.methods)
        shifts = ", ".join(f"{shift.name} {shown(shift)}" for shift in own[:_NAMED])
        more = f" and {len(own) - _NAMED} more" if len(own) > _NAMED else ""
        apart = sum(one.low is not None and one.high is not None and not one.low <= 0 <= one.high for one in self.differences)
        differences = f"; differences between methods: {apart} of {len(self.differences)} shift" if self.differences else ""
        overall = self.agreement.get("overall")
        kappa = "" if overall is None or overall.kappa is None else f"; κ {overall.kappa:.2f}"
        return f"bridge {self.title}{where}: score shifts {shifts}{more}{differences}{kappa}; no number is converted"


_NAMED = 3


def shown(shift: Shifted) -> str:
    """Return a shift with its interval, e.g. ``+0.120 [0.050, 0.190]``."""
    if shift.shift is None:
        return "–"
    ends = "" if shift.low is None or shift.high is None else f" [{shift.low + 0.0:.3f}, {shift.high + 0.0:.3f}]"
    return f"{shift.shift + 0.0:+.3f}{ends}"


def save_bridge(bridge: Bridge, out: Path) -> Path:
    """Write a bridge below ``out``, atomically; an earlier one of the same run, judges and protocol is replaced. Returns the file."""
    target = Path(out) / FOLDER / bridge.file_name
    write_atomically(target, json.dumps(bridge.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n", "bridge")
    return target


def load_bridge(path: Path) -> Bridge:
    """Read a bridge.

    Raises:
        StoreError: naming file and field: no such file, no JSON, a newer schema, a field that does not fit, a file that was edited.
    """
    value = read_json(path, "bridge", BRIDGE_SCHEMA_VERSION)
    try:
        return Bridge.model_validate(value)
    except ValidationError as error:
        message = f"the bridge {path} does not validate: {describe_problem(error)}"
        raise StoreError(message, given=faulty_value(error), hint="mend the field, or have `harness judge bridge` make it again") from error


def load_bridges(out: Path) -> tuple[list[Bridge], list[str]]:
    """Return the bridges below ``out``, oldest first, and a message for each file that is not one."""
    found, problems = [], []
    for path in sorted((Path(out) / FOLDER).glob("*.json")):
        try:
            found.append(load_bridge(path))
        except StoreError as error:
            problems.append(str(error))
    return sorted(found, key=lambda bridge: (bridge.created, bridge.id)), problems
