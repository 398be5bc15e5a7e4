"""The work folder beside the output: parts, finished chunks with their sidecars, the lock, and the publishing.

A file is written as `*.part` and appears under its name by rename, whole or not at all. The sidecars are the journal:
what has a valid one is finished. Which chunks there shall be is the plan's business.

Two locks, both freed by the kernel if their holder dies: whoever renders or assembles holds the file `lock` alone;
whoever renders single chunks shares the folder's own lock, so that nobody removes what he is writing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from asyncrender.errors import NO_SPACE, DiskFull, InvalidOption, OutputLocked, disk_error
from asyncrender.files import Checksums, Stamp, check_output, checksum
from asyncrender.forks import Descriptor
from asyncrender.locks import claimed, free, open_lock, take
from asyncrender.plan import check_plan, chunk_key, differences, is_url
from asyncrender.specs import RenderChunk, RenderOptions, RenderPlan

LOCK_NAME = "lock"
PART_SUFFIX = ".part"
SIDECAR_SUFFIX = ".json"

Kept = Literal["nothing", "ours", "any"]
"""Which finished chunks stay in the work folder."""

SHOWN_REASONS = 3
"""Of a scene or of options that changed in many places."""


NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
"""What file systems say that do not sync folders, such as some network shares; what was renamed is renamed."""


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
    sound: bool | None = None
    """Whether it has sound; None if whoever made it did not say."""
    files: dict[str, str | None] = {}
    """The scene's own files that were asked for: path in its folder -> checksum; None: there was no such file."""


class Record(BaseModel):
    """What the chunks in a work folder are made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: str
    """Fingerprint of the plan as it was given, perhaps unresolved."""
    scene: str
    options: RenderOptions
    """Resolved."""


@dataclass(frozen=True)
class Finding:
    """What was found of a chunk: its sidecar if it can be used, else why not; neither if nothing was there."""

    sidecar: Sidecar | None = None
    reason: str | None = None


class Workspace:
    """The work folder of one plan. `folder` is the plan's base made real."""

    def __init__(self, plan: RenderPlan, folder: Path) -> None:
        self._plan, self.folder = plan, folder
        self.work = folder / plan.work_folder
        self.output = folder / plan.final_output_file
        self._checksums = Checksums()

    def prepare(self) -> None:
        """Make the work folder. Raises InvalidPlan, InvalidOption if the output cannot lie there, DiskFull."""
        check_plan(self._plan)
        check_output(self.output)
        self.spare(
            {f"audio.tracks.{n}": self.folder / track.path for n, track in enumerate(self._plan.options.audio.tracks)}
        )
        if not is_url(self._plan.composition_url):
            self.spare({"the scene": self.folder / self._plan.composition_url})
        try:
            self.work.mkdir(exist_ok=True)
            (self.work / LOCK_NAME).touch()
        except OSError as error:
            if error.errno in NO_SPACE:
                raise DiskFull(f"No space is left in {self.folder}.") from None
            raise InvalidOption("output", str(self.output), f"its folder cannot be written: {error.strerror}") from None

    def spare(self, inputs: Mapping[str, str | Path]) -> None:
        """Raise InvalidOption if the output would replace one of these, named, files."""
        spare(self.output, inputs)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the output for one render. The kernel frees a dead holder's lock. Raises OutputLocked, InvalidOption."""
        lock = self._open_lock(LOCK_NAME, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        finally:
            free(lock)

    @contextmanager
    def share(self) -> Iterator[None]:
        """Keep the folder, and what is written in it, from being removed; any number may share it."""
        lock = self._open_lock(".", fcntl.LOCK_SH)  # waits for no longer than somebody sweeps
        try:
            yield
        finally:
            free(lock)

    def _open_lock(self, name: str, kind: int) -> Descriptor:
        path = self.work / name
        flags = os.O_RDONLY | os.O_DIRECTORY if name == "." else os.O_RDWR | os.O_CREAT
        while True:
            self.prepare()
            try:
                lock = open_lock(path, flags)
            except FileNotFoundError:  # the holder before us has just removed the folder
                continue
            held = False
            try:
                take(lock, kind)
                held = _same_file(lock, path)
            except BlockingIOError:
                raise OutputLocked(f"Another render is writing {self.output} right now.") from None
            finally:
                if not held:
                    free(lock)
            if held:
                return lock

    def file(self, chunk: RenderChunk) -> Path:
        return self.folder / chunk.output_file

    def part(self, path: Path) -> Path:
        """A new name to write `path` under; two writers never share one."""
        return self.work / f"{path.name}.{secrets.token_hex(4)}{PART_SUFFIX}"

    def look(self, chunk: RenderChunk) -> Finding:
        """Whether the chunk is there, whole, and made from this very plan and the scene's files as they are now.

        Reads the whole chunk, and those files of the scene that were touched.
        """
        path = self.file(chunk)
        try:
            sidecar = Sidecar.model_validate_json(_sidecar(path).read_bytes())
        except FileNotFoundError:
            return Finding(reason=f"{path.name} was not finished" if path.exists() else None)
        except (OSError, ValidationError):
            return Finding(reason=f"{_sidecar(path).name} is damaged")
        reason = self._why_unusable(chunk, path, sidecar)
        return Finding(reason=reason) if reason else Finding(sidecar)

    def _why_unusable(self, chunk: RenderChunk, path: Path, sidecar: Sidecar) -> str | None:
        if (sidecar.key, sidecar.frames) != (chunk_key(self._plan, chunk), chunk.frame_count):
            return self._what_differs() or "the film was cut into other chunks"
        if self.scene_folder and (touched := self._checksums.changed(self.scene_folder, sidecar.files)):
            return f"the scene's {_listed(touched)} changed"
        try:
            whole = path.stat().st_size == sidecar.bytes and checksum(path) == sidecar.checksum
        except OSError as error:
            return f"{path.name} cannot be read: {error.strerror}"
        return None if whole else f"{path.name} is damaged"

    @property
    def scene_folder(self) -> Path | None:
        """See the function of that name."""
        return scene_folder(self._plan.composition_url, self.folder)

    def finish(
        self,
        chunk: RenderChunk,
        part: Path,
        *,
        capture: str,
        sound: bool,
        warnings: tuple[str, ...],
        files: Mapping[str, Stamp | None],
    ) -> Sidecar:
        """Publish a chunk whose frames were counted: the file first, then the sidecar that vouches for it.

        `files`: what the page asked for, as it was then; a file that is not the same any more makes the chunk unusable
        for another run.
        """
        path = self.file(chunk)
        sidecar = Sidecar(
            key=chunk_key(self._plan, chunk),
            frames=chunk.frame_count,
            bytes=part.stat().st_size,
            checksum=checksum(part),
            capture=capture,
            sound=sound,
            warnings=warnings,
            files=self._checksums.seen(self.scene_folder, files) if self.scene_folder else {},
        )
        _sidecar(path).unlink(missing_ok=True)
        replace(part, path)
        note = self.part(_sidecar(path))
        write_text(note, sidecar.model_dump_json())
        replace(note, _sidecar(path))
        return sidecar

    def sweep(self, keep: Kept, chunks: Sequence[RenderChunk] | None = None) -> None:
        """Remove what nobody needs: unfinished parts at least, but not while others render single chunks.

        `keep`: "ours", the finished chunks of this plan (or, if given, these); "any", those of other plans too.
        """
        kept = self._kept(keep, self._plan.chunks if chunks is None else chunks)
        with claimed(self.work, os.O_DIRECTORY) as alone, contextlib.suppress(FileNotFoundError):
            for path in self.work.iterdir():
                spared = (path.suffix == PART_SUFFIX and not alone) or (path.suffix != PART_SUFFIX and keep == "any")
                if path.name not in kept and not spared and not path.is_dir():
                    path.unlink(missing_ok=True)

    def _kept(self, keep: Kept, chunks: Sequence[RenderChunk]) -> set[str]:
        if keep == "nothing":
            return {LOCK_NAME}
        claimed = [self.file(chunk) for chunk in chunks if self._vouching(chunk)]
        return {LOCK_NAME, self._record.name, *(name for path in claimed for name in (path.name, _sidecar(path).name))}

    def recorded_options(self) -> RenderOptions | None:
        """What was resolved for this very plan by whoever worked on it first."""
        record = self.recorded()
        return record.options if record is not None and record.plan == self._plan.fingerprint else None

    def recorded(self) -> Record | None:
        """What the chunks that are there, if any, were made from."""
        try:
            return Record.model_validate_json(self._record.read_bytes())
        except (OSError, ValidationError):
            return None

    def record_options(self, resolved: RenderOptions, *, replace_old: bool) -> RenderOptions:
        """Record what was resolved, and give what counts: without `replace_old` the plan's first record wins."""
        record = Record(plan=self._plan.fingerprint, scene=self._plan.composition_url, options=resolved)
        note = self.part(self._record)
        write_text(note, record.model_dump_json())
        try:
            if self.recorded_options() is None:  # of another plan, if there is one at all
                self._record.unlink(missing_ok=True)
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

    def _what_differs(self) -> str | None:
        record = self.recorded()
        if record is None:
            return "its options are not known"
        if record.scene != self._plan.composition_url:
            return f"the scene was {record.scene}"
        found = differences(record.options, self._plan.options)
        return _listed(found) if found else None

    def sounds(self, chunk: RenderChunk) -> bool | None:
        """Whether a chunk has sound, as its sidecar says; None if it does not, or there is none."""
        sidecar = self._vouching(chunk)
        return None if sidecar is None else sidecar.sound

    def _vouching(self, chunk: RenderChunk) -> Sidecar | None:
        """The sidecar that vouches for the chunk; what is in the file is not looked at."""
        try:
            sidecar = Sidecar.model_validate_json(_sidecar(self.file(chunk)).read_bytes())
        except (OSError, ValidationError):
            return None
        ours = sidecar.key == chunk_key(self._plan, chunk) and self.file(chunk).exists()
        return sidecar if ours else None

    def discard(self, chunk: RenderChunk) -> None:
        """Remove a chunk that cannot be used."""
        _sidecar(self.file(chunk)).unlink(missing_ok=True)
        self.file(chunk).unlink(missing_ok=True)

    def remove_if_empty(self) -> None:
        """Remove the folder if it holds no chunk, nothing but the lock and what was resolved, and nobody shares it."""
        with claimed(self.work, os.O_DIRECTORY) as alone, contextlib.suppress(OSError):
            if alone and {path.name for path in self.work.iterdir()} <= {LOCK_NAME, self._record.name}:
                self._record.unlink(missing_ok=True)
                (self.work / LOCK_NAME).unlink(missing_ok=True)
                self.work.rmdir()

    def publish(self, part: Path) -> None:
        """Put the whole output in its place, in one step. What was there before is untouched until then."""
        replace(part, self.output)


def scene_folder(url: str, base: Path) -> Path | None:
    """Where the own files of a scene, as a plan names it, lie; None for a page from elsewhere, or without any."""
    scene = base / url
    return None if is_url(url) else scene if scene.is_dir() else scene.parent


def spare(output: Path, inputs: Mapping[str, str | Path]) -> None:
    """Raise InvalidOption if the output would replace one of these, named, files."""
    for name, path in inputs.items():
        with contextlib.suppress(OSError):
            if output.samefile(path):
                allowed = f"it would replace what it is made from, {name}; give it another name"
                raise InvalidOption("output", str(output), allowed)


def replace(part: Path, path: Path) -> None:
    """Rename after the bytes are on the disk, then make the rename last too. Raises DiskFull, OutputError."""
    try:
        _sync(part)
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise disk_error(path, error) from None


def write_text(path: Path, text: str) -> None:
    """Write a small file. Raises DiskFull, OutputError."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file. Raises DiskFull, OutputError."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise disk_error(path, error) from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise


def _same_file(lock: Descriptor, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock.fd), path.stat())
    except FileNotFoundError:
        return False


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + SIDECAR_SUFFIX)


def _listed(reasons: list[str]) -> str:
    more = f" and {len(reasons) - SHOWN_REASONS} more" if len(reasons) > SHOWN_REASONS else ""
    return ", ".join(reasons[:SHOWN_REASONS]) + more


@contextmanager
def idle(work: Path) -> Iterator[bool]:
    """Whether nobody uses a work folder, and then nobody does while the block lasts."""
    with claimed(work, os.O_DIRECTORY) as alone, claimed(work / LOCK_NAME, os.O_RDWR) as unused:
        yield alone and unused
