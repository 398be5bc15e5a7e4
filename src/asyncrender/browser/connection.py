"""A conversation with Chromium: calls that await their replies, events that reach their listeners.

The seam to the DevTools protocol; it knows nothing of pages or frames.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup

from asyncrender.browser import wire
from asyncrender.errors import BrowserCrashed, BrowserError, shortened
from asyncrender.pipes import Pipe
from asyncrender.process import Stranger
from asyncrender.tasks import Latch, open_task_group

Listener = Callable[[dict[str, Any]], None]


class CallFailed(BrowserError):
    """Chromium refused a command. `code` and `reason` are its own (JSON-RPC)."""

    def __init__(self, method: str, code: int, reason: str) -> None:
        super().__init__(f"The browser refused {method}: {reason} ({code}).")
        self.method, self.code, self.reason = method, code, reason


class DocumentLeft(CallFailed):
    """The page went to another document before the command was over."""


class AddressRefused(CallFailed):
    """No page can have such an address: it has no host, or a port that cannot be."""


REFUSALS: dict[str, type[CallFailed]] = {
    "Inspected target navigated or closed": DocumentLeft,
    "Execution context was destroyed.": DocumentLeft,
    "Cannot navigate to invalid URL": AddressRefused,
}
"""Chromium's words for what is no fault of the browser."""

WORDS_SHOWN_CHARS = 4000
"""Of what a page throws, or asks in a dialog: more than any stack, and not all the data that it may have put there."""


class Command:
    """A command that was sent, whose result is asked for later. Made by `Connection.send`."""

    def __init__(self, connection: Connection, number: int, method: str, session: str | None) -> None:
        self._connection, self._number, self._method, self.session = connection, number, method, session
        self._over = Latch()
        self._reply: wire.Message | None = None

    @property
    def over(self) -> bool:
        """Whether its result, or that there will be none, is known."""
        return self._over.is_set

    async def over_within(self, seconds: float) -> bool:
        """Whether that is so after these seconds at the latest."""
        with anyio.move_on_after(seconds):
            await self._over.wait()
        return self.over

    def end(self, reply: wire.Message | None = None) -> None:
        """Hand over Chromium's reply; without one the command has failed."""
        self._reply = reply
        self._over.set()

    async def result(self) -> dict[str, Any]:
        """Wait for the result. Raises CallFailed if Chromium refused, BrowserCrashed if it went away."""
        try:
            await self._over.wait()
        finally:
            self._connection.forget(self._number)
        if self._reply is None:
            raise self._connection.crash(self._method, self.session)
        if "error" in self._reply:
            code, reason = self._reply["error"].get("code", 0), self._reply["error"].get("message", "")
            raise REFUSALS.get(reason, CallFailed)(self._method, code, reason)
        result: dict[str, Any] = self._reply.get("result", {})
        return result


class Connection:
    """Open for as long as `open_connection` is. Any number of calls may be under way."""

    def __init__(self, tasks: TaskGroup, to_browser: Pipe, from_browser: Pipe, last_words: Callable[[], str]) -> None:
        self._tasks, self._to, self._from, self._last_words = tasks, to_browser, from_browser, last_words
        self._unsent: deque[memoryview] = deque()
        self._sending = False
        """What is unsent a task is about to send."""
        self._works: deque[Callable[[], Coroutine[Any, Any, None]]] = deque()
        self._called = anyio.Event()
        self._next_id = 0
        self._pending: dict[int, Command] = {}
        self._abandoned: dict[str | None, str] = {}
        """Sessions without a renderer, and why."""
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
        return await self.send(method, params, session).result()

    def send(self, method: str, params: dict[str, Any] | None = None, session: str | None = None) -> Command:
        """Send a command, without waiting: what the pipe has no room for follows. Raises BrowserCrashed."""
        if session in self._abandoned:
            raise self.crash(method, session)
        if self._closed or self.broken:
            raise self.crash(method)
        self._next_id += 1
        message: dict[str, Any] = {"id": self._next_id, "method": method, "params": params or {}}
        if session is not None:
            message["sessionId"] = session
        command = Command(self, self._next_id, method, session)
        data = memoryview(wire.encode(message))
        if not self._sending:
            try:
                data = data[self._to.send_now(data) :]
            except BrokenPipeError:
                self.gone = True
                raise self.crash(method) from None
        self._pending[self._next_id] = command
        if data:
            self._send_later(data)
        return command

    def post(self, method: str, params: dict[str, Any], session: str | None = None) -> None:
        """Send a command whose result nobody waits for; that it may be refused is no error."""
        with contextlib.suppress(BrowserCrashed):
            self.send(method, params, session)

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do something beside, for as long as the connection is open. What it raises ends the connection."""
        self._works.append(work)
        self._called.set()

    async def _begin_all(self) -> None:
        """The event loop itself calls listeners, and out of no task anyio begins none, unless `anyio.run` is around."""
        while True:
            await self._called.wait()
            self._called = anyio.Event()
            while self._works:
                self._tasks.start_soon(self._works.popleft())

    def abandon(self, session: str, why: str) -> None:
        """Fail what is pending in a session, and all that follows: its renderer died. `why` is a sentence."""
        self._abandoned[session] = why
        self._fail_pending(session)

    def forget(self, number: int) -> None:
        """Nobody waits for the result of this command any more."""
        self._pending.pop(number, None)

    def break_off(self, why: str) -> None:
        """Fail what is pending and all that follows: the browser runs, but cannot be relied on. `why` is a sentence."""
        self.broken = self.broken or why
        self._fail_pending()

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

    def crash(self, doing: str, session: str | None = None) -> BrowserCrashed:
        if session in self._abandoned:
            return BrowserCrashed(self._abandoned[session])
        if self.broken and not self.gone:
            return BrowserCrashed(f"{self.broken} (during {doing})", stderr=self._last_words())
        return BrowserCrashed(f"The browser went away during {doing}.", stderr=self._last_words())

    def _fail_pending(self, session: str | None = None) -> None:
        """All commands, or those of one session."""
        for command in self._pending.values():
            if session in (None, command.session):
                command.end()

    def _send_later(self, data: memoryview) -> None:
        self._unsent.append(data)
        if not self._sending:
            self._sending = True
            self.begin(self._send_rest)

    async def _send_rest(self) -> None:
        try:
            while self._unsent:
                await self._to.send(self._unsent.popleft())
        except BrokenPipeError:
            self.gone = True
            self._fail_pending()
        finally:
            self._sending = False

    async def _receive_all(self) -> None:
        decoder = wire.Decoder()

        def take(data: memoryview) -> None:
            for message in decoder.feed(data):
                self._dispatch(message)

        try:
            await self._from.receive_all(take)
            self.gone = True
        finally:
            self._closed = True
            self._fail_pending()
            for callback in self._on_close:
                callback()

    def _dispatch(self, message: wire.Message) -> None:
        if "id" in message:
            command = self._pending.pop(message["id"], None)
            if command is not None:  # else its caller was cancelled
                command.end(message)
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
        tasks.start_soon(connection._begin_all)
        yield connection
        tasks.cancel_scope.cancel()


def thrown(details: dict[str, Any]) -> str:
    """What a page threw, by DevTools' Runtime.ExceptionDetails."""
    exception = details.get("exception", {})
    described = exception.get("description") or exception.get("value")
    words = described if described is not None else details.get("text", "an error without words")
    return shortened(str(words), WORDS_SHOWN_CHARS)
