"""A spec becomes an ffmpeg command line: the only room that knows ffmpeg-python. Pure: it never looks at the machine.

Everything counted in samples and frames is an integer here, everything else an exact rational, so that no number is
ever written in exponent form and nothing is rounded twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import ffmpeg as ffmpeg_python
from ffmpeg.nodes import InputNode

from asyncrender import formats
from asyncrender.specs import AudioOptions, AudioTrack, RenderOptions, VideoOptions

QUIET = ("-hide_banner", "-nostdin", "-loglevel", "warning", "-nostats")

PROGRESS = ("-progress", "pipe:1", "-stats_period", "0.5")
"""Twice a second a line on standard output: progress, and a sign of life."""

MICROSECONDS = 1_000_000

LEAST_TIME_SCALE = 10_000
"""Ticks per second below which players round oddly; ffmpeg's own mov muxer has the same bound."""

CODED_SAMPLES = {"aac": (1024, 1024), "libmp3lame": (1152, 1105), "libopus": (960, 312)}
"""Samples of one packet, and those the encoder itself puts before the first (libopus: at 48 kHz)."""

MATROSKA = ("matroska", "webm")

CODEC_DELAY_VERSION = (6, 1)
"""From here on ffmpeg's Matroska muxer writes CodecDelay for every codec and adds it to the times, as its readers
subtract it. Before, it wrote it for Opus alone and did not add it (measured with libavformat 59.27, 60.16 and 63)."""

LOSSY_AUDIO = ("aac", "libmp3lame", "libopus", "libvorbis")

TO_LAYOUT = {"mono": "mono|FC=FC+0.5*FL+0.5*FR", "stereo": "stereo|FL=FL+FC|FR=FR+FC"}
"""Out of mono or stereo; a channel that is not there adds nothing."""

RGB = ("bgr0",)

TAGS = {"color_primaries": "bt709", "color_trc": "bt709", "colorspace": "bt709"}


@dataclass(frozen=True)
class MixCommand:
    """The mix as ffmpeg takes it. `graph` is what must stand in the `graph_file`; None where no sound is mixed."""

    argv: list[str]
    graph: str | None


def image_argv(settings: Sequence[str], *, ffmpeg: str, source: str) -> list[str]:
    """A PNG becomes another image (`settings`: see `formats.image`), on standard output."""
    return [ffmpeg, *QUIET, "-i", local(source), "-frames:v", "1", *settings, "-f", "image2pipe", "pipe:1"]


def concat_script(files: Sequence[tuple[str, int]], fps: Fraction) -> str:
    """The concat demuxer's list (https://ffmpeg.org/ffmpeg-formats.html#concat-1) of local (file, frames), in order.

    It counts in whole microseconds. These lengths add up to the right place of each file, where its own would drift.
    """
    lines, frame, begin = ["ffconcat version 1.0"], 0, 0
    for file, frames in files:
        frame += frames
        end = round(frame * MICROSECONDS / fps)
        lines += [f"file {quote(local(file))}", f"duration {end - begin}us"]
        begin = end
    return "\n".join(lines) + "\n"


def concat_argv(
    options: RenderOptions, *, ffmpeg: str, script: str, sound: str | None, muxer: str, output: str
) -> list[str]:
    """Chunks become one file, streams copied; `sound` is their joined bare PCM.

    Each packet is a frame of time to decode; when it is shown is put back on the grid, off which it is by a microsecond
    or two. The first chunk's head start does for all: no other has more frames. (One of two has no B-frames, and none.)
    """
    fps = rate(options)
    frame = f"(1/({fps.numerator}/{fps.denominator}*TB))"
    dts = f"STARTDTS+round(N*{frame})"
    pts = f"STARTPTS+round(round((PTS-STARTPTS)/{frame})*{frame})"
    return [
        *(ffmpeg, *QUIET, "-y", *PROGRESS, "-f", "concat", "-safe", "0", "-i", local(script)),
        *([] if sound is None else bare_pcm(options.audio, sound)),
        *("-map", "0:v:0", *([] if sound is None else ["-map", "1:a:0"]), "-c", "copy"),
        *("-bsf:v", f"setts=dts={dts}:pts={pts}"),
        *("-map_metadata", "-1", "-fflags", "+bitexact"),
        *time_scale_argv(muxer, fps, None),
        *("-f", muxer, local(output)),
    ]


def mix_argv(
    options: RenderOptions,
    *,
    ffmpeg: str,
    ffmpeg_version: tuple[int, int],
    joined: str,
    joined_has_audio: bool,
    total_frames: int,
    output: str,
    output_name: str,
    graph_file: str | None,
) -> MixCommand:
    """The joined pictures are copied, all sound is mixed once, into the container that `output_name` ends with.

    The sound holds exactly round(total_frames × sample_rate ÷ fps) samples. The graph goes into `graph_file`, because
    many tracks overflow the command line; with None it stays in the command. `ffmpeg_version`, such as (5, 1), decides
    how the file is named and how Matroska times are counted.
    """
    audio, holder = options.audio, formats.container(output_name)
    joined_node = InputNode("input", kwargs={"filename": local(joined)})
    streams = [joined_node.stream(selector="v:0")]
    settings = {"c:v": "copy", "map_metadata": "-1", "map_chapters": "-1", "fflags": "+bitexact"}
    settings |= tags(options.video)  # which NUT does not carry
    # Sound begins before zero, by the encoder's own delay; moving everything instead would delay the pictures.
    settings |= {"avoid_negative_ts": "disabled"}
    if holder.muxer in formats.MPEG_4_PART_14:
        settings |= {"movflags": "+faststart"}
    has_sound = will_sound(audio, joined_has_audio=joined_has_audio)
    clock = audio.sample_rate if has_sound else None
    settings |= _pairs(time_scale_argv(holder.muxer, rate(options), clock))
    if has_sound:
        window = Window.of(options, total_frames)
        own = joined_node.stream(selector="a:0") if joined_has_audio and options.mix_input_audio else None
        timing = Timing.of(audio, holder.muxer, window.samples, ffmpeg_version)
        streams.append(_mixed(options, window, own=own, timing=timing))
        settings |= _audio_settings(audio, holder.muxer, timing)
    out = ffmpeg_python.output(*streams, local(output), format=holder.muxer, **settings)
    argv: list[str] = ffmpeg_python.compile(out, cmd=[ffmpeg, *QUIET, "-y", *PROGRESS])
    return graph_into_file(argv, graph_file, ffmpeg_version)


def will_sound(audio: AudioOptions, *, joined_has_audio: bool) -> bool:
    """Whether the film has sound at all; if not, `mix_argv` does not depend on ffmpeg's version."""
    return not audio.muted and (bool(audio.tracks) or joined_has_audio)


@dataclass(frozen=True)
class Window:
    """The rendered part of the composition, in samples of the composition's clock."""

    start: int
    samples: int
    composition_end: int | None

    @classmethod
    def of(cls, options: RenderOptions, total_frames: int) -> Window:
        per_second, fps = options.audio.sample_rate, rate(options)
        end = options.composition_duration
        return cls(
            start=round(options.start_frame * per_second / fps),
            samples=round(total_frames * per_second / fps),
            composition_end=None if end is None else round(end * per_second),
        )


def time_scale(fps: Fraction) -> int:
    """Ticks per second, a whole number of them in every frame: the rate's numerator, doubled until it is enough."""
    ticks = fps.numerator
    while ticks < LEAST_TIME_SCALE:
        ticks *= 2
    return ticks


def decimal(value: float) -> str:
    """A number as ffmpeg reads it everywhere: never in exponent form."""
    return f"{value:.10f}".rstrip("0").rstrip(".")


def decimal_or_ratio(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{value.numerator}/{value.denominator}"


def local(path: str) -> str:
    """A path that ffmpeg cannot take for a protocol or an option (`a:b.mp3`, `-x.mp3`)."""
    return f"file:{path}"


def quote(text: str) -> str:
    """As ffmpeg's own quoting wants it (https://ffmpeg.org/ffmpeg-utils.html#Quoting-and-escaping)."""
    return "'" + text.replace("'", r"'\''") + "'"


def rate(options: RenderOptions) -> Fraction:
    """The exact frame rate of complete options."""
    if options.fps is None:
        raise ValueError("the options are not complete: fps is unset")
    return options.fps


def bare_pcm(audio: AudioOptions, file: str) -> list[str]:
    """Samples without a header as an input. (ffmpeg reads W64 with its padding as sound.)"""
    return ["-f", "s16le", "-sample_rate", str(audio.sample_rate), "-ch_layout", layout(audio), "-i", local(file)]


def _pairs(argv: Sequence[str]) -> dict[str, str]:
    return {name.removeprefix("-"): value for name, value in zip(argv[::2], argv[1::2], strict=True)}


def tags(video: VideoOptions) -> dict[str, str]:
    """What is said of the colours, by ffmpeg's names."""
    return {} if video.pixel_format in RGB else {**TAGS, "color_range": "tv"}


def time_scale_argv(muxer: str, fps: Fraction, sample_rate: int | None) -> list[str]:
    """The edit list counts in `movie_timescale`; in the default milliseconds it would cut sound and pictures short."""
    if muxer not in formats.MPEG_4_PART_14:
        return []
    ticks = time_scale(fps)
    return ["-video_track_timescale", str(ticks), "-movie_timescale", str(sample_rate or ticks)]


@dataclass(frozen=True)
class Timing:
    """Where encoded sound begins and ends, in samples, so that it is heard from zero to its very end.

    `lead` is silence before zero that fills up the packets: decoders skip what an edit list or a negative time puts
    before zero, but most of them play the last packet whole. (Opus in Matroska says itself where it ends.)
    `shift` is what must be added to the times of the sound, `packets` how many hold it.
    """

    lead: int = 0
    shift: int = 0
    packets: int | None = None

    @classmethod
    def of(cls, audio: AudioOptions, muxer: str, samples: int, version: tuple[int, int]) -> Timing:
        if audio.codec not in CODED_SAMPLES:
            return cls()
        packet, delay = _coded_samples(audio)
        opus, matroska = audio.codec == "libopus", muxer in MATROSKA
        lead = 0 if opus and matroska else -(samples + delay) % packet
        uncounted = opus and matroska and version < CODEC_DELAY_VERSION
        return cls(lead=lead, shift=delay if uncounted else 0, packets=(samples + lead + delay) // packet)


def _coded_samples(audio: AudioOptions) -> tuple[int, int]:
    packet, delay = CODED_SAMPLES[audio.codec or ""]
    if audio.codec == "libopus":
        return packet * audio.sample_rate // 48_000, delay * audio.sample_rate // 48_000
    if audio.codec == "libmp3lame" and audio.sample_rate < 32_000:  # MPEG-2 layer III: half the packet
        return packet // 2, delay
    return packet, delay


def _audio_settings(audio: AudioOptions, muxer: str, timing: Timing) -> dict[str, str]:
    settings = {"c:a": audio.codec or formats.CONTAINERS["mp4"].audio_codecs[0], "flags:a": "+bitexact"}
    if audio.codec in LOSSY_AUDIO:
        settings["b:a"] = audio.bitrate
    if muxer == "mp4" and audio.codec == "flac":
        settings["strict"] = "experimental"
    if audio.codec == "libmp3lame":  # LAME ends with a packet or two of nothing
        settings["bsf:a"] = rf"noise=amount=0:drop=gte(n\,{timing.packets})"
    return settings


def silence_argv(audio: AudioOptions, *, ffmpeg: str, muxer: str) -> list[str]:
    """The command that encodes a moment of silence for nobody: ffmpeg fails if such sound cannot be."""
    source = f"anullsrc=sample_rate={audio.sample_rate}:channel_layout={'stereo' if audio.channels == 2 else 'mono'}"
    settings = [
        word for name, value in _audio_settings(audio, muxer, Timing(packets=1)).items() for word in (f"-{name}", value)
    ]
    return [ffmpeg, *QUIET, "-f", "lavfi", "-i", source, "-t", "0.1", *settings, "-f", muxer, "-y", "/dev/null"]


def _mixed(options: RenderOptions, window: Window, *, own: Any, timing: Timing) -> Any:
    """One stream of all sounds. The silence it is built on gives it its exact length, whatever the tracks do."""
    audio = options.audio
    source = f"anullsrc=sample_rate={audio.sample_rate}:channel_layout={layout(audio)}"
    silence = InputNode("input", kwargs={"filename": source, "format": "lavfi"}).stream(selector="a:0")
    sounds = [silence.filter("atrim", end_sample=window.samples)]
    if own is not None:
        sounds.append(_normalized(own, audio))
    placed = [_placed(track, index, audio, window) for index, track in enumerate(audio.tracks)]
    sounds += [sound for sound in placed if sound is not None]
    mixed = ffmpeg_python.filter(sounds, "amix", inputs=len(sounds), duration="first", normalize=0)
    if timing.lead:
        mixed = mixed.filter("adelay", delays=f"{timing.lead}S", all=1)
    return mixed.filter("asetpts", expr=f"N+{timing.shift - timing.lead}")


def layout(audio: AudioOptions) -> str:
    return "mono" if audio.channels == 1 else "stereo"


def _normalized(sound: Any, audio: AudioOptions) -> Any:
    """The output's rate and channels at an unchanged loudness, sample 0 at time 0."""
    sound = sound.filter("aresample", sample_rate=audio.sample_rate)
    sound = sound.filter("aformat", sample_fmts="fltp", channel_layouts="mono|stereo")
    # ffmpeg's own step from mono to stereo takes 3 dB away, its way back adds them (libswresample/rematrix.c).
    return sound.filter("pan", args=TO_LAYOUT[layout(audio)]).filter("asetpts", expr="N")


def _placed(track: AudioTrack, index: int, audio: AudioOptions, window: Window) -> Any:
    """One track at its place in the window, or None if nothing of it lies there.

    Cut and faded on its own clock first, so that a window of the composition sounds like that part of the whole.
    """

    def samples(seconds: Fraction) -> int:
        return round(seconds * audio.sample_rate)

    offset = samples(track.offset)
    ends = [window.start + window.samples - offset]
    last = [] if track.duration is None else [samples(track.duration)]
    last += [] if window.composition_end is None else [window.composition_end - offset]
    begin, end = max(0, window.start - offset), min(ends + last)
    if end <= begin:
        return None
    node = InputNode("input", args=[index], kwargs={"filename": local(track.path)})  # args: two uses, two inputs
    sound = _normalized(node.stream(selector="a:0"), audio)
    if track.seek:
        sound = sound.filter("atrim", start_sample=samples(track.seek)).filter("asetpts", expr="N")
    if track.volume != 1:
        sound = sound.filter("volume", volume=decimal(track.volume), precision="float")
    if fade_in := samples(track.fade_in):
        sound = sound.filter("afade", type="in", start_sample=0, nb_samples=fade_in, curve="tri")
    if last and (fade_out := min(samples(track.fade_out), min(last))):
        sound = sound.filter("afade", type="out", start_sample=min(last) - fade_out, nb_samples=fade_out, curve="tri")
    sound = sound.filter("atrim", start_sample=begin, end_sample=end).filter("asetpts", expr="N")
    delay = max(0, offset - window.start)
    return sound.filter("adelay", delays=f"{delay}S", all=1) if delay else sound


def graph_into_file(argv: list[str], graph_file: str | None, version: tuple[int, int]) -> MixCommand:
    if "-filter_complex" not in argv:
        return MixCommand(argv, None)
    place = argv.index("-filter_complex")
    graph = argv[place + 1]
    if graph_file is not None:
        flag = "-/filter_complex" if version >= (7, 0) else "-filter_complex_script"
        argv = [*argv[:place], flag, graph_file, *argv[place + 2 :]]
    return MixCommand(argv, graph)
