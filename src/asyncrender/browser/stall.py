"""Whose fault it is that a frame was not finished: the page's, unless its process neither answers nor works."""

from __future__ import annotations

from typing import Any, Protocol

import anyio

from asyncrender.browser.connection import Connection
from asyncrender.errors import AsyncRenderError, BrowserStalled, PageStalled

LAST_QUESTION_SECONDS = 1.0
"""For what a page waits for that does not go on: it may be past answering."""


class Asked(Protocol):
    """A page."""

    async def evaluate(self, expression: str) -> Any: ...

    async def call(self, method: str) -> Any: ...


async def judge(late: str, page: Asked, connection: Connection) -> AsyncRenderError:
    """`late` begins the error's sentence: "scene.html did not finish its scripts within 5 s".

    It takes two seconds at the most, also if it is cancelled: what it is asked for may have ended its surroundings.
    """
    with anyio.move_on_after(LAST_QUESTION_SECONDS, shield=True):
        await page.evaluate("0")
        with anyio.move_on_after(LAST_QUESTION_SECONDS / 2) as network:
            await page.call("Network.getCookies")  # the network process has them
        if not network.cancelled_caught:
            return PageStalled(f"{late}; a promise that is never kept?")
        return BrowserStalled(f"{late}: its browser's network process hangs.")
    with anyio.move_on_after(LAST_QUESTION_SECONDS, shield=True):
        before = await _renderer_seconds(connection)
        await anyio.sleep(LAST_QUESTION_SECONDS / 2)
        if await _renderer_seconds(connection) - before > LAST_QUESTION_SECONDS / 20:
            return PageStalled(f"{late}; an endless loop?")
    return BrowserStalled(f"{late}: its browser hangs.")


async def _renderer_seconds(connection: Connection) -> float:
    """Processor time of the browser's pages so far."""
    found = await connection.call("SystemInfo.getProcessInfo")
    return sum(float(one["cpuTime"]) for one in found["processInfo"] if one["type"] == "renderer")
