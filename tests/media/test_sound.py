"""The page's own sound, heard: the same samples for any number of chunks, each where its element plays it."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from films import (
    NO_LENGTH,
    decode_pictures,
    decode_sound,
    encode_chunks,
    ffmpeg,
    film_plan,
    number_of,
    sine,
    unstated,
    write_wav,
)

import asyncrender as ar
from asyncrender.errors import ChunkDamaged, MediaError
from asyncrender.media.concat import concat
from asyncrender.media.decode import read_film
from asyncrender.media.mix import mix
from asyncrender.media.probe import check_frames, probe
from asyncrender.media.sound import add_sound, find_sound, render_sound
from asyncrender.media.soundgraph import SoundSource
from asyncrender.specs import AudioOptions, AudioTrack, RenderChunk, RenderPlan, SoundSegment, VideoOptions

pytestmark = pytest.mark.anyio

RATE = 48_000
MILLISECOND = 48
"""Samples."""

LSB = 1 / 32768
"""The step of 16-bit sound."""


def segment(source: str | Path, start: float = 0, **more: Any) -> SoundSegment:
    return SoundSegment(**{"element": 0, "source": str(source), "kind": "audio", "start": start, **more})


async def look(segments: list[SoundSegment]) -> dict[str, SoundSource | None]:
    found = {}
    for source in {Path(one.source) for one in segments}:
        seconds = float((await read_film(source, idle_seconds=20)).duration)
        found[str(source)] = await find_sound(source, seconds=seconds, idle_seconds=20)
    return found


async def chunk_sound(
    chunk: RenderChunk, segments: list[SoundSegment], sources: dict[str, SoundSource | None], folder: Path
) -> np.ndarray | None:
    """Samples × channels, as whole numbers; None where the chunk is silent. It is told its own time only."""
    output = folder / f"{chunk.id}.s16le"
    rate = chunk.options.fps
    assert rate is not None
    known = [clipped(one, float((chunk.start_frame + chunk.frame_count - 1) / rate)) for one in segments]
    heard = [one for one in known if one is not None]
    if not await render_sound(chunk, heard, sources, output):
        assert not output.exists()
        return None
    sound = np.fromfile(output, "<i2").reshape(-1, chunk.options.audio.channels)
    output.rename(output.with_suffix(".kept"))
    return sound


def clipped(one: SoundSegment, now: float) -> SoundSegment | None:
    """What the page knows of a segment at the chunk's last frame."""
    if one.start > now + 1e-6:
        return None
    gains = tuple(step for step in one.gains if step[0] <= now + 1e-6)
    end = one.end if one.end is not None and one.end <= now + 1e-6 else None
    return one.model_copy(update={"gains": gains, "end": end})


async def heard(plan: RenderPlan, segments: list[SoundSegment], folder: Path) -> np.ndarray:
    """All chunks' samples in a row, silence where a chunk has none."""
    sources, limiter, parts = await look(segments), anyio.CapacityLimiter(3), {}

    async def render(chunk: RenderChunk) -> None:
        async with limiter:
            parts[chunk.id] = await chunk_sound(chunk, segments, sources, folder)

    async with anyio.create_task_group() as tasks:
        for chunk in plan.chunks:
            tasks.start_soon(render, chunk)
    channels = plan.options.audio.channels
    for chunk in plan.chunks:
        part, length = parts[chunk.id], samples(chunk)
        assert part is None or len(part) == length
        parts[chunk.id] = np.zeros((length, channels), "<i2") if part is None else part
    return np.concatenate([parts[chunk.id] for chunk in plan.chunks])


def samples(chunk: RenderChunk) -> int:
    per_second, rate = chunk.options.audio.sample_rate, chunk.options.fps
    assert rate is not None
    stop = chunk.start_frame + chunk.frame_count
    return round(stop * per_second / rate) - round(chunk.start_frame * per_second / rate)


def clicks(path: Path, *places: int, rate: int = RATE, seconds: float = 2, channels: int = 2) -> Path:
    samples = np.zeros((channels, round(rate * seconds)))
    samples[:, list(places)] = 0.9
    return write_wav(path, samples, rate)


def noise(path: Path, seconds: float, rate: int = RATE, channels: int = 2) -> Path:
    samples = np.random.default_rng(1).uniform(-0.4, 0.4, (channels, round(rate * seconds)))
    return write_wav(path, samples, rate)


def peaks(sound: np.ndarray, level: float = 0.4) -> list[int]:
    return np.flatnonzero(np.abs(sound[:, 0].astype(float)) > level * 32768).tolist()


async def everything(folder: Path, fps: Fraction) -> list[SoundSegment]:
    """Something of all there is, at the composition's own rate."""

    def at(frame: int) -> float:
        return float(frame / fps)

    music, wide = noise(folder / "music.wav", 3), noise(folder / "wide.wav", 1.5, 44_100, 1)
    short = noise(folder / "short.wav", 0.21, 44_100)
    ramp = tuple((at(frame), frame / 40) for frame in range(3, 40))
    return [
        segment(music, fade_in=0.7, fade_out=0.9, gains=((0, 0.7), (at(11), 0), (at(13), 0.45))),
        segment(wide, at(5), position=0.123, end=at(29), element=1),
        segment(wide, at(31), position=0.4, element=1, gains=ramp),
        segment(short, at(2), loop=True, element=2, gains=((at(2), 0.3),)),
        segment(wide, at(1), loop=True, element=3, gains=((at(1), 0.2),)),
    ]


@pytest.mark.parametrize("fps", ["29.97", *(pytest.param(rate, marks=pytest.mark.soak) for rate in ("24", "30", "60"))])
async def test_any_number_of_chunks_gives_the_same_samples(tmp_path: Path, fps: str) -> None:
    sounds = []
    for chunks in (1, 3, 37):
        plan = film_plan("out.mp4", fps=fps, frame_count=61, concurrency=chunks)
        assert plan.options.fps is not None
        sounds.append(await heard(plan, await everything(tmp_path, plan.options.fps), tmp_path))
    assert len(sounds[0]) == round(61 * RATE / plan.options.fps)
    assert np.abs(sounds[0]).max() > 5000
    assert np.array_equal(sounds[0], sounds[1])
    assert np.array_equal(sounds[0], sounds[2])


@pytest.mark.parametrize(("rate", "channels"), [(48_000, 2), (48_000, 1), (44_100, 2), (44_100, 1)])
async def test_a_click_lands_on_its_sample(tmp_path: Path, rate: int, channels: int) -> None:
    file = clicks(tmp_path / "click.wav", rate // 2, rate // 2 + rate // 100, rate=rate, channels=channels)
    plan = film_plan("out.mp4", fps="29.97", frame_count=45, concurrency=2)
    start = 10 * 1001 / 30000
    sound = await heard(plan, [segment(file, start, position=0.25)], tmp_path)
    first = round(start * RATE) + RATE // 4
    assert peaks(sound) == [first, first + RATE // 100]
    assert np.array_equal(sound[:, 0], sound[:, 1])


async def test_one_channel_is_the_mean_of_two(tmp_path: Path) -> None:
    file = write_wav(tmp_path / "wide.wav", np.stack([sine(1, 0.5), sine(1, 0.25)]))
    plan = film_plan("out.mp4", frame_count=30, audio=AudioOptions(channels=1))
    sound = await heard(plan, [segment(file)], tmp_path)
    assert sound.shape == (RATE, 1)
    assert np.abs(sound[:, 0] * LSB - sine(1, 0.375)).max() <= 2 * LSB


async def test_a_beep_comes_with_its_flash_whatever_the_codec(tmp_path: Path) -> None:
    """Encoders put silence before the first sample; it is not heard. Opus has 6.5 ms of it, AAC 21 ms, MP3 25 ms."""
    source = clicks(tmp_path / "click.wav", 24_000)
    plan = film_plan("out.mp4", frame_count=30)
    for name, codec in (("a.m4a", "aac"), ("b.mp3", "libmp3lame"), ("c.ogg", "libopus"), ("d.webm", "libopus")):
        ffmpeg("-i", str(source), "-c:a", codec, "-b:a", "256k", str(tmp_path / name))
        sound = await heard(plan, [segment(tmp_path / name)], tmp_path)
        assert abs(int(np.abs(sound[:, 0]).argmax()) - 24_000) <= 2, name


async def test_sound_that_begins_after_the_pictures(tmp_path: Path) -> None:
    picture = "color=s=64x64:r=30:d=2"
    late = tmp_path / "late.mp4"
    click = clicks(tmp_path / "click.wav", 4800)
    ffmpeg(
        "-f", "lavfi", "-i", picture, "-itsoffset", "0.5", "-i", str(click), "-c:a", "flac", "-strict", "-2", str(late)
    )
    sound = await heard(film_plan("out.mp4", frame_count=30), [segment(late, kind="video")], tmp_path)
    assert peaks(sound) == [RATE // 2 + 4800]


async def test_sound_that_begins_before_the_pictures(tmp_path: Path) -> None:
    """What lies before zero is not played, as Chromium does it."""
    plan, film = film_plan("out.mp4", frame_count=30), tmp_path / "film.mkv"
    sound = clicks(tmp_path / "click.wav", 1000, 20_000)
    ffmpeg(
        *("-copyts", "-f", "lavfi", "-i", "color=s=64x64:r=25:d=1", "-itsoffset", "-0.2", "-i", str(sound)),
        *("-c:a", "flac", "-avoid_negative_ts", "disabled", str(film)),
    )
    assert peaks(await heard(plan, [segment(film)], tmp_path)) == [20_000 - RATE // 5]


async def test_a_loop_goes_round_by_the_length_of_the_media(tmp_path: Path) -> None:
    plan = film_plan("out.mp4", frame_count=60, concurrency=3)
    file = clicks(tmp_path / "click.wav", 1000, seconds=0.3)
    sound = await heard(plan, [segment(file, loop=True, position=0.1)], tmp_path)
    assert peaks(sound) == [1000 + round(RATE * (0.3 * index - 0.1)) for index in range(1, 7)] + []
    film = tmp_path / "film.mp4"  # its pictures are longer than its sound
    ffmpeg("-f", "lavfi", "-i", "color=s=64x64:r=25:d=0.4", "-i", str(file), "-c:a", "flac", "-strict", "-2", str(film))
    sound = await heard(plan, [segment(film, loop=True)], tmp_path)
    assert peaks(sound) == [1000 + round(RATE * 0.4 * index) for index in range(5)]


async def test_a_loop_goes_round_as_its_pictures_do(tmp_path: Path) -> None:
    """The header of a film may round its length to milliseconds; sound alone is encoded as whole packets."""
    plan = film_plan("out.mp4", frame_count=300, fps=30)
    file = clicks(tmp_path / "click.wav", 1000, seconds=0.667)
    film, alone = tmp_path / "film.mov", tmp_path / "alone.m4a"
    picture = "color=s=64x64:r=30000/1001,trim=end_frame=20"
    ffmpeg("-f", "lavfi", "-i", picture, "-i", str(file), "-c:a", "pcm_s16le", str(film))
    ffmpeg("-i", str(file), str(alone))
    assert peaks(await heard(plan, [segment(film, loop=True)], tmp_path)) == [1000 + 32032 * at for at in range(15)]
    assert peaks(await heard(plan, [segment(alone, loop=True)], tmp_path))[-1] == pytest.approx(
        1000 + 32016 * 14, abs=14
    )


async def test_what_an_mp3s_encoder_adds_is_no_part_of_its_length(tmp_path: Path) -> None:
    file, sound = tmp_path / "a.mp3", write_wav(tmp_path / "a.wav", sine(1.5))
    ffmpeg("-i", str(sound), "-c:a", "libmp3lame", str(file))
    assert (await probe(file)).duration == (await read_film(file, idle_seconds=20)).duration == 1.5


@pytest.mark.parametrize("rate", [0.25, 0.5, 1.25, 2, 5])
async def test_another_rate_moves_sound_and_keeps_its_pitch(tmp_path: Path, rate: float) -> None:
    place = [round(RATE * second) for second in (1, 2, 3)]
    sound = np.zeros(RATE * 10)
    for at in place:
        sound[at : at + RATE // 5] = sine(0.2, 0.5)
    file = write_wav(tmp_path / "beeps.wav", sound)
    films = []
    for chunks in (1, 3):
        plan = film_plan("out.mp4", frame_count=60, concurrency=chunks)
        films.append(await heard(plan, [segment(file, 0.2, position=0.75, rate=rate)], tmp_path))
    assert np.array_equal(*films)
    expected = [second for second in (0.2 + (begin - 0.75) / rate for begin in (1, 2, 3)) if second < 1.7]
    energy, starts = films[0][:, 0].astype(float) ** 2, []
    for second in expected:
        begin, end = (round((second + more / rate) * RATE) for more in (-0.1, 0.3))
        around = np.arange(max(0, begin), min(2 * RATE, end))
        middle = float((around * energy[around]).sum() / energy[around].sum())
        starts.append(round(middle - 0.1 / rate * RATE))
    assert np.abs(np.array(starts) / RATE - expected).max() < 0.005
    tone = films[0][starts[0] + 500 : starts[0] + 500 + round(RATE * 0.1 / max(1, rate)), 0].astype(float)
    crossings = np.count_nonzero(np.diff(np.signbit(tone)))
    assert crossings / 2 / len(tone) * RATE == pytest.approx(440, rel=0.12)


@pytest.mark.parametrize("rate", [0.4, 1.1, 3])
async def test_another_rate_makes_it_higher_or_lower_where_the_page_wants_it(tmp_path: Path, rate: float) -> None:
    file = write_wav(tmp_path / "tone.wav", sine(7, 0.5))
    films = []
    for chunks in (1, 3):
        plan = film_plan("out.mp4", frame_count=60, concurrency=chunks)
        films.append(await heard(plan, [segment(file, 0.2, position=0.75, rate=rate, pitch=False)], tmp_path))
    assert np.array_equal(*films)
    seconds = np.arange(RATE * 9 // 5) / RATE
    expected = 0.5 * np.sin(2 * np.pi * 440 * (0.75 + seconds * rate))
    assert np.abs(films[0][RATE // 5 + 200 :, 0] / 32768 - expected[200:]).max() < 0.005


async def test_gains_change_at_their_frames(tmp_path: Path) -> None:
    file = write_wav(tmp_path / "constant.wav", np.full(3 * RATE, 0.5))
    plan = film_plan("out.mp4", fps="29.97", frame_count=50, concurrency=3)
    frames = {0: 0.5, 7: 0.25, 20: 0.0, 30: 1.0}
    gains = tuple((frame * 1001 / 30000, gain) for frame, gain in frames.items())
    sound = (await heard(plan, [segment(file, gains=gains)], tmp_path))[:, 0] * LSB
    edges = [round(frame * 1601.6) for frame in (*frames, 50)]
    for (begin, end), gain in zip(pairwise(edges), frames.values(), strict=True):
        assert np.abs(sound[begin:end] - 0.5 * gain).max() <= LSB


async def test_a_change_between_two_frames_counts_from_the_later_one(tmp_path: Path) -> None:
    """The chunk that ends with the earlier one cannot know of it. The sound stays with its picture."""
    file = noise(tmp_path / "noise.wav", 3)
    films = []
    for chunks in (1, 2, 10):
        plan = film_plan("out.mp4", frame_count=20, concurrency=chunks)
        one = segment(file, 4.3 / 30, position=0.5, end=15.2 / 30, gains=((4.3 / 30, 0.5), (9.6 / 30, 0.25)))
        films.append(await heard(plan, [one], tmp_path))
    assert np.array_equal(films[0], films[1])
    assert np.array_equal(films[0], films[2])
    audible = np.flatnonzero(films[0][:, 0])
    assert (audible[0], audible[-1]) == (5 * 1600, 16 * 1600 - 1)


async def test_fades_belong_to_the_composition_not_to_the_chunk(tmp_path: Path) -> None:
    file = write_wav(tmp_path / "constant.wav", np.full(9 * RATE, 0.8))
    plan = film_plan("out.mp4", frame_count=60, concurrency=5)
    sound = (await heard(plan, [segment(file, 0.2, fade_in=0.5, fade_out=1)], tmp_path))[:, 0] * LSB
    for second, level in ((0.2, 0), (0.45, 0.4), (0.7, 0.8), (0.9, 0.8), (1.5, 0.4), (1.75, 0.2), (1.9999, 0)):
        assert sound[round(second * RATE)] == pytest.approx(level, abs=0.001)
    short = write_wav(tmp_path / "short.wav", np.full(RATE, 0.8))
    sound = (await heard(plan, [segment(short, 0.2, fade_out=0.5)], tmp_path))[:, 0] * LSB
    assert [round(float(sound[round(second * RATE)]), 2) for second in (0.3, 0.95, 1.1)] == [0.8, 0.4, 0.16]


async def test_an_element_fades_at_its_end_though_its_header_does_not_say_where_that_is(tmp_path: Path) -> None:
    file = unstated(tmp_path / "music.mp3", *NO_LENGTH)
    plan = film_plan("out.mp4", frame_count=135)
    faded = (await heard(plan, [segment(file, fade_out=1)], tmp_path))[:, 0].astype(float)
    whole = (await heard(plan, [segment(file)], tmp_path))[:, 0].astype(float)
    assert np.array_equal(faded[: 48_000 * 3], whole[: 48_000 * 3])
    assert np.abs(faded[165_600:170_400]).max() / np.abs(whole[165_600:170_400]).max() == pytest.approx(0.59, abs=0.05)


async def test_an_element_that_goes_on_does_not_fade_in_again(tmp_path: Path) -> None:
    file = write_wav(tmp_path / "constant.wav", np.full(9 * RATE, 0.8))
    pieces = [segment(file, 0, end=1, fade_in=0.5), segment(file, 1.5, position=1, fade_in=0.5)]
    sound = (await heard(film_plan("out.mp4", frame_count=60), pieces, tmp_path))[:, 0] * LSB
    assert not sound[RATE : RATE + RATE // 2].any()
    assert np.abs(sound[RATE + RATE // 2 :] - 0.8).max() <= LSB


async def test_many_segments(tmp_path: Path) -> None:
    files = [clicks(tmp_path / f"{index}.wav", 10, seconds=0.01) for index in range(6)]
    pieces = [segment(files[index % 6], index / 30, element=index) for index in range(60)]
    for chunks, steps in ((2, ()), (1, tuple((index / 30, 1 if index % 2 else 0.999) for index in range(60)))):
        plan = film_plan("out.mp4", frame_count=60, concurrency=chunks)
        segments = [piece.model_copy(update={"gains": steps}) for piece in pieces]  # then too long for an argument
        assert peaks(await heard(plan, segments, tmp_path)) == [index * 1600 + 10 for index in range(60)]


async def test_what_cannot_be_heard(tmp_path: Path) -> None:
    silent, words, listing = tmp_path / "silent.mp4", tmp_path / "words.mp3", tmp_path / "list.mp3"
    ffmpeg("-f", "lavfi", "-i", "color=s=64x64:d=1", str(silent))
    words.write_text("no sound")
    listing.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{silent.name}\n#EXT-X-ENDLIST\n")
    assert await find_sound(silent, seconds=1, idle_seconds=20) is None
    for file in (words, listing):
        with pytest.raises(MediaError):
            await find_sound(file, seconds=1, idle_seconds=20)
    plan = film_plan("out.mp4", frame_count=30)
    assert await chunk_sound(plan.chunks[0], [segment(silent)], {str(silent): None}, tmp_path) is None
    assert await chunk_sound(plan.chunks[0], [segment(words)], {}, tmp_path) is None


# ---- in the chunks, joined and mixed


async def rendered(plan: RenderPlan, segments: list[SoundSegment], folder: Path) -> Path:
    """The work of chunks and concat; the joined file."""
    await encode_chunks(plan, folder)
    sources = await look(segments)
    for chunk in plan.chunks:
        file, sound = folder / chunk.output_file, folder / f"{chunk.id}.kept"
        if await chunk_sound(chunk, segments, sources, folder) is not None:
            await add_sound(chunk, pictures=file, sound=sound, output=folder / "whole")
            (folder / "whole").replace(file)
            info = await probe(file)
            assert (info.audio[0].codec, info.audio[0].sample_rate) == ("pcm_s16le", plan.options.audio.sample_rate)
        assert plan.options.fps is not None
        await check_frames(file, plan.options.fps, frames=chunk.frame_count, tolerance=0, idle_seconds=20)
    await concat(plan, folder, on_progress=lambda _: None)
    joined = folder / plan.concat_output_file
    await check_frames(joined, plan.options.fps, frames=plan.total_frames, tolerance=0, idle_seconds=20)
    assert {file.name for file in joined.parent.iterdir()} == {
        Path(file).name for file in (*plan.concat_manifest, plan.concat_output_file)
    }
    return joined


def pcm(file: Path) -> np.ndarray:
    return np.round(decode_sound(file).T * 32768).astype("<i2")


@pytest.mark.parametrize(("fps", "chunks"), [("24", 1), ("60", 3)])
async def test_the_joined_sound_is_that_of_the_whole(tmp_path: Path, fps: str, chunks: int) -> None:
    plan = film_plan("out.mp4", fps=fps, frame_count=61, concurrency=chunks)
    one = film_plan("out.mp4", fps=fps, frame_count=61)
    assert plan.options.fps is not None
    segments = await everything(tmp_path, plan.options.fps)
    whole = await heard(one, segments, tmp_path)
    joined = await rendered(plan, segments, tmp_path)
    assert np.array_equal(pcm(joined), whole)
    assert len(whole) == round(61 * RATE / plan.options.fps)


@pytest.mark.parametrize("sounding", [(0,), (1, 3)])
async def test_a_chunk_without_sound_is_silence_between_its_siblings(tmp_path: Path, sounding: tuple[int, ...]) -> None:
    plan = film_plan("out.mp4", fps="29.97", frame_count=24, concurrency=4)
    file = noise(tmp_path / "noise.wav", 2)
    segments = [segment(file, chunk * 6 * 1001 / 30000, end=(chunk + 1) * 6 * 1001 / 30000) for chunk in sounding]
    sound = pcm(await rendered(plan, segments, tmp_path))
    assert len(sound) == round(24 * 1601.6)
    for chunk in range(4):
        part = sound[round(chunk * 6 * 1601.6) : round((chunk + 1) * 6 * 1601.6)]
        assert part.any() == (chunk in sounding)
    assert np.array_equal(sound, await heard(film_plan("out.mp4", fps="29.97", frame_count=24), segments, tmp_path))


@pytest.mark.parametrize(
    ("codec", "name", "audio"),
    [
        ("libx264", "out.mp4", "flac"),
        ("libvpx-vp9", "out.mp4", "flac"),
        ("libaom-av1", "out.mkv", "pcm_s16le"),
        ("ffv1", "out.mkv", "pcm_s16le"),
    ],
)
async def test_every_codec_carries_sound_to_the_end(tmp_path: Path, codec: str, name: str, audio: str) -> None:
    options = {"video": VideoOptions(codec=codec), "audio": AudioOptions(codec=audio)}
    plan = film_plan(name, fps="29.97", frame_count=23, concurrency=2, **options)
    segments = [segment(noise(tmp_path / "noise.wav", 2), 3 * 1001 / 30000)]
    joined = await rendered(plan, segments, tmp_path)
    whole = await heard(film_plan(name, fps="29.97", frame_count=23, **options), segments, tmp_path)
    assert np.array_equal(pcm(joined), whole)
    assert [number_of(picture) for picture in decode_pictures(joined)] == [n % 16 for n in range(23)]
    output = tmp_path / name
    await mix(plan, tmp_path, output, heard=True, on_progress=lambda _: None)
    assert [number_of(picture) for picture in decode_pictures(output)] == [n % 16 for n in range(23)]
    if audio in {"flac", "alac", "pcm_s16le"}:
        assert np.array_equal(pcm(output), whole)


async def test_tracks_and_the_pages_sound_together(tmp_path: Path) -> None:
    own, music = write_wav(tmp_path / "own.wav", sine(3)), write_wav(tmp_path / "music.wav", sine(3, 0.125))
    tracks = (AudioTrack(path=str(music)),)
    whole = sine(3, 0.375)
    for name, options in {
        "b": {"frame_count": 37, "start_frame": 13, "composition_duration": 3},
        "c": {"frame_count": 31, "start_frame": 7, "composition_duration": 3, "fps": "29.97"},
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        audio = AudioOptions(codec="pcm_s16le", tracks=tracks)
        plan = film_plan("out.mov", **{"concurrency": 2, "audio": audio, **options})
        await rendered(plan, [segment(own)], folder)
        await mix(plan, folder, folder / "out.mov", heard=True, on_progress=lambda _: None)
        sound, fps = decode_sound(folder / "out.mov"), plan.options.fps
        assert fps is not None
        start = round(plan.options.start_frame * RATE / fps)
        assert sound.shape == (2, round(plan.total_frames * RATE / fps))
        assert np.abs(sound - whole[start : start + sound.shape[1]])[:, :-1].max() <= 3 * LSB


async def test_muted_means_without_a_sound_stream(tmp_path: Path) -> None:
    plan = film_plan("out.mov", frame_count=12, concurrency=2, audio=AudioOptions(muted=True))
    joined = await rendered(plan, [segment(noise(tmp_path / "noise.wav", 1))], tmp_path)
    assert (await probe(joined)).audio == ()


async def test_lost_samples_are_noticed(tmp_path: Path) -> None:
    plan = film_plan("out.mkv", frame_count=12, concurrency=2, video=VideoOptions(codec="ffv1"))
    file = noise(tmp_path / "noise.wav", 1)
    await rendered(plan, [segment(file)], tmp_path)
    (tmp_path / plan.concat_output_file).unlink()
    chunk = tmp_path / plan.chunks[1].output_file
    ffmpeg(
        "-i",
        str(chunk),
        "-c:v",
        "copy",
        "-c:a",
        "pcm_s16le",
        "-af",
        "atrim=end_sample=9599",
        str(tmp_path / "short.nut"),
    )
    (tmp_path / "short.nut").replace(chunk)
    with pytest.raises(ChunkDamaged, match="sound of chunks 0 to 1 has 76796 bytes instead of 76800"):
        await concat(plan, tmp_path, on_progress=lambda _: None)


# ---- from the page


SCENE = """<!doctype html><meta name=asyncrender content="width=64, height=64, fps=29.97">
<audio id=a autoplay src="beeps.wav"></audio><audio id=b src="noise.wav" preload=auto></audio>
<video autoplay loop src="film.mp4"></video>
<script>
setTimeout(() => { b.volume = 0.5; b.play(); }, 210);
setTimeout(() => { b.volume = 0.25; a.muted = true; }, 433);
setTimeout(() => { b.pause(); a.muted = false; }, 805);
setTimeout(() => { b.playbackRate = 2; b.play(); }, 1001);
</script>"""


async def whatever_the_chunks(scene: Path) -> np.ndarray:
    """The sound of 40 frames, which is the same in one chunk and in three."""
    sounds, audio = [], AudioOptions(codec="pcm_s16le")
    for chunks in (1, 3):
        options = ar.RenderOptions(frame_count=40, concurrency=chunks, video=VideoOptions(codec="ffv1"), audio=audio)
        result = await ar.render(scene, scene.with_name(f"{chunks}.mkv"), options)
        assert result.warnings == ()
        sounds.append(pcm(result.output))
    assert np.array_equal(*sounds)
    return sounds[0]


async def test_a_page_sounds_the_same_in_any_number_of_chunks(tmp_path: Path) -> None:
    (tmp_path / "scene.html").write_text(SCENE)
    clicks(tmp_path / "beeps.wav", 4800, 24_000, 48_000)
    noise(tmp_path / "noise.wav", 2, 44_100)
    loop = clicks(tmp_path / "loop.wav", 9600, seconds=0.4)
    ffmpeg("-f", "lavfi", "-i", "color=s=64x64:r=25:d=0.4", "-i", str(loop), "-c:a", "aac", str(tmp_path / "film.mp4"))
    sound = np.abs((await whatever_the_chunks(tmp_path / "scene.html"))[:, 0].astype(float)) / 32768
    assert len(sound) == 40 * 1601.6
    assert sound[4800] > 0.5
    assert sound[48_000] > 0.5
    loud, soft = (sound[round(begin * RATE) : round(end * RATE)].std() for begin, end in ((0.25, 0.43), (0.44, 0.8)))
    assert loud / soft == pytest.approx(2, rel=0.1)


WEB_AUDIO = """<!doctype html><meta name=asyncrender content="width=64, height=64, fps=29.97">
<audio id=a src="beeps.wav"></audio>
<script>
const context = new AudioContext(), other = new AudioContext({sampleRate: 44100});
const click = new AudioBuffer({length: 1, sampleRate: 48000});
click.getChannelData(0)[0] = 0.5;
const play = when => {
  const source = new AudioBufferSourceNode(context, {buffer: click});
  source.connect(context.destination);
  source.start(when);
};
play(0.1);
play(1);
setTimeout(() => play(0), 733);
context.createMediaElementSource(a).connect(new GainNode(context, {gain: 0.5})).connect(context.destination);
setTimeout(() => a.play(), 210);
const tone = new OscillatorNode(other);
tone.connect(new GainNode(other, {gain: 0.05})).connect(other.destination);
tone.start();
setTimeout(() => other.suspend(), 433);
setTimeout(() => other.resume(), 805);
</script>"""

LATE_SAMPLES = 480
"""By which Web Audio is heard later than it is scheduled: audiotap.js."""


async def test_web_audio_sounds_the_same_in_any_number_of_chunks(tmp_path: Path) -> None:
    (tmp_path / "scene.html").write_text(WEB_AUDIO)
    clicks(tmp_path / "beeps.wav", 4800, 24_000)
    samples = await whatever_the_chunks(tmp_path / "scene.html")
    sound = samples[:, 0].astype(float) / 32768
    found = [place - LATE_SAMPLES for place in peaks(samples, 0.3)]
    begun = [4800, 48_000, 35_184, 10_080 + 4800, 10_080 + 24_000]  # seconds, a timer, an element's own
    assert found == pytest.approx(sorted(begun), abs=128)
    assert {4800, 48_000} <= set(found)
    loud = [
        sound[round(begin * RATE) : round(end * RATE)].std() > 0.02 for begin, end in ((0.3, 0.4), (0.5, 0.7), (0.9, 1))
    ]
    assert loud == [True, False, True]
