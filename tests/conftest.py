"""Fixtures shared by the whole suite: the folder of real data beside the checkout, the tiny real model and its real SAE, a task on both,

an installed third-party plugin, and the command line run in this process.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.machinery import SourceFileLoader
from importlib.util import source_from_cache
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

# A shell that starts the suite in the background has it ignore Ctrl-C, and its children inherit that; the tests of Ctrl-C need the usual state.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # as under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Two torch processes with two threads each slow each other down manyfold on small machines; set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import tomli
from helpers.benches import metric_bench  # noqa: F401 (fixtures)
from helpers.models import architecture, lora, make_hf, make_model, make_tokenizer, random_model, tiny_model  # noqa: F401 (fixtures)
from hypothesis import HealthCheck, settings

# A property is wrong or right however busy the machine is: no example has a time limit.
settings.register_profile("harness", max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("harness")

# Tests edit a module and import it anew within one second: compiled code, which is told by second and size, would be that of before. So what tests
# write is not kept compiled; what was installed before they began is, since to compile it takes longer than to import it, in each process again.
_INSTALLED = tuple(os.path.join(folder, "") for folder in {str(Path(__file__).resolve().parent.parent), *filter(None, sys.path)})
_keep_compiled = SourceFileLoader.set_data


def _keep_if_installed(loader: SourceFileLoader, path: str, data: Any, *, _mode: int = 0o666) -> None:
    if source_from_cache(path).startswith(_INSTALLED):
        _keep_compiled(loader, path, data, _mode=_mode)  # type: ignore[call-arg] (of the standard library alone)
        with contextlib.suppress(OSError):  # where a test lets files grow no further, older Pythons keep a part, which nobody could import
            if os.path.getsize(path) != len(data):
                os.unlink(path)


SourceFileLoader.set_data = _keep_if_installed  # type: ignore[method-assign]

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("HARNESS_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(autouse=True)
def no_keys_of_other_tests() -> Iterator[None]:
    """A process hides the keys that it has read; those of one test must not be hidden in the texts of the next."""
    yield
    keys = sys.modules.get("harness.chat.providers.keys")
    if keys is not None:
        keys._seen.clear()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; tests that need it skip, visibly, where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"the shared test data is not at {SHARED} (set HARNESS_TEST_DATA)")
    return SHARED


@pytest.fixture(scope="session")
def tiny_model_path(shared_data: Path) -> Path:
    """stories260K: a real 1 MB Llama that writes small children's stories."""
    return shared_data / "lm" / "stories260K"


@pytest.fixture(scope="session")
def tiny_sae_path(shared_data: Path) -> Path:
    """A real SAE of layer 2 of stories260K, as a SAELens folder."""
    return shared_data / "sae" / "stories260K_l2_batchtopk"


# ---------------------------------------------------------------------------------------------------- a whole task on the tiny model

WORDS = ("girl", "big", "mom", "zebra")
"""Labels of the tiny corpus: a text has the label where it has the word. No text has the last, so a labeler must abstain from it."""

TINY_TASK = """schema = 1
name = "tiny"
version = 1
summary = "stories for small children, by a model of 260,032 parameters"
judge = "words"

[model]
name = "{model}"
parameters = 260032

[[dictionaries]]
source = "{sae}"
layer = 2

[corpus]
source = "corpus.jsonl"

[concepts]
mode = "fixed"
file = "concepts.jsonl"
min_support = 10

[instructions]
source = "instructions.jsonl"
per_concept = 4

[decoding]
max_new_tokens = 10
temperature = 0.7

[steering.grids]
sae-clamp = [0.5, 1.0]
sae-add = [0.5, 1.0]
diff-mean = [0.2, 0.5]

[labelers.calibf1]
pi0 = 0.05

[labelers.random]
count = 3

[[controls]]
labeler = "random"
steerer = "sae-clamp"

[[controls]]
steerer = "prompt"

[evaluation]
repeats = 2
splits = 2
"""


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """A temporary folder that every user may enter (pytest's own are its user's alone), for tests that give up their rights."""
    folder = Path(tempfile.mkdtemp(prefix="harness-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cache_folder(open_folder: Path) -> Path:
    """The artifact cache of the tests."""
    folder = open_folder / "cache"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def tiny_task(open_folder: Path, tiny_model_path: Path, tiny_sae_path: Path) -> Path:
    """A task folder: the tiny model's own stories as the corpus, their words as labels. Read-only; :func:`variant` copies it."""
    import torch
    from helpers.generation import generate

    from harness.engine.base import GenerationRequest
    from harness.model.loading import load_model
    from harness.types import Decoding

    torch.set_num_threads(1)
    folder = open_folder / "tiny"
    folder.mkdir()
    model = load_model(tiny_model_path, device="cpu", dtype="float32")
    requests = [GenerationRequest(str(i), model.encode(""), 0) for i in range(160)]
    texts = {done.id: done.text for done in generate(model, requests, Decoding(70, 1.0), batch_size=160)}
    rows = [{"id": i, "text": texts[i], "labels": [word for word in WORDS if word in texts[i].lower()]} for i in sorted(texts, key=int)]
    write_lines(folder / "corpus.jsonl", rows)
    write_lines(folder / "concepts.jsonl", [{"id": word, "text": f"a {word}", "label": word} for word in WORDS])
    openings = ("Once upon a time", "One day", "There was a", "Tom and", "The big", "Lily saw")
    write_lines(folder / "instructions.jsonl", [{"id": str(i), "text": text} for i, text in enumerate(openings)])
    text = TINY_TASK.format(model=tiny_model_path.as_posix(), sae=tiny_sae_path.as_posix())
    (folder / "task.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def variant(variant_in: Callable[[Path], Callable[..., Path]], tmp_path: Path) -> Callable[..., Path]:
    """A function that copies the tiny task and replaces parts of its task.toml: ``variant(("old", "new"), …)``."""
    return variant_in(tmp_path)


@pytest.fixture(scope="session")
def variant_in(tiny_task: Path) -> Callable[[Path], Callable[..., Path]]:
    """``variant_in(parent)`` is :func:`variant` with its folders in ``parent``, for fixtures of a whole module."""
    return lambda parent: partial(_variant, tiny_task, parent)


def _variant(tiny_task: Path, parent: Path, *changes: tuple[str, str], name: str = "variant") -> Path:
    folder = parent / name
    shutil.copytree(tiny_task, folder)
    text = (folder / "task.toml").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text, f"{old!r} is not in the task"
        text = text.replace(old, new)
    (folder / "task.toml").write_text(text, encoding="utf-8")
    return folder


# ------------------------------------------------------------------------------------------------------------- plugins, as installed


@pytest.fixture(scope="session")
def sample_site(open_folder: Path) -> Path:
    """A folder like site-packages with tests/sample_plugin as an installer leaves it; tests/test_docs.py has pip install it."""
    source, target = Path(__file__).parent / "sample_plugin", open_folder / "site"
    shutil.copytree(source / "harness_sample", target / "harness_sample", ignore=shutil.ignore_patterns("__pycache__"))
    project = tomli.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = target / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8")
    ((name, module),) = project["entry-points"]["harness"].items()
    (info / "entry_points.txt").write_text(f"[harness]\n{name} = {module}\n", encoding="utf-8")
    files = sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in [*files, f"{info.name}/RECORD"]), encoding="utf-8")
    return target


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., Path]:
    """A function that installs a distribution of one module, as an installer leaves it: ``install(source, name="plugin's entry point")``.

    Answers with a folder like site-packages, to be given to :func:`harness` as ``sites=(folder,)``.
    """
    return partial(_install, tmp_path)


@pytest.fixture(scope="session")
def install_in() -> Callable[..., Path]:
    """``install_in(parent, …)`` is :func:`install` with its folder in ``parent``, for fixtures of a whole module."""
    return _install


def _install(tmp_path: Path, source: str, name: str = "mine", distribution: str = "other-dist", version: str = "0.1") -> Path:
    site = tmp_path / f"site-{distribution}-{version}"
    info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    module = f"{distribution.replace('-', '_')}_module"
    (site / f"{module}.py").write_text(source, encoding="utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[harness]\n{name} = {module}\n", encoding="utf-8")
    return site


@contextlib.contextmanager
def installed(*sites: Path) -> Iterator[None]:
    """Within the context, what lies in ``sites`` is installed; modules imported from there are forgotten afterwards."""
    before = set(sys.modules)
    with mock.patch.object(sys, "path", [*map(str, sites), *sys.path]):
        importlib.invalidate_caches()
        try:
            yield
        finally:
            for name in set(sys.modules) - before:
                origin = getattr(sys.modules[name], "__file__", None) or ""
                if any(Path(origin).is_relative_to(site) for site in sites):
                    del sys.modules[name]


@pytest.fixture(scope="session", name="installed")
def _installed() -> Callable[..., Any]:
    """:func:`installed`."""
    return installed


# --------------------------------------------------------------------------------------------------------- the command line, in-process


@dataclass(frozen=True)
class Finished:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of a command that failed for a reason that the user can mend; asserts that it is one, and the last."""
        assert self.code == 2, f"exit code {self.code}\n{self.out}\n{self.err}"
        lines = [line for line in self.err.splitlines() if line.startswith("harness: error: ")]
        assert len(lines) == 1, self.err
        assert self.err.splitlines()[-1] == lines[0]
        return lines[0].removeprefix("harness: error: ")

    @property
    def json(self) -> Any:
        """Standard output, which is JSON and nothing else."""
        assert self.code == 0, f"exit code {self.code}\n{self.out}\n{self.err}"
        return json.loads(self.out)


@pytest.fixture(scope="session")
def harness(cache_folder: Path, sample_site: Path) -> Callable[..., Finished]:
    """The command line in this process, with the sample plugin installed: ``harness("eval", "--steerer", …)``.

    ``sites`` are further folders of installed plugins, ``env`` further environment variables. An exception that the command line lets
    through passes through here, too.
    """
    from harness.cli import main

    def run(*arguments: str | Path, sites: tuple[Path, ...] = (), env: Mapping[str, str] | None = None) -> Finished:
        out, err = io.StringIO(), io.StringIO()
        environment = {"HARNESS_CACHE": str(cache_folder), **(env or {})}
        with (
            installed(*sites, sample_site),
            mock.patch.dict(os.environ, environment),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as stop,
        ):
            main([str(argument) for argument in arguments])
        code = stop.value.code
        return Finished(code if isinstance(code, int) else 1, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def evaluation(harness: Callable[..., Finished], tiny_task: Path, open_folder: Path) -> tuple[Path, Any]:
    """One whole run of the tiny task, done once: its --out folder (to be copied, not changed) and its entry as JSON."""
    out = open_folder / "evaluated"
    done = harness("eval", *EVAL, "--task", tiny_task, "--out", out, "--json")
    return out, done.json


@pytest.fixture(scope="session")
def measured() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that leaves out of an entry when it was made and the state of the checkout (and the id, which covers that)."""
    return lambda entry: {name: value for name, value in entry.items() if name not in ("created", "git", "id", "seal")}


EVAL = ("--labeler", "calibf1", "--steerer", "sae-clamp")
"""The command of :func:`evaluation`."""


@pytest.fixture(scope="session")
def api_servers() -> ModuleType:
    """A real HTTP server on loopback that speaks OpenAI's and Anthropic's APIs (``helpers/server.py``)."""
    from helpers import server

    return server


@pytest.fixture(scope="session", name="loopback")
def _loopback() -> ModuleType:
    """tests/helpers/loopback.py: Answer, HANG, RESET, chat_answer."""
    from helpers import loopback

    return loopback


@pytest.fixture
def serve(loopback: ModuleType) -> Iterator[Callable[[Callable[[str, bytes], Any]], Any]]:
    """Start a loopback server: ``server = serve(handler)``; it is stopped after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda handler: stack.enter_context(loopback.Loopback(handler))


def pytest_configure() -> None:
    """Collect no garbage while test modules and what they need are imported."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave what imports have made out of garbage collection: a million objects that live as long as the process, looked through at each turn."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()
