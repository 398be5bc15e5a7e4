"""The camera of raw frames: the compositor hands them out as it draws them, or the page its one canvas's itself."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from asyncrender.browser.camera import (
    LAME_FRAMES,
    SMALLEST_TICK,
    SURFACES,
    TICKS_PER_SECOND,
    UNSEEN,
    BeginFrame,
    Meanwhile,
    Picture,
    milliseconds,
)
from asyncrender.browser.page import CONTROL, Page, Wish
from asyncrender.browser.recorder import RawPicture, Recorder
from asyncrender.errors import BrowserStalled, CaptureUnavailable
from asyncrender.log import get_logger

RECORDED_TICK = 300_000
"""Chromium takes frames that are closer than 250 ms for an animation, if there are enough of them, and then hands out
those in which the same part changes, but not the others (media/capture/content/animated_content_sampler.cc)."""

LESSONS = 8
"""So often the page is told of our ticks, until it knows them: three are enough."""

LOOKS = 2
"""Frames in a row that are drawn to see whether a page stands still."""

MOST_SAMES = 64
"""Pictures in a row, all the same, that a page takes at the most before that is looked at again."""

_log = get_logger("asyncrender.raw")


class Raw(BeginFrame):
    """The compositor's frames as a recorder gets them. They are on their way while the page moves on.

    Frames are RECORDED_TICK apart, however long they last: the page's time is not the compositor's. Animated images,
    which move by the latter, the recorder refuses.

    A page that shows nothing but one canvas takes the pictures itself, and is not drawn. They have to be the same as
    the compositor's, bit for bit: of the first, second, fourth, eighth and so on it is asked for, too, and the two are
    compared.
    """

    def __init__(self, page: Page, recorder: Recorder) -> None:
        super().__init__(page, Fraction(TICKS_PER_SECOND, RECORDED_TICK))
        self._recorder = recorder
        self._last: RawPicture | None = None
        """The last frame that was drawn, be it for a picture or not."""
        self._ticks_known = False
        """The page knows which tick of its own each of ours is."""
        self._lessons = LESSONS
        self._row = 0
        """Frames drawn since one was not: only then the page has seen the last tick, and the one before it."""
        self._moving = True
        """The last frame was not as the one before: what follows on it is likely to be work."""
        self._trusted: bool | None = None
        """The page takes its pictures right; None: that was not seen yet."""
        self._taken = 0
        """Pictures that the page took."""
        self._own = False
        """The last one is of these."""
        self._sames, self._most_sames = 0, 1
        """In a row as the picture before; after so many it is looked whether the page stands still, or draws the same.
        """
        self._looks = 0
        """Frames that are drawn to see that."""

    @property
    def _step(self) -> int:
        return RECORDED_TICK if self._recorder.on else SMALLEST_TICK

    def look_at_image(self, address: str, data: bytes) -> None:
        self._recorder.look_at_image(address, data)

    async def draw(self, frame: int | None = None, meanwhile: Meanwhile = None) -> None:
        """Two frames are on their way at the most; where the page stands still, no other one tells of the last."""
        await self._move()
        known = not self._recorder.on or await self._recorder.arrived(all_but=1 if self._moving else 0)
        if known and self._moving:
            self._let_go_on(meanwhile, picture=True)
        await self._frame({})
        self._row += 1
        if self._recorder.on and self._lessons and not self._ticks_known and self._row > 1:
            self._lessons -= 1
            sure = await self._page.evaluate(f"{CONTROL}.drawnAt({milliseconds(self._ticks)})")
            self._ticks_known = sure and self._row > 2
        if not known:
            await self._draw_anew()

    async def _live_through(self, frame: int, meanwhile: Meanwhile) -> None:
        self._let_go_on(meanwhile)
        await super()._frame(UNSEEN)
        self._row = 0

    def _let_go_on(self, meanwhile: Meanwhile, *, picture: bool = False) -> None:
        """Before the next frame, to which the page may move once that is out of its hands."""
        if meanwhile is not None and self._ticks_known:
            ticks = milliseconds(self._ticks + self._step)
            meanwhile(Wish(after=ticks, picture=picture and self._takes))

    async def _move(self) -> None:
        """A page that once had surfaces of its own stays in sight."""
        if self._recorder.on and self._page.heed >= SURFACES:
            await self._recorder.move(in_sight=True)

    @property
    def _takes(self) -> bool:
        """The page shall take the next picture itself, if it can."""
        return self._trusted is not False and not self._looks

    def wish(self) -> Wish:
        return Wish(picture=self._recorder.on and self._moving and self._takes, known=self._own)

    async def take(self, frame: int | None = None, meanwhile: Meanwhile = None) -> Picture:
        told = self._page.picture
        if told is None or self._trusted is False or not await self._recorder.arrived():
            return await self._take_drawn(meanwhile)
        own = self._last if told.get("same") else self._recorder.taken(told)
        assert own is not None
        self._taken += 1
        if self._trusted and self._taken & (self._taken - 1):
            self._last, self._own, self._row = own, True, 0
            self._look(same=bool(told.get("same")))
            if meanwhile is not None:
                meanwhile(self.wish())
            return own
        drawn = await self._take_drawn(None)  # the page stays, and can be asked again
        await self._compare(own, drawn)
        return drawn

    def _look(self, *, same: bool) -> None:
        """A page that stands still is better drawn, for the compositor knows that nothing changes: with the second
        frame, since the first has what it has not seen. One that draws the same again and again is not."""
        self._sames = self._sames + 1 if same else 0
        if self._sames >= self._most_sames:
            self._sames, self._most_sames = 0, min(2 * self._most_sames, MOST_SAMES)
            self._looks = LOOKS

    async def _compare(self, own: RawPicture, drawn: RawPicture) -> None:
        """What the page took with what was drawn, unless nothing was, because nothing had changed since."""
        if not self._moving or not await self._recorder.arrived():
            return
        shown = bytes(drawn.part)
        same = bytes(own.part) == shown
        # What comes from outside, and waits for no frame, may have drawn meanwhile.
        if not same and (told := await self._page.evaluate(f"{CONTROL}.picture(false)")):
            same = bytes(self._recorder.taken(told).part) == shown
        if self._trusted and not same:
            raise CaptureUnavailable(f"{self._page.label} cannot be recorded: its canvas shows something else than it")
        if self._trusted is None:
            _log.debug("the page is one canvas", stage="capture", direct=same, taken=self._taken)
        self._trusted = same

    async def _take_drawn(self, meanwhile: Meanwhile) -> RawPicture:
        self._own, self._looks = False, max(0, self._looks - 1)
        await self._first_drawing()
        if not self._recorder.on:
            await self._recorder.begin(self.draw)
            self._recorder.check()
            await self._recorder.move(in_sight=False)
            await self._draw_anew()  # of what is there already nothing would be handed out
        self._recorder.check_recording()
        if self._page.heed >= SURFACES:  # and then the one that counts
            await self._move()
            await self._films_arrive(None)
        await self.draw(meanwhile=meanwhile)
        assert self._last is not None
        return self._last

    async def settle(self) -> None:
        if not await self._recorder.arrived():
            await self._draw_anew()

    async def _draw_anew(self) -> None:
        """Draw the page as it is, although nothing changes, until that was handed out."""
        for _ in range(LAME_FRAMES):
            reply = await self._stir()
            if reply.get("hasDamage") and await self._recorder.arrived():
                return
        raise BrowserStalled(f"The browser did not hand out {self._page.label} in {LAME_FRAMES} frames.")

    async def _frame(self, params: dict[str, Any], ticks: int | None = None) -> dict[str, Any]:
        if not self._recorder.on:
            return await super()._frame(params, ticks)
        picture = self._recorder.expect()
        reply = await super()._frame(params, ticks)
        self._moving = bool(reply.get("hasDamage")) or picture.there.is_set
        if self._moving:
            self._last = picture
        else:
            self._recorder.forget()
        return reply
