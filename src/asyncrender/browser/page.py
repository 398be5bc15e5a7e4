"""The page: opened in its fixed environment, loaded, ready, and then moved frame by frame in virtual time.

It knows what the page waits for and what it threw; how a picture is taken belongs to `capture`.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import anyio

from asyncrender.browser import images, scripts, stall
from asyncrender.browser.connection import WORDS_SHOWN_CHARS, AddressRefused, CallFailed, Command, DocumentLeft, thrown
from asyncrender.browser.launch import Browser
from asyncrender.browser.trees import OwnTrees
from asyncrender.errors import AsyncRenderError, BrowserCrashed, PageNotReady, PageThrew, SceneNotFound, shortened
from asyncrender.log import get_logger
from asyncrender.specs import RenderOptions
from asyncrender.tasks import Patience

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

OWN_ORIGIN = "https://asyncrender.invalid"
"""What the page asks there, the renderer answers; no such host can exist (RFC 2606)."""

EVALUATION = {"awaitPromise": True, "returnByValue": True}
"""Of DevTools' Runtime.evaluate: the JSON value, awaited if it is a promise."""

LEFT = "the page left for another document"
MOVING_SVG = "moves by the wall clock, as all SVG images do; as <svg> in the page, or by <object>, it would be exact"

STREAMS = frozenset({"EventSource", "WebSocket", "Media", "Ping", "CSPViolationReport", "Preflight"})
"""Resource types (DevTools' Network.ResourceType) that never end, or that the page does not wait for."""

URL_SHOWN_CHARS = 200
"""A data: URL in a message would bury it."""

_log = get_logger("asyncrender.page")


@dataclass(frozen=True)
class _Request:
    url: str
    loader: str
    """Which document's it is."""
    answered: bool = False
    """The page has the answer's head, and may or may not read its body."""


class Page:
    """One document in one tab. Time moves only by `advance`."""

    def __init__(self, browser: Browser, target: str, session: str, options: RenderOptions, url: str) -> None:
        self._connection = browser.connection
        self._target, self._session, self._options, self._url = target, session, options, url
        self._pending: dict[str, _Request] = {}
        self._thrown: list[str] = []
        self._frame: int | None = None
        self._ahead: Command | None = None
        self._held = False
        """What moves ahead has waited for our word the last time; most pages begin by themselves, and work."""
        self._document: str | None = None
        self._refused: str | None = None
        self._foreign: set[int] = set()
        self._trees = OwnTrees(self._connection, session, CONTROL)
        self._bindings: dict[str, Callable[[str], None]] = {}
        self._images: dict[str, str] = {}
        self.look_at_image: Callable[[str, bytes], None] | None = None
        """Called with the address and bytes of each image that may be an animation, before the frame that has it."""
        self.heed = 0
        """What the drawing of the frame has to heed. 0: nothing; else `camera.DRAWING`, `SURFACES` or `NEW_FILM`."""
        self.warnings: list[str] = []
        for name, listener in self._listeners().items():
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
            while self._document is None and not self._url.startswith("data:"):
                await anyio.sleep(POLL_SECONDS)
            if self._refused:
                raise SceneNotFound("scene", self.label, f"the server answered {self._refused}")
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
            while waiting or self._pending or not await self._still_there("zero()"):
                quiet = 0 if self._pending or waiting != ["window.asyncrender.ready"] else quiet + 1
                if quiet > QUIET_POLLS:
                    await self._still_there("lead()")
                waiting = await self._waiting(paint)
            return
        raise self._not_ready(waiting, timeouts.ready, "timeouts.ready")

    async def advance(self, frame: int, patience: Patience) -> None:
        """Move the page to a frame: timers, `seek`, animation-frame callbacks, then all requests they began.

        Raises PageThrew, PageStalled, PageNotReady (a request without an end).
        """
        self._frame = frame
        seconds = self._options.timeouts.frame
        try:
            self.heed = await patience.wait(self._move(frame), seconds)
        except TimeoutError:
            late = f"{self.label} did not finish its scripts within {seconds:g} s (timeouts.frame)"
            raise (await stall.judge(late, self, self._connection)).at(frame=frame) from None
        while self._pending:
            await self._requests_end()
        await self._trees.hand_over(self._foreign)
        await self.check()

    def go_on(self, ticks: float) -> None:
        """Have the page move on to the next frame once the present one, to be drawn at `ticks`, is out of its hands."""
        if self._foreign:  # their documents do not know
            return
        assert self._frame is not None
        self._frame += 1
        params = {**EVALUATION, "expression": f"{CONTROL}.follow({self._frame}, {ticks})"}
        self._ahead = self._connection.send("Runtime.evaluate", params, self._session)

    async def _move(self, frame: int) -> int:
        """What `advance` answers, or answered already."""
        order, ahead = f"advance({frame})", self._ahead
        self._ahead = None
        if ahead is None:
            return await self._tell(order)
        if not ahead.over and (self._held or not await ahead.over_within(FOLLOW_SECONDS)):
            self._held = await self.evaluate(f"{CONTROL}.proceed()")
        return await self._tell_others(order, said=await self._value(ahead))

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
            if not self._pending:
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
            while self._pending:
                await anyio.sleep(POLL_SECONDS / 5)
                await self._forget_unread()
            await self._tell("settle()")
            return
        raise self._not_ready([], seconds, "timeouts.request").at(frame=self._frame)

    async def _forget_unread(self) -> None:
        """An answer whose body is not read has no end. While one is read, the page's clock is held."""
        answered = [name for name, request in self._pending.items() if request.answered]
        if answered and not await self.evaluate(f"globalThis.{CONTROL}?.clock.held() ?? 0"):
            for name in answered:
                self._request_ends(name)

    def _not_ready(self, waiting: list[str], seconds: float, deadline: str) -> PageNotReady:
        requests = [f"the request {request.url}" for request in self._pending.values()]
        return PageNotReady(self.label, waiting_for=[*waiting, *requests], seconds=seconds, deadline=deadline)

    # ---- events

    def _listeners(self) -> dict[str, Callable[[dict[str, Any]], None]]:
        return {
            "Network.requestWillBeSent": self._request_begins,
            "Network.responseReceived": self._response_begins,
            "Network.loadingFinished": lambda event: self._loaded(event["requestId"]),
            "Network.loadingFailed": self._request_fails,
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

    def _request_begins(self, event: dict[str, Any]) -> None:
        url, loader = event["request"]["url"], event["loaderId"]
        # That a worker's script is there only the worker's own session would say; it has no loader.
        if loader and event.get("type") not in STREAMS and not url.startswith(("data:", "blob:", OWN_ORIGIN)):
            self._pending[event["requestId"]] = _Request(url, loader)

    def _response_begins(self, event: dict[str, Any]) -> None:
        response = event["response"]
        if self._document is None and event["type"] == "Document":
            self._document = response["url"]
            if response["status"] >= 400:
                self._refused = f"HTTP {response['status']} {response.get('statusText', '')}".strip()
        elif response["status"] >= 400:
            self.warn(f"{response['url']} is missing: HTTP {response['status']}")
        if event["type"] == "Image" and response["mimeType"] not in images.STILL_TYPES:
            self._images[event["requestId"]] = response["url"]
            self._pending.setdefault(event["requestId"], _Request(response["url"], event["loaderId"]))
        if response.get("mimeType") == "text/event-stream":
            self._request_ends(event["requestId"])
        elif event["type"] == "Fetch" and (request := self._pending.get(event["requestId"])):
            self._pending[event["requestId"]] = replace(request, answered=True)

    def _loaded(self, request: str) -> None:
        if (address := self._images.pop(request, None)) is not None:
            self._connection.begin(partial(self._look, request, address))
        else:
            self._request_ends(request)

    async def _look(self, request: str, address: str) -> None:
        """The request counts as pending until then."""
        try:
            with contextlib.suppress(CallFailed, BrowserCrashed):  # the document has left
                body = await self.call("Network.getResponseBody", {"requestId": request})
                data = base64.b64decode(body["body"]) if body["base64Encoded"] else body["body"].encode()
                if images.svg_moves(data):
                    self.warn(f"{address[:URL_SHOWN_CHARS]} {MOVING_SVG}")
                elif self.look_at_image is not None:
                    self.look_at_image(address, data)
        finally:
            self._request_ends(request)

    def _request_ends(self, request: str) -> None:
        self._pending.pop(request, None)

    def _request_fails(self, event: dict[str, Any]) -> None:
        request = self._pending.pop(event["requestId"], None)
        if request and not event.get("canceled"):
            self.warn(f"{request.url} could not be loaded: {event.get('errorText', '')}")

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
        loader = frame["loaderId"]  # nobody says how the requests of a document end that has left
        self._pending = {name: one for name, one in self._pending.items() if one.loader == loader}
        if self._frame is not None:
            self._thrown.append(f"the page left for {frame.get('url')}")

    def _crash(self, event: dict[str, Any]) -> None:
        if event["targetId"] == self._target:
            how = f"{event['status']}, {event['errorCode']}"
            why = f"The page {self.label} crashed: its renderer died ({how}), perhaps out of memory."
            self._connection.abandon(self._session, why)
