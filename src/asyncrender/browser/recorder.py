"""Raw frames: the tab is captured as if it were shared in a call; what the compositor draws is read from a file.

Chromium hands out each frame it draws as planes of Y, Cb and Cr (I420, limited range, the matrix of BT.601). A worker
in the page writes them into its private file system, which is a plain file in the browser's profile. Nothing is coded,
nothing decoded; recorder.js, writer.js and direct.js are the other half. It must not know who draws the frames, and
when.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from asyncrender.browser import images, scripts
from asyncrender.browser.connection import CallFailed
from asyncrender.browser.page import CONTROL, Page
from asyncrender.browser.requests import URL_SHOWN_CHARS
from asyncrender.errors import BrowserStalled, CaptureUnavailable
from asyncrender.pipes import FilePart
from asyncrender.specs import RenderOptions
from asyncrender.tasks import Latch, Patience

WRITTEN = "__asyncrender_written__"
"""A binding by which the page says that a frame lies in the file; gone before the page's first script."""

SCRIPTS = ("recorder.js", "direct.js")
"""What runs in every document before its own first script, after those that every page has."""

ON_THEIR_WAY = 2
"""Frames that the browser draws or writes while those before them are encoded."""

SLOTS = 12
"""Places for frames in the file, taken in turn. Five wait for the encoder at the most, and some may come that nobody
asked for."""

BEGIN_SECONDS = 10.0
"""A recording begins within some 100 ms."""

POLL_SECONDS = 0.005

ARRIVAL_SECONDS = 0.1
"""A frame takes some 3 ms from its drawing to here. If one takes longer, it may be that there will be none."""

ROUNDING_SECONDS = 0.0001
"""Of the times that Chromium gives. Between two frames there is more."""


@dataclass(frozen=True)
class Written:
    """A frame that lies in the file."""

    part: FilePart
    number: int
    """How many came before it."""


class RawPicture:
    """A frame as I420: width × height bytes of Y, then Cb and Cr, a quarter of that each. On its way until `read`."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._frame: Written | None = None
        self.asked = time.monotonic()
        self.there = Latch()

    async def read(self, patience: Patience) -> FilePart:
        """Where the bytes are, once they are there. Raises BrowserCrashed, BrowserStalled, CaptureUnavailable."""
        if self._frame is None:
            seconds = self._recorder.seconds
            try:
                await patience.wait(self.there.wait(), seconds, look=self._recorder.check)
            except TimeoutError:
                late = f"within {seconds:g} s (timeouts.frame)"
                raise BrowserStalled(f"The browser drew a frame and did not hand it out {late}.") from None
        return self.part

    @property
    def part(self) -> FilePart:
        """Where the bytes are, of a picture that is there."""
        assert self._frame is not None
        return self._frame.part

    def check_intact(self) -> None:
        """Raise BrowserStalled if what was read may be of a later frame: their places are taken in turn."""
        assert self._frame is not None
        if self._recorder.count + ON_THEIR_WAY > self._frame.number + SLOTS:
            raise BrowserStalled("The browser drew so many frames that one was lost before it was encoded.")

    def fill(self, frame: Written) -> None:
        self._frame = frame
        self.there.set()


class Recorder:
    """A recording of one tab. Made by `open_recorder`; it begins with `begin`.

    Frames are handed out in the order in which they were drawn, with the time of that; so each is known to be the one
    that was asked for last before. Now and then Chromium draws something that is none of the page's, and hands out
    nothing: what comes next tells, and the frame then is as the one before.
    """

    def __init__(self, page: Page, profile: Path, options: RenderOptions, mark: str) -> None:
        self._page, self._profile, self.mark = page, profile, mark
        self.seconds = options.timeouts.frame
        self._file = -1
        self._awaited: deque[RawPicture] = deque()
        self._latest: Written | None = None
        self.count = 0
        """Of the frames that were written so far."""
        self._fault: str | None = None
        self._in_sight = True

    @property
    def on(self) -> bool:
        return self._file >= 0

    async def begin(self, draw: Callable[[], Awaitable[object]]) -> None:
        """Begin to record, which takes some drawings: `draw` has the browser draw. Raises CaptureUnavailable."""
        state = "begins"
        with anyio.move_on_after(BEGIN_SECONDS):
            while state == "begins":
                state = await self._page.evaluate(f"{CONTROL}.record?.() ?? 'it is no secure context'", gesture=True)
                await draw()
                await anyio.sleep(POLL_SECONDS)
        if state != "on":
            raise CaptureUnavailable(f"{self._page.label} cannot be recorded: {state}")
        self._file = self._open()

    async def move(self, *, in_sight: bool) -> None:
        """Let the tab stand in its window or beside it, where it is drawn once a frame, not twice.

        What surfaces of their own show, such as films, Chromium reports as drawn only if it is in sight.
        """
        if in_sight == self._in_sight:
            return
        self._in_sight = in_sight
        with contextlib.suppress(CallFailed):  # then it is drawn twice
            window = await self._page.call("Browser.getWindowForTarget")
            bounds = {"left": 0 if in_sight else -window["bounds"]["width"], "top": 0}
            await self._page.call("Browser.setWindowBounds", {"windowId": window["windowId"], "bounds": bounds})

    def expect(self) -> RawPicture:
        """The frame that the browser is about to be asked for."""
        self._awaited.append(RawPicture(self))
        return self._awaited[-1]

    def forget(self) -> None:
        """It did not draw the last one: nothing has changed."""
        self._awaited.pop()

    async def arrived(self, *, all_but: int = 0) -> bool:
        """Wait until no more than so many frames are on their way; False if in ARRIVAL_SECONDS none came."""
        while len(self._awaited) > all_but:
            with anyio.move_on_after(ARRIVAL_SECONDS) as waiting:
                await self._awaited[-1 - all_but].there.wait()
            self.check()
            if waiting.cancelled_caught:
                return False
        return True

    def look_at_image(self, address: str, data: bytes) -> None:
        if images.moves(data):
            self._fault = f"{address[:URL_SHOWN_CHARS]} is an animation, which would move by another clock"

    def check(self) -> None:
        """Raise if no frame will ever come."""
        self._page.check_browser()
        self.check_recording()

    def check_recording(self) -> None:
        """Raise CaptureUnavailable if it has failed; the browser may be gone all the same."""
        if self._fault is not None:
            raise CaptureUnavailable(f"{self._page.label} cannot be recorded: {self._fault}")

    def written(self, payload: str) -> None:
        """The page's word that a frame lies in the file."""
        told: dict[str, Any] = json.loads(payload)
        if "failed" in told:
            self._fault = str(told["failed"])
        elif self.on and (frame := self._find(told)):
            self._take(frame, told["timestamp"] / 1e6 + ROUNDING_SECONDS)

    def taken(self, told: dict[str, Any]) -> RawPicture:
        """The picture that the page took itself, where none is on its way. Raises CaptureUnavailable."""
        frame = self._find(told)
        self.check_recording()
        assert frame is not None
        picture = RawPicture(self)
        picture.fill(frame)
        self._latest = frame
        return picture

    def _find(self, told: dict[str, Any]) -> Written | None:
        """What lies in the file; None if it does not."""
        part = FilePart(self._file, int(told["at"]), int(told["bytes"]))
        number = self.count
        self.count += 1
        if os.fstat(self._file).st_size < part.at + part.size:
            self._fault = "a frame was not whole"
            return None
        return Written(part, number)

    def _take(self, frame: Written, drawn: float) -> None:
        """The frames asked for before `drawn` are known now: the last of them is this one."""
        due = [picture for picture in self._awaited if picture.asked <= drawn]
        for picture in due:
            self._awaited.popleft()
            picture.fill(frame if picture is due[-1] or self._latest is None else self._latest)
        self._latest = frame

    def close(self) -> None:
        if self.on:
            os.close(self._file)
            self._file = -1

    def _open(self) -> int:
        for path in self._profile.glob("**/File System/**/*"):
            if path.is_file() and path.stat().st_size >= len(self.mark):
                with path.open("rb") as file:
                    if file.read(len(self.mark)) == self.mark.encode():
                        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        raise CaptureUnavailable(f"{self._page.label} cannot be recorded: its file is not in the browser's profile")


def _check_space(page: Page, options: RenderOptions, profile: Path) -> None:
    """Raise CaptureUnavailable if the file surely finds no room. Of small disks Chromium uses a part only, and says so
    once it is used up.
    """
    needed, free = SLOTS * (options.width or 0) * (options.height or 0) * 3 // 2, shutil.disk_usage(profile).free
    if free < needed:
        room = f"only {free >> 20} MB are free in {profile.parent}, and its frames take {needed >> 20} MB there"
        raise CaptureUnavailable(f"{page.label} cannot be recorded: {room} (TMPDIR names another place)")


@asynccontextmanager
async def open_recorder(page: Page, options: RenderOptions, *, profile: Path) -> AsyncIterator[Recorder]:
    """Prepare a tab, in which nothing is loaded yet, for its recording. Raises CaptureUnavailable."""
    _check_space(page, options, profile)
    recorder = Recorder(page, profile, options, mark=secrets.token_hex(16))
    page.bind(WRITTEN, recorder.written)
    await page.call("Runtime.addBinding", {"name": WRITTEN})
    await page.call("Page.setBypassCSP", {"enabled": True})
    size = {"width": options.width, "height": options.height}
    writer = scripts.read("writer.js")
    converter = base64.b64encode(scripts.read_bytes("convert.wasm")).decode()
    config = {
        **size,
        "slots": SLOTS,
        "mark": recorder.mark,
        "writer": writer,
        "written": WRITTEN,
        "converter": converter,
    }
    for script in SCRIPTS:
        await page.add_script(script, config)
    try:
        yield recorder
    finally:
        recorder.close()
