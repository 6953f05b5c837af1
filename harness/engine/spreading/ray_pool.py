"""Workers that are actors of a Ray cluster. Implements :class:`harness.engine.spreading.schedule.Pool`."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
import sys
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from harness.engine.spreading.choice import Spread
from harness.engine.spreading.executor import check_same_code
from harness.engine.spreading.schedule import Event
from harness.engine.spreading.station import Facts, Failure
from harness.errors import EngineError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.engine.spreading.packing import Packed
    from harness.engine.spreading.recipe import Opener, Recipe
    from harness.engine.spreading.work import Work
    from harness.model.loading import SubjectModel

ADDRESS = "RAY_ADDRESS"
"""Environment variable: where the cluster is, e.g. ``auto`` on one of its machines."""

SKIPPED, WORKER_DIED = "RAY_DEDUP_LOGS_SKIP_REGEX", "A worker died or was killed while executing a task"
"""Environment variable of Ray's: what it does not print in the driver; and the message that is kept out so. ``log_to_driver`` does not reach it, and
the executor itself says what became of a worker that died. All else that Ray's own processes say is shown, such as that memory ran out."""


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Actor:
    """A worker in a process of Ray's. Each call is a generator, whose items come to the driver as they are made."""

    def __init__(self, recipe: bytes, device: str, threads: int, path: list[str]) -> None:
        self._recipe, self._device, self._threads = recipe, device, threads
        sys.path.extend(entry for entry in path if entry not in sys.path)  # where the driver finds what is not installed
        self._station: Any = None
        self._cancelled: set[int] = set()

    def begin(self) -> Iterator[tuple[str, int, Any]]:
        """Open the engine; yield ``ready`` or ``failed``."""
        import pickle

        from harness.engine.spreading.station import Station

        try:
            recipe, opener = pickle.loads(self._recipe)
            self._station = Station(recipe, opener, self._device, self._threads, _from_store)
        except Exception as error:
            yield "failed", -1, Failure.of(error)
            return
        yield "ready", -1, self._station.facts

    def work(self, job: int, data: bytes, tensors: dict[int, Any]) -> Iterator[tuple[str, int, Any]]:
        """Do a piece of work; yield its parts, then ``done`` or ``failed``."""
        from harness.engine.spreading.packing import Packed

        try:
            for part in self._station.do(Packed(data, tensors)):
                yield "part", job, part
                if job in self._cancelled:
                    break
        except Exception as error:
            yield "failed", job, self._station.failure(error)
        else:
            yield "done", job, None

    def cancel(self, job: int) -> None:
        """Note that a piece of work is no longer needed."""
        self._cancelled.add(job)


def _from_store(reference: Any) -> Tensor:
    """Return the bytes of a large tensor of Ray's object store, which the actors of one machine share."""
    import ray
    import torch

    return torch.from_numpy(ray.get(reference).copy())


class RayPool:
    """See the module.

    Args:
        spread: how many workers, and where the cluster is.
        recipe: of the engine that each worker opens. The model's files, and the cache with the run's adapters, must be found on all machines
            under the same paths.
        opener: opens it.
        model: of the driver, see :class:`harness.engine.spreading.packing.Packer`.

    Raises:
        EngineError: there is no cluster at the address, or it has no GPU where the run computes on one.
    """

    def __init__(self, spread: Spread, recipe: Recipe, opener: Opener, model: SubjectModel | None = None) -> None:
        import cloudpickle
        import torch

        from harness.engine.spreading.packing import Packer

        self._ray, begun = _connect(spread.address)
        self._cuda = recipe.home.startswith("cuda")
        self._gpus = recipe.devices if self._cuda else 0
        self._n, self._threads = _shares(self._ray, spread.workers, self._gpus)
        self._recipe = cloudpickle.dumps((recipe, opener))
        self._packer = Packer(torch.device(recipe.home), lambda data: self._ray.put(data.numpy()), model)
        self._device = "cuda:all" if self._cuda else recipe.home  # Ray shows each actor its own GPUs alone
        self._actors: dict[int, Any] = {}
        self._answers: dict[int, list[Any]] = {}
        self._end = weakref.finalize(self, _end, self._ray, self._actors, begun)
        self.facts: dict[int, Facts] = {}

    @classmethod
    def open(cls, spread: Spread, recipe: Recipe, opener: Opener, model: SubjectModel | None = None) -> RayPool:
        """Return a pool as it was asked for."""
        return cls(spread, recipe, opener, model)

    @property
    def size(self) -> int:
        return self._n

    def begin(self, place: int) -> None:
        self._check_open()
        self._drop(place)
        # a second thread in which it hears that work is cancelled
        options = {"num_cpus": self._threads, "num_gpus": self._gpus, "max_restarts": 0, "max_concurrency": 2}
        actor = self._ray.remote(Actor).options(**options).remote(self._recipe, self._device, self._threads, [str(entry) for entry in sys.path])
        self._actors[place] = actor
        self._answers[place] = [actor.begin.options(num_returns="streaming").remote()]

    def send(self, place: int, job: int, work: Work) -> None:
        self._check_open()
        packed: Packed = self._packer.pack(work)
        tensors = dict(packed.tensors)
        answer = self._actors[place].work.options(num_returns="streaming").remote(job, packed.data, tensors)
        self._answers.setdefault(place, []).append(answer)

    def cancel(self, place: int, job: int) -> None:
        if place in self._actors:
            self._actors[place].cancel.remote(job)

    def wait(self, seconds: float | None) -> Sequence[Event]:
        self._check_open()
        waiting = {answer: place for place, answers in self._answers.items() for answer in answers}
        if not waiting:
            return []
        ready, _ = self._ray.wait(list(waiting), num_returns=1, timeout=seconds, fetch_local=False)
        self._check_open()
        return [event for answer in ready if (event := self._next(waiting[answer], answer)) is not None]

    def close(self) -> None:
        self._end()

    def _next(self, place: int, answer: Any) -> Event | None:
        try:
            kind, job, value = self._ray.get(next(answer))
        except StopIteration:
            self._answers[place].remove(answer)
            return None
        except self._ray.exceptions.RayError as error:
            self._drop(place)
            return Event(place, "lost", value=_said(error))
        if kind == "ready":
            check_same_code(value)
            self.facts[place] = value
        return Event(place, kind, job, value)

    def _drop(self, place: int) -> None:
        self._answers.pop(place, None)
        actor = self._actors.pop(place, None)
        if actor is not None:
            with contextlib.suppress(Exception):
                self._ray.kill(actor)

    def _check_open(self) -> None:
        if not self._end.alive:
            raise EngineError("the workers have been ended", hint="run the same command again")


def _said(error: Exception) -> str:
    """Return what an error of Ray's says, for people; where an actor could not be made, its last line, which is what happened in the actor."""
    lines = [line for line in map(str.strip, _COLOURS.sub("", str(error)).splitlines()) if line]
    return " ".join(lines[-1:] if "creation task" in lines[0] else lines)[:300] if lines else type(error).__name__


def _connect(address: str | None) -> tuple[Any, bool]:
    """Return Ray, connected to a cluster, and whether that was begun here; without an address it is of this machine alone."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault(SKIPPED, WORKER_DIED)  # read when Ray is imported
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return ray, False
    where = address or os.environ.get(ADDRESS) or "local"
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    _check_reachable(where)
    more: dict[str, Any] = {"include_dashboard": False} if where == "local" else {}
    try:
        ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR, **more)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise _no_cluster(where, error) from error
    finally:
        for number, handler in handlers.items():  # Ray puts its own there, by which SIGTERM would end us without a word
            with contextlib.suppress(ValueError, TypeError):
                signal.signal(number, handler)
    return ray, True


def _check_reachable(where: str) -> None:
    """Raise EngineError at once for an address at which nobody listens: Ray itself asks again and again for minutes."""
    host, _, port = where.rpartition(":")
    if "://" in where:
        message = f"the Ray address {where} is that of a client's server"
        hint = "run harness on a machine of the cluster"
        raise EngineError(message, given=where, allowed="HOST:PORT of the cluster's head, or auto", hint=hint)
    if port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:
            raise _no_cluster(where, error) from error


def _no_cluster(where: str, error: Exception) -> EngineError:
    hint = f"begin one with `ray start --head`, or leave --ray-address and {ADDRESS} out"
    if where != "auto":  # by which Ray shows the token of this user, if there is one; elsewhere it asks to be told
        hint += "; where the cluster asks for a token, set RAY_AUTH_MODE=token"
    return EngineError(f"there is no Ray cluster at {where} ({' '.join(str(error).split())[:300]})", given=where, hint=hint)


def _shares(ray: Any, workers: int | None, gpus: int) -> tuple[int, int]:
    """Return how many workers there are to be, and the CPUs of each: one for each GPU (or ``gpus`` of them), or without GPUs for each machine.

    Raises:
        EngineError: no machine has so many GPUs.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if gpus:
        there = [(int(node.get("GPU", 0)) // gpus, int(node.get("CPU", 0))) for node in nodes if node.get("GPU", 0) >= gpus]
        if not there:
            hint = "give --device cpu, or add machines"
            raise EngineError(f"the model is on {gpus} GPUs, and no machine of the Ray cluster has so many", given=gpus, hint=hint)
        return workers or sum(count for count, _ in there), max(1, min(cpus // count for count, cpus in there))
    cpus = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1]
    n = workers or max(1, len(cpus))
    share = max(1, sum(cpus) // n)
    while share > 1 and sum(count // share for count in cpus) < n:  # an actor is on one machine
        share -= 1
    return n, share


def _end(ray: Any, actors: dict[int, Any], begun: bool) -> None:
    """End the actors, and the cluster where it was begun for them."""
    for actor in list(actors.values()):
        with contextlib.suppress(Exception):
            ray.kill(actor)
    actors.clear()
    if begun:
        with contextlib.suppress(Exception):
            ray.shutdown()
