"""The page: opened in its fixed environment, loaded, ready, and then moved frame by frame in virtual time.

It knows what the page waits for and what it threw; how a picture is taken belongs to `capture`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio

from asyncrender.browser import scripts, stall
from asyncrender.browser.connection import WORDS_SHOWN_CHARS, AddressRefused, CallFailed, Command, DocumentLeft, thrown
from asyncrender.browser.launch import Browser
from asyncrender.browser.requests import URL_SHOWN_CHARS, Requests
from asyncrender.browser.trees import OwnTrees
from asyncrender.errors import AsyncRenderError, PageNotReady, PageThrew, SceneNotFound, shortened
from asyncrender.log import get_logger
from asyncrender.specs import RenderOptions
from asyncrender.tasks import Patience

T = TypeVar("T")

CONTROL = "__asyncrender__"
"""The renderer's own name in the page, beside the public `window.asyncrender`."""

ANNOUNCE = "__asyncrender_announce__"
"""A binding by which a document of another origin makes itself known; gone before the page's first script."""

POLL_SECONDS = 0.01
"""How often a page that is not ready is asked again."""

FOLLOW_SECONDS = 0.02
"""So long a page that is drawn may work at its next frame before it is told to begin, which most have done."""

DEATH_SECONDS = 0.1
"""Between a process closing its sockets and its end being known: one to two milliseconds, if it has a processor."""

QUIET_POLLS = 5
"""So many times nothing was loading: from then on the clock moves, for pages that wait for a timer."""

EVALUATION = {"awaitPromise": True, "returnByValue": True}
"""Of DevTools' Runtime.evaluate: the JSON value, awaited if it is a promise."""

LEFT = "the page left for another document"

_log = get_logger("asyncrender.page")


@dataclass(frozen=True)
class Wish:
    """How the page moves to its next frame."""

    after: float | None = None
    """Once the frame before, to be drawn at these ticks, is out of its hands."""
    picture: bool = False
    """It takes the frame's picture itself, if it can: if all that can be seen of it is one canvas."""
    known: bool = False
    """It took the last one, too, and may say that this one is the same."""

    def order(self, frame: int) -> str:
        """JavaScript that has the page move."""
        how = "".join(f", {str(flag).lower()}" for flag in (self.picture, self.known))
        name, ticks = ("advance", "") if self.after is None else ("follow", f", {self.after}")
        return f"{CONTROL}.{name}({frame}{ticks}{how})"


MOVE = Wish()


class Page:
    """One document in one tab. Time moves only by `advance`."""

    def __init__(self, browser: Browser, target: str, session: str, options: RenderOptions, url: str) -> None:
        self._connection = browser.connection
        self._target, self._session, self._options, self._url = target, session, options, url
        self._thrown: list[str] = []
        self._frame: int | None = None
        self._ahead: Command | None = None
        self._ahead_waits = False
        """It waits for the frame before to be out of the page's hands."""
        self._held = False
        """What moves ahead has waited for our word the last time; most pages begin by themselves, and work."""
        self._foreign: set[int] = set()
        self._trees = OwnTrees(self._connection, session, CONTROL)
        self._bindings: dict[str, Callable[[str], None]] = {}
        self.requests = Requests(self, self._connection.begin)
        self.heed = 0
        """What the drawing of the frame has to heed. 0: nothing; else `camera.DRAWING`, `SURFACES` or `NEW_FILM`."""
        self.picture: dict[str, Any] | None = None
        """Of the frame, where the page has taken it itself: `Recorder.taken` knows what to do with it."""
        self.warnings: list[str] = []
        for name, listener in {**self.requests.listeners(), **self._listeners()}.items():
            self._connection.listen(name, listener, session)
        self._connection.listen("Target.targetCrashed", self._crash)

    @property
    def label(self) -> str:
        return shortened(self._url, URL_SHOWN_CHARS)

    async def call(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """A DevTools command to this page. Raises BrowserCrashed if its renderer died."""
        return await self._connection.call(method, params, self._session)

    async def add_script(self, name: str, config: Mapping[str, Any]) -> None:
        """Have a script of ours, a function of (config, CONTROL), run in every document before its own first one."""
        script = scripts.call(name, config, CONTROL)
        await self.call("Page.addScriptToEvaluateOnNewDocument", {"source": script})

    def listen(self, event: str, listener: Callable[[dict[str, Any]], None]) -> None:
        """Call `listener(params)` for each such DevTools event of this page; it must not block."""
        self._connection.listen(event, listener, self._session)

    def bind(self, name: str, listener: Callable[[str], None]) -> None:
        """Call `listener(text)` for each call of a binding (DevTools' Runtime.addBinding); it must not block."""
        self._bindings[name] = listener

    async def evaluate(self, expression: str, *, context: int | None = None, gesture: bool = False) -> Any:
        """The JSON value of an expression, awaited if it is a promise. Raises PageThrew if it throws.

        `context`: DevTools' number of another document's script world. `gesture`: as if the user had clicked.
        """
        params = {**EVALUATION, "expression": expression, "userGesture": gesture}
        if context is not None:
            params["contextId"] = context
        return await self._value(self._connection.send("Runtime.evaluate", params, self._session))

    async def _value(self, evaluation: Command) -> Any:
        try:
            reply = await evaluation.result()
        except DocumentLeft:
            if self._frame is None:
                raise
            raise await self._threw(LEFT) from None
        if "exceptionDetails" in reply:
            raise await self._threw(thrown(reply["exceptionDetails"]))
        return reply["result"].get("value")

    async def load(self) -> None:
        """Navigate to the scene. Raises SceneNotFound if it is not there, PageNotReady after `timeouts.load`."""
        seconds = self._options.timeouts.load
        with anyio.move_on_after(seconds):
            try:
                why = (await self.call("Page.navigate", {"url": self._url})).get("errorText")
            except AddressRefused as error:
                why = error.reason
            if why:
                raise SceneNotFound("scene", self.label, f"the browser could not open it: {why}")
            while self.requests.document is None and not self._url.startswith("data:"):
                await anyio.sleep(POLL_SECONDS)
            if self.requests.refused:
                raise SceneNotFound("scene", self.label, f"the server answered {self.requests.refused}")
            return
        raise PageNotReady(self.label, waiting_for=["the server's answer"], seconds=seconds, deadline="timeouts.load")

    async def until_ready(self, paint: Callable[[], Awaitable[object]]) -> None:
        """Wait until the page is ready, then set its clock to zero. `paint` lets the browser draw once.

        Raises PageNotReady naming what it waits for, PageThrew.
        """
        timeouts = self._options.timeouts
        waiting: list[str] = ["the document to load"]
        with anyio.move_on_after(timeouts.load):
            while waiting == ["the document to load"]:
                waiting = await self._waiting()
        if waiting == ["the document to load"]:
            raise self._not_ready([*waiting, *await self._media_waited_for()], timeouts.load, "timeouts.load")
        with anyio.move_on_after(timeouts.ready):
            quiet = 0
            while waiting or self.requests.pending or not await self._still_there("zero()"):
                quiet = 0 if self.requests.pending or waiting != ["window.asyncrender.ready"] else quiet + 1
                if quiet > QUIET_POLLS:
                    await self._still_there("lead()")
                waiting = await self._waiting(paint)
            return
        raise self._not_ready(waiting, timeouts.ready, "timeouts.ready")

    async def advance(self, frame: int, patience: Patience, wish: Wish = MOVE) -> None:
        """Move the page to a frame: timers, `seek`, animation-frame callbacks, then all requests they began.

        Raises PageThrew, PageStalled, PageNotReady (a request without an end).
        """
        self._frame = frame
        await self._in_time(self._move(frame, wish), patience)
        while self.requests.pending:
            await self._requests_end()
            self.picture = None  # what has come meanwhile it does not show
        await self._trees.hand_over(self._foreign)
        await self.check()

    async def sounds(self, patience: Patience, *, free: bool) -> list[Any]:
        """What it has sounded like until the next frame, to which it may move for that if it is `free` to.

        A JSON object for each sound. Raises PageThrew, PageStalled.
        """
        asking = self.evaluate(f"{CONTROL}.sounds?.({str(free).lower()}) ?? []")
        heard: list[Any] = await self._in_time(asking, patience)
        return heard

    async def _in_time(self, asking: Awaitable[T], patience: Patience) -> T:
        seconds = self._options.timeouts.frame
        try:
            return await patience.wait(asking, seconds)
        except TimeoutError:
            late = f"{self.label} did not finish its scripts within {seconds:g} s (timeouts.frame)"
            raise (await stall.judge(late, self, self._connection)).at(frame=self._frame) from None

    def go_on(self, wish: Wish) -> None:
        """Have the page move on to the next frame, while the present one is drawn or handed over."""
        if self._foreign:  # their documents do not know
            return
        assert self._frame is not None
        self._frame += 1
        params = {**EVALUATION, "expression": wish.order(self._frame)}
        self._ahead = self._connection.send("Runtime.evaluate", params, self._session)
        self._ahead_waits = wish.after is not None

    async def _move(self, frame: int, wish: Wish) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            said = await self.evaluate(MOVE.order(frame) if self._foreign else wish.order(frame))
        else:
            if self._ahead_waits and not ahead.over and (self._held or not await ahead.over_within(FOLLOW_SECONDS)):
                self._held = await self.evaluate(f"{CONTROL}.proceed()")
            said = await self._value(ahead)
        self.picture = said if isinstance(said, dict) else None
        self.heed = await self._tell_others(f"advance({frame})", said=None if self.picture else said)

    async def check(self) -> None:
        """Raise PageThrew if the page threw since the last look; with page_errors='warn' it becomes a warning."""
        thrown, self._thrown = self._thrown, []
        if thrown and self._options.page_errors == "fail":
            raise await self._threw(thrown[0])
        self.warnings += [f"the page threw: {stack}" for stack in thrown]

    def check_browser(self) -> None:
        """Raise BrowserCrashed if the browser, or a part of it, is gone."""
        self._connection.check("a frame")

    async def _tell(self, order: str) -> int:
        """Give an order to the clock of the page, then to those of documents of other origins in it.

        The largest number that one of them answered.
        """
        return await self._tell_others(order, said=await self.evaluate(f"{CONTROL}.{order}"))

    async def _tell_others(self, order: str, *, said: int | None) -> int:
        """`said`: what the page itself answered."""
        most = int(said or 0)
        for context in sorted(self._foreign):
            try:
                most = max(most, int(await self.evaluate(f"{CONTROL}.{order}", context=context) or 0))
            except CallFailed:  # the document has left
                self._foreign.discard(context)
        return most

    async def _waiting(self, paint: Callable[[], Awaitable[object]] | None = None) -> list[str]:
        """What the page waits for. Nothing may be drawn before the document is there: until it has a body and its style
        sheets, Chromium puts every frame off, and never finishes one that was asked for meanwhile."""
        await anyio.sleep(POLL_SECONDS)
        if paint is not None:
            await paint()
        waiting: list[str] | None = None
        with contextlib.suppress(DocumentLeft):  # while it loads, a page may send its visitor elsewhere
            await self._forget_unread()
            if not self.requests.pending:
                await self.evaluate(f"globalThis.{CONTROL}?.settle()")
            waiting = await self.evaluate(f"globalThis.{CONTROL}?.waiting()")
        await self.check()
        return ["the document to load"] if waiting is None else waiting

    async def _still_there(self, order: str) -> bool:
        """Give an order while it loads. False if the document left before it was carried out."""
        with contextlib.suppress(DocumentLeft):
            await self._trees.hand_over(self._foreign)
            await self._tell(order)
            return True
        return False

    async def _media_waited_for(self) -> list[str]:
        with anyio.move_on_after(stall.LAST_QUESTION_SECONDS):
            found: list[str] = await self.evaluate(f"globalThis.{CONTROL}?.clock.media?.waiting() ?? []")
            return found
        return []

    async def _requests_end(self) -> None:
        seconds = self._options.timeouts.request
        with anyio.move_on_after(seconds):
            while self.requests.pending:
                await anyio.sleep(POLL_SECONDS / 5)
                await self._forget_unread()
            await self._tell("settle()")
            return
        raise self._not_ready([], seconds, "timeouts.request").at(frame=self._frame)

    async def _forget_unread(self) -> None:
        """An answer whose body is not read has no end. While one is read, the page's clock is held."""
        answered = self.requests.unread
        if answered and not await self.evaluate(f"globalThis.{CONTROL}?.clock.held() ?? 0"):
            for name in answered:
                self.requests.end(name)

    def _not_ready(self, waiting: list[str], seconds: float, deadline: str) -> PageNotReady:
        requests = [f"the request {url}" for url in self.requests.pending]
        return PageNotReady(self.label, waiting_for=[*waiting, *requests], seconds=seconds, deadline=deadline)

    # ---- events

    def _listeners(self) -> dict[str, Callable[[dict[str, Any]], None]]:
        return {
            "Runtime.exceptionThrown": lambda event: self._thrown.append(thrown(event["exceptionDetails"])),
            "Runtime.bindingCalled": self._bound,
            "Runtime.executionContextDestroyed": lambda event: self._foreign.discard(event["executionContextId"]),
            "Runtime.consoleAPICalled": self._console,
            "Page.javascriptDialogOpening": self._dialog,
            "Page.frameNavigated": self._navigated,
        }

    def _bound(self, event: dict[str, Any]) -> None:
        if event["name"] == ANNOUNCE:
            self._foreign.add(event["executionContextId"])
            if self._frame is not None:
                join = {"expression": f"{CONTROL}.join({self._frame})", "contextId": event["executionContextId"]}
                self._connection.post("Runtime.evaluate", join, self._session)
        elif event["name"] in self._bindings:
            self._bindings[event["name"]](event["payload"])

    async def _threw(self, stack: str) -> AsyncRenderError:
        """The page's error, unless it only says that a part of the browser died, which the page may know first."""
        await anyio.sleep(DEATH_SECONDS)
        self.check_browser()
        return PageThrew(stack, self.label).at(frame=self._frame)

    def warn(self, text: str) -> None:
        """Note what is wrong with the page, but does not end the render."""
        text = shortened(text, WORDS_SHOWN_CHARS)
        self.warnings.append(text)
        _log.warning("page", problem=text, frame=self._frame)

    def _console(self, event: dict[str, Any]) -> None:
        words = [str(item.get("value", item.get("description", ""))) for item in event.get("args", [])]
        _log.debug("console", level=event.get("type"), text=" ".join(words), frame=self._frame)

    def _dialog(self, event: dict[str, Any]) -> None:
        self.warn(f"{event.get('type', 'dialog')}({event.get('message', '')!r}) was answered with OK")
        self._connection.post("Page.handleJavaScriptDialog", {"accept": True}, self._session)

    def _navigated(self, event: dict[str, Any]) -> None:
        frame = event["frame"]
        if "parentId" in frame:
            return
        self.requests.keep(frame["loaderId"])
        if self._frame is not None:
            self._thrown.append(f"the page left for {frame.get('url')}")

    def _crash(self, event: dict[str, Any]) -> None:
        if event["targetId"] == self._target:
            how = f"{event['status']}, {event['errorCode']}"
            why = f"The page {self.label} crashed: its renderer died ({how}), perhaps out of memory."
            self._connection.abandon(self._session, why)
