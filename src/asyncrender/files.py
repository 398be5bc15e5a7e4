"""Whether files are still the same: by their checksums, so that neither a copy nor a mere touch counts as a change."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from asyncrender.threads import pause_point

READ_BYTES = 1 << 20
"""A piece of a file when its checksum is taken."""

UNSURE = "changed while it was read"
"""Stands for a checksum, and is equal to none."""

Stamp = tuple[int, int]
"""(bytes, time of the last change in nanoseconds) of a file."""


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
