"""The page's films: what media.js asks for, a film or one of its frames, is answered here, without any network.

Requests to our own address are caught before they leave the browser (DevTools' Fetch domain), so that every page may
make them, whatever its origin. How a film is decoded this room does not know: that is given to it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
from anyio.abc import TaskGroup

from asyncrender.browser.connection import CallFailed
from asyncrender.browser.page import Page
from asyncrender.browser.requests import OWN_ORIGIN, URL_SHOWN_CHARS
from asyncrender.browser.server import ORIGIN, SceneServer
from asyncrender.errors import NO_SPACE, AsyncRenderError, BrowserCrashed, InvalidOption, disk_error
from asyncrender.log import get_logger
from asyncrender.specs import RenderOptions
from asyncrender.tasks import open_task_group
from asyncrender.threads import in_thread, pause_point

SECRET_BYTES = 32
"""256 bits: the page's own scripts shall not ask by chance."""

MOST_FILMS = 24
"""Decoders kept at once: each is an ffmpeg with some ten threads."""

ANSWERED_AT_ONCE = 16
"""Questions of the page: far more than processors that could decode for them."""

PIECE_BYTES = 3 << 20
"""One piece of a blob on its way out of the page: DevTools leaves out bodies that are far larger."""

_log = get_logger("asyncrender.media")


FrameOf = Callable[[int], Awaitable[bytes]]
OpenFilm = Callable[[Path, float], AbstractAsyncContextManager[tuple[dict[str, Any], FrameOf]]]
"""`(file, idle seconds)` -> what media.js is told of the film, and its frames by number. Raises AsyncRenderError."""


class Films:
    """The media files behind a page's elements. Made by `open_films`, which also ends it."""

    def __init__(
        self, page: Page, server: SceneServer | None, folder: Path, open_film: OpenFilm, seconds: float
    ) -> None:
        self._page, self._server, self._folder = page, server, folder
        self._open_film, self._seconds = open_film, seconds
        self._files: dict[str, Path] = {}
        self._lengths: dict[str, float] = {}
        self._opened: OrderedDict[tuple[str, str], tuple[AsyncExitStack, FrameOf]] = OrderedDict()
        self._fetching = anyio.Lock()

    def local_source(self, name: str) -> tuple[Path, float]:
        """(file, seconds) of a source that an element of the page has opened, as `sounds()` names it.

        Raises InvalidOption for any other.
        """
        if name not in self._lengths:
            raise InvalidOption("source", name[:URL_SHOWN_CHARS], "no media element of the page could open it")
        return self._files[name], self._lengths[name]

    async def answer(self, event: dict[str, Any]) -> None:
        """Answer one caught request. What is wrong with a film is told to the page, whose element then is broken."""
        request = event["request"]
        address = urlsplit(request["url"])
        asked = {key: values[0] for key, values in parse_qs(address.query, keep_blank_values=True).items()}
        question = address.path.rpartition("/")[2]
        body = b"".join(entry.get("bytes", b"") for entry in request.get("postDataEntries", []))
        try:
            data = await self._answer(question, asked, body)
        except (AsyncRenderError, OSError) as error:
            if getattr(error, "transient", False):  # else a film would be missing in this chunk, and be there in others
                raise
            if isinstance(error, OSError) and error.errno in NO_SPACE:
                raise disk_error(self._folder, error) from None
            text = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
            data = json.dumps({"error": text}).encode() if question == "film" else text.encode()
        headers = [{"name": "Access-Control-Allow-Origin", "value": "*"}]
        reply = {"requestId": event["requestId"], "responseCode": 200, "responseHeaders": headers, "body": data}
        with contextlib.suppress(CallFailed, BrowserCrashed):  # the page has gone meanwhile
            await self._page.call("Fetch.fulfillRequest", reply)

    async def _answer(self, question: str, asked: dict[str, str], body: bytes) -> bytes:
        if question == "frame":
            frame_of = await self._frames(asked["element"], asked["source"])
            return await frame_of(int(asked["index"]))
        if question == "upload":
            await in_thread(partial(self._take_in, asked["source"], int(asked["at"]), base64.b64decode(body)))
            if "seconds" in asked:  # of what no element opens: else it is the film that tells
                self._lengths[asked["source"]] = float(asked["seconds"])
        elif question == "warning":
            self._page.warn(asked["text"])
        elif question == "film":
            await self._find(asked["source"])
            return json.dumps(await self._open(asked["element"], asked["source"])).encode()
        return b"{}"

    async def close(self) -> None:
        """End all decoders, all at once: one that is stuck takes its grace."""
        async with open_task_group() as tasks:
            while self._opened:
                tasks.start_soon(self._opened.popitem()[1][0].aclose)

    async def _open(self, element: str, name: str) -> dict[str, Any]:
        stack = AsyncExitStack()
        description, frame_of = await stack.enter_async_context(self._open_film(self._files[name], self._seconds))
        before = [self._opened.pop(key)[0] for key in list(self._opened) if key[0] == element]
        self._opened[element, name] = stack, frame_of  # first of all: whatever is in there will be closed
        self._lengths[name] = description["duration"]
        for old in before:
            await old.aclose()
        while len(self._opened) > MOST_FILMS:
            await self._opened.popitem(last=False)[1][0].aclose()
        return description

    async def _frames(self, element: str, name: str) -> FrameOf:
        if (element, name) not in self._opened:  # put aside for others meanwhile
            await self._open(element, name)
        self._opened.move_to_end((element, name))
        return self._opened[element, name][1]

    def _take_in(self, name: str, at: int, piece: bytes) -> None:
        file = self._folder / f"{len(self._files)}" if name not in self._files else self._files[name]
        self._files[name] = file
        with file.open("r+b" if file.exists() else "wb") as out:
            out.seek(at)
            out.write(piece)

    async def _find(self, name: str) -> None:
        async with self._fetching:
            if name in self._files:
                return
            if self._server is not None and name.startswith(ORIGIN + "/"):
                self._files[name] = self._server.file(name)
            elif name.startswith(("http://", "https://")):
                file = self._folder / f"{len(self._files)}"
                await in_thread(partial(_download, name, file, self._seconds), stoppable=True)
                self._files[name] = file
            else:
                raise InvalidOption("source", name[:URL_SHOWN_CHARS], "it has to be an http, https, blob or data URL")


def _download(url: str, file: Path, seconds: float) -> None:
    import http.client  # few pages need what takes longer than to import all the rest of this room
    import urllib.error
    import urllib.request

    request = urllib.request.Request(url, headers={"User-Agent": "Mozilla/5.0 (asyncrender)"})
    try:
        with urllib.request.urlopen(request, timeout=seconds) as response, file.open("wb") as out:
            while piece := response.read(PIECE_BYTES):
                pause_point()
                out.write(piece)
            if response.length:  # http.client finds nothing wrong with an answer that ends before its length
                raise ValueError(f"{response.length} bytes are missing at its end")
    except (urllib.error.URLError, http.client.HTTPException, ValueError) as error:
        raise OSError(f"it could not be loaded: {error}") from None


@asynccontextmanager
async def open_films(
    page: Page, options: RenderOptions, *, server: SceneServer | None, profile: Path, open_film: OpenFilm
) -> AsyncIterator[Films]:
    """Put the page's media elements on its clock; nothing may be loaded yet. Leaving the block ends all decoders."""
    folder = profile / "asyncrender-media"
    folder.mkdir(exist_ok=True)
    films = Films(page, server, folder, open_film, options.timeouts.request)
    endpoint = f"{OWN_ORIGIN}/{secrets.token_urlsafe(SECRET_BYTES)}/"
    async with _questions(films) as (tasks, ask):
        page.listen("Fetch.requestPaused", ask)
        await page.call("Fetch.enable", {"patterns": [{"urlPattern": f"{OWN_ORIGIN}/*"}]})
        await page.call("Page.setBypassCSP", {"enabled": True})
        await page.add_script("media.js", _config(options, endpoint))
        try:
            yield films
        finally:
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def _questions(films: Films) -> AsyncIterator[tuple[TaskGroup, Callable[[dict[str, Any]], None]]]:
    """Where to put what is asked, and the tasks that answer.

    The films are closed when nobody answers any more: an answer under way may still open one.

    They are begun once, not for each question: a task that asyncio cancels before it began leaves a coroutine that was
    never awaited.
    """
    put, take = anyio.create_memory_object_stream[dict[str, Any]](math.inf)

    def ask(event: dict[str, Any]) -> None:
        with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):  # nobody answers any more
            put.send_nowait(event)

    async def answer() -> None:
        async with take.clone() as questions:
            async for event in questions:
                await films.answer(event)

    with put, take:
        try:
            async with open_task_group() as tasks:
                for _ in range(ANSWERED_AT_ONCE):
                    tasks.start_soon(answer)
                yield tasks, ask
        finally:
            with anyio.CancelScope(shield=True):
                await films.close()


def _config(options: RenderOptions, endpoint: str) -> dict[str, Any]:
    assert options.fps is not None
    return {
        "endpoint": endpoint,
        "stepMs": float(1000 / options.fps),
        "pieceBytes": PIECE_BYTES,
        "labelChars": URL_SHOWN_CHARS,
    }
