"""A film in the page, seen and heard in the finished film: its number in every frame, each beep at its flash."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

import asyncrender as ar
from frames import LOSSLESS, LOSSLESS_420, Picture, pictures

pytestmark = pytest.mark.anyio

SAMPLE_RATE = 48_000
FRAMES = 74
BEEP_EVERY = 12
"""Frames: frame 12, 24, 36 … is all white in its lower half, and begins with a beep."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def make_film(path: Path, rate: Fraction) -> None:
    """160x80: the upper half is the frame's number in bars of 20 pixels, the lowest bit at the left."""
    bars = "if(mod(floor(N/pow(2,floor(X/20))),2),235,16)"
    flash = f"if(eq(mod(N,{BEEP_EVERY}),0),235,16)"
    picture = f"color=black:s=160x80:r={rate},geq=lum='if(lt(Y,40),{bars},{flash})':cb=128:cr=128"
    period = BEEP_EVERY / rate
    phase = f"mod(t*{period.denominator}+1e-9,{period.numerator})"  # of the period, exactly
    sound = f"aevalsrc='0.5*lt({phase},{period.denominator}/50)*cos(2*PI*1000*t)':s={SAMPLE_RATE}"
    seconds = str(float((FRAMES + 10) / rate))
    argv = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, "-t", seconds]
    codecs = ["-c:v", "libx264", "-g", "250", "-pix_fmt", "yuv420p", "-c:a", "pcm_s16le"]
    subprocess.run([*argv, *codecs, str(path)], check=True)


def number(picture: Picture) -> int:
    """Which of the film's frames it shows."""
    return sum(int(picture[20, 20 * bit + 10].mean() > 127) << bit for bit in range(8))


def beeps(film: Path) -> list[int]:
    """The first sample of each beep."""
    with av.open(str(film)) as opened:
        sound = np.concatenate([frame.to_ndarray().reshape(-1)[::2] for frame in opened.decode(audio=0)])
    loud = np.flatnonzero(np.abs(sound.astype(int)) > 1000)
    return [int(loud[0]), *(int(here) for before, here in pairwise(loud) if here - before > 2400)]


async def check(tmp_path: Path, rate: Fraction, chunks: int) -> None:
    make_film(tmp_path / "film.mov", rate)
    scene = tmp_path / "scene.html"
    scene.write_text("<body style='margin:0'><video src=film.mov autoplay></video>")
    options = ar.RenderOptions(
        width=160,
        height=80,
        fps=rate,
        frame_count=FRAMES,
        concurrency=min(chunks, 3),
        chunk_frames=-(-FRAMES // chunks),
        video=LOSSLESS,
        audio=ar.AudioOptions(codec="pcm_s16le", sample_rate=SAMPLE_RATE),
    )
    result = await ar.render(scene, tmp_path / "out.mkv", options)
    assert len(result.chunks) == chunks
    assert result.warnings == ()
    shown = pictures(result.output)
    assert [number(picture) for picture in shown] == list(range(FRAMES))
    flashes = [frame for frame, picture in enumerate(shown) if picture[60].mean() > 127]
    assert flashes == list(range(0, FRAMES, BEEP_EVERY))
    heard = beeps(result.output)
    assert len(heard) == len(flashes)
    for frame, sample in zip(flashes, heard, strict=True):
        assert abs(Fraction(sample, SAMPLE_RATE) - frame / rate) <= Fraction(1, 1000), f"the beep of frame {frame}"


async def test_pictures_and_sound_of_a_film_in_the_page(tmp_path: Path) -> None:
    await check(tmp_path, Fraction(30000, 1001), 3)


@pytest.mark.soak
@pytest.mark.parametrize("chunks", [1, 3, 37])
@pytest.mark.parametrize("rate", [Fraction(24), Fraction(30000, 1001), Fraction(30), Fraction(60)], ids=str)
async def test_films_at_any_rate_in_any_number_of_chunks(rate: Fraction, chunks: int, tmp_path: Path) -> None:
    await check(tmp_path, rate, chunks)


@pytest.mark.parametrize("when", ["", "data-asyncrender-offset=0.4"])
async def test_a_film_that_stands_still_at_first_can_be_taken_raw(when: str, tmp_path: Path) -> None:
    """Nothing that follows then tells that its first frame was drawn."""
    rate = Fraction(25)
    make_film(tmp_path / "film.mov", rate)
    (tmp_path / "scene.html").write_text(f"<body style='margin:0'><video src=film.mov muted {when}></video>")
    options = ar.RenderOptions(
        width=160,
        height=80,
        fps=rate,
        frame_count=20,
        capture="raw",
        concurrency=1,
        timeouts=ar.Timeouts(frame=8),
        video=LOSSLESS_420,
    )
    result = await ar.render(tmp_path / "scene.html", tmp_path / "out.mkv", options)
    shown = [number(picture) for picture in pictures(result.output)]
    assert shown == [max(0, frame - 10) if when else 0 for frame in range(20)]
