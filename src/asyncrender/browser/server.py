"""Serves one local scene to our own browser over loopback HTTP, and keeps everybody and everything else out.

It knows HTTP and files; it must not know the browser, the page or what is rendered.
"""

from __future__ import annotations

import hmac
import io
import mimetypes
import os
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote_to_bytes

import anyio
import anyio.to_thread
import h11
import structlog
from anyio.abc import Listener, SocketAttribute, SocketStream, TaskGroup

from asyncrender.errors import SceneNotFound, single_error

HOST = "scene.localhost"
ORIGIN = f"http://{HOST}"
COOKIE = "asyncrender"

SECRET_BYTES = 32
"""256 bits: nobody guesses them while a render lasts."""

PIECE_BYTES = 1 << 20
"""One read and one send: large enough that the hop to a thread costs nothing, small enough for many at once."""

ACCEPT_PAUSE_SECONDS = 0.1
"""Before the next attempt when the system gave no connection, mostly for want of file descriptors."""

META_BYTES = 1024
"""Where a page's `<meta charset>` has to lie (HTML standard, 4.2.5.4)."""

_META_CHARSET = re.compile(rb"<meta\s[^>]*?charset\s*=\s*[\"']?\s*([^\s\"'/>;]+)", re.IGNORECASE)
_RANGE = re.compile(rb"bytes=([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)

# an instance of its own, because the module's functions know what is written in the machine's /etc/mime.types
_TYPES = mimetypes.MimeTypes(filenames=()).types_map[True] | {
    ".apng": "image/apng",
    ".avif": "image/avif",
    ".flac": "audio/flac",
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".m4a": "audio/mp4",
    ".m4v": "video/mp4",
    ".map": "application/json",
    ".mjs": "text/javascript",
    ".mkv": "video/x-matroska",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".ogv": "video/ogg",
    ".opus": "audio/ogg",
    ".otf": "font/otf",
    ".ttf": "font/ttf",
    ".wav": "audio/wav",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xhtml": "application/xhtml+xml",
}
_UTF8_TYPES = ("application/json", "text/css", "text/html", "text/javascript")

_log = structlog.get_logger("asyncrender.server")


@dataclass(frozen=True)
class SceneServer:
    """A running server. The browser must map `scene.localhost` to `port` and carry `secret` as the cookie COOKIE."""

    port: int
    secret: str = field(repr=False)
    url: str
    """What to navigate to."""


@dataclass(frozen=True)
class _Scene:
    page: Path | bytes
    folder: Path | None
    """Free of symlinks; None for a page without a folder."""
    url_path: bytes
    secret: bytes


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str | bytes]
    body: BinaryIO
    """Stands at the first byte to send."""
    length: int


@asynccontextmanager
async def open_server(scene: Path | bytes) -> AsyncIterator[SceneServer]:
    """Serve a scene for as long as the block lasts; leaving it ends every connection at once.

    A path: its folder is served, and nothing outside of it; of a folder, its index.html is the scene.
    Bytes: the HTML text, in UTF-8, of a page without a folder, at `/`. Raises SceneNotFound.
    """
    secret = secrets.token_urlsafe(SECRET_BYTES)
    served = await anyio.to_thread.run_sync(_look, scene, secret.encode())
    failure: BaseException | None = None
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_accept, listener.listeners[0], partial(_serve, served), tasks)
                yield SceneServer(port, secret, ORIGIN + served.url_path.decode())
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            failure = single_error(group)
    if failure is not None:
        raise failure  # out here, so that the body's error keeps its own cause and context


def _look(scene: Path | bytes, secret: bytes) -> _Scene:
    if isinstance(scene, bytes):
        return _Scene(scene, None, b"/", secret)
    page, url_path = scene, b"/" + quote(os.fsencode(scene.name), safe="").encode()
    if scene.is_dir():
        page, url_path = scene / "index.html", b"/"
    try:
        with page.open("rb"):
            return _Scene(page.absolute(), page.parent.resolve(strict=True), url_path, secret)
    except OSError as error:
        raise SceneNotFound("scene", str(scene), f"it must be a page that can be read; {error.strerror}") from error


async def _accept(listener: Listener[SocketStream], serve: partial[object], tasks: TaskGroup) -> None:
    while True:
        try:
            await listener.serve(serve, tasks)
        except (OSError, anyio.BrokenResourceError) as error:
            _log.warning("no connection could be accepted", error=repr(error))
            await anyio.sleep(ACCEPT_PAUSE_SECONDS)


async def _serve(scene: _Scene, stream: SocketStream) -> None:
    """One connection, from its first request to its end. What goes wrong here stays here."""
    try:
        async with stream:
            await _converse(scene, stream)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass  # the client went away, as a <video> does at every seek
    except Exception:  # the page sees a failed request; the other connections shall see nothing
        _log.exception("a request could not be answered")


async def _converse(scene: _Scene, stream: SocketStream) -> None:
    http = h11.Connection(h11.SERVER)
    try:
        while isinstance(request := await _receive(http, stream), h11.Request):
            answer = await anyio.to_thread.run_sync(_answer, scene, request)
            await _send(http, stream, answer, bodiless=request.method == b"HEAD")
            while isinstance(await _receive(http, stream), h11.Data):
                pass  # the body of a POST, so that its sender reads our answer and sees no reset
            if http.our_state is not h11.DONE:
                return
            http.start_next_cycle()
    except h11.RemoteProtocolError as error:
        if http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await _send(http, stream, _status(error.error_status_hint, connection="close"), bodiless=False)


async def _receive(http: h11.Connection, stream: SocketStream) -> object:
    while (event := http.next_event()) is h11.NEED_DATA:
        try:
            http.receive_data(await stream.receive())
        except anyio.EndOfStream:
            http.receive_data(b"")
    return event


async def _send(http: h11.Connection, stream: SocketStream, answer: _Answer, *, bodiless: bool) -> None:
    headers = {"Cache-Control": "no-store", **answer.headers}
    left = 0 if bodiless else answer.length
    with answer.body as body:
        await stream.send(http.send(h11.Response(status_code=answer.status, headers=list(headers.items()))) or b"")
        while left:
            piece = await anyio.to_thread.run_sync(body.read, min(left, PIECE_BYTES))
            if not piece:
                raise EOFError(f"{body.name} became shorter while it was sent")
            await stream.send(http.send(h11.Data(piece)) or b"")
            left -= len(piece)
    http.send(h11.EndOfMessage())


def _answer(scene: _Scene, request: h11.Request) -> _Answer:
    """Decides about one request. Looks at the disk, so it runs in a thread."""
    headers = dict(request.headers)
    if headers.get(b"host", b"").lower() != HOST.encode() or not _has_secret(scene, headers.get(b"cookie", b"")):
        _log.warning("a stranger was turned away", host=headers.get(b"host"), target=request.target)
        return _status(HTTPStatus.FORBIDDEN)
    if request.method not in (b"GET", b"HEAD"):
        return _status(HTTPStatus.METHOD_NOT_ALLOWED, allow="GET, HEAD")
    path, mark, query = request.target.partition(b"?")
    if isinstance(scene.page, bytes) and path == scene.url_path:
        return _Answer(200, _headers(len(scene.page), "text/html; charset=utf-8"), io.BytesIO(scene.page), len(scene.page))
    try:
        file = _find(scene, path)
        if file.is_dir():
            return _status(HTTPStatus.MOVED_PERMANENTLY, location=path + b"/" + mark + query)
        ranged = request.method == b"GET" and b"if-range" not in headers  # no validator of ours can match (RFC 9110, 13.1.5)
        return _file(file, headers.get(b"range", b"") if ranged else b"")
    except OSError:
        return _status(HTTPStatus.NO_CONTENT if path == b"/favicon.ico" else HTTPStatus.NOT_FOUND)


def _has_secret(scene: _Scene, cookies: bytes) -> bool:
    pairs = (cookie.strip().partition(b"=") for cookie in cookies.split(b";"))
    return any(name == COOKIE.encode() and hmac.compare_digest(value, scene.secret) for name, _, value in pairs)


def _find(scene: _Scene, path: bytes) -> Path:
    """The file a URL's path names. Raises FileNotFoundError for what is not there and for what is nobody's business."""
    if path == scene.url_path and isinstance(scene.page, Path):
        return scene.page
    names = [os.fsdecode(unquote_to_bytes(name)) for name in path.split(b"/")]
    ...
