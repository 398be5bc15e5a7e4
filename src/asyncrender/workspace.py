"""The work folder beside the output: parts, finished chunks with their sidecars, the lock, and the publishing.

A file is written as `*.part` and appears under its name by rename, whole or not at all. The sidecars are the journal:
what has a valid one is finished. Which chunks there shall be is the plan's business.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from asyncrender.errors import DiskFull, InvalidOption, OutputError, OutputLocked
from asyncrender.plan import chunk_key
from asyncrender.specs import RenderChunk, RenderOptions, RenderPlan

LOCK_NAME = "lock"
PART_SUFFIX = ".part"
SIDECAR_SUFFIX = ".json"
READ_BYTES = 1 << 20
"""A piece of a file when its checksum is taken."""


class Sidecar(BaseModel):
    """What is known of a finished chunk; it lies beside it as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    frames: int
    bytes: int
    checksum: str
    """BLAKE2b of the file, hexadecimal."""
    capture: str
    """The capture path its frames took."""
    warnings: tuple[str, ...] = ()


class Workspace:
    """The work folder of one plan. `folder` is the plan's base made real."""

    def __init__(self, plan: RenderPlan, folder: Path) -> None:
        self._plan, self.folder = plan, folder
        self.work = folder / plan.work_folder
        self.output = folder / plan.final_output_file

    def prepare(self) -> None:
        """Make the work folder. Raises InvalidOption if the output cannot lie there, DiskFull, OutputError."""
        if not self.folder.is_dir():
            raise InvalidOption("output", str(self.output), f"the folder {str(self.folder)!r} does not exist")
        if self.output.is_dir():
            raise InvalidOption("output", str(self.output), "it is a folder; give a file's name")
        try:
            self.work.mkdir(exist_ok=True)
            (self.work / LOCK_NAME).touch()
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise DiskFull(f"No space is left in {self.folder}.") from None
            raise InvalidOption("output", str(self.output), f"its folder cannot be written: {error.strerror}") from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the output for one render. The kernel frees a dead holder's lock. Raises OutputLocked, InvalidOption."""
        descriptor = self._open_lock()
        try:
            yield
        finally:
            os.close(descriptor)

    def _open_lock(self) -> int:
        path = self.work / LOCK_NAME
        while True:
            self.prepare()
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:  # the holder before us has just removed the folder
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same_file(descriptor, path):
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                raise OutputLocked(f"Another render is writing {self.output} right now.") from None
            os.close(descriptor)

    def file(self, chunk: RenderChunk) -> Path:
        return self.folder / chunk.output_file

    def part(self, path: Path) -> Path:
        """A new name to write `path` under; two writers never share one."""
        return self.work / f"{path.name}.{secrets.token_hex(4)}{PART_SUFFIX}"

    def finished(self, chunk: RenderChunk) -> Sidecar | None:
        """The chunk's sidecar, if the chunk is there, whole, and made from this very plan. Reads the whole chunk."""
        path = self.file(chunk)
        try:
            sidecar = Sidecar.model_validate_json(_sidecar(path).read_bytes())
            right = (chunk_key(self._plan.fingerprint, chunk), chunk.frame_count)
            whole = (sidecar.key, sidecar.frames) == right and path.stat().st_size == sidecar.bytes
            return sidecar if whole and _checksum(path) == sidecar.checksum else None
        except (OSError, ValidationError):
            return None

    def finish(self, chunk: RenderChunk, part: Path, *, capture: str, warnings: tuple[str, ...]) -> Sidecar:
        """Publish a chunk whose frames were counted: the file first, then the sidecar that vouches for it."""
        path = self.file(chunk)
        sidecar = Sidecar(
            key=chunk_key(self._plan.fingerprint, chunk),
            frames=chunk.frame_count,
            bytes=part.stat().st_size,
            checksum=_checksum(part),
            capture=capture,
            warnings=warnings,
        )
        _sidecar(path).unlink(missing_ok=True)
        replace(part, path)
        note = self.part(_sidecar(path))
        _write(note, sidecar.model_dump_json())
        replace(note, _sidecar(path))
        return sidecar

    def sweep(self, *, keep_chunks: bool) -> None:
        """Remove what is not a finished chunk of this plan."""
        kept = {LOCK_NAME}
        if keep_chunks:
            kept.add(self._record.name)
            for path in (self.file(chunk) for chunk in self._plan.chunks if self._claimed(chunk)):
                kept |= {path.name, _sidecar(path).name}
        with contextlib.suppress(FileNotFoundError):
            for path in self.work.iterdir():
                if path.name not in kept and not path.is_dir():
                    path.unlink(missing_ok=True)

    def recorded_options(self) -> RenderOptions | None:
        """What was resolved for this plan by whoever worked on it first."""
        try:
            return RenderOptions.model_validate_json(self._record.read_bytes())
        except (OSError, ValidationError):
            return None

    def record_options(self, resolved: RenderOptions, *, replace_old: bool) -> RenderOptions:
        """Record what was resolved, and give what counts: without `replace_old` the first record wins."""
        note = self.part(self._record)
        _write(note, resolved.model_dump_json())
        try:
            if replace_old:
                note.replace(self._record)
            else:
                self._record.hardlink_to(note)
        except FileExistsError:
            return self.recorded_options() or resolved
        except OSError:  # a file system without hard links
            note.replace(self._record)
        finally:
            note.unlink(missing_ok=True)
        return resolved

    @property
    def _record(self) -> Path:
        return self.work / "resolved.json"

    def _claimed(self, chunk: RenderChunk) -> bool:
        """Whether a sidecar vouches for the chunk; what is in the file is not looked at."""
        try:
            sidecar = Sidecar.model_validate_json(_sidecar(self.file(chunk)).read_bytes())
        except (OSError, ValidationError):
            return False
        return sidecar.key == chunk_key(self._plan.fingerprint, chunk) and self.file(chunk).exists()

    def remove_if_empty(self) -> None:
        """Remove the folder if it holds no chunk: nothing but the lock and what was resolved."""
        with contextlib.suppress(OSError):
            if {path.name for path in self.work.iterdir()} <= {LOCK_NAME, self._record.name}:
                self._record.unlink(missing_ok=True)
                (self.work / LOCK_NAME).unlink(missing_ok=True)
                self.work.rmdir()

    def publish(self, part: Path) -> None:
        """Put the whole output in its place, in one step. What was there before is untouched until then."""
        replace(part, self.output)


def replace(part: Path, path: Path) -> None:
    """Rename after the bytes are on the disk, then make the rename last too. Raises DiskFull, OutputError."""
    try:
        _sync(part)
        part.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise _unwritten(path, error) from None


def _write(note: Path, text: str) -> None:
    try:
        note.write_text(text)
    except OSError as error:
        raise _unwritten(note, error) from None


def _unwritten(path: Path, error: OSError) -> OutputError:
    kind = DiskFull if error.errno == errno.ENOSPC else OutputError
    return kind(f"{path} could not be written: {error.strerror}.")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + SIDECAR_SUFFIX)


def _checksum(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()
