"""Stand-ins that behave: a browser's end of the DevTools pipe, in the hands of the test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asyncrender.browser import wire
from asyncrender.pipes import Pipe


class FakeBrowser:
    """Speaks DevTools in CBOR as Chromium does; what it answers, and when, is the test's choice.

    `ours` are the two pipe ends that a browser's user gets: to the browser, from the browser.
    """

    def __init__(self) -> None:
        (hears, to_browser), (from_browser, says) = os.pipe(), os.pipe()
        self._hears, self._says = Pipe(hears), Pipe(says)
        self.ours = Pipe(to_browser), Pipe(from_browser)
        self._decoder = wire.Decoder()
        self._calls: list[wire.Message] = []

    async def next_call(self) -> wire.Message:
        """The next command that was sent: `id`, `method`, `params`, perhaps `sessionId`."""
        while not self._calls:
            self._calls += self._decoder.feed(await self._hears.receive())
        return self._calls.pop(0)

    async def reply(self, call: wire.Message, **result: Any) -> None:
        await self.say({"id": call["id"], "result": result})

    async def refuse(self, call: wire.Message, code: int, message: str) -> None:
        await self.say({"id": call["id"], "error": {"code": code, "message": message}})

    async def emit(self, method: str, *, session: str | None = None, **params: Any) -> None:
        await self.say({"method": method, "params": params, **({"sessionId": session} if session else {})})

    async def say(self, message: wire.Message) -> None:
        await self._says.send(wire.encode(message))

    def leave(self) -> None:
        """What a dying browser's kernel does."""
        self._hears.close()
        self._says.close()


@contextmanager
def fake_browser() -> Iterator[FakeBrowser]:
    browser = FakeBrowser()
    try:
        yield browser
    finally:
        browser.leave()
        for pipe in browser.ours:
            pipe.close()
