"""Ways of taking the picture of a frame, behind one face: the compositor's own frames, raw or as PNG, and screenshots.

`raw` and `beginframe` ask the headless shell's compositor for exactly one frame; `screenshot` is what every Chromium
knows. PNG is lossless, and no slower than JPEG here. A camera knows when to draw, not what the page does meanwhile.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Protocol

import anyio

from asyncrender.browser import images
from asyncrender.browser.page import CONTROL, MOVE, Page, Wish
from asyncrender.browser.recorder import RawPicture
from asyncrender.browser.requests import URL_SHOWN_CHARS
from asyncrender.errors import BrowserStalled
from asyncrender.tasks import Patience

PNG = {"format": "png", "optimizeForSpeed": True}

TICKS_LEAD_SECONDS = 10
"""Frame times must lie beyond the machine's monotonic clock, or the document's timeline stays at zero."""

DRAWING_POLL_SECONDS = 0.005
"""Between frames that shall show the first drawing."""

LAME_FRAMES = 200
"""So many frames without a drawing, a second's worth, mean that there will never be one: the first or second has it."""

CALM_FRAMES = 10
"""So many frames without a drawing, and the page is stirred: where a film with transparency comes into view and the
page has no background, Chromium 156 draws nothing any more, however long one waits, before something else changes."""

DRAWING, SURFACES, NEW_FILM = 1, 2, 3
"""Of `Page.heed`: the page needs each drawing, be it seen or not (WebGL, a view transition that begins); there are
films, or offscreen canvases, which wait for no frame; a film was not there in the frame before. The higher the more.
"""

DRAWN_EVERY, DRAWN_AT_ONCE = 30, 2
"""Of so many frames that nobody sees, the first are drawn all the same, lest something piles up that we know nothing
of, and so that an observer of the first paint hears of it.
"""

UNSEEN = {"noDisplayUpdates": True}
"""Of a frame (DevTools' HeadlessExperimental.beginFrame): scripts, observers, styles and layout, but no drawing."""

FILM_FRAMES = 20
"""So often a film that came into view is waited for: the second frame has it. Some, under others, never show."""

SMALLEST_TICK = 1
"""Ticks are microseconds, as Chromium counts: frames drawn while the page loads are so far apart, for nothing shall
move."""

TICKS_PER_SECOND = 1_000_000


def first_ticks() -> int:
    """From here on a browser's ticks can count."""
    return math.ceil(time.monotonic() + TICKS_LEAD_SECONDS) * TICKS_PER_SECOND


def milliseconds(ticks: int) -> float:
    """Ticks as DevTools take them. Chromium cuts off what is less than a tick, so the number lies a little above it:
    one that came out below would have two frames at the same time, and it depends on the machine's clock which does.
    """
    return (ticks + 0.25) / 1000


class PngPicture:
    """A frame as a PNG."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def read(self, patience: Patience) -> bytes:
        """The PNG, which is there already."""
        return self.data

    def check_intact(self) -> None:
        """Nobody can have changed it."""


def _unless_shown(data: bytes, shown: PngPicture | None) -> PngPicture:
    """A new picture, or the last one if it is the same."""
    return shown if shown is not None and data == shown.data else PngPicture(data)


Picture = PngPicture | RawPicture
"""What a frame shows. Frames that show the same may share one."""


Meanwhile = Callable[[Wish], None] | None
"""Called when the page may move on, and how."""


class Camera(Protocol):
    """Made for one tab."""

    images_move: bool
    """Some image of the page is an animation: it has to be drawn once at the frame's time before the page moves there,
    because Chromium never finishes a frame in which both move."""

    def renew(self) -> None:
        """There is another document in the tab now, of which nothing was drawn yet."""

    def look_at_image(self, address: str, data: bytes) -> None:
        """An image that the page has loaded, before the frame that has it; it may be an animation."""

    async def draw(self, frame: int | None = None, meanwhile: Meanwhile = None) -> None:
        """Let the browser draw, without a picture. `frame` sets the time; without it none passes to speak of.

        `meanwhile` is called if the page may move on already while it is drawn.
        """

    async def move_images(self, frame: int) -> None:
        """Show animated images as they are in the frame to which the page moves next."""

    def wish(self) -> Wish:
        """How the page shall move to a frame of which a picture is wanted."""

    async def pass_by(self, frame: int, meanwhile: Meanwhile = None) -> None:
        """Let the page live through a frame that nobody sees, as `draw`, which costs more, would."""

    async def take(self, frame: int | None = None, meanwhile: Meanwhile = None) -> Picture:
        """Let the browser draw, and take a picture; it may be the last one, if nothing has changed since."""

    async def settle(self) -> None:
        """Return when all pictures that were taken are there, or surely come."""


class BeginFrame:
    """Each drawing is one frame of the compositor; its ticks only ever rise (equal ticks deadlock Chromium).

    Frame k has the ticks k ÷ fps after zero, so that what Chromium moves by itself (animated images) is exact too.
    """

    def __init__(self, page: Page, fps: Fraction) -> None:
        self._page, self._fps = page, fps
        self.images_move = False
        self._ticks = first_ticks()
        self._zero: int | None = None
        self._drawn = False
        self._stale = False
        """Something was drawn since the last picture."""
        self._shown: PngPicture | None = None
        self._still = False
        """The last two pictures were the same, so that asking first whether anything changes is worth a frame."""
        self._passed = 0
        """Frames that nobody sees."""

    @property
    def _step(self) -> int:
        """Ticks from one drawing to the next at the least."""
        return SMALLEST_TICK

    def renew(self) -> None:
        self._drawn = False

    def look_at_image(self, address: str, data: bytes) -> None:
        self.images_move = self.images_move or images.moves(data)

    async def draw(self, frame: int | None = None, meanwhile: Meanwhile = None) -> None:
        await self._frame({}, self._ticks_of(frame))

    async def move_images(self, frame: int) -> None:
        """Later by a tick from frame to frame: an image that is first seen when the page has moved, a tick after this,
        is due as much later for ever, and would else move together with the page, in a frame that is never finished."""
        ticks = self._ticks_of(frame)
        assert ticks is not None
        await self._frame({}, ticks + frame * SMALLEST_TICK)

    def wish(self) -> Wish:
        return MOVE

    async def pass_by(self, frame: int, meanwhile: Meanwhile = None) -> None:
        if self._has_to_draw():
            await self.draw(frame, meanwhile)
        else:
            await self._live_through(frame, meanwhile)
        self._passed += 1

    def _has_to_draw(self) -> bool:
        return bool(self._page.heed) or self.images_move or self._passed % DRAWN_EVERY < DRAWN_AT_ONCE

    async def _live_through(self, frame: int, meanwhile: Meanwhile) -> None:
        await self._frame(UNSEEN, self._ticks_of(frame))

    async def take(self, frame: int | None = None, meanwhile: Meanwhile = None) -> Picture:
        await self._first_drawing()
        ticks = self._ticks_of(frame)
        if self._page.heed >= SURFACES:
            await self._films_arrive(ticks)
        elif self._still and self._shown is not None:
            await self._frame({}, ticks)
            if not self._stale:
                return self._shown
        data = await self._screenshot(ticks)
        picture = _unless_shown(data, self._shown)
        self._still, self._shown = picture is self._shown, picture
        self._stale = False
        return picture

    async def settle(self) -> None:
        pass

    async def _screenshot(self, ticks: int | None) -> bytes:
        reply = await self._frame({"screenshot": PNG}, ticks)
        while "screenshotData" not in reply:  # the surface is new: its first frame shows nothing yet
            reply = await self._frame({"screenshot": PNG})
        return bytes(reply["screenshotData"])

    async def _films_arrive(self, ticks: int | None) -> None:
        """A film is a surface of its own, which may come one frame late; until a new one is there, nothing is drawn."""
        damaged = await self._frame({}, ticks)
        if self._page.heed == NEW_FILM:
            for _ in range(FILM_FRAMES):
                if damaged.get("hasDamage"):
                    return
                await anyio.sleep(DRAWING_POLL_SECONDS)
                damaged = await self._frame({})
            await self._stir()

    def _ticks_of(self, frame: int | None) -> int | None:
        if frame is None:
            return None
        if self._zero is None:
            self._zero = self._ticks + SMALLEST_TICK
        return self._zero + math.floor(frame * TICKS_PER_SECOND / self._fps)

    async def _first_drawing(self) -> None:
        """A picture asked for before anything was ever drawn never comes, so we wait for a drawing."""
        for number in range(LAME_FRAMES):
            if self._drawn:
                return
            await (self._stir() if number >= CALM_FRAMES else self._frame({}))
            await anyio.sleep(0 if self._drawn else DRAWING_POLL_SECONDS)
        raise BrowserStalled(f"The browser did not draw anything of {self._page.label} in {LAME_FRAMES} frames.")

    async def _stir(self) -> dict[str, Any]:
        """Have the page drawn as it is, although nothing changes: something does, and is changed back."""
        await self._page.evaluate(f"{CONTROL}.stir(true)")
        await self._frame({})
        await self._page.evaluate(f"{CONTROL}.stir(false)")
        return await self._frame({})

    async def _frame(self, params: dict[str, Any], ticks: int | None = None) -> dict[str, Any]:
        self._ticks = max(self._ticks + self._step, ticks or 0)
        # Chromium shows an animated image as it will be one interval later: so the interval is next to none.
        params = {"frameTimeTicks": milliseconds(self._ticks), "interval": milliseconds(SMALLEST_TICK), **params}
        reply = await self._page.call("HeadlessExperimental.beginFrame", params)
        if reply.get("hasDamage"):
            self._drawn = self._stale = True
        return reply


class Screenshot:
    """Chromium draws by itself; a screenshot waits for a frame that shows all that was done before it."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._shown: PngPicture | None = None
        self.images_move = False  # by the wall clock, whatever is drawn

    def renew(self) -> None:
        pass

    def look_at_image(self, address: str, data: bytes) -> None:
        if images.moves(data):
            shown = address[:URL_SHOWN_CHARS]
            self._page.warn(f"{shown} moves by the wall clock, if it moves, where frames come by screenshots")

    async def draw(self, frame: int | None = None, meanwhile: Meanwhile = None) -> None:
        pass

    async def move_images(self, frame: int) -> None:
        pass

    def wish(self) -> Wish:
        return MOVE

    async def pass_by(self, frame: int, meanwhile: Meanwhile = None) -> None:
        pass

    async def take(self, frame: int | None = None, meanwhile: Meanwhile = None) -> Picture:
        if self._shown is not None and self._page.heed and await self._page.evaluate(f"{CONTROL}.updating()"):
            return self._shown  # a screenshot would wait until Chromium gives the view transition up, for four seconds
        reply = await self._page.call("Page.captureScreenshot", {**PNG, "fromSurface": True})
        self._shown = _unless_shown(bytes(reply["data"]), self._shown)
        return self._shown

    async def settle(self) -> None:
        pass
