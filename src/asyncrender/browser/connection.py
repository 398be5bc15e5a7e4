"""A conversation with Chromium: calls that await their replies, events that reach their listeners.

The seam to the DevTools protocol; it knows nothing of pages or frames.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from asyncrender.browser import wire
from asyncrender.errors import AsyncRenderError, BrowserCrashed, BrowserError
from asyncrender.process import Pipe, Stranger
from asyncrender.tasks import open_task_group

Listener = Callable[[dict[str, Any]], None]

T = TypeVar("T")


class CallFailed(BrowserError):
    """Chromium refused a command. `code` and `reason` are its own (JSON-RPC)."""

    def __init__(self, method: str, code: int, reason: str) -> None:
        super().__init__(f"The browser refused {method}: {reason} ({code}).")
        self.method, self.code, self.reason = method, code, reason


class _Pending:
    def __init__(self, session: str | None) -> None:
        self.session = session
        self.done = anyio.Event()
        self.reply: wire.Message | None = None


class Beside(Generic[T]):
    """Work that is done beside, and whose result is asked for later. Made by `Connection.beside`."""

    def __init__(self) -> None:
        self.over = anyio.Event()
        self._results: list[T] = []
        self._error: AsyncRenderError | None = None

    async def result(self) -> T:
        """Wait for the result, or raise the AsyncRenderError that the work ended with."""
        await self.over.wait()
        if self._error is not None:
            raise self._error
        return self._results[0]

    async def _do(self, work: Callable[[], Awaitable[T]]) -> None:
        try:
            self._results.append(await work())
        except AsyncRenderError as error:
            self._error = error
        finally:
            self.over.set()


class Connection:
    """Open for as long as `open_connection` is. Any number of calls may be under way."""

    def __init__(self, tasks: TaskGroup, to_browser: Pipe, from_browser: Pipe, last_words: Callable[[], str]) -> None:
        self._tasks, self._to, self._from, self._last_words = tasks, to_browser, from_browser, last_words
        self._sending = anyio.Lock(fast_acquire=True)
        self._next_id = 0
        self._pending: dict[int, _Pending] = {}
        self._listeners: dict[tuple[str | None, str], Listener] = {}
        self._watched: list[tuple[Stranger, str]] = []
        self._on_close: list[Callable[[], None]] = []
        self.broken: str | None = None
        """Why it was broken off, a sentence."""
        self._closed = False
        self.gone = False
        """The browser has closed its end: it has died, or is about to."""

    def listen(self, method: str, listener: Listener, session: str | None = None) -> None:
        """Call `listener(params)` for each such event of the session. It must not block; one listener per event."""
        self._listeners[session, method] = listener

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call back once the browser has closed its end."""
        self._on_close.append(callback)

    async def call(
        self, method: str, params: dict[str, Any] | None = None, session: str | None = None
    ) -> dict[str, Any]:
        """The command's result. Raises CallFailed if Chromium refuses, BrowserCrashed if it is or goes away."""
        self.check(method)
        self._next_id += 1
        message: dict[str, Any] = {"id": self._next_id, "method": method, "params": params or {}}
        if session is not None:
            message["sessionId"] = session
        pending = self._pending[self._next_id] = _Pending(session)
        try:
            await self._send(wire.encode(message), method)
            await pending.done.wait()
        finally:
            del self._pending[message["id"]]
        if pending.reply is None:
            raise self.crash(method)
        if "error" in pending.reply:
            error = pending.reply["error"]
            raise CallFailed(method, error.get("code", 0), error.get("message", ""))
        result: dict[str, Any] = pending.reply.get("result", {})
        return result

    def post(self, method: str, params: dict[str, Any], session: str | None = None) -> None:
        """Send a command whose result nobody waits for; that it may be refused is no error."""

        async def ask() -> None:
            with contextlib.suppress(CallFailed, BrowserCrashed):
                await self.call(method, params, session)

        self.begin(ask)

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do something beside, for as long as the connection is open. What it raises ends the connection."""
        self._tasks.start_soon(work)

    def beside(self, work: Callable[[], Awaitable[T]]) -> Beside[T]:
        """Do something beside, for as long as the connection is open."""
        beside = Beside[T]()
        self.begin(partial(beside._do, work))
        return beside

    def abandon(self, session: str) -> None:
        """Fail what is pending in a session that will never answer: its renderer died."""
        for pending in self._pending.values():
            if pending.session == session:
                pending.done.set()

    def break_off(self, why: str) -> None:
        """Fail what is pending and all that follows: the browser runs, but cannot be relied on. `why` is a sentence."""
        self.broken = self.broken or why
        for pending in self._pending.values():
            pending.done.set()

    def watch(self, part: Stranger, why: str) -> None:
        """Break off once a part of the browser, a process of its own, is gone."""

        async def wait() -> None:
            try:
                await part.wait()
                self.break_off(why)
            finally:
                part.close()

        self._watched.append((part, why))
        self._tasks.start_soon(wait)

    def check(self, doing: str) -> None:
        """Raise BrowserCrashed if the browser, or a part of it that is watched, is gone already.

        What the page then says, that nothing could be fetched, is no fault of its own.
        """
        for part, why in self._watched:
            if part.gone:
                self.break_off(why)
        if self._closed or self.broken:
            raise self.crash(doing)

    def crash(self, doing: str) -> BrowserCrashed:
        if self.broken and not self.gone:
            return BrowserCrashed(f"{self.broken} (during {doing})", stderr=self._last_words())
        return BrowserCrashed(f"The browser went away during {doing}.", stderr=self._last_words())

    async def _send(self, data: bytes, method: str) -> None:
        async with self._sending:
            try:
                await self._to.send(data)
            except BrokenPipeError:
                self.gone = True
                raise self.crash(method) from None
            except BaseException:
                self._closed = True  # half a message may have been sent, which garbles every later one
                raise

    async def _receive_all(self) -> None:
        decoder = wire.Decoder()
        try:
            while data := await self._from.receive():
                for message in decoder.feed(data):
                    self._dispatch(message)
            self.gone = True
        finally:
            self._closed = True
            for pending in self._pending.values():
                pending.done.set()
            for callback in self._on_close:
                callback()

    def _dispatch(self, message: wire.Message) -> None:
        if "id" in message:
            pending = self._pending.get(message["id"])
            if pending is not None:  # else its caller was cancelled
                pending.reply = message
                pending.done.set()
            return
        listener = self._listeners.get((message.get("sessionId"), message["method"]))
        if listener is not None:
            listener(message.get("params", {}))


@asynccontextmanager
async def open_connection(
    to_browser: Pipe, from_browser: Pipe, last_words: Callable[[], str]
) -> AsyncIterator[Connection]:
    """Speak DevTools over two pipes. `last_words` gives what the browser last wrote to standard error, for errors."""
    async with open_task_group() as tasks:
        connection = Connection(tasks, to_browser, from_browser, last_words)
        tasks.start_soon(connection._receive_all)
        yield connection
        tasks.cancel_scope.cancel()
