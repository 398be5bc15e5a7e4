"""Locks that the kernel frees when their holder dies, and that are really free once they are given back.

A child that another thread has just forked shares every open file with us until its exec; to close a locked file does
not free it for as long as that takes, so it is unlocked first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def claim(descriptor: int) -> bool:
    """Lock an open file or folder for us alone; False if somebody else holds it. `free` gives it back."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without such locks
        return True
    return True


def free(descriptor: int) -> None:
    """Unlock, if it is locked, and close."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


@contextmanager
def claimed(path: Path, flags: int) -> Iterator[bool]:
    """Hold a lock while the block lasts; False if somebody else holds it. What is not there, nobody holds."""
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC)
    except OSError:
        yield True
        return
    try:
        yield claim(descriptor)
    finally:
        free(descriptor)
