"""What the commands do, for scripts: load a task, evaluate, rate, look into a run. ``from harness import evaluate, load_run, load_task, rate``.

Nothing is printed, and nothing is asked: what may cost money is refused above ``max_cost`` dollars.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import OptionError, TaskError
from harness.evaluations.entry import make_entry
from harness.evaluations.evaluate import conclude, run_folder, settle
from harness.evaluations.evaluate import evaluate as evaluate_run
from harness.evaluations.prompts import SteeredText, feature_labeling, steered, unsteered
from harness.evaluations.steering.rate import rate as rate_run
from harness.evaluations.steering.rate import rate_texts
from harness.evaluations.steering.retired import check_judge_answers
from harness.evaluations.steering.stored import check_generated
from harness.leaderboard.entry import Entry
from harness.plugin.host import PluginHost
from harness.run.bench import Choices, TaskBench, open_bench
from harness.run.label import checked
from harness.run.manifest import command_of
from harness.run.plan import Asked, make_plan, plan_judge, plan_one, plan_stored_judge
from harness.run.run import Run
from harness.run.strengths import ALL
from harness.store import JudgeRecord, RunStore
from harness.store.manifest import Manifest
from harness.tasks.find import find_task
from harness.tasks.matrix import MARK
from harness.tasks.schema import Task
from harness.types import Abstention, Aggregation, Concept, Instruction, JudgeItem, Labeling, ProtocolName, Rating

if TYPE_CHECKING:
    from pandas import DataFrame
    from typing_extensions import Unpack

    from harness.chat.cost import Estimate
    from harness.run.choices import GivenChoices

Options = Mapping[str, Any]
"""Option values by name, or ``plugin:option`` for one of several; text or typed, as on the command line."""


def load_task(name: str | Path = "demo", *, plugins: Sequence[str | Path] = (), **choices: Unpack[GivenChoices]) -> OpenTask:
    """Return a task with its model, dictionaries and corpus, each made when first asked for.

    Args:
        name: a registered name, a folder with a ``task.toml``, or such a file.
        plugins: Python files whose plugins are used beside the installed ones (``--plugin``).
        choices: what the command line may replace (:class:`harness.run.bench.Choices`): ``concepts``, ``limit``,
                ``seed``, ``device``, ``dtype``, ``corpus``, ….

    Raises:
        UnknownNameError, TaskError: there is no such task, or its file is not valid.
        OptionError: a choice that does not exist.
        PluginError: a plugin file that cannot be used.
    """
    host = PluginHost.load(plugins)
    return OpenTask(find_task(host, str(name)), _choices(choices), host)


def _choices(given: Mapping[str, Any]) -> Choices:
    known = Choices.__dataclass_fields__
    for name in given:
        if name not in known:
            raise OptionError(f"{name!r} cannot be chosen", given=name, allowed=tuple(known))
    chosen = dict(given)
    if "concepts" in chosen:
        names = chosen["concepts"]
        chosen["concepts"] = (names,) if isinstance(names, str) else tuple(names or ())
    return Choices(**chosen)


class OpenTask:
    """A task to work with in a script. Made by :func:`load_task`.

    Attributes:
        task: the task's file and folder.
        host: the plugins of this installation.
    """

    def __init__(self, task: Task, choices: Choices, host: PluginHost, quiet: bool = True) -> None:
        self.task, self.host, self._choices, self._quiet = task, host, choices, quiet

    def __repr__(self) -> str:
        return f"OpenTask({self.task.name!r}, version {self.task.file.version})"

    @cached_property
    def bench(self) -> TaskBench:
        """Return model, dictionaries, corpus, concepts and instructions: what plugins are handed."""
        return open_bench(self.task, self._choices, quiet=self._quiet)

    def label(self, labeler: str, options: Options | None = None) -> list[Labeling | Abstention]:
        """A labeler's answers for the task's concepts; ``labeler`` is ``NAME[:option=value,…]``.

        Raises UnknownNameError, OptionError, PluginError as the command line does.
        """
        planned = plan_one(self.host, self.task, "labeler", labeler, options or {})
        return checked(planned, planned.instance.label(self.bench, self.bench.concepts), self.bench)

    def steer(
        self,
        steerer: str,
        labeling: Labeling,
        strengths: Sequence[float],
        instructions: Sequence[str | Instruction] | None = None,
        options: Options | None = None,
    ) -> list[SteeredText]:
        """Return texts of the subject model under a steerer, one for each strength and instruction, in that order.

        Args:
            steerer: ``NAME[:option=value,…]``.
            labeling: what to steer to; ``Labeling(concept)`` for a steerer without features.
            strengths: in the steerer's unit.
            instructions: what the model is asked; None takes those that the task draws for the concept.
            options: of the steerer.

        Raises:
            OptionError: a strength that is not finite, or for a steerer that has none; a steerer that needs features and a labeling without.
        """
        planned = plan_one(self.host, self.task, "steerer", steerer, options or {})
        return steered(self.bench, planned, labeling, strengths, instructions or self.bench.instructions_for(labeling.concept))

    def feature(self, feature: str | int, concept: Concept | None = None) -> Labeling:
        """Return a labeling for :meth:`steer` with one feature that is named by hand.

        Args:
            feature: its index in the task's first dictionary, or ``DICTIONARY/INDEX``.
            concept: what it stands for; by default its own name.

        Raises:
            UnknownNameError, OptionError: a dictionary or index that does not exist.
        """
        return feature_labeling(self.bench, feature, concept)

    def unsteered(self, instructions: Sequence[str | Instruction]) -> list[str]:
        """Return the subject model's own text for each instruction."""
        return unsteered(self.bench, instructions)


def evaluate(
    task: str | Path | OpenTask = "demo",
    *,
    labelers: Sequence[str] = (),
    steerers: Sequence[str] = (),
    detectors: Sequence[str] = (),
    metrics: Sequence[str] = (),
    judge: str | None = None,
    strengths: Sequence[float] | Mapping[str, Sequence[float]] = (),
    options: Mapping[str, Options] | None = None,
    suppress: bool = False,
    side_effects: bool = False,
    controls: bool | Literal["full"] = True,
    out: str | Path = ".",
    max_cost: float = 0.0,
    plugins: Sequence[str | Path] = (),
    **choices: Unpack[GivenChoices],
) -> StoredRun:
    """Return what ``harness eval`` does; with no plugin named, what the task lists. Given again, it goes on where it stopped.

    Args:
        task: a name, a folder, or what :func:`load_task` gave.
        labelers: labelers, each ``NAME[:option=value,…]`` as on the command line; the same one with other options is another one.
        steerers: steerers, in the same way.
        detectors: detectors, in the same way.
        metrics: metrics, in the same way.
        judge: the judge, in the same way; None takes the task's.
        strengths: to try in place of the task's, for all steerers that have a strength, or by a steerer's name.
        options: option values by kind: ``{"labeler": {"pi0": 0.01}, "steerer": {"sae-clamp:unit": "residual-norm"}}``.
        suppress: methods work against concepts that a prompt asks for, whatever the task says.
        side_effects: also measure what steering costs beside, at the strengths that were chosen.
        controls: run the task's controls beside what is asked for; ``"full"``: also random and other features, and a random direction.
        out: where ``runs/`` and ``leaderboard/entries/`` lie.
        max_cost: dollars that may be spent; what may cost more is refused before anything is sent.
        plugins: Python files whose plugins are used beside the installed ones; not with a task that is open already.
        choices: see :func:`load_task`; not with a task that is open already.

    Raises:
        OptionError: a choice with a task that is open already; a cost above ``max_cost``.
        HarnessError: everything that the command says in one line.
    """
    opened = _opened(task, plugins, choices)
    by_kind = {kind: dict((options or {}).get(kind, {})) for kind in ("labeler", "steerer", "detector", "metric", "judge")}
    asked = Asked(
        tuple(labelers),
        tuple(steerers),
        judge,
        by_kind["labeler"],
        by_kind["steerer"],
        by_kind["judge"],
        controls is not False,
        tuple(detectors),
        tuple(metrics),
        by_kind["detector"],
        by_kind["metric"],
        strengths=_grids(strengths),
        full_controls=controls == "full",
        suppress=suppress,
        side_effects=side_effects,
    )
    return _evaluated(opened, asked, Path(out), max_cost)


def _opened(task: str | Path | OpenTask, plugins: Sequence[str | Path], choices: GivenChoices) -> OpenTask:
    """Return a task, opened now with these plugins and choices, or open already. Raises OptionError for either of them with one that is."""
    if not isinstance(task, OpenTask):
        return load_task(task, plugins=plugins, **choices)
    if late := [*choices, *(["plugins"] if plugins else [])]:
        raise OptionError("the task is open already", given=tuple(late), hint=f"give {', '.join(late)} to load_task")
    return task


def _evaluated(opened: OpenTask, asked: Asked, out: Path, max_cost: float) -> StoredRun:
    """Return the run of what was asked for, begun or gone on with, its entry written."""
    from harness.leaderboard.files import save_entry

    _refuse_matrix(opened.task)
    plan = make_plan(opened.host, opened.task, asked)
    manifest = settle(plan, opened.bench, command_of(_address(opened), opened.bench, asked, opened.host.files))
    folder = run_folder(out, manifest)
    check_judge_answers(plan, folder)
    with Run.begin(folder, manifest, plan, opened.bench, opened.host, _limit(max_cost)) as run:
        entry = evaluate_run(run)
    save_entry(entry, out / "leaderboard" / "entries" / entry.file_name)
    return StoredRun(folder)


def _refuse_matrix(task: Task) -> None:
    """Raise TaskError for a task with a matrix: it is many runs, and one is asked for."""
    if task.file.matrix:
        message = f"task {task.name!r} is a matrix of {len(task.file.cells)} cells"
        hint = f"evaluate them one by one, e.g. {task.name}{MARK}{task.file.cells[0].name}, or run `harness eval`"
        raise TaskError(message, given=task.name, hint=hint)


def _address(opened: OpenTask) -> str:
    """Return what names an open task from any folder."""
    task, registered = opened.task, opened.host.tasks.entries
    if task.cell is None:
        return task.name if task.name in registered else str(task.folder)
    base = task.name.removesuffix(f"{MARK}{task.cell.name}")
    return f"{base if base in registered else task.folder}{MARK}{task.cell.name}"


def _grids(strengths: Sequence[float] | Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    """Grids by a steerer's name, as :class:`Asked` has them."""
    by_name = strengths if isinstance(strengths, Mapping) else {ALL: strengths}
    return {name: tuple(grid) for name, grid in by_name.items() if name != ALL or len(grid) > 0}


def load_run(run: str | Path, out: str | Path = ".") -> StoredRun:
    """Return a stored run, by its folder or by its id (or the beginning of one) below ``out``/runs.

    Raises UnknownNameError or StoreError where there is none.
    """
    from harness.store.listing import find_run

    found = StoredRun(find_run(str(run), Path(out)))
    found.manifest  # noqa: B018 (raises for a file that is not a run)
    return found


def rate(
    texts: StoredRun | Iterable[JudgeItem | SteeredText],
    judge: str,
    options: Options | None = None,
    *,
    task: str | Path | OpenTask = "demo",
    max_cost: float = 0.0,
    plugins: Sequence[str | Path] = (),
) -> list[Rating]:
    """Return a judge's ratings of a run's texts, or of any others.

    Args:
        texts: a run (its ratings are stored there, and only what is missing is asked for), or texts: each with concept, instruction and text.
        judge: ``NAME[:option=value,…]``.
        options: its options, too.
        task: for texts of no run, the task whose subject model a judge may need.
        max_cost: dollars that may be spent.
        plugins: Python files whose plugins are used beside the installed ones; not with a task that is open already.

    Returns:
        The ratings, of a run in the order of its trials, of other texts in theirs.

    Raises:
        JudgeError: the judge answers later, and the texts belong to no run that could wait.
        OptionError: a cost above ``max_cost``.
    """
    if isinstance(texts, StoredRun):
        with texts.open(_limit(max_cost), plugins) as run:
            check_generated(run.manifest, run.store)
            record = rate_run(run, plan_stored_judge(run.host, run.manifest, judge, options or {}))
            conclude(run, record)
            return list(run.store.ratings(record.key).values())
    if isinstance(task, OpenTask) and plugins:
        raise OptionError("the task is open already", given=tuple(plugins), hint="give plugins to load_task")
    opened = task if isinstance(task, OpenTask) else load_task(task, plugins=plugins)
    planned = plan_judge(opened.host, opened.task, judge, options or {})
    items = [
        JudgeItem(f"text-{place}", one.concept, one.instruction, one.text) if isinstance(one, SteeredText) else one
        for place, one in enumerate(texts)
    ]
    _check_price(planned.instance, items, max_cost)
    found = {rating.item_id: rating for rating in rate_texts(planned, items, opened.bench)}
    return [found[item.id] for item in items]


class StoredRun:
    """A run on disk: its manifest, its entry, its values as data frames. Needs neither model nor task."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"StoredRun({str(self.folder)!r})"

    @contextmanager
    def _reading(self) -> Iterator[RunStore]:
        with RunStore.open(self.folder, read_only=True) as store:
            yield store

    def open(self, approve: Any = None, plugins: Sequence[str | Path] = ()) -> Run:
        """Return the run, open for writing, e.g. to be rated; a context manager.

        ``approve`` is called with what may cost money, and raises to refuse; ``plugins`` are Python files whose plugins are used, too.
        """
        return Run.reopen(self.folder, PluginHost.load(plugins), quiet=True, approve=approve)

    @property
    def manifest(self) -> Manifest:
        """Return what the run is."""
        with self._reading() as store:
            return store.manifest

    @property
    def judges(self) -> list[JudgeRecord]:
        """Return who has rated its texts; the first is the one that it was started with."""
        with self._reading() as store:
            return store.judges()

    def entry(self, judge: str | None = None, protocol: ProtocolName | None = None, aggregation: Aggregation | None = None) -> Entry:
        """Return the run's entry, made from its file.

        Args:
            judge: key or name of the judge whose ratings count; None takes the one that the run was started with. Of one whose code has changed
                since, the last ratings count.
            protocol: ``cv`` or ``axbench``; None takes the one that the run was started with.
            aggregation: ``mean-of-harmonic-means`` or ``harmonic-mean-of-means``; None takes the one that the run was started with.

        Raises:
            StoreError: nobody of this name has rated the run.
        """
        with self._reading() as store:
            manifest = store.manifest
            return make_entry(manifest, store, store.judge_named(judge), manifest.protocol.named(protocol, aggregation))

    def texts(self, judge: str | None = None) -> DataFrame:
        """Return trials, texts and one judge's ratings: a row for each trial, with the columns of ``harness runs export``."""
        from pandas import DataFrame

        from harness.evaluations.export import TEXT_COLUMNS, text_rows

        with self._reading() as store:
            record = store.judge_named(judge)
            rows = text_rows(store, record.key if record is not None else None)
            frame: DataFrame = DataFrame(list(rows), columns=list(TEXT_COLUMNS))
        return frame

    def labels(self) -> DataFrame:
        """Return what the labelers answered: a row for each concept and labeler."""
        from pandas import DataFrame

        found: list[dict[str, Any]] = []
        with self._reading() as store:
            for labeler in store.manifest.labelers:
                for answer in store.labelings(labeler.key) or []:
                    row = {"labeler": labeler.title, "concept": answer.concept.id, "text": answer.concept.text}
                    if isinstance(answer, Labeling):
                        found.append({**row, "features": [str(f) for f in answer.features], "score": answer.score, "abstained": None})
                    else:
                        found.append({**row, "features": [], "score": None, "abstained": answer.reason})
        frame: DataFrame = DataFrame(found, columns=["labeler", "concept", "text", "features", "score", "abstained"])
        return frame

    def scores(self, judge: str | None = None) -> DataFrame:
        """Return the entry's items: a row for each concept (or part of a dictionary) and method, a column for each metric."""
        from pandas import DataFrame

        rows = [
            {"kind": row.kind, "method": row.subject.name, "role": row.role, "item": item.id, "answered": item.answered}
            | {"strength": item.strength}
            | dict(item.values)
            for row in self.entry(judge).rows
            for item in row.items
        ]
        frame: DataFrame = DataFrame(rows)
        return frame


def _limit(max_cost: float) -> Any:
    """Refuses what may cost more than ``max_cost`` dollars in all."""
    spent = {"dollars": 0.0}

    def approve(estimate: Estimate, who: str = "judge") -> None:
        most = estimate.most
        if not most.calls:
            return
        if most.cost is None or spent["dollars"] + most.cost > max_cost:
            price = "an unknown amount" if most.cost is None else f"up to ${most.cost:,.2f}"
            message = f"the {who} may cost {price}, more than max_cost={max_cost:g}"
            raise OptionError(message, given=most.cost, allowed=f"at most {max_cost:g}", hint=f"raise max_cost, or take another {who}")
        spent["dollars"] += most.cost

    return approve


def _check_price(instance: Any, items: Sequence[JudgeItem], max_cost: float) -> None:
    from harness.contracts import Priced, Work

    if isinstance(instance, Priced):
        _limit(max_cost)(instance.estimate(Work(items=items)))
