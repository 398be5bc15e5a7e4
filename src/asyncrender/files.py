"""Whether files are there, may be there, and are still the same: by their checksums, so that neither a copy nor a mere
touch counts as a change.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from asyncrender.errors import InvalidOption
from asyncrender.threads import pause_point

READ_BYTES = 1 << 20
"""A piece of a file when its checksum is taken."""

UNSURE = "changed while it was read"
"""Stands for a checksum, and is equal to none."""

Stamp = tuple[int, int]
"""(bytes, time of the last change in nanoseconds) of a file."""


def is_file(path: Path) -> bool:
    """As Path.is_file; at a path that there cannot be, such as one that is too long, there is none."""
    with contextlib.suppress(OSError, ValueError):
        return path.is_file()
    return False


def is_folder(path: Path) -> bool:
    """As Path.is_dir; at a path that there cannot be there is none."""
    with contextlib.suppress(OSError, ValueError):
        return path.is_dir()
    return False


def check_output(output: Path) -> None:
    """Raise InvalidOption if there can be no file of that name, or if something else has it."""
    folder = output.parent
    if re.search(r"[\r\n]", str(output.absolute())):  # no way to write it in the list of files that ffmpeg joins
        raise InvalidOption("output", str(output), "no line breaks, neither in a file's name nor in its folder's")
    if not is_folder(folder):
        raise InvalidOption("output", str(output), f"the folder {str(folder.absolute())!r} does not exist")
    if is_folder(output):
        raise InvalidOption("output", str(output), "it is a folder; give a file's name")
    with contextlib.suppress(OSError):  # nothing is there
        if not stat.S_ISREG(output.stat().st_mode):
            raise InvalidOption("output", str(output), "it is a pipe, a socket or a device; give a file's name")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidOption("output", str(output), f"the folder {str(folder.absolute())!r} cannot be written")


def stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def checksum(path: Path) -> str:
    """BLAKE2b of a file, hexadecimal. Raises OSError. A thread of `in_thread` can be stopped in it."""
    digest = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            pause_point()
            digest.update(piece)
    return digest.hexdigest()


class Checksums:
    """Checksums that were taken once, for as long as nobody touches the files."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, Stamp], str] = {}

    def seen(self, folder: Path, files: Mapping[str, Stamp | None]) -> dict[str, str | None]:
        """Checksums of files that were read when they had such stamps; None stays None: there was no such file."""
        return {name: found and self._as_it_was(folder / name, found) for name, found in sorted(files.items())}

    def changed(self, folder: Path, recorded: Mapping[str, str | None]) -> list[str]:
        """The names of files that are not what they were."""
        return [name for name, before in recorded.items() if self._now(folder / name) != before]

    def _as_it_was(self, path: Path, found: Stamp) -> str:
        try:
            return self._of(path, found) if stamp(path) == found else UNSURE
        except OSError:
            return UNSURE

    def _now(self, path: Path) -> str | None:
        try:
            return self._of(path, stamp(path)) if path.is_file() else None
        except OSError:
            return None

    def _of(self, path: Path, found: Stamp) -> str:
        if (path, found) not in self._known:
            taken = checksum(path)
            self._known[path, found] = taken if stamp(path) == found else UNSURE
        return self._known[path, found]
