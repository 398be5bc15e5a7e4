"""Probing: what is said about real files, and about what is none."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from films import ffmpeg, sine, write_wav

from asyncrender.errors import ChunkDamaged, InvalidOption, MediaError
from asyncrender.media.probe import MediaInfo, check_frames, encoders, probe, release, tool_version
from asyncrender.process import find_tool

pytestmark = pytest.mark.anyio


def film(path: Path, *more: str, frames: int = 31, fps: str = "30000/1001") -> Path:
    source = f"testsrc=s=64x48:r={fps},trim=end_frame={frames}"
    ffmpeg("-f", "lavfi", "-i", source, *more, f"file:{path}")
    return path


async def test_a_film_with_sound(tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "sound.wav", sine(1))
    info = await probe(film(tmp_path / "a b'c%20é.mp4", "-i", str(sound), "-c:a", "flac", "-strict", "-2"))
    assert info.container == "mov,mp4,m4a,3gp,3g2,mj2"
    assert info.size == (tmp_path / "a b'c%20é.mp4").stat().st_size
    video, audio = info.video[0], info.audio[0]
    assert (video.codec, video.width, video.height, video.frames) == ("h264", 64, 48, 31)
    assert video.frame_rate == Fraction(30000, 1001)
    assert video.duration == pytest.approx(31 * 1001 / 30000, abs=1e-5)
    assert (audio.codec, audio.sample_rate, audio.channels, audio.duration) == ("flac", 48_000, 1, 1.0)
    assert MediaInfo.model_validate_json(info.model_dump_json()) == info
    assert '"30000/1001"' in info.model_dump_json()


@pytest.mark.parametrize("ending", ["mov", "mp4", "mkv", "nut", "webm"])
async def test_counted_frames(tmp_path: Path, ending: str) -> None:
    file = film(tmp_path / f"film.{ending}")
    video = (await probe(file, count_frames=True)).video[0]
    assert (video.frames, video.constant_frame_rate) == (31, True)
    await check_frames(file, Fraction(30000, 1001), frames=31, tolerance=1, idle_seconds=10)
    with pytest.raises(ChunkDamaged, match="31 frames instead of 32"):
        await check_frames(file, Fraction(30000, 1001), frames=32, tolerance=1, idle_seconds=10)
    with pytest.raises(ChunkDamaged, match="not evenly spaced at 25 frames"):
        await check_frames(file, Fraction(25), frames=31, tolerance=1, idle_seconds=10)


async def test_a_varying_rate_is_noticed(tmp_path: Path) -> None:
    file = film(tmp_path / "film.mp4", "-vf", r"select=not(eq(n\,7))", "-fps_mode", "vfr")
    video = (await probe(file, count_frames=True)).video[0]
    assert (video.frames, video.constant_frame_rate) == (30, False)


async def test_a_single_frame(tmp_path: Path) -> None:
    video = (await probe(film(tmp_path / "film.mp4", frames=1), count_frames=True)).video[0]
    assert (video.frames, video.constant_frame_rate) == (1, True)


async def test_a_sound_alone(tmp_path: Path) -> None:
    info = await probe(write_wav(tmp_path / "sound.wav", sine(0.5), 44_100), count_frames=True)
    assert (info.video, info.audio[0].codec, info.audio[0].sample_rate) == ((), "pcm_s16le", 44_100)


async def test_what_is_no_media_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"nowhere\.mp4.*there is no such file"):
        await probe(tmp_path / "nowhere.mp4")
    with pytest.raises(InvalidOption, match="there is no such file"):
        await probe(tmp_path)
    words = tmp_path / "words.mp4"
    words.write_text("no film")
    with pytest.raises(MediaError, match=r"words\.mp4 cannot be read (?s:.*) last words: (?s:.*)Invalid data"):
        await probe(words)


async def test_the_tool_says_its_version_and_its_encoders() -> None:
    tool = find_tool("ffmpeg", package="ffmpeg")
    assert release(await tool_version(tool)) >= (5, 1)
    assert {"libx264", "ffv1", "aac", "pcm_s16le"} <= await encoders(tool)


def test_releases() -> None:
    assert release("5.1.9-0+deb12u1") == (5, 1)
    assert release("n7.0.2") == (7, 0)
    assert release("n9.0.2-17-g2a571b6068-20260930") == (9, 0)
    assert release("N-112233-gabcdef") > (100, 0)
    assert release("git-2026-01-01") > (100, 0)
