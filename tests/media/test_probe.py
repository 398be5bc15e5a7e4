"""Probing: what is said about real files, and about what is none."""

from __future__ import annotations

import os
import re
from fractions import Fraction
from pathlib import Path

import pytest
from films import NO_LENGTH, ffmpeg, png, sine, unstated, write_wav

from asyncrender.errors import ChunkDamaged, InvalidOption, MediaError
from asyncrender.media.decode import read_film
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


@pytest.mark.parametrize("words", ["", "hello", "{}", "[]"])
async def test_an_ffprobe_that_talks_nonsense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    (tmp_path / "ffprobe").write_text(f"#!/bin/sh\necho '{words}'\n")
    (tmp_path / "ffprobe").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(MediaError, match=f"does not say what it is, but '{re.escape(words)}"):
        await probe(write_wav(tmp_path / "sound.wav", sine(1)))


async def test_a_single_frame(tmp_path: Path) -> None:
    video = (await probe(film(tmp_path / "film.mp4", frames=1), count_frames=True)).video[0]
    assert (video.frames, video.constant_frame_rate) == (1, True)


async def test_a_sound_alone(tmp_path: Path) -> None:
    info = await probe(write_wav(tmp_path / "sound.wav", sine(0.5), 44_100), count_frames=True)
    assert (info.video, info.audio[0].codec, info.audio[0].sample_rate) == ((), "pcm_s16le", 44_100)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *(("a.mp3", NO_LENGTH), ("a.aac", ("-b:a", "192k")), ("a.ogg", ()), ("a.flac", ()), ("a.opus", ())),
        ("a.webm", ("-live", "1")),
    ],
)
async def test_sound_is_as_long_as_it_is_heard(tmp_path: Path, name: str, how: tuple[str, ...]) -> None:
    file = unstated(tmp_path / name, *how)
    heard = 4 if name in {"a.ogg", "a.flac", "a.opus"} else pytest.approx(4.02, abs=0.03)  # what the encoder adds
    info = await probe(file)
    assert info.duration == heard
    assert info.audio[0].duration == heard
    assert float((await read_film(file, idle_seconds=10)).duration) == heard


async def test_sound_that_begins_late_is_as_long_as_it_is_heard(tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "sound.wav", sine(1))
    for ending in ("mkv", "mov"):
        file = film(tmp_path / f"late.{ending}", "-itsoffset", "0.5", "-i", str(sound), "-c:a", "pcm_s16le")
        audio = (await probe(file)).audio[0]
        assert (audio.start_time, audio.duration) == (0.5, pytest.approx(1, abs=0.002))


async def test_a_transport_streams_last_packet_counts(tmp_path: Path) -> None:
    assert (await probe(unstated(tmp_path / "a.ts", "-c:a", "aac"))).duration == pytest.approx(4.02, abs=0.03)


async def test_chained_streams_of_sound_are_as_long_as_all_of_them(tmp_path: Path) -> None:
    one, more, chain = tmp_path / "one.ogg", tmp_path / "more.ogg", tmp_path / "chain.ogg"
    unstated(one)
    ffmpeg("-f", "lavfi", "-i", "sine=d=1.5:r=44100", str(more))
    chain.write_bytes(one.read_bytes() + more.read_bytes())
    assert (await probe(chain)).duration == 5.5
    assert (await read_film(chain, idle_seconds=10)).duration == Fraction("5.5")


async def test_a_cover_is_no_film(tmp_path: Path) -> None:
    cover, plain, file = tmp_path / "cover.png", unstated(tmp_path / "plain.mp3", *NO_LENGTH), tmp_path / "a.mp3"
    cover.write_bytes(png((1, 2, 3)))
    ffmpeg("-i", str(plain), "-i", str(cover), "-map", "0", "-map", "1", "-c", "copy", "-write_xing", "0", str(file))
    assert (await probe(file)).duration == pytest.approx(4.02, abs=0.03)


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
