"""The encoder: what comes back out of a chunk, and what is said when ffmpeg dies, hangs or finds no room."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from films import SIZE, decode_pictures, film_plan, number_of, numbered, png

from asyncrender import formats
from asyncrender.errors import DiskFull, ToolFailed, ToolStalled
from asyncrender.media.encode import Encoder, open_encoder
from asyncrender.media.probe import frame_times, probe
from asyncrender.specs import RenderOptions, Timeouts, VideoOptions
from asyncrender.tasks import Patience, open_patience

pytestmark = pytest.mark.anyio

COLORS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "black": (0, 0, 0),
}

EXACT = VideoOptions(codec="ffv1")


def options(name: str = "out.mp4", **more: Any) -> RenderOptions:
    return film_plan(name, **{"frame_count": 12, **more}).chunks[0].options


async def encode(output: Path, chunk: RenderOptions, pictures: list[bytes]) -> Path:
    muxer = formats.video_codec(chunk.video.codec).chunk_muxer
    async with open_encoder(chunk, output, muxer=muxer) as encoder, open_patience() as patience:
        for picture in pictures:
            await encoder.write(picture, patience)
        await encoder.finish()
    assert encoder.frames == len(pictures)
    return output


def numbered_raw(frame: int) -> bytes:
    """As `numbered`, in I420."""
    pixels = SIZE[0] * SIZE[1]
    return bytes([16 + round(16 * frame * 219 / 255)]) * pixels + bytes([128]) * (pixels // 2)


async def write_forever(encoder: Encoder, picture: bytes, patience: Patience) -> None:
    while True:
        await encoder.write(picture, patience)


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("libx264", "out.mp4"),
        ("libx265", "out.mp4"),
        ("prores_ks", "out.mov"),
        ("libvpx-vp9", "out.webm"),
        ("libaom-av1", "out.mp4"),
        ("libsvtav1", "out.mp4"),
        ("ffv1", "out.mkv"),
    ],
)
async def test_colours_come_back(tmp_path: Path, codec: str, name: str) -> None:
    video = VideoOptions(codec=codec, crf=None if codec in {"prores_ks", "ffv1"} else 4, key_frame_seconds=0.01)
    chunk = await encode(tmp_path / "chunk.part", options(name, video=video), [png(c) for c in COLORS.values()])
    decoded = decode_pictures(chunk)
    for color, picture in zip(COLORS.values(), decoded, strict=True):
        assert np.abs(picture[8:-8, 8:-8].astype(int) - color).max() <= 2


@pytest.mark.parametrize(
    ("codec", "name", "better", "worse"),
    [("libvpx", "out.webm", 0, 4), ("libvpx", "out.webm", 4, 40), ("libsvtav1", "out.mp4", 0, 20)],
)
async def test_the_crf_says_how_good_and_how_large(
    tmp_path: Path, codec: str, name: str, better: float, worse: float
) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (60, SIZE[0] * SIZE[1] * 3 // 2), np.uint8)
    files = []
    for video in (VideoOptions(codec=codec, crf=better), VideoOptions(codec=codec, crf=worse), EXACT):
        chunk = options("out.mkv" if video is EXACT else name, capture="raw", video=video)
        files.append(await encode(tmp_path / f"{len(files)}.part", chunk, [picture.tobytes() for picture in noise]))
    good, bad, exact = [np.array(decode_pictures(file), float) for file in files]
    assert files[0].stat().st_size > 1.1 * files[1].stat().st_size
    assert np.square(good - exact).mean() < 0.5 * np.square(bad - exact).mean()


@pytest.mark.parametrize("pixel_format", ["yuv420p", "bgr0"])
async def test_no_picture_is_lost_where_an_alpha_channel_comes_or_goes(tmp_path: Path, pixel_format: str) -> None:
    pictures = [numbered(frame, alpha=frame in {1, 2, 5, 11}) for frame in range(12)]
    video = VideoOptions(codec="ffv1", pixel_format=pixel_format)
    chunk = await encode(tmp_path / "chunk.part", options("out.mkv", video=video), pictures)
    assert [number_of(picture) for picture in decode_pictures(chunk)] == list(range(12))


async def test_lossless_rgb_stays_what_it_was(tmp_path: Path) -> None:
    video = VideoOptions(codec="ffv1", pixel_format="bgr0")
    chunk = await encode(tmp_path / "chunk.part", options("out.mkv", video=video), [png((1, 2, 3)), png((250, 7, 129))])
    assert [picture[5, 5].tolist() for picture in decode_pictures(chunk)] == [[1, 2, 3], [250, 7, 129]]


async def test_the_colours_are_tagged(tmp_path: Path) -> None:
    video = (await probe(await encode(tmp_path / "chunk.part", options(), [numbered(0)]))).video[0]
    assert (video.color_space, video.color_range, video.pixel_format) == ("bt709", "tv", "yuv420p")


@pytest.mark.parametrize(
    ("fps", "codec", "name"),
    [
        *((fps, "libx264", "out.mp4") for fps in ("23.976", "24", "29.97", "30", "59.94", "60", "12.5", "1")),
        *((fps, "libvpx", "out.webm") for fps in ("29.97", "60")),
    ],
)
async def test_a_frame_is_a_whole_number_of_ticks(tmp_path: Path, fps: str, codec: str, name: str) -> None:
    chunk = options(name, fps=fps, video=VideoOptions(codec=codec))
    assert chunk.fps is not None
    file = await encode(tmp_path / "chunk.part", chunk, [numbered(frame) for frame in range(7)])
    ticks = 1 / (chunk.fps * (await probe(file)).video[0].time_base)
    assert await frame_times(file) == [frame * ticks for frame in range(7)]


async def test_the_same_pictures_make_the_same_bytes(tmp_path: Path) -> None:
    pictures = [numbered(frame) for frame in range(12)]
    first, second = [await encode(tmp_path / name, options(), pictures) for name in ("one.part", "two.part")]
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("fps", ["29.97", "30", "1", "240"])
@pytest.mark.parametrize("shown", ["0", "0001", "011233345", "0011111111"])
@pytest.mark.parametrize("capture", ["beginframe", "raw"])
async def test_what_is_repeated_is_encoded_as_if_it_had_been_sent(
    tmp_path: Path, capture: str, shown: str, fps: str
) -> None:
    """To the byte: the pictures' times say what their number would."""
    chunk = options(capture=capture, fps=fps, frame_count=len(shown))
    made = {"beginframe": numbered, "raw": numbered_raw}[capture]
    sent = await encode(tmp_path / "sent.part", chunk, [made(int(number)) for number in shown])
    async with open_encoder(chunk, tmp_path / "repeated.part", muxer="mov") as encoder, open_patience() as patience:
        for frame, number in enumerate(shown):
            if frame and number == shown[frame - 1] and frame < len(shown) - 1:
                encoder.repeat()
            else:
                await encoder.write(made(int(number)), patience)
        await encoder.finish()
    assert encoder.frames == len(shown)
    assert (tmp_path / "repeated.part").read_bytes() == sent.read_bytes()
    assert [number_of(picture) for picture in decode_pictures(sent)] == [int(number) for number in shown]


async def test_a_killed_ffmpeg_is_reported_not_the_broken_pipe(tmp_path: Path) -> None:
    async with open_encoder(options(), tmp_path / "chunk.part", muxer="mov") as encoder, open_patience() as patience:
        await encoder.write(numbered(0), patience)
        os.kill(encoder.pid, signal.SIGKILL)
        with pytest.raises(ToolFailed, match="killed by signal 9") as caught:
            await write_forever(encoder, numbered(1), patience)
    assert caught.value.returncode == -signal.SIGKILL


async def test_an_ffmpeg_that_refuses_says_why(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="encoding chunk"):
        async with open_encoder(options(), tmp_path / "nowhere" / "chunk.part", muxer="mov") as encoder:
            await encoder.finish()


async def test_pictures_that_are_none_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed):
        await encode(tmp_path / "chunk.part", options(), [b"no picture"])


async def test_a_full_disk_is_called_so() -> None:
    big = options("out.mkv", video=VideoOptions(codec="ffv1"))
    with pytest.raises(DiskFull, match="no space is left"):
        await encode(Path("/dev/full"), big, [numbered(frame) for frame in range(12)])


async def test_a_hanging_ffmpeg_is_named_with_its_deadline(tmp_path: Path) -> None:
    hurried = options(timeouts=Timeouts(encode=0.3))
    async with open_encoder(hurried, tmp_path / "chunk.part", muxer="mov") as encoder, open_patience() as patience:
        os.kill(encoder.pid, signal.SIGSTOP)
        with pytest.raises(ToolStalled, match=r"timeouts\.encode"):
            await write_forever(encoder, bytes(1 << 20), patience)


async def test_an_ffmpeg_that_reads_no_more_and_does_not_end_is_named_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = tmp_path / "ffmpeg"
    deaf.write_text("#!/bin/sh\nexec 0<&-\nsleep 60\n")
    deaf.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    hurried = options(timeouts=Timeouts(encode=0.3))
    async with open_encoder(hurried, tmp_path / "chunk.part", muxer="mov") as encoder, open_patience() as patience:
        with pytest.raises(ToolStalled, match=r"timeouts\.encode"):
            await write_forever(encoder, bytes(1 << 20), patience)


async def test_leaving_early_ends_ffmpeg(tmp_path: Path) -> None:
    async with open_encoder(options(), tmp_path / "chunk.part", muxer="mov") as encoder, open_patience() as patience:
        await encoder.write(numbered(0), patience)
    with pytest.raises(ProcessLookupError):
        os.kill(encoder.pid, 0)
