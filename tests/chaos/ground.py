"""The ground on which renders are disturbed: scenes to render, and what must hold once a disturbed render is over."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

import asyncrender as ar
from asyncrender import process
from frames import digests, small

VANISH_SECONDS = 2.0
"""Killed grandchildren may take so long; their files too."""

OLD = b"an older film"
ALLOWED = ("lock", "resolved.json")


@dataclass
class Ground:
    """A folder with scenes, an output, and the children that were born while it was trodden."""

    folder: Path
    born: list[int] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """What asyncio, the warnings and the garbage collector had to say."""

    def __post_init__(self) -> None:
        self.films = self.folder / "films"
        self.films.mkdir(parents=True)
        self.scene = make_scene(self.folder / "scene")
        self.output = self.films / "out.mkv"
        self.output.write_bytes(OLD)

    def options(self, **more: Any) -> ar.RenderOptions:
        """Two workers, four chunks, a long way to the first frame, a film in the page, and a track of sound."""
        track = ar.AudioTrack(path=str(self.folder / "scene" / "tone.wav"), offset=0)
        window = {"start_frame": 30, "frame_count": 12, "chunk_frames": 3, "concurrency": 2}
        return small(**{**window, "audio": ar.AudioOptions(tracks=(track,)), **more})

    async def plan(self, name: str = "out.mkv", **more: Any) -> ar.RenderPlan:
        resolved = await ar.resolve(self.scene, self.films / name, self.options(**more))
        return ar.RenderOrchestrator.plan(self.scene, self.films / name, resolved)

    async def undisturbed(self, **more: Any) -> list[str]:
        """What each frame looks like if nobody disturbs."""
        plan = await self.plan("undisturbed.mkv", **more)
        result = await ar.RenderOrchestrator().render(plan)
        frames = digests(result.output)
        result.output.unlink()
        return frames

    def check(self, *, whole: list[str] | None = None, resume: bool = True) -> list[str]:
        """What is wrong now that a render is over: processes, files, the output, complaints. `whole`: it succeeded."""
        wrong = [*self._alive(), *self._unreaped(), *self._stray(resume=resume and whole is None)]
        found = self.output.read_bytes() if self.output.exists() else b""
        if whole is not None:
            wrong += [] if found != OLD and digests(self.output) == whole else ["the output is not the whole film"]
        elif found != OLD:
            wrong.append(f"the output was touched: {len(found)} bytes")
        gc.collect()
        wrong += self.complaints
        self.complaints.clear()
        self.born.clear()
        self.output.write_bytes(OLD)
        return wrong

    def clear(self) -> None:
        """Forget finished chunks, so that the next render starts anew."""
        for path in sorted(self.films.rglob("*"), reverse=True):
            if path != self.output:
                path.rmdir() if path.is_dir() else path.unlink()

    def _alive(self) -> list[str]:
        deadline = time.monotonic() + VANISH_SECONDS
        while (left := family(self.born)) and time.monotonic() < deadline:
            time.sleep(0.01)
        return [f"alive: {name}" for name in left]

    def _unreaped(self) -> list[str]:
        ours = {child.pid for child in psutil.Process().children()}
        return [f"unreaped: {pid}" for pid in self.born if pid in ours]

    def _stray(self, *, resume: bool) -> list[str]:
        deadline = time.monotonic() + VANISH_SECONDS
        temporary = Path(tempfile.gettempdir())
        while any(temporary.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.01)
        strays = [f"temporary: {path.name}" for path in temporary.iterdir()]
        for path in self.films.rglob("*"):
            kept = resume and path.parent.name == ".out.mkv.asyncrender" and (path.name in ALLOWED or _is_chunk(path))
            folder = resume and path.name == ".out.mkv.asyncrender" and path.is_dir()
            if path != self.output and not kept and not folder:
                strays.append(f"stray: {path.relative_to(self.films)}")
        return strays


def _is_chunk(path: Path) -> bool:
    """A finished chunk and its sidecar, which never lie there without each other."""
    other = path.with_suffix("") if path.suffix == ".json" else path.with_name(path.name + ".json")
    return path.name.startswith("chunk-") and path.suffix in {".nut", ".json"} and other.exists()


def family(leaders: list[int]) -> list[str]:
    """The living, zombies left aside, among these processes and all that were born in their sessions."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name, _, rest = (entry / "stat").read_text().rpartition(")")
                state, _, _, session = rest.split()[:4]
            except (OSError, ValueError):
                continue
            if int(session) in leaders and state not in "ZX":
                found.append(f"{entry.name} {name.partition('(')[2]} {state}")
    return found


def make_scene(folder: Path) -> Path:
    """A page that accumulates state, draws by chance, plays a film, and has a style sheet."""
    folder.mkdir()
    source = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=4", "-f", "lavfi", "-i", "sine=500:d=4"]
    argv = ["ffmpeg", "-v", "error", *source, "-pix_fmt", "yuv420p", "-c:a", "aac", str(folder / "film.mp4")]
    subprocess.run(argv, check=True)
    tone = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=300:d=2", str(folder / "tone.wav")]
    subprocess.run(tone, check=True)
    (folder / "style.css").write_text("body { margin: 0; background: #123 } video { position: absolute; left: 90px }")
    body = (Path(__file__).parents[1] / "scenes" / "canvas.html").read_text()
    film = "<link rel=stylesheet href=style.css><video src=film.mp4 autoplay muted data-asyncrender-seek=0></video>"
    (folder / "scene.html").write_text(body + film)
    return folder / "scene.html"


@contextmanager
def trodden(folder: Path) -> Iterator[Ground]:
    """A ground that notes which children are born, and what is said behind the tests' backs."""
    ground = Ground(folder)
    born_before = process.Child.__init__

    def noting(child: process.Child, *arguments: Any, **more: Any) -> None:
        born_before(child, *arguments, **more)
        ground.born.append(child.pid)

    def complain(unraisable: Any) -> None:
        ground.complaints.append(f"unraisable: {unraisable.exc_value!r} in {unraisable.object!r}")

    listener = _Listener(ground.complaints)
    logging.getLogger("asyncio").addHandler(listener)
    hook, sys.unraisablehook = sys.unraisablehook, complain
    process.Child.__init__ = noting  # type: ignore[method-assign]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield ground
    finally:
        process.Child.__init__ = born_before  # type: ignore[method-assign]
        sys.unraisablehook = hook
        logging.getLogger("asyncio").removeHandler(listener)


class _Listener(logging.Handler):
    def __init__(self, complaints: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._complaints = complaints

    def emit(self, record: logging.LogRecord) -> None:
        self._complaints.append(f"asyncio: {record.getMessage()}")


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def loop_factory(backend: str) -> Any:
    """For asyncio.Runner."""
    if backend == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


LOOPS_OPTIONS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}
"""For anyio.run."""
