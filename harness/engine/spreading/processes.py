"""Workers that are processes of this machine, a device each. Implements :class:`harness.engine.spreading.schedule.Pool`."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from harness.engine.spreading.choice import Place, Spread, places
from harness.engine.spreading.schedule import Event
from harness.engine.spreading.station import Facts, ending
from harness.errors import EngineError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.engine.spreading.recipe import Opener, Recipe
    from harness.engine.spreading.work import Work
    from harness.model.loading import SubjectModel

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[2]); from harness.engine.spreading.worker import main; main(int(sys.argv[1]))"
"""Not ``-m``, by which what lies in the folder that the command was given in would be imported."""


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    pipe: Connection
    log: Path


class _State:
    """What has to be ended and removed, apart from the pool: a pool that nobody holds any more ends its workers."""

    def __init__(self) -> None:
        self.workers: dict[int, _Worker] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="harness-workers-"))

    def end(self, place: int) -> None:
        worker = self.workers.pop(place, None)
        if worker is not None:
            worker.pipe.close()
            with contextlib.suppress(OSError):
                worker.process.kill()
            worker.process.wait()

    def close(self) -> None:
        for worker in self.workers.values():  # all are told before any is waited for
            with contextlib.suppress(OSError):
                worker.process.kill()
        for place in list(self.workers):
            self.end(place)
        shutil.rmtree(self.folder, ignore_errors=True)


class ProcessPool:
    """See the module.

    A worker is not told by signals: Ctrl-C reaches the driver alone, which ends its workers. A worker whose driver is gone ends itself,
    and removes the folder that the driver has left.

    Args:
        recipe: of the engine that each worker opens.
        opener: opens it.
        where: a worker's device and threads, each.
        model: of the driver, see :class:`harness.engine.spreading.packing.Packer`.
    """

    def __init__(self, recipe: Recipe, opener: Opener, where: Sequence[Place], model: SubjectModel | None = None) -> None:
        import torch

        from harness.engine.spreading.packing import Packer

        self._recipe, self._opener, self._where = recipe, opener, list(where)
        self._state = _State()
        self._packer = Packer(torch.device(recipe.home), self._keep, model)
        self._files = 0
        self._end = weakref.finalize(self, self._state.close)
        self.facts: dict[int, Facts] = {}

    @classmethod
    def open(cls, spread: Spread, recipe: Recipe, opener: Opener, model: SubjectModel | None = None) -> ProcessPool:
        """Return a pool as it was asked for."""
        import torch

        return cls(recipe, opener, places(spread, torch.device(recipe.home), recipe.devices), model)

    @property
    def size(self) -> int:
        return len(self._where)

    def begin(self, place: int) -> None:
        import cloudpickle

        self._check_open()
        self._state.end(place)
        ours, theirs = Pipe(duplex=True)
        log = self._state.folder / f"worker-{place}.log"
        command = [sys.executable, "-c", _START, str(theirs.fileno()), json.dumps([str(entry) for entry in sys.path])]
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=[theirs.fileno()], start_new_session=True
            )
        theirs.close()
        self._state.workers[place] = _Worker(process, ours, log)
        with contextlib.suppress(OSError):  # it has died already; wait() says so
            ours.send_bytes(cloudpickle.dumps((self._recipe, self._opener, self._where[place], str(self._state.folder))))

    def send(self, place: int, job: int, work: Work) -> None:
        import cloudpickle

        self._check_open()
        message = cloudpickle.dumps((job, self._packer.pack(work)))
        with contextlib.suppress(OSError):
            self._state.workers[place].pipe.send_bytes(message)

    def cancel(self, place: int, job: int) -> None:
        import cloudpickle

        with contextlib.suppress(OSError, KeyError):
            self._state.workers[place].pipe.send_bytes(cloudpickle.dumps((job, None)))

    def wait(self, seconds: float | None) -> Sequence[Event]:
        self._check_open()
        pipes = {worker.pipe: place for place, worker in self._state.workers.items()}
        events = [self._receive(pipes[pipe], pipe) for pipe in wait(list(pipes), seconds)]  # type: ignore[index, arg-type]
        self._check_open()
        return events

    def close(self) -> None:
        self._end()

    def _receive(self, place: int, pipe: Connection) -> Event:
        import pickle

        try:
            kind, job, value = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return Event(place, "lost", value=self._why(place))
        if kind == "ready":
            self.facts[place] = value
        return Event(place, kind, job, value)

    def _why(self, place: int) -> str:
        """Return how a worker ended, and the last line that it wrote."""
        worker = self._state.workers.pop(place)
        worker.pipe.close()
        try:
            code = worker.process.wait(timeout=10)
        except subprocess.TimeoutExpired:  # it closed its pipe and goes on
            worker.process.kill()
            code = worker.process.wait()
        with contextlib.suppress(OSError):
            lines = worker.log.read_text(encoding="utf-8", errors="replace").split("\n")
            said = next((line.strip() for line in reversed(lines) if line.strip()), "")
            if said and code > 0:
                return f"{ending(code)}: {said[:300]}"
        return ending(code)

    def _keep(self, data: Tensor) -> str:
        """Write the bytes of a large tensor to a file that workers map into their memory."""
        self._files += 1
        path = self._state.folder / f"tensor-{self._files}"
        data.numpy().tofile(path)
        return str(path)

    def _check_open(self) -> None:
        if not self._end.alive:
            raise EngineError("the workers have been ended", hint="run the same command again")
