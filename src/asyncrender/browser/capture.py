"""Pictures of frames: the seam behind which every way of getting a frame out of the browser looks alike.

`beginframe` asks the headless shell's compositor for exactly one frame; `screenshot` is the reference that every
Chromium knows. Both give PNG: lossless, and no slower than JPEG here.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

import anyio

from asyncrender.browser.launch import open_browser
from asyncrender.browser.page import Page, open_page, scene_address
from asyncrender.browser.server import open_server
from asyncrender.errors import PageStalled
from asyncrender.specs import RenderOptions

PNG = {"format": "png", "optimizeForSpeed": True}

TICKS_LEAD_SECONDS = 10
"""Frame times must lie beyond the machine's monotonic clock, or the document's timeline stays at zero."""

LOADING_TICK_MS = 1.0
"""Distance of the frames drawn while the page loads: short, because nothing shall happen in them."""


class Capture:
    """Frames of one page, in order. `skip` lives through a frame without a picture."""

    def __init__(self, page: Page, camera: _Camera, frame_seconds: float) -> None:
        self.page, self._camera, self._frame_seconds = page, camera, frame_seconds

    async def skip(self, frame: int) -> None:
        await self.page.advance(frame)
        await self._timed(frame, picture=False)

    async def picture(self, frame: int) -> bytes:
        """The frame as a PNG. Raises PageThrew, PageStalled, PageNotReady, BrowserCrashed."""
        await self.page.advance(frame)
        return await self._timed(frame, picture=True)

    async def _timed(self, frame: int, *, picture: bool) -> bytes:
        with anyio.move_on_after(self._frame_seconds):
            data = await self._camera.shoot(picture=picture)
            self.page.check()
            return data
        what = f"{self.page.label} was not drawn within {self._frame_seconds:g} s (timeouts.frame)"
        raise PageStalled(what).at(frame=frame)


class _Camera(Protocol):
    async def shoot(self, *, picture: bool) -> bytes: ...


class _BeginFrame:
    """Each shot is one frame of the compositor; its ticks only ever rise (equal ticks deadlock Chromium)."""

    def __init__(self, page: Page, interval_ms: float) -> None:
        self._page, self.interval_ms = page, interval_ms
        self._ticks = math.ceil(time.monotonic() + TICKS_LEAD_SECONDS) * 1000.0

    async def shoot(self, *, picture: bool) -> bytes:
        self._ticks += self.interval_ms
        params: dict[str, object] = {"frameTimeTicks": self._ticks, "interval": self.interval_ms}
        if picture:
            params["screenshot"] = PNG
        reply = await self._page.call("HeadlessExperimental.beginFrame", params)
        while picture and "screenshotData" not in reply:  # the surface is new: its first frame shows nothing yet
            params["frameTimeTicks"] = self._ticks = self._ticks + self.interval_ms
            reply = await self._page.call("HeadlessExperimental.beginFrame", params)
        return bytes(reply.get("screenshotData", b""))


class _Screenshot:
    """Chromium draws by itself; a screenshot waits for a frame that shows all that was done before it."""

    def __init__(self, page: Page) -> None:
        self._page = page

    async def shoot(self, *, picture: bool) -> bytes:
        if not picture:
            return b""
        reply = await self._page.call("Page.captureScreenshot", {**PNG, "fromSurface": True})
        return bytes(reply["data"])


@asynccontextmanager
async def open_capture(options: RenderOptions, composition_url: str, base: Path) -> AsyncIterator[Capture]:
    """A browser with the scene loaded, ready, its clock at zero. `options` are resolved.

    Raises SceneNotFound, PageNotReady, PageThrew, BrowserLaunchFailed, MissingTool.
    """
    begin_frame = options.capture == "beginframe"
    async with AsyncExitStack() as stack:
        url, served = scene_address(composition_url, base)
        server = await stack.enter_async_context(open_server(served)) if served is not None else None
        opened = open_browser(
            options.browser,
            capture="beginframe" if begin_frame else "screenshot",
            launch_seconds=options.timeouts.launch,
            port=server.port if server else None,
        )
        browser = await stack.enter_async_context(opened)
        address = url if url is not None or server is None else server.url
        assert address is not None
        tab = open_page(browser, options, url=address, server=server, begin_frame=begin_frame)
        page = await stack.enter_async_context(tab)
        camera = _BeginFrame(page, LOADING_TICK_MS) if begin_frame else _Screenshot(page)
        await page.load()
        await page.until_ready(lambda: camera.shoot(picture=False))
        assert options.fps is not None
        if isinstance(camera, _BeginFrame):
            camera.interval_ms = float(1000 / options.fps)
        yield Capture(page, camera, options.timeouts.frame)
