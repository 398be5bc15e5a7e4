"""Joining chunks: the seams are not to be found again, and a damaged chunk is named."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

import anyio
import numpy as np
import pytest
from films import decode_pictures, encode_chunks, ffmpeg, film_plan, number_of

from asyncrender.errors import ChunkDamaged, ToolStalled
from asyncrender.media.concat import concat
from asyncrender.media.probe import frame_times, probe
from asyncrender.specs import RenderPlan, Timeouts, VideoOptions

pytestmark = pytest.mark.anyio


async def joined(plan: RenderPlan, folder: Path) -> Path:
    heard: list[float] = []
    await concat(plan, folder, on_progress=heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    return folder / plan.concat_output_file


def files(plan: RenderPlan, folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in (folder / plan.work_folder).iterdir()}


async def assert_whole(plan: RenderPlan, file: Path) -> None:
    video = (await probe(file, count_frames=True)).video[0]
    assert (video.frames, video.frame_rate, video.constant_frame_rate) == (plan.total_frames, plan.options.fps, True)
    assert plan.options.fps is not None
    ticks = 1 / (plan.options.fps * video.time_base)
    assert await frame_times(file) == [frame * ticks for frame in range(plan.total_frames)]
    assert [number_of(picture) for picture in decode_pictures(file)] == [n % 16 for n in range(plan.total_frames)]


@pytest.mark.parametrize("chunks", [1, 2, 7])
@pytest.mark.parametrize("fps", ["24", "29.97", "30", "23.976", "60"])
async def test_the_rate_stays_constant_over_the_seams(tmp_path: Path, fps: str, chunks: int) -> None:
    plan = film_plan("out.mp4", fps=fps, frame_count=31, concurrency=chunks)
    await encode_chunks(plan, tmp_path)
    await assert_whole(plan, await joined(plan, tmp_path))
    assert files(plan, tmp_path) == {*plan.concat_manifest, plan.concat_output_file}


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("libx265", "out.mp4"),
        ("prores_ks", "out.mov"),
        ("libvpx", "out.webm"),
        ("libvpx-vp9", "out.webm"),
        ("libaom-av1", "out.mkv"),
        ("libsvtav1", "out.mp4"),
        ("ffv1", "out.mkv"),
    ],
)
async def test_every_codec_joins(tmp_path: Path, codec: str, name: str) -> None:
    plan = film_plan(name, fps="29.97", frame_count=23, concurrency=3, video=VideoOptions(codec=codec))
    await encode_chunks(plan, tmp_path)
    await assert_whole(plan, await joined(plan, tmp_path))


async def test_many_small_chunks_do_not_drift(tmp_path: Path) -> None:
    """Counted by itself, a seam of the concat demuxer is up to half a microsecond off: so many add up to a tick."""
    one = film_plan("out.mp4", fps="59.94", frame_count=2)
    await encode_chunks(one, tmp_path)
    plan = film_plan("out.mp4", fps="59.94", frame_count=400, concurrency=200)
    for chunk in plan.chunks[1:]:
        (tmp_path / chunk.output_file).hardlink_to(tmp_path / plan.chunks[0].output_file)
    file = await joined(plan, tmp_path)
    ticks = 1 / (plan.options.fps * (await probe(file)).video[0].time_base)
    assert await frame_times(file) == [frame * ticks for frame in range(400)]


@pytest.mark.parametrize(("codec", "fps"), [("libx264", "24"), ("libx265", "59.94")])
async def test_chunks_of_a_few_frames_join_however_they_are_cut(tmp_path: Path, codec: str, fps: str) -> None:
    """One or two frames have no B-frames, and none is decoded before it is shown; of three the first is, by two."""
    made = {"fps": fps, "concurrency": 1, "video": VideoOptions(codec=codec)}
    cuts = {}
    for total, longest in product(range(1, 10), range(1, 5)):
        plan = film_plan("out.mp4", frame_count=total, chunk_frames=longest, **made)
        cuts[tuple(chunk.frame_count for chunk in plan.chunks)] = plan
    files = {}
    for frames in {frames for cut in cuts for frames in cut}:
        one = film_plan("out.mp4", frame_count=frames, **made)
        await encode_chunks(one, tmp_path / f"of{frames}")
        files[frames] = tmp_path / f"of{frames}" / one.chunks[0].output_file
    for cut, plan in cuts.items():
        if len(set(cut)) > 1:
            folder = tmp_path / "-".join(map(str, cut))
            (folder / plan.work_folder).mkdir(parents=True)
            for chunk in plan.chunks:
                (folder / chunk.output_file).hardlink_to(files[chunk.frame_count])
            shown = [number_of(picture) for picture in decode_pictures(await joined(plan, folder))]
            assert shown == [frame for frames in cut for frame in range(frames)]


async def test_every_chunk_can_be_entered_at_its_first_frame(tmp_path: Path) -> None:
    plan = film_plan("out.mp4", frame_count=60, concurrency=3, video=VideoOptions(key_frame_seconds=0.5))
    await encode_chunks(plan, tmp_path)
    file = await joined(plan, tmp_path)
    for second in (0.5, 1, 1.5):
        ffmpeg("-ss", str(second), "-i", str(file), "-frames:v", "1", str(tmp_path / "still.png"))
        still = decode_pictures(tmp_path / "still.png")[0]
        assert number_of(np.asarray(still)) == round(second * 30) % 16


@pytest.mark.parametrize("folder", ["a b'c%20é", "what?#[x]", "new\\line"])
async def test_odd_paths(tmp_path: Path, folder: str) -> None:
    plan = film_plan("it's 100% é.mp4", frame_count=6, concurrency=2)
    (tmp_path / folder).mkdir()
    await encode_chunks(plan, tmp_path / folder)
    await assert_whole(plan, await joined(plan, tmp_path / folder))


@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "short"])
async def test_a_damaged_chunk_is_named_and_nothing_is_left(tmp_path: Path, damage: str) -> None:
    plan = film_plan("out.mp4", frame_count=30, concurrency=3)
    await encode_chunks(plan, tmp_path)
    chunk = tmp_path / plan.chunks[1].output_file
    if damage == "missing":
        chunk.unlink()
    elif damage == "short":
        short = chunk.with_name("short.mov")
        ffmpeg("-i", str(chunk), "-frames:v", "9", str(short))
        short.replace(chunk)
    else:
        os.truncate(chunk, 0 if damage == "empty" else chunk.stat().st_size // 2)
    before = files(plan, tmp_path)
    with pytest.raises(ChunkDamaged, match="chunk-00001") as caught:
        await joined(plan, tmp_path)
    assert caught.value.chunk == 1
    assert files(plan, tmp_path) == before


async def test_cancelling_leaves_no_part(tmp_path: Path) -> None:
    plan = film_plan("out.mp4", frame_count=30, concurrency=3)
    await encode_chunks(plan, tmp_path)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await concat(plan, tmp_path, on_progress=lambda _: None)
    assert scope.cancelled_caught
    assert files(plan, tmp_path) == set(plan.concat_manifest)


async def test_a_stalled_join_is_named_with_its_deadline(tmp_path: Path) -> None:
    """A pipe that nobody writes to is a chunk on a dead disk."""
    plan = film_plan("out.mp4", frame_count=30, concurrency=3, timeouts=Timeouts(mix=0.4))
    (tmp_path / plan.work_folder).mkdir()
    for chunk in plan.chunks:
        os.mkfifo(tmp_path / chunk.output_file)
    with pytest.raises(ToolStalled, match=r"timeouts\.mix"):
        await joined(plan, tmp_path)
