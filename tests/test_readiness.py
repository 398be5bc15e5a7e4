"""Before frame 0 everything is there that the page will show; what is missing is said."""

from __future__ import annotations

import http.server
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import asyncrender as ar
from frames import SCENES, digests, html, pictures, served, small

pytestmark = pytest.mark.anyio

RED = [255, 0, 0]
DOT = "<svg xmlns='http://www.w3.org/2000/svg' width='20' height='20'><rect width='20' height='20' fill='red'/></svg>"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def font() -> bytes:
    found = subprocess.run(
        ["fc-match", "-f", "%{file}", "DejaVu Serif:bold"], capture_output=True, check=True, text=True
    )
    return Path(found.stdout).read_bytes()


def site(delay: float, font: bytes | None) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    """ready.html and what it links, which comes after `delay` seconds."""

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        if request.path == "/":
            html(request, (SCENES / "ready.html").read_text(encoding="utf-8"))
            return
        time.sleep(delay)
        body, kind = (font, "font/ttf") if request.path == "/font" else (DOT.encode(), "image/svg+xml")
        request.send_response(200 if body else 404)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body or b"")))
        request.end_headers()
        request.wfile.write(body or b"")

    return answer


@pytest.mark.parametrize("capture", ["beginframe", "screenshot"])
async def test_the_first_frame_waits_for_everything(capture: str, font: bytes, tmp_path: Path) -> None:
    films = []
    for name, delay in (("fast", 0.0), ("slow", 0.5)):
        with served(site(delay, font)) as url:
            result = await ar.render(url, tmp_path / f"{name}.mkv", small(frame_count=2, capture=capture))
        assert result.warnings == ()
        first = pictures(result.output)[0]
        assert [first[10, left + 10].tolist() for left in range(0, 160, 20)] == [RED] * 8
        films.append(digests(result.output))
    assert films[0] == films[1]


async def test_a_font_that_is_used_changes_the_picture(font: bytes, tmp_path: Path) -> None:
    """Else the test above would say nothing of fonts."""
    shown = []
    for given in (font, None):
        with served(site(0.0, given)) as url:
            result = await ar.render(url, tmp_path / "out.mkv", small(frame_count=1))
        shown.append(digests(result.output)[0])
        assert any("/font" in warning and "404" in warning for warning in result.warnings) == (given is None)
    assert shown[0] != shown[1]


async def test_a_font_and_an_image_that_come_into_use_later_are_waited_for_too(font: bytes, tmp_path: Path) -> None:
    page = """<style>@font-face { font-family: slow; src: url(/font) } body { margin: 0; font: 40px serif }
        .on { font-family: slow; background: url(/dot) }</style><body>Slow
        <script>setTimeout(() => document.body.className = 'on', 100)</script>"""
    films = []
    for delay in (0.0, 0.4):
        resources = site(delay, font)

        def answer(request: http.server.BaseHTTPRequestHandler, resources: object = resources) -> None:
            html(request, page) if request.path == "/" else resources(request)  # type: ignore[operator]

        with served(answer) as url:
            result = await ar.render(url, tmp_path / "out.mkv", small(frame_count=5))
        films.append(digests(result.output))
    assert films[0] == films[1]
    assert len(set(films[0][:3])) == len(set(films[0][3:])) == 1
    assert films[0][2] != films[0][3]


async def test_a_font_is_waited_for_though_the_page_can_do_without(font: bytes, tmp_path: Path) -> None:
    page = "<style>@font-face { font-family: f; src: url(/font); font-display: %s } p { font: 40px f }</style><p>Text"
    films, resources = [], site(0.2, font)
    for display in ("block", "optional"):

        def answer(request: http.server.BaseHTTPRequestHandler, text: str = page % display) -> None:
            html(request, text) if request.path == "/" else resources(request)

        with served(answer) as url:
            result = await ar.render(url, tmp_path / "out.mkv", small(frame_count=1, capture="screenshot"))
        films.append(digests(result.output))
    assert films[0] == films[1]


async def test_the_names_of_what_never_comes_are_told(tmp_path: Path) -> None:
    with served(site(3.0, None)) as url, pytest.raises(ar.PageNotReady) as caught:
        await ar.render(url, tmp_path / "out.mkv", small(timeouts={"load": 1}))
    text = str(caught.value)
    assert all(name in text for name in ("/dot?background", "/dot?svg", "timeouts.load"))


@pytest.mark.parametrize("capture", ["beginframe", "screenshot"])
async def test_a_body_may_come_long_after_its_head(capture: str, tmp_path: Path) -> None:
    """Of the page, of its style sheet, of its script: Chromium puts off all frames until they are there."""
    page = "<!doctype html><link rel=stylesheet href=style><script src=script></script><p>text"
    bodies = {
        "/": ("text/html", page),
        "/style": ("text/css", "body { background: red }"),
        "/script": ("text/javascript", "0"),
    }

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        kind, text = bodies.get(request.path, ("text/plain", ""))
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(text)))
        request.end_headers()
        request.wfile.flush()
        time.sleep(0.1)
        request.wfile.write(text.encode())

    with served(answer) as url:
        options = small(frame_count=2, capture=capture, timeouts={"load": 10})
        result = await ar.render(url, tmp_path / "out.mkv", options)
    assert pictures(result.output)[0][80, 150].tolist() == RED
    assert [chunk.attempts for chunk in result.chunks] == [1]


REDIRECTS = {
    "at once": "",
    "after a wait": "await new Promise(done => setTimeout(done, 30));",
    "after a request": "await fetch('/late');",
    "while its clock moves": """
        setInterval(() => { for (spins = 3e6; spins--;); }, 1);
        await new Promise(done => setTimeout(done, 100));""",
}


@pytest.mark.parametrize("when", REDIRECTS)
async def test_a_page_may_send_its_visitor_elsewhere_while_it_loads(when: str, tmp_path: Path) -> None:
    go = f"{REDIRECTS[when]} location.href = '/other'; await new Promise(() => {{}})"
    page = f"<script>let spins; asyncrender.ready = (async () => {{ {go} }})()</script><p>soon"
    red = "<body style='margin: 0; background: red'>"

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        html(request, red if request.path == "/other" else page)

    with served(answer) as url:
        result = await ar.render(url, tmp_path / "out.mkv", small(frame_count=2))
    assert pictures(result.output)[0][0, 0].tolist() == RED


LATE = """<body><script>
  const slow = {name: 'PBKDF2', hash: 'SHA-512', salt: new Uint8Array(8), iterations: 1e6};
  const secret = crypto.subtle.importKey('raw', new Uint8Array(8), 'PBKDF2', false, ['deriveBits']);
  secret.then(key => setTimeout(async () => {
    await crypto.subtle.deriveBits(slow, key, 256);
    document.body.style.background = 'red';
  }, 0));
</script>"""


async def test_an_answer_is_waited_for_by_the_page_and_by_the_renderer_at_once(tmp_path: Path) -> None:
    result = await ar.render(ar.Html(LATE), tmp_path / "x.mkv", small(frame_count=1, timeouts={"load": 5}))
    assert pictures(result.output)[0][2, 2].tolist() == RED


FED = """<body><script>
  const late = what => new ReadableStream({start(its) { setTimeout(() => { its.enqueue(what); its.close(); }, 50); }});
  const worker = new Worker(URL.createObjectURL(new Blob(['setTimeout(() => postMessage(0), 50)'])));
  const told = new ReadableStream({start(its) { worker.onmessage = () => its.close(); }});
  Promise.all([new Response(late(new Uint8Array(1))).arrayBuffer(), new Response(told).text()])
    .then(() => { document.body.style.background = 'red'; });
</script>"""


async def test_what_a_page_feeds_into_an_answer_by_its_clock_does_not_stop_that(tmp_path: Path) -> None:
    result = await ar.render(ar.Html(FED), tmp_path / "x.mkv", small(frame_count=4, timeouts={"frame": 8}))
    assert [picture[2, 2].tolist() == RED for picture in pictures(result.output)] == [False, False, True, True]
