"""The scene's server over real sockets: what the page gets, and what nobody gets."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from http.client import HTTPResponse, IncompleteRead
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from asyncrender.browser.server import COOKIE, ORIGIN, SceneServer, open_server
from asyncrender.errors import InvalidOption, SceneNotFound

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 5
MOVIE = random.Random(1).randbytes(3_000_000)
HUGE_BYTES = 1 << 26
"""More than the sockets' buffers hold, so that a client that does not read keeps the server waiting."""
SECRET = b"not the page's business"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


def connect(server: SceneServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS)


def request(server: SceneServer, target: str, method: str = "GET", **headers: str | None) -> bytes:
    fields = {"Host": "scene.localhost", "Cookie": f"{COOKIE}={server.secret}"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode()


def read_reply(connection: socket.socket, method: str = "GET") -> Reply:
    with contextlib.closing(HTTPResponse(connection, method=method)) as response:
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, headers, response.read())


def exchange(server: SceneServer, data: bytes, method: str = "GET") -> Reply:
    with connect(server) as connection:
        connection.sendall(data)
        return read_reply(connection, method)


async def ask(server: SceneServer, target: str, method: str = "GET", **headers: str | None) -> Reply:
    return await anyio.to_thread.run_sync(exchange, server, request(server, target, method, **headers), method)


async def say(server: SceneServer, data: bytes) -> Reply:
    return await anyio.to_thread.run_sync(exchange, server, data)


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[dict[str, object]]]:
    with capture_logs() as entries:
        yield entries  # type: ignore[misc]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene's folder, with all kinds of things in it and beside it that are nobody's business."""
    outside = tmp_path_factory.mktemp("outside")
    folder = outside / "scene"
    (folder / "sub").mkdir(parents=True)
    (folder / ".out.mp4.asyncrender").mkdir()
    (folder / "empty folder").mkdir()
    (folder / "index.html").write_text("<h1>scene</h1>")
    (folder / "sub" / "index.html").write_text("<h1>sub</h1>")
    (folder / "movie.webm").write_bytes(MOVIE)
    (folder / "empty.bin").touch()
    with (folder / "huge.bin").open("wb") as huge:
        huge.truncate(HUGE_BYTES)
    hidden = (".env", ".out.mp4.asyncrender/chunk.mov", "../secret.txt", "back\\slash.txt", "locked.txt")
    for name in hidden:
        (folder / name).write_bytes(SECRET)
    (folder / "locked.txt").chmod(0)
    (folder / "passwd").symlink_to("/etc/passwd")
    (folder / "link.txt").symlink_to("../secret.txt")
    (folder / "up").symlink_to("..")
    (folder / "visible.txt").symlink_to(".env")
    (folder / "circle").symlink_to("circle")
    (folder / "good-link.html").symlink_to("sub/index.html")
    os.mkfifo(folder / "pipe")
    return folder


@contextlib.asynccontextmanager
async def serve(scene: Path | bytes) -> AsyncIterator[SceneServer]:
    with anyio.fail_after(PATIENCE_SECONDS * 2):
        async with open_server(scene) as server:
            yield server


ODD_NAMES = [
    "a scene.html",
    "50%25.html",
    "q?v=1#top.html",
    "'\"&+.html",
    "später 場面.html",
    "\udcff.html",
    ".hidden.html",
    "back\\slash.html",
]


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_a_scene_of_any_name_is_served(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("<h1>ü</h1>")
    async with serve(tmp_path / name) as server:
        assert server.url.startswith(f"{ORIGIN}/")
        reply = await ask(server, server.url.removeprefix(ORIGIN))
    assert (reply.status, reply.body.decode()) == (200, "<h1>ü</h1>")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in reply.headers


async def test_text_is_a_page_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_bytes(SECRET)
    async with serve("<h1>ü</h1>".encode()) as server:
        assert server.url == f"{ORIGIN}/"
        page, file, index = [await ask(server, target) for target in ("/?x=1", "/file.txt", "/index.html")]
    assert (page.status, page.body.decode(), page.headers["content-length"]) == (200, "<h1>ü</h1>", "11")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert (file.status, index.status) == (404, 404)


async def test_a_folder_is_its_index(folder: Path) -> None:
    async with serve(folder) as server:
        assert server.url == f"{ORIGIN}/index.html"
        assert (await ask(server, "/")).body == b"<h1>scene</h1>"
        assert (await ask(server, "/sub/?a=b")).body == b"<h1>sub</h1>"
        redirect = await ask(server, "/sub?a=b")
        assert (redirect.status, redirect.headers["location"]) == (301, "/sub/?a=b")
        assert (await ask(server, "/good-link.html")).body == b"<h1>sub</h1>"


async def test_a_scene_that_is_a_link_keeps_the_folder_of_the_link(tmp_path: Path) -> None:
    for name in ("real", "here"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "style.css").write_text(name)
    (tmp_path / "real" / "scene.html").write_text("page")
    (tmp_path / "here" / "scene.html").symlink_to("../real/scene.html")
    async with serve(tmp_path / "here" / "scene.html") as server:
        assert (await ask(server, "/scene.html")).body == b"page"
        assert (await ask(server, "/style.css")).body == b"here"


@pytest.mark.parametrize("name", ["missing.html", "empty folder", "pipe", "locked.txt", "circle", "nul\0", "x" * 300])
async def test_a_scene_that_is_not_there(folder: Path, name: str) -> None:
    if name == "locked.txt" and os.access(folder / name, os.R_OK):
        pytest.skip("root reads everything")
    with pytest.raises(SceneNotFound) as caught:
        async with serve(folder / name):
            pass
    assert caught.value.value == str(folder / name)


@pytest.mark.parametrize(
    "headers",
    [
        {"Cookie": None},
        {"Cookie": ""},
        {"Cookie": COOKIE},
        {"Cookie": f"{COOKIE}=wrong"},
        {"Cookie": f"{COOKIE}=ünlike"},
        {"Cookie": "x{name}={secret}"},
        {"Cookie": "{name}={secret}x"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Host": "scene.localhost:80"},
        {"Host": "scene.localhost.evil.example"},
    ],
)
@pytest.mark.parametrize("target", ["/index.html", "/nothing"])
async def test_strangers_are_turned_away(folder: Path, target: str, headers: dict[str, str | None]) -> None:
    async with serve(folder) as server:
        filled = {key: value and value.format(name=COOKIE, secret=server.secret) for key, value in headers.items()}
        reply = await ask(server, target, **filled)
    assert (reply.status, reply.body) == (403, b"Forbidden")


async def test_the_cookie_may_stand_among_others(folder: Path) -> None:
    async with serve(folder) as server:
        cookies = f'odd="; {COOKIE}=overwritten; {COOKIE}={server.secret}; last'
        assert (await ask(server, "/index.html", Cookie=cookies, Host="Scene.LocalHost")).status == 200
        assert server.secret not in repr(server)


UNREACHABLE = [
    "/missing.txt",
    "/../secret.txt",
    "/sub/../../secret.txt",
    "/sub/../index.html",
    "/%2e%2e/secret.txt",
    "/%2E%2E%2Fsecret.txt",
    "/..%2fsecret.txt",
    "/sub%2findex.html",
    "/%252e%252e/secret.txt",
    "/..\\secret.txt",
    "/..%5csecret.txt",
    "/back%5Cslash.txt",
    "/back\\slash.txt",
    "//etc/passwd",
    "///etc/passwd",
    "/%2fetc/passwd",
    "/%2Fetc%2Fpasswd",
    "/sub//etc/passwd",
    "//index.html",
    "/passwd",
    "/link.txt",
    "/up/secret.txt",
    "/up/scene/index.html/",
    "/circle",
    "/.env",
    "/%2eenv",
    "/visible.txt",
    "/.out.mp4.asyncrender/chunk.mov",
    "/./index.html",
    "/index.html%00",
    "/%00",
    "/index.html/",
    "/index.html/x",
    "/empty%20folder/",
    "/pipe",
    "/%ff",
    "/" + "x" * 300,
    "/" + "x/" * 3000,
    "index.html",
    "x/index.html",
    "*",
    "http://scene.localhost/index.html",
    "file:///etc/passwd",
]


async def test_nothing_else_is_reachable(folder: Path) -> None:
    async with serve(folder / "index.html") as server:
        for target in UNREACHABLE:
            for tail in ("", "?query", "?/../index.html"):
                reply = await ask(server, target + tail)
                assert (reply.status, reply.body) == (404, b"Not Found"), target + tail


async def test_a_file_we_may_not_read_is_not_there(folder: Path) -> None:
    if os.access(folder / "locked.txt", os.R_OK):
        pytest.skip("root reads everything")
    async with serve(folder) as server:
        assert (await ask(server, "/locked.txt")).status == 404


TRICKS = ["..", ".", "", "%2e%2e", "%2E.", "secret.txt", "up", "link.txt", "sub", "scene", "outside0", "%00", "~", "C:"]
JOINTS = ["/", "//", "%2f", "\\", "%5c", "?", "#", ";"]
targets = st.lists(st.one_of(st.sampled_from(TRICKS + JOINTS), st.text(max_size=8)), max_size=12).map("".join)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(target=targets, slash=st.booleans())
async def test_no_path_yields_what_lies_outside(folder: Path, target: str, slash: bool) -> None:
    async with serve(folder / "index.html") as server:
        data = request(server, "/" * slash + target)
        reply = await say(server, data)
    assert SECRET not in reply.body
    assert reply.status in (200, 204, 301, 400, 404)


@pytest.mark.parametrize("target", ["/index.html", "/movie.webm", "/missing", "/favicon.ico"])
async def test_head_is_get_without_the_body(folder: Path, target: str) -> None:
    async with serve(folder) as server:
        get = await ask(server, target)
        head = await ask(server, target, "HEAD", Range="bytes=0-1")
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "QUERY"])
async def test_other_methods_are_refused(folder: Path, method: str) -> None:
    async with serve(folder) as server:
        reply = await ask(server, "/index.html", method)
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")


async def test_a_body_nobody_asked_for_does_not_disturb_the_next_request(folder: Path) -> None:
    def two_requests(server: SceneServer) -> tuple[Reply, Reply]:
        with connect(server) as connection:
            connection.sendall(request(server, "/", "POST", Content_Length="300000") + b"x" * 300_000)
            refused = read_reply(connection)
            connection.sendall(request(server, "/"))
            return refused, read_reply(connection)

    async with serve(folder) as server:
        refused, served = await anyio.to_thread.run_sync(two_requests, server)
    assert (refused.status, served.status) == (405, 200)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\x00\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /\xc3\xbc HTTP/1.1\r\nHost: scene.localhost\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: scene.localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: scene.localhost\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost scene.localhost\r\n\r\n",
    ],
)
async def test_a_malformed_request_hurts_nobody(folder: Path, data: bytes, logs: list[dict[str, object]]) -> None:
    async with serve(folder) as server:
        malformed = await say(server, data)
        assert (malformed.status, malformed.headers["connection"]) == (400, "close")
        assert (await ask(server, "/")).status == 200
    assert logs == []


async def test_an_endless_header_is_cut_off(folder: Path) -> None:
    async with serve(folder) as server:
        assert (await ask(server, "/", X="x" * 100_000)).status == 431
        assert (await ask(server, "/")).status == 200


LAST = len(MOVIE) - 1


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-", range(LAST + 1)),
        ("bytes=0-0", range(1)),
        ("bytes=0-1048576", range(1048577)),
        ("bytes=1048575-2097153", range(1048575, 2097154)),
        (f"bytes={LAST}-", range(LAST, LAST + 1)),
        (f"bytes=5-{LAST + 100}", range(5, LAST + 1)),
        ("bytes=7-99999999999999999", range(7, LAST + 1)),
        ("bytes=-10", range(LAST - 9, LAST + 1)),
        ("bytes=-99999999", range(LAST + 1)),
        ("Bytes=3-4", range(3, 5)),
    ],
)
async def test_a_range_is_exact_to_the_byte(folder: Path, wanted: str, part: range) -> None:
    async with serve(folder) as server:
        reply = await ask(server, "/movie.webm", Range=wanted)
    assert reply.status == 206
    assert reply.body == MOVIE[part.start : part.stop]
    assert reply.headers["content-range"] == f"bytes {part.start}-{part.stop - 1}/{len(MOVIE)}"
    assert reply.headers["content-length"] == str(len(part))
    assert reply.headers["content-type"] == "video/webm"


@pytest.mark.parametrize("wanted", [f"bytes={LAST + 1}-", f"bytes={LAST + 1}-{LAST + 9}", "bytes=-0"])
async def test_a_range_beyond_the_end_is_refused(folder: Path, wanted: str) -> None:
    async with serve(folder) as server:
        reply = await ask(server, "/movie.webm", Range=wanted)
    assert (reply.status, reply.headers["content-range"]) == (416, f"bytes */{len(MOVIE)}")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Range": "bytes=5-4"},
        {"Range": "bytes=-"},
        {"Range": "bytes=0-1,5-6"},
        {"Range": "lines=0-1"},
        {"Range": "bytes=a-b"},
        {"Range": "bytes=" + "9" * 5000 + "-"},
        {"Range": "bytes=0-1", "If_Range": '"some-etag"'},
        {"Range": "bytes=0-1", "If_Range": "Mon, 01 Jan 2024 00:00:00 GMT"},
    ],
)
async def test_whatever_is_not_one_plain_range_gets_the_whole(folder: Path, headers: dict[str, str]) -> None:
    async with serve(folder) as server:
        reply = await ask(server, "/movie.webm", **headers)
    assert (reply.status, reply.headers["accept-ranges"]) == (200, "bytes")
    assert reply.body == MOVIE


async def test_an_empty_file(folder: Path) -> None:
    async with serve(folder) as server:
        whole, part = await ask(server, "/empty.bin"), await ask(server, "/empty.bin", Range="bytes=0-")
    assert (whole.status, whole.headers["content-length"], whole.body) == (200, "0", b"")
    assert (part.status, part.headers["content-range"]) == (416, "bytes */0")


MIME_TYPES = {
    "css": "text/css; charset=utf-8",
    "js mjs JS": "text/javascript; charset=utf-8",
    "json map": "application/json; charset=utf-8",
    "html htm": "text/html; charset=utf-8",
    "svg": "image/svg+xml",
    "wasm": "application/wasm",
    "png": "image/png",
    "jpg jpeg": "image/jpeg",
    "gif": "image/gif",
    "apng": "image/apng",
    "avif": "image/avif",
    "webp": "image/webp",
    "ico": "image/x-icon",
    "woff": "font/woff",
    "woff2": "font/woff2",
    "ttf": "font/ttf",
    "otf": "font/otf",
    "webm": "video/webm",
    "mp4 m4v": "video/mp4",
    "mov": "video/quicktime",
    "m4a": "audio/mp4",
    "mp3": "audio/mpeg",
    "ogg oga opus": "audio/ogg",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "vtt": "text/vtt",
    "glb": "model/gltf-binary",
    "gltf": "model/gltf+json",
    "txt": "text/plain",
    "weird js.gz": "application/octet-stream",
}


async def test_mime_types(tmp_path: Path) -> None:
    (tmp_path / "index.html").touch()
    expected = {f"x.{ending}": kind for endings, kind in MIME_TYPES.items() for ending in endings.split()}
    for name in expected:
        (tmp_path / name).touch()
    async with serve(tmp_path) as server:
        assert {name: (await ask(server, f"/{name}")).headers["content-type"] for name in expected} == expected


@pytest.mark.parametrize(
    ("html", "kind"),
    [
        ("<title>x</title>", "text/html; charset=utf-8"),
        ("<meta charset=utf-8>", "text/html; charset=utf-8"),
        ('<META CHARSET="UTF-8"/>', "text/html; charset=utf-8"),
        ("<meta charset='iso-8859-1'>", "text/html"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=windows-1252">', "text/html"),
        ("x" * 1024 + "<meta charset=iso-8859-1>", "text/html; charset=utf-8"),
    ],
)
async def test_a_page_may_name_another_encoding(tmp_path: Path, html: str, kind: str) -> None:
    (tmp_path / "index.html").write_text(html)
    async with serve(tmp_path) as server:
        assert (await ask(server, "/")).headers["content-type"] == kind


async def test_a_missing_icon_is_no_news(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "favicon.ico").write_bytes(b"icon")
    (tmp_path / "index.html").touch()
    async with serve(folder) as server, serve(tmp_path) as with_icon, serve(b"text") as text:
        missing, icon, none = [await ask(one, "/favicon.ico") for one in (server, with_icon, text)]
    assert (missing.status, missing.body, none.status) == (204, b"", 204)
    assert "content-length" not in missing.headers  # RFC 9110, 8.6
    assert (icon.status, icon.body) == (200, b"icon")


async def test_fifty_requests_at_once(folder: Path) -> None:
    replies = {}

    async def fetch(server: SceneServer, number: int) -> None:
        limiter = anyio.CapacityLimiter(1)
        data = request(server, "/movie.webm", Range=f"bytes={number}-")
        replies[number] = await anyio.to_thread.run_sync(exchange, server, data, limiter=limiter)

    async with serve(folder) as server, anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(fetch, server, number)
        while len(replies) < 50:
            await anyio.sleep(0.01)
    assert all(reply.body == MOVIE[number:] for number, reply in replies.items())


async def test_a_connection_is_kept(folder: Path) -> None:
    def one_after_another(server: SceneServer) -> list[Reply]:
        replies = []
        with connect(server) as connection:
            for target, method in (("/", "GET"), ("/none", "GET"), ("/none", "HEAD"), ("/movie.webm", "GET")) * 2:
                connection.sendall(request(server, target, method, Upgrade="websocket"))
                replies.append(read_reply(connection, method))
        return replies

    async with serve(folder) as server:
        replies = await anyio.to_thread.run_sync(one_after_another, server)
    assert [reply.status for reply in replies] == [200, 404, 404, 200] * 2
    assert [reply.body for reply in replies[3::4]] == [MOVIE] * 2


def read_all(server: SceneServer, data: bytes) -> bytes:
    with connect(server) as connection, connection.makefile("rb") as stream:
        connection.sendall(data)
        return stream.read()


async def test_requests_may_come_all_at_once(folder: Path) -> None:
    async with serve(folder) as server:
        data = request(server, "/") + request(server, "/none", "HEAD") + request(server, "/sub/", Connection="close")
        replies = await anyio.to_thread.run_sync(read_all, server, data)
    words = (b"HTTP/1.1 200", b"<h1>scene</h1>HTTP/1.1 404", b"\r\n\r\nHTTP/1.1 200", b"<h1>sub</h1>")
    places = [replies.find(word) for word in words]
    assert -1 not in places
    assert places == sorted(places)


async def test_close_and_http_1_0_end_the_connection(folder: Path) -> None:
    async with serve(folder) as server:
        data = request(server, "/movie.webm", Connection="close")
        for version in (data, data.replace(b"HTTP/1.1", b"HTTP/1.0")):
            assert (await anyio.to_thread.run_sync(read_all, server, version)).endswith(MOVIE)


@pytest.mark.parametrize("reset", [False, True])
async def test_a_client_that_goes_away_is_no_error(folder: Path, reset: bool, logs: list[dict[str, object]]) -> None:
    def leave(server: SceneServer) -> None:
        with connect(server) as connection:
            connection.sendall(request(server, "/huge.bin"))
            connection.recv(1000)
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        with connect(server) as connection:
            connection.sendall(b"GET / HT")

    async with serve(folder) as server:
        for _ in range(5):
            await anyio.to_thread.run_sync(leave, server)
        assert (await ask(server, "/")).status == 200
    assert logs == []


async def test_a_file_that_shrinks_while_it_is_sent_hurts_only_its_reader(
    tmp_path: Path, logs: list[dict[str, object]]
) -> None:
    (tmp_path / "index.html").touch()
    file = tmp_path / "shrinking.bin"

    def shrink_it(server: SceneServer) -> None:
        with file.open("wb") as huge, connect(server) as connection:
            huge.truncate(HUGE_BYTES)
            connection.sendall(request(server, "/shrinking.bin"))
            connection.recv(100, socket.MSG_PEEK)
            huge.truncate(1)
            read_reply(connection)

    async with serve(tmp_path) as server:
        with pytest.raises(IncompleteRead):
            await anyio.to_thread.run_sync(shrink_it, server)
        assert (await ask(server, "/")).status == 200
    assert [entry["log_level"] for entry in logs] == ["error"]


async def test_it_outlives_a_shortage_of_file_descriptors(folder: Path, logs: list[dict[str, object]]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serve(folder) as server:
        await ask(server, "/")  # the threads are there
        with socket.socket() as connection:
            connection.settimeout(PATIENCE_SECONDS)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                await anyio.to_thread.run_sync(connection.connect, ("127.0.0.1", server.port))
                while not logs:
                    await anyio.sleep(0.01)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            connection.sendall(request(server, "/"))
            assert (await anyio.to_thread.run_sync(read_reply, connection)).status == 200
    assert {entry["event"] for entry in logs} == {"a connection could not be accepted"}


async def test_leaving_ends_every_connection_at_once(folder: Path) -> None:
    def drain(connection: socket.socket) -> None:
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(1 << 20):
                pass

    with contextlib.ExitStack() as clients:
        async with serve(folder) as server:
            idle, busy, half = (clients.enter_context(connect(server)) for _ in range(3))
            idle.sendall(request(server, "/"))
            await anyio.to_thread.run_sync(read_reply, idle)
            half.sendall(b"GET / HTTP/1.1\r\nHost: ")
            busy.sendall(request(server, "/huge.bin"))
            await anyio.to_thread.run_sync(partial(busy.recv, 1, socket.MSG_PEEK))
        for connection in (idle, busy, half):
            await anyio.to_thread.run_sync(drain, connection)
        with pytest.raises(ConnectionRefusedError):
            connect(server)


class Odd(Exception):
    pass


@pytest.mark.parametrize("error", [Odd("body"), InvalidOption("fps", 0, "more"), KeyboardInterrupt()])
async def test_an_error_of_the_body_comes_out_as_it_is(folder: Path, error: BaseException) -> None:
    cause = ValueError("the cause")

    async def serve_and_fail(clients: contextlib.ExitStack) -> None:
        async with serve(folder) as server:
            clients.enter_context(connect(server)).sendall(request(server, "/huge.bin"))
            await ask(server, "/")
            raise error from cause

    with contextlib.ExitStack() as clients, pytest.raises(type(error)) as caught:
        await serve_and_fail(clients)
    assert caught.value is error
    assert error.__cause__ is cause


async def test_a_cancelled_scope_comes_out_as_the_backends_own_cancellation(folder: Path) -> None:
    cancelled = []
    with contextlib.ExitStack() as clients, anyio.CancelScope() as scope:
        try:
            async with open_server(folder) as server:
                clients.enter_context(connect(server)).sendall(request(server, "/huge.bin"))
                await ask(server, "/")
                scope.cancel()
                await anyio.sleep_forever()
        except BaseException as error:
            cancelled.append(error)
            raise
    assert scope.cancelled_caught
    assert isinstance(cancelled[0], anyio.get_cancelled_exc_class())


async def test_cancelled_at_any_moment_it_leaves_nothing(folder: Path) -> None:
    for steps in range(60):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(cancel_after, scope, steps)
                async with open_server(folder) as server, await anyio.connect_tcp("127.0.0.1", server.port) as client:
                    await client.send(request(server, "/huge.bin"))
                    await client.receive()
                    await anyio.sleep_forever()
        assert scope.cancelled_caught


async def cancel_after(scope: anyio.CancelScope, steps: int) -> None:
    for _ in range(steps):
        await checkpoint()
    scope.cancel()
