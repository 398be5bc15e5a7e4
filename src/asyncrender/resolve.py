"""Looks once, makes every choice explicit: the page's own wishes, the tools, the machine, the sound files.

After it nothing downstream decides anything for itself, so that every chunk, wherever it is rendered, is the same.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from functools import partial
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path, PurePath
from urllib.parse import unquote, urlsplit

import anyio

from asyncrender import formats, machine
from asyncrender.browser.probe import CaptureProbe, PageLook, look_at_page, probe_capture
from asyncrender.errors import CaptureUnavailable, InvalidOption, MediaError, SceneNotFound, ToolFailed
from asyncrender.files import check_output, is_file, is_folder
from asyncrender.log import get_logger
from asyncrender.media import graphs
from asyncrender.media.probe import encoders, fit_version, probe
from asyncrender.plan import DEFAULT_FPS, complete, is_url, page_text, scene_url, split_output, unfit_for_raw
from asyncrender.process import find_tool, run
from asyncrender.retry import retried
from asyncrender.specs import (
    AudioTrack,
    Capture,
    Environment,
    Html,
    Preroll,
    RenderOptions,
    exact_number,
    parse_rate,
    parse_seconds,
)
from asyncrender.tasks import both

META_NAME = "asyncrender"
META_SIZES = ("width", "height")

WORKER_BYTES = 700 << 20
"""Memory of one worker at 1080p: a browser's processes and an encoder, measured as 450-600 MB, with some air."""

CORES_PER_RAW_WORKER = 2
"""A raw worker's compositor, page and encoder work at the same time: one all but fills two cores. Two have to live
through the earlier frames besides, and gain nothing (0.94 to 1.05 times as fast, stateful and dom, ultrafast). Where a
page is jumped through, one for each core is better: 1.04 to 1.3 times as fast with x264 ultrafast, 0.96 to 1.2 times
with medium, and 1.8 times where its frames wait for a server."""

MOST_THREADS = 8
"""Of one encoder. Modelled: x264 medium has then cores enough for any page that one browser draws."""

FRAMES_PER_WORKER = 30
"""Fewer frames than this do not pay for starting another browser (some 0.5 s against 40 ms a frame)."""

JUMP_FRAMES = 300
"""A way shorter than this is lived through sooner (2-4 ms a frame) than the page is loaded to ask it."""

ASK_FRAMES = 600
"""From so many frames for each worker on, a second raw one that jumps saves more (0 to a quarter of the time) than its
browser and the question whether it may jump cost (0.7 s)."""

SILENCE_SECONDS = 10.0
"""To encode a moment of silence takes 0.1 s."""

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
"""Beside https pages, browsers trust these (Secure Contexts, 3.1)."""

_log = get_logger("asyncrender.resolve")


async def resolve(
    scene: str | PurePath,
    output: str | PurePath,
    options: RenderOptions | None = None,
    *,
    limiter: anyio.CapacityLimiter | None = None,
) -> RenderOptions:
    """The options with everything found out and written down; resolved options come back as they are.

    `scene` is a path, URL or `Html`; `output` the future video file. The browser that is asked takes a token of
    `limiter`. Raises SceneNotFound, InvalidOption, MissingTool, BrowserLaunchFailed. Nothing is written.
    """
    options = options or RenderOptions()
    if options.environment is not None:
        return options
    async with limiter or nullcontext():
        return await retried(lambda: _resolve(scene, output, options), doing="resolving the options")


async def _resolve(scene: str | PurePath, output: str | PurePath, options: RenderOptions) -> RenderOptions:
    _, name = split_output(output)
    check_output(Path(output))
    url, markup = _look_at_scene(scene)
    if markup is not None:
        options = with_meta(options, parse_meta(markup))
        complete(options, name)  # refuses what cannot work before a browser is started
    find_tool("ffprobe", package="ffmpeg")
    ffmpeg = find_tool("ffmpeg", package="ffmpeg")
    tracks = tuple([await _resolve_track(index, track) for index, track in enumerate(options.audio.tracks)])
    wished = None if options.capture == "auto" else options.capture
    wished_threads = options.video.threads
    unfit, launch_seconds = _unfit_for_raw(options, name, url), options.timeouts.launch
    ffmpeg_version, probed = await both(
        partial(_check_ffmpeg, options, name, ffmpeg),
        partial(probe_capture, options.browser, wished=wished, unfit=unfit, launch_seconds=launch_seconds),
    )
    options = options.model_copy(
        update={
            "audio": options.audio.model_copy(update={"tracks": tracks}),
            "browser": probed.browser,
            "capture": probed.capture,
        }
    )
    look: PageLook | None = None
    if markup is None and (_lacks_meta(options) or (wished is None and probed.capture == "raw")):
        options, look, probed = await _look(options, url, probed, wished)
        options = with_meta(options, split_meta(look.meta))
    options = complete(options, name)
    cores = machine.cores()
    workers, preroll, whys = await _choose_workers(options, url, markup, look, cores=cores)
    threads = wished_threads or choose_threads(cores, workers)
    chunk_frames = choose_chunk_frames(options, workers)
    environment = Environment(
        asyncrender=version("asyncrender"),
        browser=probed.version,
        ffmpeg=ffmpeg_version,
        notes=(*probed.notes, *whys),
        capture_chosen=wished is None,
    )
    _log.debug("resolved", **environment.model_dump())
    video = options.video.model_copy(update={"threads": threads})
    chosen = {"concurrency": workers, "chunk_frames": chunk_frames, "preroll": preroll, "video": video}
    return options.model_copy(update={**chosen, "environment": environment})


def _unfit_for_raw(options: RenderOptions, name: str, url: str) -> str | None:
    """Why raw frames are out of the question; None if they are worth a try."""
    wanted = complete(options.model_copy(update={"frame_count": options.frame_count or 1, "capture": "auto"}), name)
    assert wanted.fps is not None
    address = urlsplit(url)
    local = address.hostname in LOCAL_HOSTS or (address.hostname or "").endswith(".localhost")
    if address.scheme == "http" and not local:
        return f"browsers allow that on https pages, and this one is {address.scheme}"
    return unfit_for_raw(wanted.video, wanted.fps)


async def _look(
    options: RenderOptions, url: str, probed: CaptureProbe, wished: Capture | None
) -> tuple[RenderOptions, PageLook, CaptureProbe]:
    """Load a page that is no local file; if it turns out that its frames cannot be taken raw, without that."""
    try:
        return options, await look_at_page(options, url, Path()), probed
    except CaptureUnavailable as error:
        if wished is not None:
            raise
        notes = (*probed.notes[1:], f"frames are not taken raw: {error}")
        options = options.model_copy(update={"capture": "beginframe"})
        return options, await look_at_page(options, url, Path()), replace(probed, capture="beginframe", notes=notes)


class _Parser(HTMLParser):
    def __init__(self, markup: str) -> None:
        super().__init__()
        self.content: str | None = None
        """What the page's meta says."""
        self.scripts: list[str] = []
        """Addresses of the page's scripts."""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "meta" and (given.get("name") or "").lower() == META_NAME and self.content is None:
            self.content = given.get("content") or ""
        if tag == "script" and (source := given.get("src")):
            self.scripts.append(source)


def parse_meta(markup: str) -> dict[str, str]:
    """What `<meta name="asyncrender" content="width=1280, fps=30">` says; empty without one."""
    return split_meta(_Parser(markup).content or "")


def _speaks_of_seek(markup: str, url: str) -> bool:
    """Whether a local page, or a script it names, may set `window.asyncrender.seek`: only then is it worth a look."""
    texts = [markup]
    for source in _Parser(markup).scripts:
        with contextlib.suppress(OSError, ValueError):  # not here, or no path at all
            file = Path(url).parent / unquote(urlsplit(source).path).lstrip("/")
            texts.append(file.read_text(encoding="utf-8", errors="replace") if file.is_file() else "")
    return any(META_NAME in text and "seek" in text for text in texts)


def split_meta(content: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in content.replace(";", ",").split(",") if part.strip())
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def with_meta(options: RenderOptions, meta: Mapping[str, str]) -> RenderOptions:
    """Options whose gaps are filled by the page's meta. Raises InvalidOption for a value that cannot be."""
    update: dict[str, object] = {}
    for side in META_SIZES:
        if side in meta and getattr(options, side) is None:
            update[side] = _meta_size(side, meta[side])
    if "fps" in meta and options.fps is None:
        update["fps"] = _meta_number("fps", meta["fps"])
    if "duration" in meta and options.duration is None and options.frame_count is None:
        whole = _meta_number("duration", meta["duration"])
        rate = update.get("fps") or options.fps or DEFAULT_FPS
        assert isinstance(rate, Fraction)
        left = whole - options.start_frame / rate
        if left <= 0:
            allowed = f"the page says it lasts {float(whole):g} s, and this frame lies behind its end"
            raise InvalidOption("start_frame", options.start_frame, allowed)
        update |= {"duration": left, "composition_duration": options.composition_duration or whole}
    return options.model_copy(update=update)


def choose_concurrency(options: RenderOptions, cores: int, memory: int, *, jumps: bool) -> tuple[int, str]:
    """(workers, why): the option; else one for each core (raw: two), as memory and the number of frames allow.

    `jumps`: no worker lives through the frames before its own; then raw ones, too, get a core each.
    """
    if options.concurrency is not None:
        return options.concurrency, f"{options.concurrency} workers were asked for"
    by_frames = (options.frame_count or 1) // FRAMES_PER_WORKER
    shared = options.capture == "raw" and not jumps
    by_cores = math.ceil(cores / CORES_PER_RAW_WORKER) if shared else cores
    workers = max(1, min(by_cores, memory // WORKER_BYTES, by_frames, 1024))
    return workers, f"{workers} workers: {cores} cores, {memory >> 20} MB free, {options.frame_count} frames"


def choose_chunk_frames(options: RenderOptions, workers: int) -> int:
    """The most frames of a chunk: fewer than the default where some workers would else have a chunk more than others.

    Of 2000 frames with two workers these would have two chunks of 667 frames and one.
    """
    if "chunk_frames" in options.model_fields_set:
        return options.chunk_frames
    total = options.frame_count or 1
    each = math.ceil(total / options.chunk_frames / workers)
    return options.chunk_frames if each == 1 or workers == 1 else math.ceil(total / (workers * each))


def choose_threads(cores: int, workers: int) -> int:
    """Encoder threads of each worker: x264's own rule, one and a half for each core, of the cores it has to itself.

    One thread costs least: on two cores two raw workers with one each were 4 to 6 % faster with x264 medium than with
    two each, and 1 to 7 % with ultrafast; one worker with three was 1 to 4 % faster than with two (dom, slides, photo,
    canvas).
    """
    return max(1, min(3 * (cores // workers) // 2, MOST_THREADS))


def _meta_size(side: str, text: str) -> int:
    if not re.fullmatch(r"0*\d{1,5}", text) or not 1 <= int(text) <= 16_384:
        raise InvalidOption(f"meta {side}", text, "the page's meta must say whole pixels, 1 to 16384")
    return int(text)


def _meta_number(name: str, text: str) -> Fraction:
    try:
        return parse_rate(text) if name == "fps" else parse_seconds(text)
    except ValueError as error:
        raise InvalidOption(f"meta {name}", text, str(error)) from None


def anchored(scene: str | PurePath) -> str | PurePath:
    """The scene with a relative path made absolute, so that it can be planned for any output folder.

    The empty text is no path, though Python takes it for the working folder's: it stays, and is refused.
    """
    if not str(scene) or isinstance(scene, Html) or is_url(str(scene)) or str(scene).lower().startswith("file:"):
        return scene
    return Path(scene).absolute()


def _look_at_scene(scene: str | PurePath) -> tuple[str, str | None]:
    """(URL or path, its HTML text if that can be read here)."""
    url = scene_url(scene, "/") if isinstance(scene, Html) else str(scene)
    if url.startswith("data:text/html"):
        return url, page_text(url).decode(errors="replace")
    if is_url(url):
        return scene_url(url, "/"), None
    path = Path(scene_url(anchored(url), "/nowhere"))
    page = path / "index.html" if is_folder(path) else path
    try:
        return str(path), page.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise SceneNotFound("scene", str(scene), f"{error.strerror} ({page})") from None


async def _check_ffmpeg(options: RenderOptions, name: str, ffmpeg: str) -> str:
    """Its version. Raises MissingTool if it is too old, InvalidOption for what it cannot make."""
    found, _ = await both(partial(fit_version, ffmpeg), partial(_check_encoders, options, name, ffmpeg))
    await _check_sound(options, name, ffmpeg)
    return found


async def _check_encoders(options: RenderOptions, name: str, ffmpeg: str) -> None:
    audio = complete(options.model_copy(update={"frame_count": options.frame_count or 1}), name).audio
    there = await encoders(ffmpeg)
    ending = formats.container_name(name)
    wanted = [("video.codec", options.video.codec, formats.video_codecs(ending))]
    if audio.tracks and not audio.muted:
        wanted.append(("audio.codec", audio.codec or "", list(formats.container(name).audio_codecs)))
    for option, codec, possible in wanted:
        if codec not in there:
            others = ", ".join(one for one in possible if one in there) or "none"
            allowed = f"this machine's ffmpeg was built without that encoder; for .{ending} it has {others}"
            raise InvalidOption(option, codec, allowed)


async def _check_sound(options: RenderOptions, name: str, ffmpeg: str) -> None:
    """Not every encoder takes every rate and bitrate: better to know it before the frames are drawn than after."""
    if options.audio.muted or not options.audio.model_fields_set - {"tracks", "muted"}:
        return
    audio = complete(options.model_copy(update={"frame_count": options.frame_count or 1}), name).audio
    try:
        argv = graphs.silence_argv(audio, ffmpeg=ffmpeg, muxer=formats.container(name).muxer)
        await run(argv, doing="encoding silence", idle_seconds=SILENCE_SECONDS, deadline="SILENCE_SECONDS")
    except ToolFailed as error:
        sound = f"{audio.bitrate} bits a second, {audio.sample_rate} Hz, {audio.channels} channels"
        raise InvalidOption("audio.codec", audio.codec, f"with {sound} ffmpeg says: {error.stderr}") from None


async def _resolve_track(index: int, track: AudioTrack) -> AudioTrack:
    path, option = Path(track.path).absolute(), f"audio.tracks.{index}.path"
    if not is_file(path):
        raise InvalidOption(option, track.path, "there is no such file")
    try:
        info = await probe(path)
    except MediaError as error:
        raise InvalidOption(option, track.path, error.message) from None
    if not info.audio:
        raise InvalidOption(option, track.path, "it holds no sound")
    sound = info.audio[0]
    lead = max(Fraction(0), exact_number(sound.start_time or 0) - exact_number(info.start_time or 0))
    end = lead + exact_number(sound.duration) if sound.duration is not None else None
    left = end - track.seek if end is not None else None
    if end is not None and left is not None and left <= 0:
        allowed = f"the file lasts {float(end):g} s; seek must lie before its end"
        raise InvalidOption(f"audio.tracks.{index}.seek", float(track.seek), allowed)
    durations = [seconds for seconds in (left, track.duration) if seconds is not None]
    track = track.model_copy(update={"path": str(path), "duration": min(durations, default=None)})
    return _after(lead, track) if lead else track


def _after(lead: Fraction, track: AudioTrack) -> AudioTrack:
    """The same track for who knows only the sound: that of a film may begin so much later than its pictures."""
    silence = max(Fraction(0), lead - track.seek)
    duration = None if track.duration is None else max(Fraction(0), track.duration - silence)
    seek = max(Fraction(0), track.seek - lead)
    return track.model_copy(update={"offset": track.offset + silence, "seek": seek, "duration": duration})


def _lacks_meta(options: RenderOptions) -> bool:
    length = options.duration if options.frame_count is None else options.frame_count
    return None in (options.width, options.height, options.fps, length)


def longest_preroll(options: RenderOptions, workers: int) -> int:
    """Frames before the last worker's first one."""
    total = options.frame_count or 1
    return options.start_frame + total - math.ceil(total / workers)


async def _choose_workers(
    options: RenderOptions, url: str, markup: str | None, look: PageLook | None, *, cores: int
) -> tuple[int, Preroll, tuple[str, str]]:
    """How many workers, how they get to their first frame, and why. Where it is worth it the page is loaded to ask."""
    choose = partial(choose_concurrency, options, cores, machine.free_memory())
    if options.preroll != "auto":
        workers, why = choose(jumps=options.preroll == "never")
        return workers, options.preroll, (why, f"preroll={options.preroll!r} was asked for")
    (workers, why), (most, why_most) = choose(jumps=False), choose(jumps=True)
    lived = longest_preroll(options, workers)
    why_preroll = f"earlier frames are lived through: {lived} at the most"
    gains = longest_preroll(options, most) >= ASK_FRAMES
    if lived >= JUMP_FRAMES or (gains and (look is not None or _speaks_of_seek(markup or "", url))):
        look = look or await look_at_page(options, url, Path())
        if look.seekable:
            why_preroll = "earlier frames are jumped over: the page is seekable"
            return most, "never", (why_most, why_preroll)
        why_preroll = "earlier frames are lived through: the page is not seekable, or plays media"
    return workers, "always", (why, why_preroll)
