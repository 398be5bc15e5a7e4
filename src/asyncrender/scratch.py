"""Folders for what only a running process needs, such as a browser's profile: they go with it, or with the next run.

Whoever uses one holds the lock of the folder itself, which the kernel frees when he dies. A folder gets its name only
once it is locked: what has the name and no lock is a dead run's. This room does not know what lies inside.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio

from asyncrender import locks
from asyncrender.errors import DiskFull, OutputError, disk_error
from asyncrender.forks import Descriptor
from asyncrender.threads import in_thread

PREFIX = "asyncrender-browser-"
UNNAMED_PREFIX = "asyncrender-new-"
"""Before it is locked. Nobody touches it, unless it is so old that its maker must have died between two calls."""

UNNAMED_SECONDS = 3600.0

LEAST_BYTES = 32 << 20
"""A profile takes some 5 MB; with less than this free, browsers hang or crash instead of saying why."""

REMOVE_ATTEMPTS, REMOVE_PAUSE_SECONDS = 20, 0.05
"""Killed processes may write their last while their folder is removed."""


@asynccontextmanager
async def open_folder(place: Path | None = None) -> AsyncIterator[Path]:
    """A new folder in `place` (by default where temporary files go), for as long as the block lasts.

    What dead runs left there is removed first. Raises DiskFull, OutputError.
    """
    place = place or Path(tempfile.gettempdir())
    await in_thread(lambda: sweep(place))
    folder, lock = _make(place)
    try:
        yield folder
    finally:
        try:
            with anyio.CancelScope(shield=True):
                for _ in range(REMOVE_ATTEMPTS):
                    if await in_thread(lambda: _remove(folder)):
                        break
                    await anyio.sleep(REMOVE_PAUSE_SECONDS)
        finally:
            _remove(folder)  # asyncio's Task.cancel(), called again, goes through every shield
            locks.free(lock)


def sweep(place: Path, *, dry_run: bool = False) -> list[Path]:
    """Remove the folders of dead runs, of the same user, in `place`; returns them. `dry_run`: only look."""
    removed = []
    with contextlib.suppress(OSError):
        for folder in place.iterdir():
            if folder.name.startswith((PREFIX, UNNAMED_PREFIX)):
                with _claimed(folder) as dead:
                    if dead and (dry_run or _remove(folder)):
                        removed.append(folder)
    return removed


def _make(place: Path) -> tuple[Path, Descriptor]:
    try:
        free = shutil.disk_usage(place).free
        if free < LEAST_BYTES:
            words = f"a browser needs {LEAST_BYTES >> 20} MB there while it runs (TMPDIR names another place)"
            raise DiskFull(f"Only {free >> 20} MB are free in {place}: {words}.")
        unnamed = Path(tempfile.mkdtemp(prefix=UNNAMED_PREFIX, dir=place))
    except OSError as error:
        raise disk_error(place, error) from None
    lock = locks.open_lock(unnamed, os.O_RDONLY | os.O_DIRECTORY)
    try:
        locks.claim(lock)  # where that cannot be had, nobody can take the folder for a dead one
        folder = unnamed.with_name(PREFIX + unnamed.name.removeprefix(UNNAMED_PREFIX))
        unnamed.rename(folder)
    except OSError as error:
        locks.free(lock)
        _remove(unnamed)
        raise OutputError(f"{unnamed} could not be renamed: {error.strerror}.") from None
    return folder, lock


@contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Whether the folder is ours and its user dead; nobody else can come to that conclusion while the block lasts."""
    try:
        lock = locks.open_lock(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        yield _is_dead(folder, lock)
    finally:
        locks.free(lock)


def _is_dead(folder: Path, lock: Descriptor) -> bool:
    found = os.fstat(lock.fd)
    if found.st_uid != os.geteuid():
        return False
    if folder.name.startswith(UNNAMED_PREFIX) and time.time() - found.st_mtime < UNNAMED_SECONDS:
        return False
    try:
        fcntl.flock(lock.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()
