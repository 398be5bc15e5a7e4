"""Removes what renders left behind: work folders, whose finished chunks wait for another run, and browsers' profiles.

What a live render uses is never touched, nor any file that is not a render's. It must not know how films are made.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from os import PathLike
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from asyncrender import formats, scratch
from asyncrender.errors import InvalidOption
from asyncrender.files import is_folder
from asyncrender.threads import in_thread
from asyncrender.workspace import idle

WORK_FOLDER = re.compile(r"\.(.+)\.asyncrender")
OURS = re.compile(r"lock|resolved\.json|.+\.part|chunk-\d+\.\w+(\.json)?|concat\.\w+")
"""The files of a work folder."""


class CleanReport(BaseModel):
    """What was removed, or would be."""

    model_config = ConfigDict(frozen=True)

    removed: tuple[str, ...]
    """Folders."""
    in_use: tuple[str, ...]
    """Work folders that a render uses right now; they stay."""
    bytes: int
    """What the removed folders held."""


async def clean(place: str | PathLike[str] = ".", *, dry_run: bool = False) -> CleanReport:
    """Remove the work folders in a folder, or that of one output, and the browser profiles of dead runs.

    What failed or was cancelled can then not be resumed. Raises InvalidOption if there is no such folder. `dry_run`:
    only say what would be removed.
    """
    return await in_thread(lambda: _clean(Path(place), dry_run=dry_run))


def _clean(place: Path, *, dry_run: bool) -> CleanReport:
    removed, in_use, size = [], [], 0
    for folder in _work_folders(place):
        with idle(folder) as free:
            if not free:
                in_use.append(str(folder))
                continue
            size += _bytes(folder)
            if dry_run or _remove(folder):
                removed.append(str(folder))
    profiles = scratch.sweep(Path(tempfile.gettempdir()), dry_run=dry_run)
    return CleanReport(removed=(*removed, *map(str, profiles)), in_use=tuple(in_use), bytes=size)


def _work_folders(place: Path) -> Iterator[Path]:
    if is_folder(place):
        candidates = sorted(place.iterdir())
    elif is_folder(place.parent):
        candidates = [place.parent / f".{place.name}.asyncrender"]
    else:
        raise InvalidOption("place", str(place), "it has to be a folder, or an output in one")
    for folder in candidates:
        named = WORK_FOLDER.fullmatch(folder.name)
        if named and is_folder(folder) and not folder.is_symlink() and _is_output(named[1]):
            yield folder


def _is_output(name: str) -> bool:
    with suppress(InvalidOption):
        formats.container(name)
        return True
    return False


def _remove(folder: Path) -> bool:
    """Whether nothing is left: what is no render's file stays, and the folder with it."""
    for path in folder.iterdir():
        if OURS.fullmatch(path.name) and not path.is_dir():
            path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
    return not folder.exists()


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.iterdir() if OURS.fullmatch(path.name))
