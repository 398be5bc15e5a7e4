"""Pictures go into one ffmpeg and come out as one chunk. This room knows nothing of pages, plans and work folders."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from asyncrender import pipes, process
from asyncrender.media import codecs, ffmpeg, graphs, matroska
from asyncrender.specs import RenderOptions
from asyncrender.tasks import Patience

DEADLINE = "timeouts.encode"


class Encoder:
    """A running encoder. Made by `open_encoder`, which also ends it."""

    def __init__(self, child: process.Child, options: RenderOptions, doing: str) -> None:
        self._child, self._doing, self._idle_seconds = child, doing, options.timeouts.encode
        self._fps = graphs.rate(options)
        assert options.width is not None
        assert options.height is not None
        self._head = matroska.head((options.width, options.height), self._fps, raw=options.capture == "raw")
        self.frames = 0

    @property
    def pid(self) -> int:
        return self._child.pid

    async def write(self, picture: bytes | memoryview | pipes.FilePart, patience: Patience) -> None:
        """Hand over the next frame, as `capture` gives it; returns when ffmpeg has taken it in.

        The last frame of all has to be written, not repeated. Raises ToolStalled after `timeouts.encode`, ToolFailed or
        DiskFull with ffmpeg's last words if it has died.
        """
        try:
            await patience.wait(self._send(picture), self._idle_seconds)
        except TimeoutError:
            raise ffmpeg.stalled(self._child, self._doing, self._idle_seconds, DEADLINE) from None
        self.frames += 1

    def repeat(self) -> None:
        """The next frame is as the last one, which was written: nothing is sent, and ffmpeg converts nothing again."""
        self.frames += 1

    async def finish(self) -> None:
        """No further frames: wait until the chunk is written. Raises as `write` does."""
        self._child.stdin.close()
        await ffmpeg.check_exit(self._child, doing=self._doing, idle_seconds=self._idle_seconds, deadline=DEADLINE)

    async def _send(self, picture: bytes | memoryview | pipes.FilePart) -> None:
        head = b"" if self.frames else self._head
        try:
            await self._child.stdin.send(head + matroska.before(self.frames, self._fps, len(picture)), picture)
        except BrokenPipeError:  # only because of something else: say that
            await self._child.wait()
            raise ffmpeg.failure(self._child, self._doing) from None


@asynccontextmanager
async def open_encoder(options: RenderOptions, output: Path, *, muxer: str) -> AsyncIterator[Encoder]:
    """An ffmpeg that makes `output` (overwritten) out of the pictures written to it.

    `options` are complete (`plan.complete`), `muxer` is ffmpeg's name of the container. Leaving the block without
    `finish()` ends ffmpeg at once; what it left of `output` is the caller's to remove. Raises MissingTool.
    """
    argv = codecs.encode_argv(options, ffmpeg=ffmpeg.find(), muxer=muxer, output=str(output))
    async with process.supervise(argv, stdin=True) as child:
        yield Encoder(child, options, f"encoding {output.name}")
