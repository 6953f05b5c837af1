"""Which dictionaries are measured: those of the task, each trained seed apart, and controls of each. Listed first, opened one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from harness.contracts import MetricTraits
from harness.errors import UnknownNameError
from harness.measuring.texts import sample_texts
from harness.measuring.vectors import kept_vectors
from harness.run.bench import TaskBench
from harness.run.trained import training_config, training_vectors
from harness.sae.subject import FIXED_CONTROLS, TRAINED, TRAINED_CONTROLS, DictionarySubject
from harness.types import Json, digest

if TYPE_CHECKING:
    from harness.sae.dictionary import Dictionary
    from harness.sae.training.activations import Harvest

CONTROL_SEEDS = 3
"""Draws of a control: the fewest that have an interval."""

_VERSION = 1

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class SubjectRef:
    """A dictionary to measure, by name: listing them loads, trains and draws nothing.

    Attributes:
        dictionary: name within the task of the dictionary, or of the ``[[train]]`` table whose seeds belong together.
        arm: ``trained``, or the control's name.
        seed: that it was trained or drawn with; None for a dictionary of a file, and for a control in which nothing is drawn.
        member: name in ``bench.dictionaries`` of the dictionary itself, a control that is trained among them, or of the one that any other control
            is matched to.
        layer: whose output it reads.
    """

    dictionary: str
    arm: str
    seed: int | None
    member: str
    layer: int

    @property
    def id(self) -> str:
        """Identifies it within the task."""
        return digest([self.dictionary, self.arm, self.seed, self.member])

    @property
    def is_trained(self) -> bool:
        """Return whether it is a dictionary of the task itself, a control that is trained among them."""
        return self.arm in (TRAINED, *TRAINED_CONTROLS)

    @property
    def title(self) -> str:
        """For people: ``sae``, ``sae (seed 1)``, ``sae: random (seed 1)``."""
        name = self.dictionary if self.arm == TRAINED else f"{self.dictionary}: {self.arm}"
        return name if self.seed is None else f"{name} (seed {self.seed})"


def list_subjects(
    bench: TaskBench, dictionaries: Sequence[str] = (), controls: Sequence[str] = ("random",), control_seeds: int = CONTROL_SEEDS
) -> list[SubjectRef]:
    """Return the dictionaries to measure, in the task's order, each with its seeds and then its controls.

    Args:
        bench: the task's bench.
        dictionaries: names of the task's dictionaries and ``[[train]]`` tables; none for all.
        controls: names of controls: those of :data:`harness.sae.controls.CONTROLS`, each matched to the dictionary (of its first seed), and those
            that a ``[[train]]`` table trains, which have its seeds, and which other dictionaries do not have.
        control_seeds: draws of each control that is not trained, from seed 0 up.

    Raises:
        UnknownNameError: a dictionary that the task does not have, a control that does not exist.
    """
    from harness.sae.controls import control

    members = _members(bench)
    for name in dictionaries:
        if name not in members:
            raise UnknownNameError(f"dictionary of task {bench.task.name}", name, members)
    trains = {table.name: table.control_names for table in bench.task.file.train}
    for name in controls:
        if not any(name in names for names in trains.values()):
            control(name)
    found = []
    for name in dictionaries or members:
        seeds, layer = members[name]
        found += [SubjectRef(name, TRAINED, seed, member, layer) for member, seed in seeds.items()]
        for arm in controls:
            if arm in TRAINED_CONTROLS:
                found += [SubjectRef(name, arm, seed, member, layer) for member, seed in trains.get(name, {}).get(arm, {}).items()]
            else:
                drawn = (None,) if arm in FIXED_CONTROLS else range(control_seeds)
                found += [SubjectRef(name, arm, seed, name, layer) for seed in drawn]
    return found


def open_subject(bench: TaskBench, ref: SubjectRef, everybody: Sequence[SubjectRef]) -> DictionarySubject:
    """Return the dictionary with all that is known of it; trained or drawn now where it was not before.

    Args:
        bench: the task's bench.
        ref: which.
        everybody: those that are measured, as :func:`list_subjects` gave them: siblings and neighbours come from them. They are loaded when a
            metric asks for them.
    """
    dictionary = _open(bench, ref)
    recipe: dict[str, Json] = {"control": ref.arm, "seed": ref.seed}
    if ref.is_trained:
        recipe = dict(dictionary.cfg["metadata"].get("harness_training") or {})
    siblings = [other for other in everybody if (other.dictionary, other.arm) == (ref.dictionary, ref.arm) and other != ref]
    near: dict[int, SubjectRef] = {}
    for other in everybody:
        if other.layer == ref.layer or other.arm != ref.arm:
            continue
        # that of the same seed where there is one, else the first
        if other.layer not in near or (near[other.layer].seed != ref.seed and other.seed == ref.seed):
            near[other.layer] = other
    return DictionarySubject(
        name=ref.dictionary,
        dictionary=dictionary,
        arm=ref.arm,
        training_seed=ref.seed if ref.seed is not None else recipe.get("seed"),
        siblings=_Opened(siblings, lambda other: _open(bench, other)),
        neighbours=_OpenedByKey(near, lambda other: _open(bench, other)),
        truth=bench.synthetic.truth if bench.synthetic is not None else None,
        recipe=recipe or None,
        vectors=_vectors(bench, ref),
    )


def unmet(traits: MetricTraits, subject: DictionarySubject, bench: TaskBench) -> str:
    """Return why a metric can't be measured on this subject, or empty: the reason of a measurement without a value."""
    lacking = {
        "model": "" if bench.synthetic is None else "the task has no language model: its activations are synthetic",
        "corpus": "" if bench.has_corpus else "the task has no corpus",
        "siblings": "" if len(subject.siblings) else "there is no dictionary of another seed (a [[train]] table may have several)",
        "neighbours": "" if len(subject.neighbours) else "the task has no dictionary of another layer",
        "truth": "" if subject.truth is not None else "its true features are not known",
        "recipe": "" if subject.recipe is not None else "how it was trained is not known",
    }
    return "; ".join(why for need in traits.needs if (why := lacking.get(need, "")))


# ------------------------------------------------------------------------------------------------------------------------- inside


def _members(bench: TaskBench) -> dict[str, tuple[dict[str, int | None], int]]:
    """By name of a dictionary's table: its members in ``bench.dictionaries`` with their seeds, and its layer."""
    seeds: dict[str, dict[str, int | None]] = {name: dict(found) for table in bench.task.file.train for name, found in table.members.items()}
    return {name: (seeds.get(name, {name: None}), layer) for name, layer in bench.task.file.table_names.items()}


def _vectors(bench: TaskBench, ref: SubjectRef) -> Callable[[], Harvest] | None:
    """Return what collects the vectors that a dictionary of a ``[[train]]`` table was trained on."""
    table = next((table for table in bench.task.file.train if ref.is_trained and ref.dictionary in table.members), None)
    if table is None:
        return None

    def collect() -> Harvest:
        return training_vectors(bench, table, training_config(bench, table, ref.seed or 0), bench.progress)[1]()

    return collect


def _open(bench: TaskBench, ref: SubjectRef) -> Dictionary:
    return bench.dictionaries[ref.member] if ref.is_trained else _control(bench, ref)


def _control(bench: TaskBench, ref: SubjectRef) -> Dictionary:
    """Return a control, matched on texts of the train part; what matching found is kept, its rows are drawn anew."""
    import numpy as np
    import torch

    from harness.sae.controls import CONTROL_TOKENS, Fitted, control
    from harness.sae.synthetic.source import Samples

    like, kind, seed = bench.dictionaries[ref.member], control(ref.arm), ref.seed or 0
    vectors: Callable[[], torch.Tensor]
    if bench.synthetic is not None:
        samples = Samples("train", 0, CONTROL_TOKENS)
        read, vectors = f"{samples.part} {samples.stop}", lambda: torch.cat([x for _, x in bench.activations(texts=samples)])
    else:
        texts = sample_texts(bench, CONTROL_TOKENS, 0, "train")
        read, vectors = texts.digest, lambda: kept_vectors(bench, like.layer, texts).all()

    def compute(folder: Path) -> None:
        fitted = kind.fit(like, vectors(), seed)
        with (folder / "fitted.npz").open("wb") as file:
            found = {} if fitted.rows is None else {"rows": fitted.rows.numpy()}
            np.savez(file, mean=fitted.mean.numpy(), numbers=np.array([fitted.threshold, fitted.scale, fitted.l0]), **found)

    key = {"kind": "control", "version": _VERSION, "control": ref.arm, "seed": seed, "like": like.digest, "layer": like.layer, "texts": read}
    with np.load(bench.artifact(key, compute) / "fitted.npz", allow_pickle=False) as saved:
        threshold, scale, l0 = (float(number) for number in saved["numbers"])
        rows = torch.from_numpy(saved["rows"]) if "rows" in saved else None
        fitted = Fitted(torch.from_numpy(saved["mean"]), threshold, scale, l0, rows)
    return kind.make(like, seed, fitted)


class _Opened(Sequence[V], Generic[K, V]):
    """Things that are opened when they are asked for, and kept by nobody: dictionaries are large."""

    def __init__(self, keys: Sequence[K], make: Callable[[K], V]) -> None:
        self._keys, self._make = keys, make

    @overload
    def __getitem__(self, index: int) -> V: ...
    @overload
    def __getitem__(self, index: slice) -> list[V]: ...
    def __getitem__(self, index: int | slice) -> V | list[V]:
        if isinstance(index, slice):
            return [self._make(key) for key in self._keys[index]]
        return self._make(self._keys[index])

    def __len__(self) -> int:
        return len(self._keys)


class _OpenedByKey(Mapping[int, V], Generic[K, V]):
    """As :class:`_Opened`, by number."""

    def __init__(self, keys: Mapping[int, K], make: Callable[[K], V]) -> None:
        self._keys, self._make = keys, make

    def __getitem__(self, number: int) -> V:
        return self._make(self._keys[number])

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._keys))

    def __len__(self) -> int:
        return len(self._keys)
