"""The process of a worker: it reads pieces of work from a pipe and writes their parts there, until the driver is gone."""

from __future__ import annotations

import os
import pickle
import queue
import shutil
import threading
import time
from multiprocessing.connection import Connection
from typing import Any, NoReturn

_LOOK = 2.0
"""Seconds between two looks for the driver, should its end of the pipe be held open by another process."""
_TRIES = 50
"""Looks for a driver whose end of the pipe is closed, a tenth of a second apart."""


def main(descriptor: int) -> None:
    """Work until the driver is gone.

    Args:
        descriptor: of the socket to the driver.
    """
    pipe, driver = Connection(descriptor), os.getppid()
    recipe, opener, where, folder = pickle.loads(pipe.recv_bytes())
    inbox: queue.Queue[tuple[int, Any]] = queue.Queue()
    cancelled: set[int] = set()
    threading.Thread(target=_listen, args=(pipe, inbox, cancelled, driver, folder), daemon=True).start()

    def say(kind: str, job: int, value: Any = None) -> None:
        try:
            pipe.send_bytes(pickle.dumps((kind, job, value)))
        except OSError:
            _end(driver, folder)

    from harness.engine.spreading.station import Failure, Station, from_file

    try:
        station = Station(recipe, opener, where.device, where.threads, from_file)
    except Exception as error:
        say("failed", -1, Failure.of(error))
        return
    say("ready", -1, station.facts)
    while True:
        job, packed = inbox.get()
        try:
            for part in station.do(packed):
                say("part", job, part)
                if job in cancelled:
                    break
        except Exception as error:
            say("failed", job, station.failure(error))
        else:
            say("done", job)


def _listen(pipe: Connection, inbox: queue.Queue[tuple[int, Any]], cancelled: set[int], driver: int, folder: str) -> None:
    """Read what the driver sends. With the driver the process ends, whatever it is doing: nobody would hear of it."""
    try:
        while True:
            if pipe.poll(_LOOK):
                job, packed = pickle.loads(pipe.recv_bytes())
                if packed is None:
                    cancelled.add(job)
                else:
                    inbox.put((job, packed))
            elif os.getppid() != driver:
                _end(driver, folder)
    except (EOFError, OSError):
        _end(driver, folder)


def _end(driver: int, folder: str) -> NoReturn:
    """End, and remove the driver's folder of tensors where the driver was killed: one that has closed the pipe alone may need it, and kills us."""
    for _ in range(_TRIES):
        if os.getppid() != driver:
            shutil.rmtree(folder, ignore_errors=True)
            break
        time.sleep(0.1)  # its end of the pipe is closed a moment before it is gone
    os._exit(1)
