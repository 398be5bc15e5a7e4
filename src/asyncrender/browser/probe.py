"""What is found out in a browser before a render: which way of capturing it knows, and what a page says of itself."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import anyio

from asyncrender.browser import scripts
from asyncrender.browser.camera import first_ticks, milliseconds
from asyncrender.browser.capture import Capture, open_capture
from asyncrender.browser.launch import open_browser, sandbox_possible
from asyncrender.browser.page import CONTROL
from asyncrender.errors import BrowserError, BrowserLaunchFailed, CaptureUnavailable
from asyncrender.plan import scene_url
from asyncrender.specs import BrowserOptions, Html, RenderOptions, Timeouts
from asyncrender.specs import Capture as CaptureName

KILLED = (-signal.SIGKILL, -signal.SIGTERM)
"""How a browser ends that somebody else, or the kernel for want of memory, has ended."""

PROBE_SECONDS = 10.0
"""A browser that can draw on demand draws an empty page in some 30 ms."""

PROBE_SIDE = 64

PROBE_COLORS = ((200, 60, 30), (30, 90, 220))
"""Of the probe page in frame 0 and after it."""

PROBE_FRAMES = 6
"""After which nothing that happened before may still be drawn."""

PLANE_TOLERANCE = 3
"""Of 255: BT.709 in place of BT.601 moves the probe's colours by ten and more."""


@dataclass(frozen=True)
class PageLook:
    """What a loaded page said of itself."""

    meta: str
    """The content of its `<meta name="asyncrender">`; "" without one."""
    seekable: bool
    """Its picture depends on the time alone: it set `window.asyncrender.seek`, and holds no media and no Web Audio."""


async def look_at_page(options: RenderOptions, composition_url: str, base: Path) -> PageLook:
    """Load the page and ask it; a picture is taken, too. Raises as `open_capture` does."""
    sized = options.model_copy(update={"width": options.width or 1280, "height": options.height or 720})
    timed = sized.model_copy(update={"fps": sized.fps or Fraction(30)})
    async with open_capture(timed, composition_url, base) as capture:
        await capture.picture(0)
        await capture.settle()
        meta = "document.querySelector('meta[name=asyncrender i]')?.content ?? ''"
        return PageLook(await capture.page.evaluate(meta), await is_seekable(capture))


async def is_seekable(capture: Capture) -> bool:
    """See `PageLook.seekable`; asked once frame 0 was there."""
    seek = "typeof window.asyncrender?.seek === 'function' && !document.querySelector('audio, video')"
    silent = f"!{CONTROL}.clock.computing?.size"
    return bool(await capture.page.evaluate(f"{seek} && {silent}"))


@dataclass(frozen=True)
class CaptureProbe:
    """What a throw-away page showed."""

    capture: CaptureName
    browser: BrowserOptions
    """The options with the sandbox decided."""
    version: str
    notes: tuple[str, ...]
    """Why, a sentence each."""


async def probe_capture(
    options: BrowserOptions, *, wished: CaptureName | None, unfit: str | None = None, launch_seconds: float
) -> CaptureProbe:
    """Which way of capturing this browser knows, and whether its sandbox works. With `wished` only that way is tried.

    `unfit`: why raw frames are of no use. Raises MissingTool, BrowserLaunchFailed (also where the wished path does not
    work).
    """
    if options.sandbox != "auto":
        return await _probe(options, wished, unfit, launch_seconds)
    possible, why = await sandbox_possible()
    try:
        decided = options.model_copy(update={"sandbox": "on" if possible else "off"})
        probed = await _probe(decided, wished, unfit, launch_seconds)
    except BrowserLaunchFailed as error:
        if not possible or "sandbox" not in error.stderr.lower():
            raise
        why = "the browser's sandbox is off, because the browser does not start with it on this machine"
        probed = await _probe(options.model_copy(update={"sandbox": "off"}), wished, unfit, launch_seconds)
    return replace(probed, notes=(*probed.notes, why))


async def _probe(
    options: BrowserOptions, wished: CaptureName | None, unfit: str | None, launch_seconds: float
) -> CaptureProbe:
    """The ways from the best on, until one works; `wished`: that one, or its error."""
    ways, notes = list(_LOOKS) if wished is None else [wished], []
    if wished is None and unfit is not None:
        ways.remove("raw")
        notes.append(f"{_NOT_FOUND['raw']}: {unfit}")
    for capture in ways:
        try:
            version = await _LOOKS[capture](options, launch_seconds)
            return CaptureProbe(capture, options, version, (*notes, _FOUND[capture]))
        except (BrowserError, TimeoutError) as error:
            if getattr(error, "returncode", None) in KILLED or capture == "screenshot":  # says nothing about ways
                raise
            reason = str(error) or "a probe page was not drawn in time"
            if wished is not None:
                words = f"capture={wished!r} does not work with this browser: {reason}"
                raise BrowserLaunchFailed(words, stderr=getattr(error, "stderr", "")) from None
            notes.append(f"{_NOT_FOUND[capture]}: {reason}")
    raise AssertionError("screenshots were not tried")


async def _probe_raw(options: BrowserOptions, launch_seconds: float) -> str:
    page = scripts.read("probe.html")
    small = RenderOptions(
        width=PROBE_SIDE,
        height=PROBE_SIDE,
        fps=Fraction(30),
        frame_count=PROBE_FRAMES,
        capture="raw",
        props={"colors": [" ".join(map(str, color)) for color in PROBE_COLORS]},
        browser=options,
        timeouts=Timeouts(launch=launch_seconds),
    )
    with anyio.fail_after(launch_seconds + PROBE_SECONDS):
        async with open_capture(small, scene_url(Html(page), "/"), Path()) as capture:
            pictures = [await capture.picture(frame) for frame in range(PROBE_FRAMES)]
            await capture.settle()
            for picture, color in zip(pictures, PROBE_COLORS, strict=False):
                found, wanted = _center(bytes(await picture.read(capture.patience))), planes_of(*color)
                if any(abs(one - other) > PLANE_TOLERANCE for one, other in zip(found, wanted, strict=True)):
                    raise CaptureUnavailable(f"a raw frame of rgb{color} had the planes {found} instead of {wanted}")
            if pictures[-1] is not pictures[-2]:
                raise CaptureUnavailable("a frame in which nothing changed was drawn all the same")
            return capture.version


def planes_of(red: int, green: int, blue: int) -> tuple[int, int, int]:
    """Y, Cb and Cr of a colour by BT.601, limited range (ITU-R BT.601-7, 2.5.3)."""
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return (
        round(16 + 219 * luma / 255),
        round(128 + 224 * (blue - luma) / 1.772 / 255),
        round(128 + 224 * (red - luma) / 1.402 / 255),
    )


def _center(picture: bytes) -> tuple[int, int, int]:
    """Y, Cb and Cr in the middle of a raw picture of the probe's size."""
    pixels, middle, half = PROBE_SIDE**2, PROBE_SIDE // 2, PROBE_SIDE // 4
    chroma = half * (PROBE_SIDE // 2) + half
    return picture[middle * PROBE_SIDE + middle], picture[pixels + chroma], picture[pixels * 5 // 4 + chroma]


async def _probe_begin_frame(options: BrowserOptions, launch_seconds: float) -> str:
    async with open_browser(options, capture="beginframe", launch_seconds=launch_seconds) as browser:
        with anyio.fail_after(PROBE_SECONDS):
            call = browser.connection.call
            target = {"url": "about:blank", "width": 64, "height": 64, "enableBeginFrameControl": True}
            attach = {"targetId": (await call("Target.createTarget", target))["targetId"], "flatten": True}
            session = (await call("Target.attachToTarget", attach))["sessionId"]
            frame = {"frameTimeTicks": milliseconds(first_ticks()), "interval": 1000 / 30}
            await call("HeadlessExperimental.beginFrame", frame, session)
        return browser.version


async def _probe_screenshot(options: BrowserOptions, launch_seconds: float) -> str:
    async with open_browser(options, capture="screenshot", launch_seconds=launch_seconds) as browser:
        return browser.version


_LOOKS: dict[CaptureName, Callable[[BrowserOptions, float], Awaitable[str]]] = {
    "raw": _probe_raw,
    "beginframe": _probe_begin_frame,
    "screenshot": _probe_screenshot,
}
_FOUND: dict[CaptureName, str] = {
    "raw": "frames are taken raw: those of a probe page were right",
    "beginframe": "frames come by BeginFrame: a probe page was drawn",
    "screenshot": "frames come by screenshots",
}
_NOT_FOUND = {"raw": "frames are not taken raw", "beginframe": "frames do not come by BeginFrame"}
