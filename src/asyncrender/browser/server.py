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
import socket
import stat
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote_to_bytes

import anyio
import h11
from anyio.abc import SocketStream, TaskGroup

from asyncrender.errors import SceneNotFound
from asyncrender.files import Stamp, stamp
from asyncrender.log import get_logger
from asyncrender.plan import is_url, page_text
from asyncrender.tasks import open_task_group
from asyncrender.threads import in_thread

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

_FORBIDDEN = re.compile(r"^(\.|$)|[/\\\0]")

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

_log = get_logger("asyncrender.server")


@dataclass(frozen=True)
class SceneServer:
    """A running server. The browser must map `scene.localhost` to `port` and carry `secret` as the cookie COOKIE."""

    port: int
    secret: str = field(repr=False)
    url: str
    """What to navigate to."""
    scene: _Scene = field(repr=False)

    def file(self, url: str) -> Path:
        """The file that is served at a URL of this server. Raises FileNotFoundError if there is none."""
        path = url.partition("#")[0].partition("?")[0].removeprefix(ORIGIN)
        return _find(self.scene, path.encode())

    @property
    def asked(self) -> dict[str, Stamp | None]:
        """What was asked for so far: path in the scene's folder -> how the file was then; None: there was none."""
        return dict(self.scene.asked)


@dataclass(frozen=True)
class _Scene:
    page: Path | bytes
    folder: Path
    """Free of symlinks; a page given as bytes has none that is looked into."""
    secret: bytes = field(repr=False)
    asked: dict[str, Stamp | None] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: BinaryIO
    """Stands at the first byte to send."""
    length: int


def scene_address(composition_url: str, base: Path) -> tuple[str | None, Path | bytes | None]:
    """(URL to open, what to serve): exactly one is set. HTML text is served too, for the sake of its origin."""
    if composition_url.startswith("data:text/html"):
        return None, page_text(composition_url)
    if is_url(composition_url):
        return composition_url, None
    return None, base / composition_url


@asynccontextmanager
async def open_server(scene: Path | bytes) -> AsyncIterator[SceneServer]:
    """Serve a scene for as long as the block lasts; leaving it ends every connection at once.

    A path: its folder is served, and nothing outside of it; of a folder, `index.html` is the scene.
    Bytes: the HTML text, in UTF-8, of a page without a folder, at `/`. Raises SceneNotFound.
    """
    secret = secrets.token_urlsafe(SECRET_BYTES)
    served = await in_thread(partial(_look, scene, secret.encode()))
    with _open_door() as door:
        async with open_task_group() as tasks:
            tasks.start_soon(_accept, served, door, tasks)
            yield SceneServer(door.getsockname()[1], secret, _url(served), served)
            tasks.cancel_scope.cancel()


def _look(scene: Path | bytes, secret: bytes) -> _Scene:
    if isinstance(scene, bytes):
        return _Scene(scene, Path(), secret)
    try:
        page = scene.absolute() / "index.html" if scene.is_dir() else scene.absolute()
        if not stat.S_ISREG(page.stat().st_mode) or not os.access(page, os.R_OK):
            raise PermissionError(f"{page} is not a file, or not for us to read")
        return _Scene(page, page.parent.resolve(strict=True), secret)
    except (OSError, ValueError) as error:
        raise SceneNotFound("scene", str(scene), f"it has to be a file that can be read: {error}") from None


def _url(scene: _Scene) -> str:
    name = scene.page.name if isinstance(scene.page, Path) else ""
    return f"{ORIGIN}/{quote(os.fsencode(name), safe='')}"


@contextmanager
def _open_door() -> Iterator[socket.socket]:
    """A socket that listens on a free port of the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.setblocking(False)
        try:
            yield door
        finally:
            anyio.notify_closing(door)


async def _accept(scene: _Scene, door: socket.socket, tasks: TaskGroup) -> None:
    """Not anyio's own way: asyncio's, cancelled just as somebody comes, complains and leaves a socket open."""
    while True:
        await anyio.wait_readable(door)
        try:
            connection, _ = door.accept()
        except BlockingIOError:
            continue
        except OSError as error:
            _log.warning("a connection could not be accepted", error=repr(error))
            await anyio.sleep(ACCEPT_PAUSE_SECONDS)
            continue
        tasks.start_soon(_serve, scene, connection)


async def _serve(scene: _Scene, connection: socket.socket) -> None:
    """One connection, from its first request to its end. What goes wrong here stays here."""
    try:
        stream = await SocketStream.from_socket(connection)
    except BaseException:
        connection.close()
        raise
    try:
        async with stream:
            await _converse(scene, stream)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass  # the client went away, as a <video> does at every seek
    except Exception:  # the page sees that one request fail; its other connections shall see nothing
        _log.exception("a request could not be answered")


async def _converse(scene: _Scene, stream: SocketStream) -> None:
    http = h11.Connection(h11.SERVER)
    try:
        while isinstance(request := await _receive(http, stream), h11.Request):
            answer = await in_thread(partial(_answer, scene, request))
            await _send(http, stream, answer, bodiless=request.method == b"HEAD")
            while isinstance(await _receive(http, stream), h11.Data):
                pass  # the body of a POST: unread, it would turn our answer into a reset
            if http.our_state is not h11.DONE:
                return
            http.start_next_cycle()
    except h11.RemoteProtocolError as error:
        if http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await _send(http, stream, _status(error.error_status_hint, {"Connection": "close"}), bodiless=False)


async def _receive(http: h11.Connection, stream: SocketStream) -> object:
    while (event := http.next_event()) is h11.NEED_DATA:
        try:
            http.receive_data(await stream.receive())
        except anyio.EndOfStream:
            http.receive_data(b"")
    return event


async def _send(http: h11.Connection, stream: SocketStream, answer: _Answer, *, bodiless: bool) -> None:
    headers = {"Cache-Control": "no-store", **answer.headers}
    if answer.status != HTTPStatus.NO_CONTENT:  # which must not have one (RFC 9110, 8.6)
        headers["Content-Length"] = str(answer.length)
    left = 0 if bodiless else answer.length
    with answer.body as body:
        await stream.send(http.send(h11.Response(status_code=answer.status, headers=list(headers.items()))) or b"")
        while left:
            piece = await in_thread(partial(body.read, min(left, PIECE_BYTES)))
            if not piece:
                raise EOFError(f"{body.name} became shorter while it was sent")
            await stream.send(http.send(h11.Data(data=piece)) or b"")
            left -= len(piece)
    http.send(h11.EndOfMessage())


def _answer(scene: _Scene, request: h11.Request) -> _Answer:
    """Decide about one request. It looks at the disk, and so runs in a thread."""
    headers = dict(request.headers)
    if headers.get(b"host", b"").lower() != HOST.encode() or not _has_secret(scene, headers.get(b"cookie", b"")):
        _log.warning("a stranger was turned away", host=headers.get(b"host"), target=request.target)
        return _status(HTTPStatus.FORBIDDEN)
    if request.method not in (b"GET", b"HEAD"):
        return _status(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD"})
    path, mark, query = request.target.partition(b"?")
    if path == b"/" and isinstance(scene.page, bytes):
        return _Answer(200, {"Content-Type": "text/html; charset=utf-8"}, io.BytesIO(scene.page), len(scene.page))
    try:
        file = _find(scene, path)
        if file.is_dir():
            return _status(HTTPStatus.MOVED_PERMANENTLY, {"Location": (path + b"/" + mark + query).decode()})
        # If-Range asks for the whole unless a validator matches, and we never gave one (RFC 9110, 13.1.5)
        whole = request.method == b"HEAD" or b"if-range" in headers
        return _file(file, b"" if whole else headers.get(b"range", b""))
    except (FileNotFoundError, PermissionError):
        return _status(HTTPStatus.NO_CONTENT if path == b"/favicon.ico" else HTTPStatus.NOT_FOUND)


def _has_secret(scene: _Scene, cookies: bytes) -> bool:
    pairs = (cookie.strip().partition(b"=") for cookie in cookies.split(b";"))
    return any(name == COOKIE.encode() and hmac.compare_digest(value, scene.secret) for name, _, value in pairs)


def _find(scene: _Scene, path: bytes) -> Path:
    """What a URL's path names. Raises FileNotFoundError also for what is there, but not the page's business."""
    root, *names = (os.fsdecode(unquote_to_bytes(name)) for name in path.split(b"/"))
    names[-1:] = [name or "index.html" for name in names[-1:]]
    if root or isinstance(scene.page, bytes):
        raise FileNotFoundError(path)
    if names == [scene.page.name]:
        _note(scene, names, scene.page)
        return scene.page  # the user named it, be it hidden or a link to elsewhere
    if any(_FORBIDDEN.search(name) for name in names):
        raise FileNotFoundError(path)
    try:
        file = scene.folder.joinpath(*names).resolve(strict=True)
        inside = file.relative_to(scene.folder)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: symlinks in a circle, before Python 3.13
        scene.asked.setdefault(_text(names))
        raise FileNotFoundError(path) from error
    if any(name.startswith(".") for name in inside.parts) or not (file.is_file() or file.is_dir()):
        raise FileNotFoundError(path)
    _note(scene, names, file)
    return file


def _note(scene: _Scene, names: list[str], file: Path) -> None:
    """What was there at first counts: a page that reads a file again after it was changed has seen both."""
    if file.is_file():
        scene.asked.setdefault(_text(names), stamp(file))


def _text(names: list[str]) -> str:
    """A path that JSON can hold, whatever its bytes."""
    return os.fsencode("/".join(names)).decode(errors="backslashreplace")


def _file(file: Path, wanted: bytes) -> _Answer:
    size = file.stat().st_size
    part = _part(wanted, size)
    if part is not None and not part:
        return _status(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{size}"})
    headers = {"Content-Type": _content_type(file), "Accept-Ranges": "bytes"}
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    status, part = (HTTPStatus.OK, range(size)) if part is None else (HTTPStatus.PARTIAL_CONTENT, part)
    body = file.open("rb")
    body.seek(part.start)
    return _Answer(status, headers, body, len(part))


def _part(wanted: bytes, size: int) -> range | None:
    """The bytes a Range header asks for. None: all of them, as for whatever is not one plain range (RFC 9110, 14.2)."""
    match = _RANGE.fullmatch(wanted)
    first, last = match.groups() if match else (b"", b"")
    if not first:
        return range(max(0, size - int(last)), size) if last else None
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, size) if last else size)


def _content_type(file: Path) -> str:
    kind = _TYPES.get(file.suffix.lower(), "application/octet-stream")
    if kind == "text/html":
        with file.open("rb") as page:
            named = _META_CHARSET.search(page.read(META_BYTES))
        if named and named[1].lower() not in (b"utf-8", b"utf8"):
            return kind
    return f"{kind}; charset=utf-8" if kind in _UTF8_TYPES else kind


def _status(status: int, headers: Mapping[str, str] | None = None) -> _Answer:
    text = b"" if status == HTTPStatus.NO_CONTENT else HTTPStatus(status).phrase.encode()
    return _Answer(status, {"Content-Type": "text/plain", **(headers or {})}, io.BytesIO(text), len(text))
