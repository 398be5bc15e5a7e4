"""The processes that the tests' own renders have started: looked for, killed, and seen to end."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ARRIVAL_SECONDS = 30
"""Far more than a program needs to start, on a busy machine too."""


def children(name: str) -> list[psutil.Process]:
    """Our living children whose program is called so."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if not ended(child) and name in child.name():
                found.append(child)
    return found


def ended(process: psutil.Process) -> bool:
    """Whether it has ended, though perhaps nobody has reaped it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def command(process: psutil.Process) -> str:
    """Its number and its command line; "" once it has ended."""
    with suppress(psutil.NoSuchProcess):
        return "" if ended(process) else " ".join([str(process.pid), *process.cmdline()])
    return ""


def arrived(name: str) -> list[psutil.Process]:
    """The same, waited for: a child is its wrapper first (`setpriv`), and on a busy machine for longer than a while."""
    until = time.monotonic() + ARRIVAL_SECONDS
    while not (found := children(name)) and time.monotonic() < until:
        time.sleep(0.01)
    return found


def strike(victims: list[psutil.Process], number: signal.Signals = signal.SIGKILL) -> None:
    for child in victims:
        with suppress(psutil.NoSuchProcess):  # one that was struck takes others with it
            child.send_signal(number)


@contextmanager
def forked(work: Callable[[], object] = signal.pause) -> Iterator[int]:
    """A process as multiprocessing forks it off: it has all that we have, does its work, and ends with the block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, if there are threads
        pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def make_old_setpriv(folder: Path) -> Path:
    """A `setpriv` such as BusyBox's, or util-linux' before 2.33; to be put into PATH."""
    path = folder / "setpriv"
    path.write_text("#!/bin/sh\necho \"setpriv: unrecognized option '--pdeathsig'\" >&2\nexit 1\n")
    path.chmod(0o755)
    return path
