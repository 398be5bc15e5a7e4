"""Pictures of frames: the seam behind which every way of getting a frame out of the browser looks alike.

`beginframe` asks the headless shell's compositor for exactly one frame; `screenshot` is the reference that every
Chromium knows. Both give PNG: lossless, and no slower than JPEG here.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import anyio

from asyncrender import trace
from asyncrender.browser.launch import Browser, open_browser, sandbox_possible, watch_helpers
from asyncrender.browser.media import Films, OpenFilm, open_films
from asyncrender.browser.page import Page, open_page
from asyncrender.browser.server import SceneServer, open_server, scene_address
from asyncrender.errors import BrowserError, BrowserLaunchFailed, BrowserStalled, InvalidOption
from asyncrender.files import Stamp
from asyncrender.log import get_logger
from asyncrender.specs import BrowserOptions, RenderOptions
from asyncrender.specs import Capture as CaptureName
from asyncrender.trace import Lane

PNG = {"format": "png", "optimizeForSpeed": True}

TICKS_LEAD_SECONDS = 10
"""Frame times must lie beyond the machine's monotonic clock, or the document's timeline stays at zero."""

KILLED = (-signal.SIGKILL, -signal.SIGTERM)
"""How a browser ends that somebody else, or the kernel for want of memory, has ended."""

PROBE_SECONDS = 10.0
"""A browser that can draw on demand draws an empty page in some 30 ms."""

FIRST_PICTURE_SECONDS = 20.0
"""The first picture takes some 50 ms. A browser that comes up lame is better replaced soon than waited for."""

DRAWING_POLL_SECONDS = 0.005
"""Between frames that shall show the first drawing."""

SETTLING_FRAMES = 3
"""Of the empty tab, which may stay lame if it is sent elsewhere before it was ever drawn: of 1300 tabs 4 did so, of 800
that were drawn first none (Chromium 156)."""

LAME_FRAMES = 200
"""So many frames without a drawing, a second's worth, mean that there will never be one: the first or second has it."""

NEW_FILM = 2
"""`Page.films_in_picture` when one of them was not there in the frame before."""

FILM_FRAMES = 20
"""So often a film that came into view is waited for: the second frame has it. Some, under others, never show."""

SMALLEST_TICK_MS = 0.001
"""The resolution of Chromium's clock: frames drawn while the page loads are so far apart, for nothing shall move."""

_log = get_logger("asyncrender.capture")


class Capture:
    """Frames of one page, in order. `skip` lives through a frame without a picture."""

    def __init__(
        self,
        page: Page,
        camera: _Camera,
        frame_seconds: float,
        *,
        films: Films | None,
        server: SceneServer | None,
        lane: Lane,
    ) -> None:
        self.page, self._camera, self._frame_seconds = page, camera, frame_seconds
        self._films, self._server, self._lane = films, server, lane

    def files(self) -> dict[str, Stamp | None]:
        """The scene's own files that the page asked for so far, as they were then; None: there was no such file."""
        return self._server.asked if self._server is not None else {}

    def local_source(self, name: str) -> Path:
        """The file behind a media element's source, as `sounds()` names it; it goes with the browser.

        Raises InvalidOption for a source that no element has opened.
        """
        if self._films is None:
            raise InvalidOption("source", name, "the page's media are not opened without `open_film`")
        return self._films.local_source(name)

    async def skip(self, frame: int) -> None:
        await self.page.advance(frame)
        await self._timed(frame, picture=False)

    async def picture(self, frame: int) -> bytes:
        """The frame as a PNG. Raises PageThrew, PageStalled, PageNotReady, BrowserCrashed, BrowserStalled."""
        with self._lane.slice("page", frame=frame):
            await self.page.advance(frame)
        with self._lane.slice("picture", frame=frame):
            return await self._timed(frame, picture=True)

    async def _timed(self, frame: int, *, picture: bool) -> bytes:
        try:
            data = await _drawn(
                self._camera, self.page, self._frame_seconds, "timeouts.frame", picture=picture, frame=frame
            )
        except BrowserStalled as error:
            raise error.at(frame=frame) from None
        await self.page.check()
        return data


async def _drawn(
    camera: _Camera, page: Page, seconds: float, deadline: str, *, picture: bool, frame: int | None = None
) -> bytes:
    with anyio.move_on_after(seconds):
        return await camera.shoot(picture=picture, frame=frame)
    raise BrowserStalled(f"The browser did not draw {page.label} within {seconds:g} s ({deadline}).")


class _Camera(Protocol):
    def renew(self) -> None:
        """There is another document in the tab now, of which nothing was drawn yet."""

    async def shoot(self, *, picture: bool, frame: int | None = None) -> bytes: ...


class _BeginFrame:
    """Each shot is one frame of the compositor; its ticks only ever rise (equal ticks deadlock Chromium).

    Frame k has the ticks k ÷ fps after zero, so that what Chromium moves by itself (animated images) is exact too.
    """

    def __init__(self, page: Page, interval_ms: float) -> None:
        self._page, self._interval_ms = page, interval_ms
        self._ticks = math.ceil(time.monotonic() + TICKS_LEAD_SECONDS) * 1000.0
        self._zero: float | None = None
        self._drawn = False

    def renew(self) -> None:
        self._drawn = False

    async def shoot(self, *, picture: bool, frame: int | None = None) -> bytes:
        """Draw once. `frame` sets the time; without it, no time passes to speak of."""
        if picture:
            await self._first_drawing()
        wish: dict[str, Any] = {"screenshot": PNG} if picture else {}
        ticks = None if frame is None else self._ticks_of(frame)
        if picture and self._page.films_in_picture:
            await self._films_arrive(ticks)
        reply = await self._frame(wish, ticks)
        while picture and "screenshotData" not in reply:  # the surface is new: its first frame shows nothing yet
            reply = await self._frame(wish)
        return bytes(reply.get("screenshotData", b""))

    async def _films_arrive(self, ticks: float | None) -> None:
        """A film is a surface of its own, which may come one frame late; until a new one is there, nothing is drawn."""
        reply = await self._frame({}, ticks)
        if self._page.films_in_picture == NEW_FILM:
            for _ in range(FILM_FRAMES):
                if reply.get("hasDamage"):
                    break
                await anyio.sleep(DRAWING_POLL_SECONDS)
                reply = await self._frame({})

    def _ticks_of(self, frame: int) -> float:
        if self._zero is None:
            self._zero = math.ceil(self._ticks + SMALLEST_TICK_MS)
        return self._zero + frame * self._interval_ms

    async def _first_drawing(self) -> None:
        """A picture asked for before anything was ever drawn never comes, so we wait for a drawing."""
        for _ in range(LAME_FRAMES):
            if self._drawn:
                return
            await self._frame({})
            await anyio.sleep(0 if self._drawn else DRAWING_POLL_SECONDS)
        raise BrowserStalled(f"The browser did not draw anything of {self._page.label} in {LAME_FRAMES} frames.")

    async def _frame(self, params: dict[str, Any], ticks: float | None = None) -> dict[str, Any]:
        self._ticks = max(self._ticks + SMALLEST_TICK_MS, ticks or 0)
        # Chromium shows an animated image as it will be one interval later: so the interval is next to none.
        params = {"frameTimeTicks": self._ticks, "interval": SMALLEST_TICK_MS, **params}
        reply = await self._page.call("HeadlessExperimental.beginFrame", params)
        self._drawn = self._drawn or bool(reply.get("hasDamage"))
        return reply


class _Screenshot:
    """Chromium draws by itself; a screenshot waits for a frame that shows all that was done before it."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def renew(self) -> None:
        pass

    async def shoot(self, *, picture: bool, frame: int | None = None) -> bytes:
        if not picture:
            return b""
        reply = await self._page.call("Page.captureScreenshot", {**PNG, "fromSurface": True})
        return bytes(reply["data"])


async def _tab(browser: Browser, options: RenderOptions, address: str, server: SceneServer | None) -> Page:
    seconds = options.timeouts.launch
    with anyio.move_on_after(seconds):
        return await open_page(browser, options, url=address, server=server)
    raise BrowserStalled(f"The browser did not open a tab within {seconds:g} s (timeouts.launch).")


@asynccontextmanager
async def open_capture(
    options: RenderOptions,
    composition_url: str,
    base: Path,
    *,
    open_film: OpenFilm | None = None,
    lane: Lane = trace.OFF,
) -> AsyncIterator[Capture]:
    """A browser with the scene loaded, ready, its clock at zero. `options` are resolved. What it does goes to `lane`.

    `open_film` decodes the page's media; without it they play by themselves, in real time.
    Raises SceneNotFound, PageNotReady, PageThrew, BrowserLaunchFailed, MissingTool.
    """
    assert options.fps is not None
    async with AsyncExitStack() as stack:
        url, served = scene_address(composition_url, base)
        server = await stack.enter_async_context(open_server(served)) if served is not None else None
        opened = open_browser(
            options.browser,
            capture="beginframe" if options.capture == "beginframe" else "screenshot",
            launch_seconds=options.timeouts.launch,
            port=server.port if server else None,
        )
        with lane.slice("launch the browser"):
            browser = await stack.enter_async_context(opened)
        address = url if url is not None or server is None else server.url
        assert address is not None
        with lane.slice("open a tab"):
            page = await _tab(browser, options, address, server)
        films = None
        if open_film is not None:
            opening = open_films(page, options, server=server, profile=browser.profile, open_film=open_film)
            films = await stack.enter_async_context(opening)
        begin_frame = options.capture == "beginframe"
        camera = _BeginFrame(page, float(1000 / options.fps)) if begin_frame else _Screenshot(page)
        with lane.slice("draw the empty tab"):
            for _ in range(SETTLING_FRAMES):
                await _drawn(camera, page, FIRST_PICTURE_SECONDS, "of its first picture", picture=False)
            await watch_helpers(browser)
        _log.debug("the page loads", stage="load", url=page.label)
        with lane.slice("load the page"):
            await page.load()
            camera.renew()
        with lane.slice("until it is ready"):
            await page.until_ready(lambda: camera.shoot(picture=False))
        with lane.slice("first picture"):
            await _drawn(camera, page, FIRST_PICTURE_SECONDS, "of its first picture", picture=True)
        yield Capture(page, camera, options.timeouts.frame, films=films, server=server, lane=lane)


@dataclass(frozen=True)
class PageLook:
    """What a loaded page said of itself."""

    meta: str
    """The content of its `<meta name="asyncrender">`; "" without one."""
    seekable: bool
    """Its picture depends on the time alone: it set `window.asyncrender.seek`, and holds no media that play."""


async def look_at_page(options: RenderOptions, composition_url: str, base: Path) -> PageLook:
    """Load the page and ask it. Raises as `open_capture` does."""
    sized = options.model_copy(update={"width": options.width or 1280, "height": options.height or 720})
    timed = sized.model_copy(update={"fps": sized.fps or Fraction(30)})
    async with open_capture(timed, composition_url, base) as capture:
        await capture.skip(0)
        meta = "document.querySelector('meta[name=asyncrender i]')?.content ?? ''"
        seek = "typeof window.asyncrender?.seek === 'function' && !document.querySelector('audio, video')"
        found, seekable = await capture.page.evaluate(f"[{meta}, {seek}]")
        return PageLook(found, seekable)


@dataclass(frozen=True)
class CaptureProbe:
    """What a throw-away page showed."""

    capture: CaptureName
    browser: BrowserOptions
    """The options with the sandbox decided."""
    version: str
    notes: tuple[str, ...]
    """Why, a sentence each."""


async def probe_capture(options: BrowserOptions, *, wished: CaptureName | None, launch_seconds: float) -> CaptureProbe:
    """Which way of capturing this browser knows, and whether its sandbox works. With `wished` only that way is tried.

    Raises MissingTool, BrowserLaunchFailed (also where the wished path does not work).
    """
    if options.sandbox != "auto":
        return await _probe(options, wished, launch_seconds)
    possible, why = await sandbox_possible()
    try:
        decided = options.model_copy(update={"sandbox": "on" if possible else "off"})
        probed = await _probe(decided, wished, launch_seconds)
    except BrowserLaunchFailed as error:
        if not possible or "sandbox" not in error.stderr.lower():
            raise
        why = "the browser's sandbox is off, because the browser does not start with it on this machine"
        probed = await _probe(options.model_copy(update={"sandbox": "off"}), wished, launch_seconds)
    return replace(probed, notes=(*probed.notes, why))


async def _probe(options: BrowserOptions, wished: CaptureName | None, launch_seconds: float) -> CaptureProbe:
    if wished == "screenshot":
        return await _probe_screenshot(options, launch_seconds, "screenshots were asked for")
    try:
        version = await _probe_begin_frame(options, launch_seconds)
        return CaptureProbe("beginframe", options, version, ("frames come by BeginFrame: a probe page was drawn",))
    except (BrowserError, TimeoutError) as error:
        if getattr(error, "returncode", None) in KILLED:  # says nothing about what it can do
            raise
        reason = str(error) or "a probe page was not drawn in time"
        if wished == "beginframe":
            words = f"capture='beginframe' does not work with this browser: {reason}"
            raise BrowserLaunchFailed(words, stderr=getattr(error, "stderr", "")) from None
        return await _probe_screenshot(options, launch_seconds, f"frames come by screenshots: {reason}")


async def _probe_begin_frame(options: BrowserOptions, launch_seconds: float) -> str:
    async with open_browser(options, capture="beginframe", launch_seconds=launch_seconds) as browser:
        with anyio.fail_after(PROBE_SECONDS):
            call = browser.connection.call
            target = {"url": "about:blank", "width": 64, "height": 64, "enableBeginFrameControl": True}
            attach = {"targetId": (await call("Target.createTarget", target))["targetId"], "flatten": True}
            session = (await call("Target.attachToTarget", attach))["sessionId"]
            ticks = math.ceil(time.monotonic() + TICKS_LEAD_SECONDS) * 1000.0
            frame = {"frameTimeTicks": ticks, "interval": 1000 / 30}
            await call("HeadlessExperimental.beginFrame", frame, session)
        return browser.version


async def _probe_screenshot(options: BrowserOptions, launch_seconds: float, note: str) -> CaptureProbe:
    async with open_browser(options, capture="screenshot", launch_seconds=launch_seconds) as browser:
        return CaptureProbe("screenshot", options, browser.version, (note,))
