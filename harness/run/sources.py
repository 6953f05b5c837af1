"""What of a run comes from the Hugging Face hub: whether it can be had, and which commit it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.data.corpora.on_the_hub import hub_name, key_files
from harness.errors import HarnessError
from harness.hub.download import ask, has, head
from harness.hub.errors import unreachable
from harness.hub.source import HUB_PREFIX, Source, cached, commit_in, hub_source, is_commit
from harness.run.bench import TaskBench
from harness.store.manifest import SourceRef
from harness.tasks.dictionaries import DictionaryTable
from harness.tasks.schema import Task

What = Literal["model", "dictionary", "instructions", "concepts", "corpus"]

DATASET, FILE = "hf:", HUB_PREFIX
_OF_A_DICTIONARY = (
    "config.json", "cfg.json", "params.npz", "params.safetensors", "sae_weights.safetensors", "sae.safetensors", "ae.pt", "hyperparams.json",
)  # fmt: skip


@dataclass(frozen=True)
class HubInput:
    """Something of a run that lies on the hub.

    Attributes:
        what: what it is to the run.
        name: as the task names it.
        source: as it is written in the task or on the command line.
        where: its repository, at the revision that is asked for.
        files: names of which one at least is there; none where only the repository is known.
    """

    what: What
    name: str
    source: str
    where: Source
    files: tuple[str, ...]

    @property
    def cached_commit(self) -> str | None:
        """Return the commit of what the hub's cache holds of it."""
        found = (path for file in self.files if (path := cached(self.where, file)) is not None)
        return next((commit for path in found if (commit := commit_in(path)) is not None), None)

    def served_commit(self) -> str:
        """Ask the hub for the commit that it serves, and whether we may read it. Raises the source's error where we may not."""
        several = len(self.files) > 1
        for file in self.files:
            if not several or has(self.where, file):
                return head(self.where, file)
        served = ask(self.where)
        if served.gated and served.sizes:
            head(self.where, next(iter(served.sizes)))
        return served.commit


def hub_inputs(bench: TaskBench) -> list[HubInput]:
    """Return what of a bench's task and choices lies on the hub, what is small first.

    Raises:
        HarnessError: a name that is none, or that SAELens' registry does not have.
    """
    file, choices = bench.task.file, bench.choices
    found = [*_instructions(bench.task, choices.instructions), *_concepts(bench.task), *_model(bench.task)]
    for table in file.dictionaries:
        found += _dictionary(bench.task, table)
    return [*found, *_corpus(bench.task, choices.corpus)]


def check_sources(bench: TaskBench) -> None:
    """Fetch instructions and concepts, and ask whether the rest can be had, before anything large is fetched; not about what the cache holds.

    Raises the error of the first that cannot be had.
    """
    for item in hub_inputs(bench):
        if item.what == "instructions":
            _ = bench.instructions_path
        elif item.what == "concepts":
            _ = bench.concepts_path
        elif item.cached_commit is None and item.what != "corpus":  # a corpus may lie in the cache of its own library, which asks itself
            item.served_commit()


def source_problems(bench: TaskBench) -> list[str]:
    """Return what of a bench's sources cannot be had, a line each; nothing is fetched."""
    try:
        return input_problems(hub_inputs(bench))
    except HarnessError as error:
        return [str(error)]


def input_problems(items: Iterable[HubInput]) -> list[str]:
    """Return which of several inputs cannot be had, a line each; nothing is fetched."""
    problems: list[str] = []
    for item in items:
        if item.cached_commit is None:
            try:
                item.served_commit()
            except HarnessError as error:
                problems.append(str(error))
                if unreachable(error):
                    break
    return problems


def sources_served(bench: TaskBench) -> tuple[SourceRef, ...]:
    """Return what a bench's sources were, after they have been fetched."""
    return tuple(
        SourceRef(
            what=item.what,
            name=item.name,
            source=item.source,
            revision=item.where.revision,
            commit=_commit(bench, item) or "",
            pinned=is_commit(item.where.revision),
        )
        for item in hub_inputs(bench)
    )


# ------------------------------------------------------------------------------------------------------------------------------- inside


def _commit(bench: TaskBench, item: HubInput) -> str | None:
    if item.what == "instructions":
        return commit_in(bench.instructions_path)
    if item.what == "concepts":
        return commit_in(bench.concepts_path)
    if item.what == "corpus":
        return bench.corpus.commit if item.source.startswith(DATASET) else commit_in(bench.corpus_path)
    return item.cached_commit


def _instructions(task: Task, given: str | None) -> Iterator[HubInput]:
    table = task.file.instructions
    if given is None and table.source is not None and table.source.startswith(FILE):
        where, file = hub_source(table.source, table.revision, "set of instructions")
        yield HubInput("instructions", table.source, table.source, where, (file,))


def _concepts(task: Task) -> Iterator[HubInput]:
    table = task.file.concepts
    if table.mode == "fixed" and table.file is not None and (name := hub_name(table.file)) is not None:
        where, path = hub_source(name, table.revision, "list of concepts")
        yield HubInput("concepts", table.file, table.file, where, key_files(path))


def _model(task: Task) -> Iterator[HubInput]:
    from harness.model.embedded import embedded_names
    from harness.model.hub_model import CONFIG, model_source

    table = task.file.model
    if table is None:
        return
    local = table.name.startswith((".", "/", "~")) or table.name.count("/") > 1 or Path(table.name).expanduser().is_dir()
    if not local and table.name not in embedded_names():
        yield HubInput("model", table.name, table.name, model_source(table.name, table.revision), (CONFIG,))


def _dictionary(task: Task, table: DictionaryTable) -> Iterator[HubInput]:
    from harness.sae.on_the_hub import is_repository, key_file
    from harness.sae.registry import source_of

    source = task.local_source(table)
    if source.startswith((".", "/", "~")) or Path(source).exists():
        return
    if is_repository(source):
        where, files = key_file(source, table.revision)
    else:
        where, inside = source_of(source, table.revision)
        files = (inside,) if Path(inside).suffix in (".pt", ".npz", ".safetensors") else tuple(f"{inside}/{file}" for file in _OF_A_DICTIONARY)
    yield HubInput("dictionary", table.name, table.source, where, files)


def _corpus(task: Task, given: str | None) -> Iterator[HubInput]:
    from harness.data.corpora.huggingface import dataset_source

    table = task.file.corpus
    source, revision = (table.source, table.revision) if given is None else (given, None)
    if source is None:
        return
    if (name := hub_name(source)) is not None:
        where, path = hub_source(name, revision, "corpus")
        yield HubInput("corpus", source, source, where, key_files(path))
    elif source.startswith(DATASET) and (dataset := dataset_source(source, revision)) is not None:
        yield HubInput("corpus", source, source, dataset, ())
