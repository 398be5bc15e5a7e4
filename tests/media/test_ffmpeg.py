"""A run of ffmpeg: what counts as a sign of life."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from asyncrender.errors import ToolStalled
from asyncrender.media import ffmpeg

pytestmark = pytest.mark.anyio

IDLE_SECONDS = 0.4


async def silent(output: Path, *writing: str) -> None:
    """Two seconds of film in two seconds, without a word of progress; `writing` says how they get to the disk."""
    source = ["-re", "-f", "lavfi", "-i", "testsrc2=s=64x64:r=25:d=2", "-c:v", "mpeg2video", "-f", "mpegts"]
    await ffmpeg.run(
        [ffmpeg.find(), "-nostdin", "-loglevel", "error", "-y", *source, *writing, str(output)],
        output=output,
        doing="mixing",
        seconds=Fraction(2),
        idle_seconds=IDLE_SECONDS,
        deadline="timeouts.mix",
        on_progress=lambda _: None,
    )


async def test_who_writes_is_alive_though_silent(tmp_path: Path) -> None:
    """As `+faststart` is, which moves the whole film at its end: for minutes, of a large one on a slow disk."""
    await silent(tmp_path / "film.ts", "-flush_packets", "1")
    assert (tmp_path / "film.ts").stat().st_size


async def test_who_neither_writes_nor_speaks_is_stalled(tmp_path: Path) -> None:
    with pytest.raises(ToolStalled, match=r"timeouts\.mix"):
        await silent(tmp_path / "film.ts", "-flush_packets", "0", "-blocksize", str(1 << 20))
