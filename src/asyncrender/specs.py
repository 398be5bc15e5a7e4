"""The models users and runners see: options, chunks, plans. Pure data with the rules that hold for one field alone.

All models are frozen and travel as JSON. Rules that need two fields, or a decision, belong to `plan`; whatever needs
a look at the machine belongs to `resolve`.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    WithJsonSchema,
    field_validator,
    model_validator,
)

SCHEMA_VERSION: Literal[1] = 1

EPOCH_MS = 1_704_067_200_000
"""2024-01-01T00:00:00Z, the default of `RenderOptions.epoch_ms`: what `Date.now()` says in frame 0."""

NTSC_NOMINAL_RATES = (24, 30, 48, 60, 120)
"""Rates whose 1000/1001 versions are usually written as a rounded decimal (SMPTE ST 12): 23.976, 29.97, 59.94 …"""

NTSC_ROUNDING = Fraction(1, 200)
"""How far a decimal may lie from the exact NTSC rate it stands for: 23.98 is written for 24000/1001 = 23.976…"""

_NUMBER = re.compile(r"[+-]?(\d{1,20}/\d{1,20}|(\d{1,20}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?)")
"""Bounded, because strangers' JSON is parsed: Fraction("1e999999999") would fill the memory."""

Capture = Literal["raw", "beginframe", "screenshot"]
"""How frames leave the browser: as the compositor draws them, uncoded, in 8-bit 4:2:0; as PNGs by
`HeadlessExperimental.beginFrame`; as PNGs by `Page.captureScreenshot`."""

Preroll = Literal["auto", "always", "never"]
"""Whether a worker lives through the frames before its own, or jumps to them."""


def exact_number(value: Any) -> Fraction:
    """A number in any of the usual spellings as a fraction: int, float, Decimal, Fraction, "1.5", "30000/1001"."""
    if isinstance(value, int | Fraction) and not isinstance(value, bool):
        return Fraction(value)
    text = repr(value) if isinstance(value, float) else str(value).strip()
    if isinstance(value, float | Decimal | str) and _NUMBER.fullmatch(text) and not re.search(r"/0+$", text):
        return Fraction(text)
    raise ValueError(
        f"{value!r} is not a finite number; allowed are numbers, decimal strings, fractions like '30000/1001'"
    )


def parse_rate(value: Any) -> Fraction:
    """A frame rate as an exact rational in frames per second; 29.97 means 30000/1001."""
    rate = exact_number(value)
    for ntsc in (Fraction(nominal * 1000, 1001) for nominal in NTSC_NOMINAL_RATES):
        if rate.denominator != 1 and abs(rate - ntsc) <= NTSC_ROUNDING:
            rate = ntsc
    if not 0 < rate <= 1000:
        raise ValueError(f"{value!r} is out of range; a frame rate is above 0 and at most 1000 frames per second")
    if rate.denominator > 1_000_000 or rate.numerator > 2_000_000_000:
        raise ValueError(f"{value!r} has too many digits; write it as a fraction such as '30000/1001'")
    return rate


def parse_seconds(value: Any) -> Fraction:
    """A time in seconds, not negative; also a `timedelta`."""
    is_delta = isinstance(value, timedelta)
    seconds = Fraction(value // timedelta(microseconds=1), 1_000_000) if is_delta else exact_number(value)
    if seconds < 0:
        raise ValueError(f"{value!r} is negative; a time is 0 or more seconds")
    return seconds


def write_fraction(value: Fraction) -> int | str:
    return value.numerator if value.denominator == 1 else f"{value.numerator}/{value.denominator}"


_NUMBER_SCHEMA = WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})
Rate = Annotated[Fraction, BeforeValidator(parse_rate), PlainSerializer(write_fraction), _NUMBER_SCHEMA]
Bitrate = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}[kM]?$")]
Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]
"""Such as a path, or what is handed to a program."""
Seconds = Annotated[Fraction, BeforeValidator(parse_seconds), PlainSerializer(write_fraction), _NUMBER_SCHEMA]


class Model(BaseModel):
    """Frozen; an unknown field is an error, so that a misspelt option is never silently ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class VideoOptions(Model):
    """How the picture is encoded."""

    codec: str = "libx264"
    """ffmpeg's encoder name: libx264, libx265, prores_ks, libvpx-vp9, libvpx, libaom-av1, libsvtav1, ffv1.
    In a plan's `mix_options` it is "copy"."""
    crf: Annotated[float, Field(ge=0, le=63)] | None = None
    """Constant rate factor: 0 is lossless or best; 0-51 for x264 and x265, 0-63 for VP8/9 and AV1. Unset: 18 for x264,
    20 for x265, 24 for the others that know it."""
    preset: Annotated[str, Field(pattern=r"^[a-z0-9]+$")] | None = None
    """Speed against size: ultrafast … placebo for x264 and x265, 0-13 for SVT-AV1. Unset: the encoder's own default."""
    bitrate: Bitrate | None = None
    """Target bits per second, such as "5M"; instead of `crf`."""
    pixel_format: Annotated[str, Field(pattern=r"^[a-z0-9]+$")] | None = None
    """ffmpeg's pixel format. Formats that halve the chroma need even sizes. Unset: yuv420p, for ProRes yuv422p10le."""
    key_frame_seconds: Annotated[float, Field(gt=0, le=60)] = 2.0
    """At the most this many seconds between two key frames."""
    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """Encoder threads of each chunk: part of the plan, because the output of x264 depends on it. Unset: `resolve` takes
    as many as the cores that each worker has to itself allow; a plan without it, 2."""


class AudioTrack(Model):
    """One sound file laid under the composition. All times in seconds, on the composition's clock."""

    path: Text
    """A sound file, or a film with sound, which keeps its place: where it begins later than the pictures, `resolve`
    takes that off `seek`, or adds it to `offset`. Relative to the working folder; absolute once resolved; in a plan
    relative to its `base`, or absolute where it does not lie below."""
    volume: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Linear gain; 1 leaves the loudness as it is."""
    offset: Seconds = Fraction(0)
    """When the track starts in the composition."""
    seek: Seconds = Fraction(0)
    """How much of the file's beginning is left out."""
    fade_in: Seconds = Fraction(0)
    """Length of a linear fade at the track's beginning."""
    fade_out: Seconds = Fraction(0)
    """Length of a linear fade at the track's end, or at the composition's end where that comes first."""
    duration: Seconds | None = None
    """How long the track sounds, after `seek`. Unset: to the file's end (`resolve` fills it in)."""


class AudioOptions(Model):
    """How the sound is encoded and which tracks are mixed."""

    codec: str | None = None
    """ffmpeg's encoder name: aac, libmp3lame, libopus, libvorbis, flac, alac, pcm_s16le. Unset: the container's
    usual one. In chunks it is pcm_s16le."""
    bitrate: Bitrate = "192k"
    """Bits per second, such as "192k"; formats without loss have none."""
    sample_rate: Annotated[int, Field(ge=8000, le=192_000)] = 48_000
    channels: Annotated[int, Field(ge=1, le=2)] = 2
    tracks: tuple[AudioTrack, ...] = ()
    muted: bool = False
    """Leave the sound out altogether."""


class BrowserOptions(Model):
    """Which browser, and the fixed environment the page sees."""

    executable: Text | None = None
    """Path of a Chromium binary. Unset: ASYNCRENDER_BROWSER, then chromium-headless-shell and its relatives."""
    args: tuple[Text, ...] = ()
    """Further command-line switches. They may break exactness; they are part of the fingerprint."""
    sandbox: Literal["auto", "on", "off"] = "auto"
    """Chromium's own sandbox. "auto": on where the machine allows it; resolved to on or off."""
    timezone: Text = "UTC"
    """IANA name of the page's time zone."""
    locale: Text = "en-US"
    """BCP 47 tag of the page's locale."""
    color_scheme: Literal["light", "dark"] = "light"


class Timeouts(Model):
    """Inactivity deadlines in seconds, each for one kind of wait. They do not change what is rendered."""

    launch: Annotated[float, Field(gt=0)] = 30.0
    """The browser answers its first command."""
    load: Annotated[float, Field(gt=0)] = 60.0
    """The document and everything it links is there."""
    ready: Annotated[float, Field(gt=0)] = 60.0
    """Fonts, images and `window.asyncrender.ready`, after the load."""
    request: Annotated[float, Field(gt=0)] = 30.0
    """A request that the page began while it is being rendered; a worker that hears nothing of what it is told."""
    frame: Annotated[float, Field(gt=0)] = 60.0
    """One frame: the page's scripts, then its picture."""
    encode: Annotated[float, Field(gt=0)] = 120.0
    """ffmpeg takes the next frame, or finishes its chunk."""
    mix: Annotated[float, Field(gt=0)] = 120.0
    """ffmpeg makes progress, or at least writes, while concatenating and mixing."""


class Environment(Model):
    """What `resolve` found on the machine. Versions are part of the fingerprint: another browser draws other pixels."""

    asyncrender: str
    browser: str
    """Product and version, such as "HeadlessChrome/156.0.8078.79"."""
    ffmpeg: str
    notes: tuple[str, ...] = ()
    """Why each choice was made, a sentence each."""
    capture_chosen: bool = False
    """How frames are taken was chosen here, not asked for: where it turns out not to work, another way is taken."""


class RenderOptions(Model):
    """Everything a render depends on. An unset option (None) is found out by `resolve` and then written down."""

    width: Annotated[int, Field(ge=1, le=16_384)] | None = None
    """Pixels. Unset: the page's `<meta name="asyncrender">`, else 1920."""
    height: Annotated[int, Field(ge=1, le=16_384)] | None = None
    """Pixels. Unset: the page's meta, else 1080."""
    fps: Rate | None = None
    """Frames per second, exact: 30, "30000/1001"; 29.97 means 30000/1001. Unset: the page's meta, else 30."""
    duration: Seconds | None = None
    """Seconds, counted from `start_frame`. Unset: `frame_count`, or the page's meta."""
    frame_count: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Frames, counted from `start_frame`; wins over `duration`."""
    start_frame: Annotated[int, Field(ge=0, le=100_000_000)] = 0
    """The first frame of the composition that is rendered."""
    composition_duration: Seconds | None = None
    """What the page is told as its length. Unset: the end of the rendered window."""
    concurrency: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Browsers at work at once. Unset: found from the machine's cores and memory."""
    chunk_frames: Annotated[int, Field(ge=1)] = 900
    """The most frames of one chunk. Unset: fewer where workers would else get unequal numbers of chunks."""
    props: dict[str, JsonValue] = Field(default_factory=dict)
    """Data for the page: `window.asyncrender.props`."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Of the page's `Math.random` and `crypto.getRandomValues`."""
    epoch_ms: Annotated[int, Field(ge=0, le=8_640_000_000_000_000)] = EPOCH_MS
    """`Date.now()` in frame 0, milliseconds since 1970-01-01T00:00:00Z."""
    capture: Literal["auto", Capture] = "auto"
    """How frames leave the browser. "auto": raw where the film is 8-bit 4:2:0 and a probe succeeds, else
    beginframe, else screenshot."""
    preroll: Preroll = "auto"
    """How a worker gets to its first frame. "always": it lives through all frames before, without pictures. "never": it
    jumps there, right only for pages whose picture depends on nothing but the time. "auto": it jumps where the page set
    `window.asyncrender.seek`, holds no media, and the way is long; resolved to one of the others."""
    page_errors: Literal["fail", "warn"] = "fail"
    """What an uncaught error in the page does."""
    resume: bool = True
    """Keep finished chunks after a failure, and use them again."""
    mix_input_audio: bool = True
    """In `mix_options`: mix the concatenated chunks' own sound in (if they turn out to have any)."""
    video: VideoOptions = VideoOptions()
    audio: AudioOptions = AudioOptions()
    browser: BrowserOptions = BrowserOptions()
    timeouts: Timeouts = Timeouts()
    trace: Text | None = None
    """A file for a Chrome trace of the render, overwritten: what took how long, in which worker. `render` takes any
    path, a plan a plain file name: it is written beside the output. Chunks rendered elsewhere are not in it."""
    environment: Environment | None = None
    """Written by `resolve`; options that have it are resolved."""

    @field_validator("props")
    @classmethod
    def _props_survive_json(cls, props: dict[str, JsonValue]) -> dict[str, JsonValue]:
        try:
            json.dumps(props, allow_nan=False, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("props hold text that is no Unicode (a lone surrogate), as JSON has to be") from None
        except ValueError:
            raise ValueError("props hold NaN or Infinity, which JSON does not have") from None
        return props


class SoundSegment(Model):
    """A stretch of the composition in which one media element of the page sounds. Times in seconds.

    A change the page makes between two frames counts from the later frame on: no chunk knows more than its frames.
    """

    element: Annotated[int, Field(ge=0)]
    """Which element: all its segments carry the same number."""
    source: Annotated[str, Field(min_length=1)]
    """Absolute URL of what sounds."""
    kind: Literal["audio", "video"]
    """The element's tag."""
    start: Annotated[float, Field(ge=0)]
    """When it begins, on the composition's clock."""
    end: Annotated[float, Field(ge=0)] | None = None
    """When it was stopped, on the composition's clock; None while it sounds: to the end of the media or composition."""
    position: Annotated[float, Field(ge=0)] = 0.0
    """Where in the media it begins: media seconds."""
    rate: Annotated[float, Field(ge=0, le=16)] = 1.0
    """Media seconds per second of the composition. 16 is the most Chromium plays; 0 is silent."""
    pitch: bool = True
    """At another rate it sounds as high as before; else higher or lower by as much, as from a tape."""
    loop: bool = False
    """At the end of the media it goes on from its beginning."""
    gains: tuple[tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0, le=100)]], ...] = ()
    """(since when on the composition's clock, linear gain), ascending; before the first, and without any, 1."""
    fade_in: Annotated[float, Field(ge=0)] = 0.0
    """Length of a linear fade from the element's first sound on."""
    fade_out: Annotated[float, Field(ge=0)] = 0.0
    """Length of a linear fade to the end of the media, or of the composition where that comes first or the media has
    no end. Not to a later pause: the chunk before it cannot know of it."""


def _relative_inside(path: str, folder: PurePosixPath) -> bool:
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts and "\0" not in path and pure.parent == folder


class RenderChunk(Model):
    """One piece of work: `frame_count` frames from `start_frame` on, encoded into `output_file`."""

    id: Annotated[int, Field(ge=0)]
    start_frame: Annotated[int, Field(ge=0)]
    frame_count: Annotated[int, Field(ge=1)]
    output_file: str
    """Relative to the plan's `base`, inside the work folder."""
    options: RenderOptions
    """All a worker needs: the plan's options for this window, without explicit tracks, sound as pcm_s16le."""


class RenderPlan(Model):
    """What to render, complete and serialisable: the job for this machine, a cluster or another runner."""

    schema_version: Literal[1] = SCHEMA_VERSION
    fingerprint: str
    """Hash of the scene and the options, without the output's path and what only says how the render is run, such as
    concurrency and timeouts (`plan.NOT_IN_FINGERPRINT`)."""
    composition_url: Text
    """A URL, or a path: absolute, or relative to `base`. HTML text travels as a `data:text/html` URL."""
    base: str
    """The output's folder; every other path is relative to it."""
    total_frames: Annotated[int, Field(ge=1)]
    options: RenderOptions
    """The whole composition's options, frame count and rate filled in."""
    chunks: tuple[RenderChunk, ...]
    concat_manifest: tuple[str, ...]
    """The chunks' files, in order."""
    concat_output_file: str
    """The joined chunks: the mix stage's input."""
    final_output_file: str
    mix_options: RenderOptions
    """The last stage's options: video.codec "copy", the final audio codec, all tracks, mix_input_audio."""
    cleanup_files: tuple[str, ...]
    """Deleted after success."""

    @property
    def work_folder(self) -> str:
        """`.NAME.asyncrender`, beside the output; relative to `base`."""
        return f".{self.final_output_file}.asyncrender"

    @model_validator(mode="after")
    def _writes_only_its_own_files(self) -> Self:
        name = self.final_output_file
        if not _relative_inside(name, PurePosixPath(".")) or not re.search(r"[^./]", name):
            raise ValueError(f"final_output_file {name!r} is not a plain file name; its folder is `base`")
        work = PurePosixPath(self.work_folder)
        trace = self.options.trace
        if trace is not None and (not _relative_inside(trace, PurePosixPath(".")) or trace in (name, str(work))):
            raise ValueError(f"trace {trace!r} is not a plain file name of its own; its folder is `base`")
        files = [*self.concat_manifest, self.concat_output_file, *self.cleanup_files]
        for path in [*files, *(chunk.output_file for chunk in self.chunks)]:
            if not _relative_inside(path, work):
                raise ValueError(f"the file {path!r} is not in the plan's work folder {str(work)!r}")
        return self

    @model_validator(mode="after")
    def _chunks_cover_the_window(self) -> Self:
        expected = self.options.start_frame
        for index, chunk in enumerate(self.chunks):
            window = (chunk.options.start_frame, chunk.options.frame_count)
            if chunk.id != index or chunk.start_frame != expected or window != (expected, chunk.frame_count):
                raise ValueError(f"chunk {index} does not begin where the one before it ends, at frame {expected}")
            expected += chunk.frame_count
        if expected - self.options.start_frame != self.total_frames:
            raise ValueError(f"the chunks do not cover exactly {self.total_frames} frames")
        if self.options.frame_count != self.total_frames:
            raise ValueError(f"total_frames is {self.total_frames}, options.frame_count {self.options.frame_count}")
        if self.concat_manifest != tuple(chunk.output_file for chunk in self.chunks):
            raise ValueError("concat_manifest is not the chunks' files in order")
        return self


class Html(str):
    """A scene given as HTML text: `ar.Html("<h1>…")`."""

    __slots__ = ()
