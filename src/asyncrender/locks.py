"""Locks that the kernel frees when their holder dies, and that are really free once they are given back.

A child that another thread has just forked shares every open file with us until its exec; to close a locked file does
not free it for as long as that takes, so it is unlocked first. What is forked without an exec keeps no lock (`forks`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asyncrender.forks import Descriptor


def open_lock(path: Path, flags: int) -> Descriptor:
    """Open a file or folder to lock it. `free` closes it. Raises OSError."""
    return Descriptor(os.open(path, flags | os.O_CLOEXEC, 0o644))


def take(lock: Descriptor, kind: int) -> None:
    """Lock it, as flock(2) says; a file system without such locks has to do without. Raises BlockingIOError."""
    try:
        fcntl.flock(lock.fd, kind)
    except BlockingIOError:
        raise
    except OSError:
        pass


def claim(lock: Descriptor) -> bool:
    """Lock an open file or folder for us alone; False if somebody else holds it. `free` gives it back."""
    try:
        take(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def free(lock: Descriptor) -> None:
    """Unlock, if it is locked, and close. In a process forked off from us it is closed already, and stays ours."""
    if lock.fd >= 0:
        with contextlib.suppress(OSError):
            fcntl.flock(lock.fd, fcntl.LOCK_UN)
    lock.close()


@contextmanager
def claimed(path: Path, flags: int) -> Iterator[bool]:
    """Hold a lock while the block lasts; False if somebody else holds it. What is not there, nobody holds."""
    try:
        lock = open_lock(path, flags)
    except OSError:
        yield True
        return
    try:
        yield claim(lock)
    finally:
        free(lock)
