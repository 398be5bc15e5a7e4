"""The mix, heard: lengths, levels, places and fades of real sound in real files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from films import NO_LENGTH, decode_sound, film_plan, make_joined, sine, unstated, write_wav

from asyncrender.errors import ChunkDamaged, InvalidOption, ToolFailed
from asyncrender.media.mix import mix
from asyncrender.media.probe import probe
from asyncrender.specs import AudioOptions, AudioTrack, VideoOptions

pytestmark = pytest.mark.anyio

MILLISECOND = 48
"""Samples."""

LSB = 1 / 32768
"""The step of 16-bit sound; rounding twice may cost two."""


async def mixed(
    folder: Path,
    *tracks: AudioTrack,
    name: str = "out.mov",
    codec: str = "pcm_s16le",
    sound: Path | None = None,
    **more: Any,
) -> Path:
    audio = AudioOptions(codec=codec, tracks=tracks, **more.pop("audio", {}))
    plan = film_plan(name, audio=audio, **{"frame_count": 60, **more})
    place = folder / str(len(list(folder.iterdir())))
    make_joined(plan, place, sound)
    told: list[float] = []
    await mix(plan, place, place / "result.part", heard=sound is not None, on_progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert sorted(file.name for file in (place / plan.work_folder).iterdir()) == [Path(plan.concat_output_file).name]
    return place / "result.part"


def click(tmp_path: Path, at: int, rate: int = 48_000, channels: int = 2) -> Path:
    samples = np.zeros((channels, rate))
    samples[:, at] = 0.9
    return write_wav(tmp_path / f"click{at}-{rate}-{channels}.wav", samples, rate)


def loudest(sound: np.ndarray) -> int:
    return int(np.abs(sound[0]).argmax())


MATROSKA = ("mkv", "webm")

LENGTHS = [
    *((codec, "mp4") for codec in ("aac", "libopus", "flac", "libmp3lame", "alac")),
    *((codec, "mov") for codec in ("aac", "pcm_s16le", "libmp3lame", "alac")),
    *((codec, "mkv") for codec in ("aac", "libopus", "libvorbis", "flac", "pcm_s16le", "libmp3lame")),
    *((codec, "webm") for codec in ("libopus", "libvorbis")),
]


@pytest.mark.parametrize(("codec", "ending"), LENGTHS)
async def test_the_sound_is_as_long_as_the_pictures_within_a_millisecond(
    tmp_path: Path, codec: str, ending: str
) -> None:
    track = AudioTrack(path=str(write_wav(tmp_path / "long.wav", sine(9))))
    video = VideoOptions(codec="libvpx" if ending == "webm" else "libx264")
    output = await mixed(tmp_path, track, name=f"out.{ending}", codec=codec, fps="29.97", frame_count=100, video=video)
    info = await probe(output, count_frames=True)
    length = 100 * 1001 / 30000
    assert info.video[0].frames == 100
    assert info.video[0].start_time == pytest.approx(0, abs=0.0005)
    assert info.audio[0].duration == pytest.approx(length, abs=0.001)
    # Matroska's own duration counts from where the encoder began: 6.5 ms before zero for Opus.
    assert info.duration == pytest.approx(length, abs=0.008 if codec == "libopus" and ending in MATROSKA else 0.0011)
    samples = decode_sound(output).shape[1]
    # Vorbis ends with a whole block, which only its duration in the container cuts.
    tolerance = 1024 if codec == "libvorbis" else MILLISECOND
    assert abs(samples - length * 48_000) <= tolerance


@pytest.mark.parametrize(("rate", "fps"), [(44_100, "23.976"), (48_000, "30"), (96_000, "60"), (44_100, "60")])
async def test_the_length_is_exact_for_every_rate(tmp_path: Path, rate: int, fps: str) -> None:
    track = AudioTrack(path=str(write_wav(tmp_path / "short.wav", sine(0.1))))
    output = await mixed(tmp_path, track, codec="aac", fps=fps, frame_count=31, audio={"sample_rate": rate})
    length = 31 * 1001 / 24000 if fps == "23.976" else 31 / int(fps)
    assert abs(decode_sound(output).shape[1] - round(length * rate)) <= 1


@pytest.mark.parametrize("silent", [0, 1, 7])
async def test_the_loudness_does_not_depend_on_the_number_of_tracks(tmp_path: Path, silent: int) -> None:
    loud = AudioTrack(path=str(write_wav(tmp_path / "loud.wav", sine(2))))
    quiet = AudioTrack(path=str(write_wav(tmp_path / "quiet.wav", np.zeros(48_000))))
    sound = decode_sound(await mixed(tmp_path, loud, *[quiet] * silent))
    assert np.abs(sound - sine(2)).max() <= 2 * LSB


@pytest.mark.parametrize(("volume", "channels"), [(0.5, 1), (0.5, 2), (1.75, 1), (1e-7, 2)])
async def test_the_volume_is_a_linear_gain(tmp_path: Path, volume: float, channels: int) -> None:
    path = str(write_wav(tmp_path / "loud.wav", np.tile(sine(2), (channels, 1))))
    sound = decode_sound(await mixed(tmp_path, AudioTrack(path=path, volume=volume)))
    assert np.abs(sound - volume * sine(2)).max() <= 2 * LSB


async def test_two_channels_become_one_by_their_mean(tmp_path: Path) -> None:
    path = str(write_wav(tmp_path / "wide.wav", np.stack([sine(2, 0.5), sine(2, 0.25)])))
    sound = decode_sound(await mixed(tmp_path, AudioTrack(path=path), audio={"channels": 1}))
    assert len(sound) == 1
    assert np.abs(sound - sine(2, 0.375)).max() <= 2 * LSB


@pytest.mark.parametrize(("rate", "channels"), [(48_000, 2), (44_100, 1), (22_050, 2)])
async def test_a_click_lands_on_its_sample(tmp_path: Path, rate: int, channels: int) -> None:
    path = click(tmp_path, rate // 2, rate, channels)
    track = AudioTrack(path=str(path), offset=Fraction(1, 3), seek=Fraction(1, 4))
    sound = decode_sound(await mixed(tmp_path, track))
    assert abs(loudest(sound) - 48_000 * (0.5 + 1 / 3 - 0.25)) <= 1


@pytest.mark.parametrize(("codec", "ending"), [("aac", "mp4"), ("aac", "mkv"), ("libopus", "mp4"), ("libopus", "mkv")])
async def test_a_click_lands_within_a_millisecond_through_a_lossy_codec(
    tmp_path: Path, codec: str, ending: str
) -> None:
    track = AudioTrack(path=str(click(tmp_path, 10_000)), offset=Fraction(1, 2))
    sound = decode_sound(await mixed(tmp_path, track, name=f"out.{ending}", codec=codec))
    assert abs(loudest(sound) - 34_000) <= MILLISECOND


async def test_a_window_sounds_like_that_part_of_the_whole(tmp_path: Path) -> None:
    path = str(write_wav(tmp_path / "music.wav", sine(1.6)))
    tracks = [
        AudioTrack(path=path, offset=Fraction(1, 7), fade_in=Fraction(1), fade_out=Fraction(1, 2)),
        AudioTrack(path=path, offset=Fraction(6, 5), seek=Fraction(1, 10), fade_out=Fraction(1)),
        AudioTrack(path=path, duration=Fraction(1, 10)),
        AudioTrack(path=path, offset=Fraction(19, 10)),
    ]
    whole = decode_sound(await mixed(tmp_path, *tracks))
    window = decode_sound(
        await mixed(tmp_path, *tracks, start_frame=20, frame_count=25, composition_duration=Fraction(2))
    )
    assert window.shape[1] == 40_000
    assert np.abs(window - whole[:, 32_000:72_000]).max() <= LSB


async def test_fades_are_linear_and_end_with_the_composition(tmp_path: Path) -> None:
    path = str(write_wav(tmp_path / "constant.wav", np.full(480_000, 0.8)))
    track = AudioTrack(path=path, fade_in=Fraction(1, 2), fade_out=Fraction(1))
    sound = decode_sound(await mixed(tmp_path, track))[0]
    for second, level in ((0.25, 0.4), (0.5, 0.8), (0.9, 0.8), (1.5, 0.4), (1.75, 0.2)):
        assert sound[round(second * 48_000)] == pytest.approx(level, abs=0.001)
    assert abs(sound[0]) <= 2 * LSB
    assert abs(sound[-1]) <= 3 * LSB


async def test_a_fade_out_ends_with_the_track_where_that_comes_first(tmp_path: Path) -> None:
    path = str(write_wav(tmp_path / "constant.wav", np.full(48_000, 0.8)))
    sound = decode_sound(await mixed(tmp_path, AudioTrack(path=path, offset=Fraction(1, 2), fade_out=Fraction(1, 2))))[
        0
    ]
    assert sound[round(1.25 * 48_000)] == pytest.approx(0.4, abs=0.001)
    assert not sound[72_000:].any()


async def test_a_track_fades_at_its_end_though_its_header_does_not_say_where_that_is(tmp_path: Path) -> None:
    path = str(unstated(tmp_path / "music.mp3", *NO_LENGTH))
    sound = decode_sound(await mixed(tmp_path, AudioTrack(path=path, fade_out=Fraction(1)), frame_count=150))
    levels = [np.abs(sound[0][begin : begin + 4800]).max() for begin in (48_000 * 2, 168_000 - 2400)]
    assert levels[1] / levels[0] == pytest.approx(0.59, abs=0.05)


async def test_146_tracks_are_mixed_and_each_is_heard_in_its_place(tmp_path: Path) -> None:
    path = str(click(tmp_path, 0))
    tracks = [AudioTrack(path=path, offset=Fraction(index, 100), duration=Fraction(1, 1000)) for index in range(146)]
    sound = decode_sound(await mixed(tmp_path, *tracks))
    assert np.flatnonzero(np.abs(sound[0]) > 0.8).tolist() == [index * 480 for index in range(146)]


async def test_the_same_track_twice_is_twice_as_loud(tmp_path: Path) -> None:
    track = AudioTrack(path=str(write_wav(tmp_path / "loud.wav", sine(2))))
    sound = decode_sound(await mixed(tmp_path, track, track))
    assert np.abs(sound - 2 * sine(2)).max() <= 3 * LSB


@pytest.mark.parametrize(
    "track",
    [{"offset": 5}, {"seek": 5}, {"duration": Fraction(1, 10), "offset": Fraction(1, 10)}, {"seek": 5, "fade_out": 1}],
)
async def test_a_track_outside_the_window_leaves_silence_of_full_length(tmp_path: Path, track: dict[str, Any]) -> None:
    path = str(write_wav(tmp_path / "short.wav", sine(1)))
    output = await mixed(tmp_path, AudioTrack(path=path, **track), start_frame=20, frame_count=30)
    sound = decode_sound(output)
    assert sound.shape == (2, 48_000)
    assert not sound.any()


async def test_the_joined_files_own_sound_is_mixed_in(tmp_path: Path) -> None:
    own, music = write_wav(tmp_path / "own.wav", sine(2)), write_wav(tmp_path / "music.wav", sine(2, 0.125))
    alone = decode_sound(await mixed(tmp_path, sound=own))
    assert np.abs(alone - sine(2)).max() <= 2 * LSB
    both = decode_sound(await mixed(tmp_path, AudioTrack(path=str(music)), sound=own))
    assert np.abs(both - sine(2, 0.375)).max() <= 2 * LSB


async def test_without_sound_there_is_no_sound_stream(tmp_path: Path) -> None:
    own = write_wav(tmp_path / "own.wav", sine(2))
    track = AudioTrack(path=str(own))
    for output in (await mixed(tmp_path), await mixed(tmp_path, track, sound=own, audio={"muted": True})):
        assert (await probe(output)).audio == ()


async def test_odd_paths(tmp_path: Path) -> None:
    folder = tmp_path / "a b'c%20é, [x]; @=:\\"
    folder.mkdir()
    track = AudioTrack(path=str(write_wav(folder / "it's 100% [é], a:b;c.wav", sine(2))))
    sound = decode_sound(await mixed(folder, track))
    assert np.abs(sound - sine(2)).max() <= 2 * LSB


async def test_a_track_that_is_no_sound_is_named(tmp_path: Path) -> None:
    text = tmp_path / "words.txt"
    text.write_text("no sound")
    with pytest.raises(ToolFailed, match=r"words\.txt"):
        await mixed(tmp_path, AudioTrack(path=str(text)))
    with pytest.raises(InvalidOption, match=r"nowhere\.wav"):
        await mixed(tmp_path, AudioTrack(path=str(tmp_path / "nowhere.wav"), fade_out=Fraction(1)))


@pytest.mark.parametrize(("codec", "name"), [("libvpx", "out.webm"), ("ffv1", "out.mkv")])
async def test_the_colours_are_tagged_where_the_chunks_container_cannot(tmp_path: Path, codec: str, name: str) -> None:
    output = await mixed(tmp_path, name=name, codec="libopus", video=VideoOptions(codec=codec))
    video = (await probe(output)).video[0]
    assert (video.color_space, video.color_range) == ("bt709", "tv")


async def test_missing_frames_are_noticed(tmp_path: Path) -> None:
    short, plan = film_plan("out.mp4", frame_count=29), film_plan("out.mp4", frame_count=30)
    make_joined(short, tmp_path)
    with pytest.raises(ChunkDamaged, match="29 frames instead of 30"):
        await mix(plan, tmp_path, tmp_path / "result.part", heard=False, on_progress=lambda _: None)
