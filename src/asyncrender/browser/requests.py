"""What a page has asked for: the requests that it waits for, and the images it got, which may be animations."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from asyncrender.browser import images
from asyncrender.browser.connection import CallFailed
from asyncrender.errors import BrowserCrashed

OWN_ORIGIN = "https://asyncrender.invalid"
"""What the page asks there, the renderer answers; no such host can exist (RFC 2606)."""

STREAMS = frozenset({"EventSource", "WebSocket", "Media", "Ping", "CSPViolationReport", "Preflight"})
"""Resource types (DevTools' Network.ResourceType) that never end, or that the page does not wait for."""

URL_SHOWN_CHARS = 200
"""A data: URL in a message would bury it."""

MOVING_SVG = "moves by the wall clock, as all SVG images do; as <svg> in the page, or by <object>, it would be exact"


class Asking(Protocol):
    """A page."""

    def call(self, method: str, params: dict[str, Any]) -> Awaitable[dict[str, Any]]: ...

    def warn(self, text: str) -> None: ...


@dataclass(frozen=True)
class _Request:
    url: str
    loader: str
    """Which document's it is."""
    answered: bool = False
    """The page has the answer's head, and may or may not read its body."""


class Requests:
    """Those of one page. `begin` has a task run beside what runs already."""

    def __init__(self, page: Asking, begin: Callable[[Callable[[], Coroutine[Any, Any, None]]], None]) -> None:
        self._page, self._begin = page, begin
        self._pending: dict[str, _Request] = {}
        self._images: dict[str, str] = {}
        self.document: str | None = None
        """Where the page itself came from, once that is known."""
        self.refused: str | None = None
        """What its server answered in place of it."""
        self.look_at_image: Callable[[str, bytes], None] | None = None
        """Called with the address and bytes of each image that may be an animation, before the frame that has it."""

    def listeners(self) -> dict[str, Callable[[dict[str, Any]], None]]:
        """By the name of the DevTools event."""
        return {
            "Network.requestWillBeSent": self._request_begins,
            "Network.responseReceived": self._response_begins,
            "Network.loadingFinished": lambda event: self._loaded(event["requestId"]),
            "Network.loadingFailed": self._request_fails,
        }

    @property
    def pending(self) -> list[str]:
        """The addresses of what is not there yet."""
        return [request.url for request in self._pending.values()]

    @property
    def unread(self) -> list[str]:
        """Names of those that are answered, but it may be that the page never reads the answer."""
        return [name for name, request in self._pending.items() if request.answered]

    def end(self, name: str) -> None:
        """It is not waited for any more."""
        self._pending.pop(name, None)

    def keep(self, loader: str) -> None:
        """Only those of this document: nobody says how the requests of a document end that has left."""
        self._pending = {name: one for name, one in self._pending.items() if one.loader == loader}

    def _request_begins(self, event: dict[str, Any]) -> None:
        url, loader = event["request"]["url"], event["loaderId"]
        # That a worker's script is there only the worker's own session would say; it has no loader.
        if loader and event.get("type") not in STREAMS and not url.startswith(("data:", "blob:", OWN_ORIGIN)):
            self._pending[event["requestId"]] = _Request(url, loader)

    def _response_begins(self, event: dict[str, Any]) -> None:
        response = event["response"]
        if self.document is None and event["type"] == "Document":
            self.document = response["url"]
            if response["status"] >= 400:
                self.refused = f"HTTP {response['status']} {response.get('statusText', '')}".strip()
        elif response["status"] >= 400:
            self._page.warn(f"{response['url']} is missing: HTTP {response['status']}")
        if event["type"] == "Image" and response["mimeType"] not in images.STILL_TYPES:
            self._images[event["requestId"]] = response["url"]
            self._pending.setdefault(event["requestId"], _Request(response["url"], event["loaderId"]))
        if response.get("mimeType") == "text/event-stream":
            self.end(event["requestId"])
        elif event["type"] == "Fetch" and (request := self._pending.get(event["requestId"])):
            self._pending[event["requestId"]] = replace(request, answered=True)

    def _loaded(self, request: str) -> None:
        if (address := self._images.pop(request, None)) is not None:
            self._begin(partial(self._look, request, address))
        else:
            self.end(request)

    async def _look(self, request: str, address: str) -> None:
        """The request counts as pending until then."""
        try:
            with contextlib.suppress(CallFailed, BrowserCrashed):  # the document has left
                body = await self._page.call("Network.getResponseBody", {"requestId": request})
                data = base64.b64decode(body["body"]) if body["base64Encoded"] else body["body"].encode()
                if images.svg_moves(data):
                    self._page.warn(f"{address[:URL_SHOWN_CHARS]} {MOVING_SVG}")
                elif self.look_at_image is not None:
                    self.look_at_image(address, data)
        finally:
            self.end(request)

    def _request_fails(self, event: dict[str, Any]) -> None:
        request = self._pending.pop(event["requestId"], None)
        if request and not event.get("canceled"):
            self._page.warn(f"{request.url} could not be loaded: {event.get('errorText', '')}")
