"""Frames of one page, in order: a browser with the scene in it, and the camera that was chosen for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio

from asyncrender import trace
from asyncrender.browser.camera import BeginFrame, Camera, Picture, Screenshot
from asyncrender.browser.launch import Browser, open_browser, watch_helpers
from asyncrender.browser.media import Films, OpenFilm, open_films
from asyncrender.browser.page import MOVE, Page, Wish
from asyncrender.browser.raw import Raw
from asyncrender.browser.recorder import open_recorder
from asyncrender.browser.server import SceneServer, open_server, scene_address
from asyncrender.browser.tab import open_page
from asyncrender.errors import BrowserStalled, InvalidOption
from asyncrender.files import Stamp
from asyncrender.log import get_logger
from asyncrender.specs import RenderOptions
from asyncrender.tasks import Patience, open_patience
from asyncrender.trace import Lane

T = TypeVar("T")

FIRST_PICTURE_SECONDS = 20.0
"""The first picture takes some 50 ms. A browser that comes up lame is better replaced soon than waited for."""

SETTLING_FRAMES = 3
"""Of the empty tab, which may stay lame if it is sent elsewhere before it was ever drawn: of 1300 tabs 4 did so, of 800
that were drawn first none (Chromium 156)."""

_log = get_logger("asyncrender.capture")


class Capture:
    """Frames of one page, in order. `skip` lives through a frame without a picture."""

    def __init__(
        self,
        page: Page,
        camera: Camera,
        frame_seconds: float,
        *,
        patience: Patience,
        films: Films | None,
        server: SceneServer | None,
        lane: Lane,
        version: str,
    ) -> None:
        self.version = version
        """The browser's product, such as "HeadlessChrome/156.0.8078.79"."""
        self.patience = patience
        """Of the task that has opened it, which is the one that asks for frames."""
        self.page, self._camera, self._frame_seconds = page, camera, frame_seconds
        self._films, self._server, self._lane = films, server, lane

    def files(self) -> dict[str, Stamp | None]:
        """The scene's own files that the page asked for so far, as they were then; None: there was no such file."""
        return self._server.asked if self._server is not None else {}

    def local_source(self, name: str) -> tuple[Path, float]:
        """(file, seconds) of a media element's source, as `sounds()` names it; the file goes with the browser.

        Raises InvalidOption for a source that no element has opened.
        """
        if self._films is None:
            raise InvalidOption("source", name, "the page's media are not opened without `open_film`")
        return self._films.local_source(name)

    async def skip(self, frame: int, *, more: bool = False) -> None:
        """`more`: the next frame will be asked for, to which the page may move while this one is drawn."""
        await self._move_to(frame)
        await self._timed(frame, self._camera.pass_by(frame, self.page.go_on if more else None))

    async def picture(self, frame: int, *, more: bool = False) -> Picture:
        """What the frame shows; a raw picture may still be on its way. `more`: as in `skip`.

        Raises PageThrew, PageStalled, PageNotReady, BrowserCrashed, BrowserStalled, CaptureUnavailable.
        """
        with self._lane.slice("page", frame=frame):
            await self._move_to(frame, self._camera.wish())
        with self._lane.slice("picture", frame=frame):
            return await self._timed(frame, self._camera.take(frame, self.page.go_on if more else None))

    async def _move_to(self, frame: int, wish: Wish = MOVE) -> None:
        if self._camera.images_move:
            await self._timed(frame, self._camera.move_images(frame))
        await self.page.advance(frame, self.patience, wish)

    async def sounds(self) -> list[Any]:
        """What the page has sounded like until the next frame, to which it may move for that: `SoundSegment`s as JSON.

        Raises PageThrew, PageStalled.
        """
        return await self.page.sounds(self.patience, free=not self._camera.images_move)

    async def settle(self) -> None:
        """Return when all pictures that were taken are there, or surely come. Raises as `picture` does."""
        await _drawn(self._camera.settle(), self.page, self._frame_seconds, "timeouts.frame")

    async def _timed(self, frame: int, drawing: Awaitable[T]) -> T:
        try:
            drawn = await self.patience.wait(drawing, self._frame_seconds)
        except TimeoutError:
            raise _stalled(self.page, self._frame_seconds, "timeouts.frame").at(frame=frame) from None
        except BrowserStalled as error:
            error.at(frame=frame)
            raise
        self.page.check_browser()  # what is drawn after a part of it was replaced may be something else
        await self.page.check()
        return drawn


async def _drawn(drawing: Awaitable[T], page: Page, seconds: float, deadline: str) -> T:
    with anyio.move_on_after(seconds):
        return await drawing
    raise _stalled(page, seconds, deadline)


def _stalled(page: Page, seconds: float, deadline: str) -> BrowserStalled:
    return BrowserStalled(f"The browser did not draw {page.label} within {seconds:g} s ({deadline}).")


async def _tab(browser: Browser, options: RenderOptions, address: str, server: SceneServer | None) -> Page:
    seconds = options.timeouts.launch
    with anyio.move_on_after(seconds):
        return await open_page(browser, options, url=address, server=server)
    raise BrowserStalled(f"The browser did not open a tab within {seconds:g} s (timeouts.launch).")


async def _camera(page: Page, options: RenderOptions, browser: Browser, stack: AsyncExitStack) -> Camera:
    assert options.fps is not None
    match options.capture:
        case "screenshot":
            return Screenshot(page)
        case "raw":
            opening = open_recorder(page, options, profile=browser.profile)
            return Raw(page, await stack.enter_async_context(opening))
        case _:
            return BeginFrame(page, options.fps)


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
    if options.capture == "auto":  # nobody has asked what this browser can do: screenshots every one can
        options = options.model_copy(update={"capture": "screenshot"})
    assert options.capture != "auto"
    async with AsyncExitStack() as stack:
        url, served = scene_address(composition_url, base)
        server = await stack.enter_async_context(open_server(served)) if served is not None else None
        opened = open_browser(
            options.browser,
            capture=options.capture,
            launch_seconds=options.timeouts.launch,
            port=server.port if server else None,
            screen=f"{options.width}x{options.height}",
        )
        with lane.slice("launch the browser"):
            browser = await stack.enter_async_context(opened)
        address = url if url is not None or server is None else server.url
        assert address is not None
        with lane.slice("open a tab"):
            page = await _tab(browser, options, address, server)
        camera = await _camera(page, options, browser, stack)
        page.requests.look_at_image = camera.look_at_image
        films = None
        if open_film is not None:
            opening = open_films(page, options, server=server, profile=browser.profile, open_film=open_film)
            films = await stack.enter_async_context(opening)
        with lane.slice("draw the empty tab"):
            for _ in range(SETTLING_FRAMES):
                await _drawn(camera.draw(), page, FIRST_PICTURE_SECONDS, "of its first picture")
            await watch_helpers(browser)
        _log.debug("the page loads", stage="load", url=page.label)
        with lane.slice("load the page"):
            await page.load()
            camera.renew()
        with lane.slice("until it is ready"):
            await page.until_ready(camera.draw)
        with lane.slice("first picture"):
            await _drawn(_first(camera), page, FIRST_PICTURE_SECONDS, "of its first picture")
        seconds = options.timeouts.frame
        patience = await stack.enter_async_context(open_patience())
        version = browser.version
        yield Capture(page, camera, seconds, patience=patience, films=films, server=server, lane=lane, version=version)


async def _first(camera: Camera) -> None:
    """A picture of the page as it is before frame 0: a browser that cannot take one is found out here."""
    await camera.take()
    await camera.settle()
