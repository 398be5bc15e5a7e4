"""The page's own sound becomes an ffmpeg command line, chunk by chunk, so that the joins cannot be heard. Pure.

Every chunk takes the same steps from each source's beginning (resample, stretch) and only then cuts out its samples, by
number; what a sample is worth depends on the sample's number alone. So any number of chunks gives the same sound.
The graph is text: one source feeds many branches, for which ffmpeg-python has no better words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from asyncrender.media import graphs
from asyncrender.specs import AudioOptions, RenderChunk, RenderOptions, SoundSegment

FRAME_TOLERANCE = Fraction(1, 100)
"""Of a frame: a change this little after a frame belongs to it. The page's clock is a float."""

TEMPO_RANGE = (0.5, 2.0)
"""What one atempo does well: beyond, it skips sound (https://ffmpeg.org/ffmpeg-filters.html#atempo)."""

TEMPO_SLOWER = 2
"""atempo is told half the sample rate, so that its window is some 21 ms, as Chromium's, and a click stays a click."""

LOOP_MARGIN_SECONDS = 1
"""A resampler looks a few samples ahead: so far before the end of a loop it makes no difference that it is one."""

SURELY_OVER_SECONDS = 60
"""After the end that a file's header tells, it is not opened any more. (Some headers are wrong.)"""

CONTAINERS = frozenset({"aac", "flac", "matroska", "mov", "mp3", "ogg", "wav"})
"""The demuxers of what a browser plays. Play lists are not among them: they could name any file of the disk."""

FILMS = frozenset({"matroska", "mov"})
"""Those of them whose pictures may last longer than their sound, or begin before it."""

SAMPLE_BYTES = 2
"""Of one channel in pcm_s16le."""

FLOAT = "aformat=sample_fmts=fltp"
"""Named wherever a filter knows several, so that every chunk's graph settles on the same."""


@dataclass(frozen=True)
class SoundSource:
    """A media file that has sound, as far as its graph depends on it."""

    address: str
    """What ffmpeg opens: `file:` and a path, or a URL."""
    sample_rate: int
    """Its own."""
    lead: int
    """Samples of silence, at its own rate, before its sound begins. Negative: that much lies before zero, unheard."""
    seconds: Fraction
    """How long the media lasts for the page, pictures included: one round of a loop."""


@dataclass(frozen=True)
class _Span:
    """Samples of the composition: from `start` to before `stop`."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class _Voice:
    """What one segment gives to one chunk."""

    source: SoundSource
    begin: int
    """The composition's sample at which the segment begins."""
    skipped: int
    """Samples of the media before that."""
    tempo: Fraction
    pitch: bool
    """Another tempo leaves the pitch as it is."""
    heard: _Span
    """Where it is heard, on the composition's clock; within the chunk."""
    repeats: bool
    gain: str
    """ffmpeg's expression of the sample number n within `heard`; a mere number where it does not change."""


def sample_at(frame: int, options: RenderOptions) -> int:
    """The sample of the composition that begins with a frame."""
    return round(frame * options.audio.sample_rate / graphs.rate(options))


def chunk_bytes(chunk: RenderChunk) -> int:
    """The size of a chunk's sound as bare PCM."""
    return _window(chunk).length * sample_bytes(chunk.options)


def total_bytes(options: RenderOptions, frames: int) -> int:
    """The size of so many frames' sound as bare PCM, counted from zero."""
    return sample_at(frames, options) * sample_bytes(options)


def sample_bytes(options: RenderOptions) -> int:
    """Of one sample in every channel."""
    return SAMPLE_BYTES * options.audio.channels


def sound_argv(
    chunk: RenderChunk,
    segments: Sequence[SoundSegment],
    sources: Mapping[str, SoundSource | None],
    *,
    ffmpeg: str,
    output: str,
) -> list[str] | None:
    """The segments' sound within a chunk as bare PCM; None if they are silent there.

    `segments` are all from the composition's start on, in the page's order, `sources` what their URLs stand for: None
    for what has no sound. Writes exactly `chunk_bytes`.
    """
    voices = _voices(chunk, segments, sources)
    if not voices:
        return None
    only = ("-format_whitelist", ",".join(sorted(CONTAINERS)))
    inputs = [word for source, _ in _by_input(voices) for word in (*only, "-vn", "-i", source.address)]
    return [
        *(ffmpeg, *graphs.QUIET, "-y", *graphs.PROGRESS, "-copyts", *inputs, "-filter_complex", _graph(chunk, voices)),
        *("-map", "[mixed]", "-c:a", "pcm_s16le", "-map_metadata", "-1", "-fflags", "+bitexact"),
        *("-f", "s16le", graphs.local(output)),
    ]


def add_sound_argv(
    options: RenderOptions, *, ffmpeg: str, muxer: str, pictures: str, sound: str, output: str
) -> list[str]:
    """A chunk's pictures and its sound become one file, both copied."""
    return [
        *(ffmpeg, *graphs.QUIET, "-y", *graphs.PROGRESS, "-i", graphs.local(pictures)),
        *graphs.bare_pcm(options.audio, sound),
        *("-map", "0:v:0", "-map", "1:a:0", "-c", "copy", "-map_metadata", "-1", "-fflags", "+bitexact"),
        *graphs.time_scale_argv(muxer, graphs.rate(options), None),
        *("-f", muxer, graphs.local(output)),
    ]


def extract_argv(*, ffmpeg: str, script: str, output: str) -> list[str]:
    """The sound of the chunks in a `graphs.concat_script`, sample after sample: bare PCM, without a clock to drift."""
    return [
        *(ffmpeg, *graphs.QUIET, "-y", *graphs.PROGRESS, "-f", "concat", "-safe", "0", "-i", graphs.local(script)),
        *("-map", "0:a:0", "-c", "copy", "-f", "s16le", graphs.local(output)),
    ]


def _window(chunk: RenderChunk) -> _Span:
    end = chunk.start_frame + chunk.frame_count
    return _Span(sample_at(chunk.start_frame, chunk.options), sample_at(end, chunk.options))


def _voices(
    chunk: RenderChunk, segments: Sequence[SoundSegment], sources: Mapping[str, SoundSource | None]
) -> list[_Voice]:
    """In the segments' order, in which they are summed: another order would round differently."""
    first: dict[int, float] = {}
    for segment in segments:
        first[segment.element] = min(segment.start, first.get(segment.element, segment.start))
    found = ((segment, sources.get(segment.source)) for segment in segments)
    voices = [_voice(chunk, segment, source, first[segment.element]) for segment, source in found if source is not None]
    return [voice for voice in voices if voice is not None]


def _voice(chunk: RenderChunk, segment: SoundSegment, source: SoundSource, first: float) -> _Voice | None:
    options, window, tempo = chunk.options, _window(chunk), Fraction(segment.rate)
    per_second, begin = options.audio.sample_rate, _sample(segment.start, options)
    stop = window.stop if segment.end is None else _sample(segment.end, options)
    heard = _Span(max(window.start, begin), min(window.stop, stop))
    if heard.length <= 0 or not tempo:
        return None
    length = round(source.seconds * per_second)
    late = _frame(segment.start, options) / graphs.rate(options) - Fraction(segment.start)
    skipped = max(0, round((Fraction(segment.position) + late * tempo) * per_second))
    needed = skipped + (heard.stop - begin) * tempo + LOOP_MARGIN_SECONDS * per_second
    media_end = None if segment.loop else begin + round((length - skipped) / tempo)
    over = media_end is not None and heard.start > media_end + SURELY_OVER_SECONDS * per_second
    gain = _gain(segment, options, heard, fade_start=_sample(first, options), fade_end=_fade_end(options, media_end))
    repeats = segment.loop and needed > length
    return None if over or gain == "0" else _Voice(source, begin, skipped, tempo, segment.pitch, heard, repeats, gain)


def _frame(seconds: float, options: RenderOptions) -> int:
    """The frame that shows what happened at a time: the first that is not before it."""
    return math.ceil(Fraction(seconds) * graphs.rate(options) - FRAME_TOLERANCE)


def _sample(seconds: float, options: RenderOptions) -> int:
    return sample_at(_frame(seconds, options), options)


def _fade_end(options: RenderOptions, media_end: int | None) -> int | None:
    length = options.composition_duration
    ends = [media_end, None if length is None else round(length * options.audio.sample_rate)]
    return min((end for end in ends if end is not None), default=None)


def _gain(segment: SoundSegment, options: RenderOptions, heard: _Span, *, fade_start: int, fade_end: int | None) -> str:
    steps = [(_sample(since, options) - heard.start, gain) for since, gain in segment.gains]
    gain = _halved(_changes(steps, heard.length))
    fade_in, fade_out = (round(seconds * options.audio.sample_rate) for seconds in (segment.fade_in, segment.fade_out))
    if gain != "0" and fade_in and fade_start + fade_in > heard.start:
        gain += f"*clip((n+{heard.start - fade_start})/{fade_in},0,1)"
    if gain != "0" and fade_out and fade_end is not None and fade_end - fade_out < heard.stop:
        gain += f"*clip(({fade_end - heard.start}-n)/{fade_out},0,1)"
    return gain


def _changes(steps: Sequence[tuple[int, float]], length: int) -> list[tuple[int, str]]:
    """(since which sample, gain) from sample 0 on, each another than the one before it."""
    values = {0: 1.0}
    values |= {max(0, sample): gain for sample, gain in sorted(steps, key=lambda step: step[0]) if sample < length}
    changes: list[tuple[int, str]] = []
    for sample, gain in values.items():
        if not changes or graphs.decimal(gain) != changes[-1][1]:
            changes.append((sample, graphs.decimal(gain)))
    return changes


def _halved(changes: Sequence[tuple[int, str]]) -> str:
    """The gain as an expression that finds its step by halves: a page may change it with every frame."""
    if len(changes) == 1:
        return changes[0][1]
    middle = len(changes) // 2
    return f"if(lt(n,{changes[middle][0]}),{_halved(changes[:middle])},{_halved(changes[middle:])})"


def _by_input(voices: Sequence[_Voice]) -> dict[tuple[SoundSource, bool], list[int]]:
    """Which voices share an opened file."""
    inputs: dict[tuple[SoundSource, bool], list[int]] = {}
    for number, voice in enumerate(voices):
        inputs.setdefault((voice.source, voice.repeats), []).append(number)
    return inputs


def _graph(chunk: RenderChunk, voices: Sequence[_Voice]) -> str:
    audio, window = chunk.options.audio, _window(chunk)
    silence = f"anullsrc=sample_rate={audio.sample_rate}:channel_layout={graphs.layout(audio)}"
    chains = [f"{silence},atrim=end_sample={window.length},{FLOAT}[silence]"]
    for index, ((source, repeats), numbers) in enumerate(_by_input(voices).items()):
        steps = [*_led(source), *(_repeated(source) if repeats else []), *_normalized(audio), f"asplit={len(numbers)}"]
        chains.append(f"[{index}:a:0]{','.join(steps)}{''.join(f'[take{number}]' for number in numbers)}")
    for number, voice in enumerate(voices):
        steps = [*_cut(voice, audio), *_amplified(voice, audio), FLOAT, *_delayed(voice, window)]
        chains.append(f"[take{number}]{','.join(steps)}[voice{number}]")
    heard = "".join(f"[voice{number}]" for number in range(len(voices)))
    chains.append(f"[silence]{heard}amix=inputs={len(voices) + 1}:duration=first:normalize=0,{FLOAT}[mixed]")
    return ";\n".join(chains) + "\n"


def _led(source: SoundSource) -> list[str]:
    """Cut by time, not by number: some decoders have left the beginning out already."""
    if source.lead < 0:
        return ["atrim=start=0"]
    return [f"adelay=delays={source.lead}S:all=1"] if source.lead else []


def _repeated(source: SoundSource) -> list[str]:
    """At the source's own rate, where a round of it most likely is a whole number of samples."""
    length = max(1, round(source.seconds * source.sample_rate))
    return [f"apad=whole_len={length}", f"atrim=end_sample={length}", f"aloop=loop=-1:size={length}", "asetpts=N"]


def _normalized(audio: AudioOptions) -> list[str]:
    """As tracks are in the mix: the output's rate and channels at an unchanged loudness, sample 0 at time 0."""
    formats = "aformat=sample_fmts=fltp:channel_layouts=mono|stereo"
    return [f"aresample={audio.sample_rate}", formats, f"pan={graphs.TO_LAYOUT[graphs.layout(audio)]}", "asetpts=N"]


def _cut(voice: _Voice, audio: AudioOptions) -> list[str]:
    start, stop = voice.heard.start - voice.begin, voice.heard.stop - voice.begin
    if voice.tempo == 1:
        return [f"atrim=start_sample={voice.skipped + start}:end_sample={voice.skipped + stop}", "asetpts=N"]
    cut = [f"atrim=start_sample={start}:end_sample={stop}", "asetpts=N"]
    if not voice.pitch:
        as_of_another_rate = f"asetrate={max(1, round(audio.sample_rate * voice.tempo))},aresample={audio.sample_rate}"
        return [f"atrim=start_sample={voice.skipped}", as_of_another_rate, "asetpts=N", *cut]
    tempos = _tempos(float(voice.tempo))
    from_sample = voice.skipped - _swallowed(tempos, audio)
    begun = [f"atrim=start_sample={from_sample}"] if from_sample >= 0 else [f"adelay=delays={-from_sample}S:all=1"]
    as_slower = [f"asetrate={audio.sample_rate // TEMPO_SLOWER}", "asetpts=N"]
    stretched = [f"atempo={graphs.decimal(tempo)}" for tempo in tempos]
    return [*begun, "aformat=sample_fmts=flt", *as_slower, *stretched, f"asetrate={audio.sample_rate}", *cut]


def _swallowed(tempos: Sequence[float], audio: AudioOptions) -> int:
    """Samples that are lost at the beginning: a quarter of a window for each atempo, at its own input (measured).

    The window is the power of two from 1/24 s on (libavfilter/af_atempo.c).
    """
    window = 1 << (max(2, audio.sample_rate // TEMPO_SLOWER // 24) - 1).bit_length()
    return round(window / 4 * sum(math.prod(tempos[:index]) for index in range(len(tempos))))


def _tempos(tempo: float) -> list[float]:
    """Factors that one atempo each does well."""
    slowest, fastest = TEMPO_RANGE
    if slowest <= tempo <= fastest:
        return [tempo]
    factor = fastest if tempo > fastest else slowest
    return [factor, *_tempos(tempo / factor)]


def _amplified(voice: _Voice, audio: AudioOptions) -> list[str]:
    """In double precision both ways: a chunk with one gain and a chunk with many agree to the last bit."""
    if voice.gain == "1":
        return []
    if "n" not in voice.gain:
        return [f"volume=volume={voice.gain}:precision=double"]
    values = "|".join(f"val({channel})*({voice.gain})" for channel in range(audio.channels))
    return ["aformat=sample_fmts=dblp", f"aeval=exprs='{values}':channel_layout=same"]


def _delayed(voice: _Voice, window: _Span) -> list[str]:
    delay = voice.heard.start - window.start
    return [f"adelay=delays={delay}S:all=1"] if delay else []
