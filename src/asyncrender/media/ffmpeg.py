"""A run of ffmpeg with its progress, and its failures by their right names. This room knows no plan and no option."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import anyio

from asyncrender import process
from asyncrender.errors import AsyncRenderError, DiskFull, ToolFailed, ToolStalled

MICROSECONDS = 1_000_000

STOPPED, IMMEDIATE_EXIT = 255, "Immediate exit requested"
"""ffmpeg's exit code, or its words, if a signal told it to end; what it leaves is a short film that looks whole."""

NOT_PERMITTED = "Operation not permitted"
"""EPERM is -1, and newer ffmpegs end with their error's number: 255, too."""

NO_SPACE = ("No space left on device", "Disk quota exceeded")


def find() -> str:
    """ffmpeg's path. Raises MissingTool."""
    return process.find_tool("ffmpeg", package="ffmpeg")


async def run(
    argv: Sequence[str],
    *,
    output: Path,
    doing: str,
    seconds: Fraction,
    idle_seconds: float,
    deadline: str,
    on_progress: Callable[[float], None],
) -> None:
    """Run an ffmpeg that writes `-progress pipe:1` and makes `seconds` of film; `on_progress` gets 0 … 1, rising.

    Raises ToolStalled if no line comes and `output` stays as it is for `idle_seconds` (whose option is called
    `deadline`), DiskFull, ToolFailed.
    """
    done, rest = 0.0, b""
    async with process.supervise(argv, stdout=True) as child:
        while True:
            written = _written(output)
            with anyio.move_on_after(idle_seconds) as waiting:
                data = await child.stdout.receive()
            if waiting.cancelled_caught:
                if _written(output) != written:  # +faststart moves all there is, and says nothing
                    continue
                raise stalled(child, doing, idle_seconds, deadline)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            made = max((Fraction(made_microseconds(line), MICROSECONDS) for line in lines), default=Fraction(0))
            if made / seconds > done:
                done = min(1.0, float(made / seconds))
                on_progress(done)
        await check_exit(child, doing=doing, idle_seconds=idle_seconds, deadline=deadline)
    if done < 1:
        on_progress(1.0)


def _written(output: Path) -> tuple[int, int] | None:
    """(bytes, time of the last change): other ones mean that something was written meanwhile."""
    try:
        found = output.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def made_microseconds(line: bytes) -> int:
    """How much of the film is written, out of one line of ffmpeg's progress; 0 for all other lines."""
    name, _, value = line.partition(b"=")
    return int(value) if name == b"out_time_us" and value.strip().isdigit() else 0


async def check_exit(child: process.Child, *, doing: str, idle_seconds: float, deadline: str) -> None:
    """Wait for ffmpeg's end. Raises what it died of: DiskFull or ToolFailed; ToolStalled if it does not end."""
    with anyio.move_on_after(idle_seconds) as waiting:
        await child.wait()
    if waiting.cancelled_caught:
        raise stalled(child, doing, idle_seconds, deadline)
    if child.returncode or _no_space(child):
        raise failure(child, doing)


def failure(child: process.Child, doing: str) -> AsyncRenderError:
    words, code = child.last_words(), child.returncode
    if _no_space(child):
        return DiskFull(f"{doing}: no space is left on the disk. ffmpeg's last words: {words}")
    if IMMEDIATE_EXIT in words or (code == STOPPED and NOT_PERMITTED not in words):
        code = -signal.SIGTERM
    return ToolFailed(child.argv, returncode=-1 if code is None else code, stderr=words, doing=doing)


def _no_space(child: process.Child) -> bool:
    """ffmpeg 5 ends with code 0 if the disk is full when it writes the trailer."""
    return any(sign in child.last_words() for sign in NO_SPACE)


def stalled(child: process.Child, doing: str, idle_seconds: float, deadline: str) -> ToolStalled:
    words = child.last_words() or "nothing"
    sign = f"ffmpeg gave no sign of life for {idle_seconds:g} s ({deadline})"
    return ToolStalled(f"{doing}: {sign}. Its last words: {words}")
