"""What goes wrong is one clear error: before anything starts where that can be known, and nothing is left behind."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import asyncrender as ar
from frames import SCENES, html, left_in, pictures, served, small

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Path]:
    """An output with something in it, which every failure must leave alone."""
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "out.mkv").write_bytes(b"an older film")
    yield folder / "out.mkv"
    assert (folder / "out.mkv").read_bytes() == b"an older film"
    assert left_in(folder) == {"out.mkv"}


async def fails(scene: object, output: Path, kind: type[ar.AsyncRenderError], *words: str, **options: object) -> None:
    with pytest.raises(kind) as caught:
        await ar.render(scene, output, small(**options))  # type: ignore[arg-type]
    text = str(caught.value)
    assert all(word in text for word in words), text
    assert "Traceback" not in text


async def test_a_missing_page(output: Path) -> None:
    await fails(SCENES / "nowhere.html", output, ar.SceneNotFound, "nowhere.html", "No such file")


async def test_http_404(output: Path) -> None:
    with served(lambda request: html(request, "gone", status=404)) as url:
        await fails(url, output, ar.SceneNotFound, url, "404")


async def test_an_address_that_the_browser_does_not_take(output: Path) -> None:
    await fails("http://localhost:99999/", output, ar.SceneNotFound, "localhost:99999", "invalid URL")


async def test_a_refused_connection(output: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
        await fails(url, output, ar.SceneNotFound, url, "CONNECTION_REFUSED")


THROWERS = {
    "at once": ("<script>function broken() { throw new Error('no such star') }\nbroken()</script>", 0),
    "in a frame": (
        "<script>requestAnimationFrame(function f() { if (asyncrender.frame === 3) throw new Error('no such star');"
        "requestAnimationFrame(f) })</script>",
        3,
    ),
    "in a timer": ("<script>setTimeout(() => { throw new Error('no such star') }, 80)</script>", 2),
    "in a promise": ("<script>setTimeout(() => Promise.reject(new Error('no such star')), 80)</script>", 2),
    "in seek": ("<script>asyncrender.seek = t => { if (t > .1) throw new Error('no such star') }</script>", 3),
    "in ready": ("<script>asyncrender.ready = Promise.reject(new Error('no such star'))</script>", 0),
}


@pytest.mark.parametrize("name", THROWERS)
async def test_a_page_that_throws(name: str, output: Path) -> None:
    page, frame = THROWERS[name]
    where = [f"frame {frame}"] if frame else []
    await fails(ar.Html(page), output, ar.PageThrew, "no such star", "chunk 0", *where)


async def test_a_page_that_throws_a_novel_is_not_quoted_in_full(output: Path) -> None:
    page = "<script>alert('a'.repeat(1e5)); setTimeout(() => { throw new Error('n'.repeat(1e6)) })</script>"
    result = await ar.render(ar.Html(page), output.with_name("warned.mkv"), small(page_errors="warn"))
    output.with_name("warned.mkv").unlink()
    assert [text[:24] for text in result.warnings] == ["alert('aaaaaaaaaaaaaaaaa", "the page threw: Error: n"]
    assert all(len(text) < 5000 for text in result.warnings)


async def test_a_page_that_throws_may_be_rendered_all_the_same(tmp_path: Path) -> None:
    result = await ar.render(ar.Html(THROWERS["in a timer"][0]), tmp_path / "out.mkv", small(page_errors="warn"))
    assert any("no such star" in warning for warning in result.warnings)
    assert len(pictures(result.output)) == 10


async def test_a_page_that_never_becomes_ready(output: Path) -> None:
    page = ar.Html("<script>asyncrender.ready = new Promise(() => {})</script>")
    await fails(page, output, ar.PageNotReady, "window.asyncrender.ready", "timeouts.ready", timeouts={"ready": 0.5})


async def test_a_page_whose_picture_never_comes(output: Path) -> None:
    over = threading.Event()

    def answer(request: object) -> None:
        if request.path == "/":  # type: ignore[attr-defined]
            html(request, "<img src=slow.png>")  # type: ignore[arg-type]
        else:
            over.wait(60)

    with served(answer) as url:
        try:
            await fails(url, output, ar.PageNotReady, "the document to load", "slow.png", timeouts={"load": 1})
        finally:
            over.set()


async def test_an_endless_loop(output: Path) -> None:
    page = ar.Html("<script>requestAnimationFrame(() => { if (asyncrender.frame === 0) for (;;); })</script>")
    await fails(page, output, ar.PageStalled, "frame 0", "timeouts.frame", timeouts={"frame": 1})


async def test_an_endless_loop_while_the_page_loads(output: Path) -> None:
    page = ar.Html("<script>for (;;);</script>")
    await fails(page, output, ar.PageNotReady, "the document to load", "timeouts.load", timeouts={"load": 1})


async def test_a_promise_that_is_never_kept(output: Path) -> None:
    page = ar.Html("<script>asyncrender.seek = time => time && new Promise(() => {})</script>")
    await fails(page, output, ar.PageStalled, "frame 1", "never kept", timeouts={"frame": 1})


@pytest.mark.parametrize("waits", ["", "await new Promise(() => {})"])
async def test_a_page_that_leaves(waits: str, output: Path) -> None:
    leave = f"async (time, frame) => {{ if (frame === 1) {{ location.href = 'about:blank'; {waits} }} }}"
    page = ar.Html(f"<script>asyncrender.seek = {leave}</script>")
    await fails(page, output, ar.PageThrew, "frame", "the page left for", frame_count=20)


async def test_a_page_that_eats_all_memory(output: Path) -> None:
    eat = "requestAnimationFrame(() => { for (;;) kept.push(new Array(1e6).fill(kept.length)) })"
    page = ar.Html(f"<script>const kept = []; {eat}</script>")
    args = ar.BrowserOptions(args=("--js-flags=--max-old-space-size=64",))
    await fails(page, output, ar.BrowserCrashed, "frame 0", "chunk 0", "renderer died", browser=args)


async def test_a_server_that_hangs_in_the_middle(output: Path) -> None:
    over = threading.Event()

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        if request.path == "/":
            html(request, "<link rel=stylesheet href=half.css>")
        else:
            request.send_response(200)
            request.send_header("Content-Length", "1000")
            request.end_headers()
            request.wfile.write(b"body {")
            request.wfile.flush()
            over.wait(60)

    with served(answer) as url:
        try:
            await fails(url, output, ar.PageNotReady, "half.css", "timeouts.load", timeouts={"load": 1})
        finally:
            over.set()


async def test_a_request_without_an_end(output: Path) -> None:
    over = threading.Event()

    def answer(request: object) -> None:
        if request.path == "/":  # type: ignore[attr-defined]
            html(request, "<script>setTimeout(() => fetch('never'), 50)</script>")  # type: ignore[arg-type]
        else:
            over.wait(60)

    with served(answer) as url:
        try:
            await fails(url, output, ar.PageNotReady, "never", "frame 2", "timeouts.request", timeouts={"request": 0.5})
        finally:
            over.set()


async def test_a_missing_picture_is_a_warning(tmp_path: Path) -> None:
    result = await ar.render(ar.Html("<img src=gone.png>"), tmp_path / "out.mkv", small(frame_count=1))
    assert any("gone.png" in warning and "404" in warning for warning in result.warnings)


async def test_dialogs_do_not_stop_a_render(tmp_path: Path) -> None:
    page = ar.Html("<script>setTimeout(() => { document.title = confirm('sure?') }, 50)</script>")
    result = await ar.render(page, tmp_path / "out.mkv", small())
    assert any("sure?" in warning for warning in result.warnings)


OPTIONS = {
    "odd width": ({"width": 161, "video": {"pixel_format": "yuv420p", "codec": "ffv1"}}, "width", "even"),
    "unknown codec": ({"video": {"codec": "libx999"}}, "video.codec", "libx264"),
    "codec and container": ({"video": {"codec": "libvpx-vp9"}, "name": "out.mov"}, "video.codec", ".webm"),
    "no such container": ({"name": "out.avi"}, "output", ".mp4"),
    "missing sound": ({"audio": {"tracks": [{"path": "nothing.mp3"}]}}, "audio.tracks.0.path", "no such file"),
    "a rate of sound": ({"audio": {"codec": "libvorbis", "sample_rate": 96_000}}, "audio.codec", "96000 Hz"),
    "sound that is none": ({"audio": {"tracks": [{"path": __file__}]}}, "audio.tracks.0.path", "test_failures.py"),
    "no duration": ({"frame_count": None}, "duration", "frame_count"),
    "no such folder": ({"name": "nowhere/out.mkv"}, "output", "does not exist"),
    "no such browser": ({"browser": {"executable": "/nowhere/chromium"}}, "Chromium", "apt-get install"),
    "unwritable": ({"name": "/proc/out.mkv"}, "output", "/proc"),
}


@pytest.mark.parametrize("case", OPTIONS)
async def test_wrong_options_name_themselves(case: str, output: Path) -> None:
    given, *words = OPTIONS[case]
    options = {**given}
    target = output.parent / str(options.pop("name", "out.mkv"))
    await fails(SCENES / "css.html", target, ar.AsyncRenderError, *words, **options)


async def test_ffmpeg_is_not_installed(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(output.parent))
    await fails(SCENES / "css.html", output, ar.MissingTool, "ffprobe", "apt-get install ffmpeg")


async def test_ffmpeg_is_too_old(output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "old" / "ffmpeg"
    old.parent.mkdir()
    says = "ffmpeg version 4.2.2-static Copyright (c) 2000-2019 the FFmpeg developers"
    old.write_text(f'#!/bin/sh\n[ "$2" = -version ] && echo "{says}" && exit\nexec {shutil.which("ffmpeg")} "$@"\n')
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(old.parent), prepend=os.pathsep)
    words = ("ffmpeg 5.1 or later", f"{old} is 4.2.2-static", "apt-get install ffmpeg")
    await fails(SCENES / "css.html", output, ar.MissingTool, *words)
    report = await ar.doctor()
    assert not report.ok
    assert all(word in report.checks[0].found for word in words)


async def test_with_fresh_nothing_is_left_of_a_failure(output: Path) -> None:
    page = "<script>setTimeout(() => { throw new Error('late') }, 300)</script>"
    await fails(ar.Html(page), output, ar.PageThrew, "late", chunk_frames=3, frame_count=12, resume=False)
