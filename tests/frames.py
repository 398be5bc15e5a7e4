"""What a viewer would see: frames decoded with PyAV, and real pages served over HTTP."""

from __future__ import annotations

import hashlib
import http.server
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

import asyncrender as ar
from asyncrender.browser.capture import Capture

SCENES = Path(__file__).with_name("scenes")

Picture = NDArray[np.uint8]

LOSSLESS = ar.VideoOptions(codec="ffv1", pixel_format="bgr0")


def small(**options: object) -> ar.RenderOptions:
    """Options of a quick lossless render: 160x90 at 25 fps, 10 frames."""
    size = {"width": 160, "height": 90, "fps": 25, "frame_count": 10, "concurrency": 1, "video": LOSSLESS}
    return ar.RenderOptions(**{**size, **options})


def pictures(path: Path) -> list[Picture]:
    """Each frame as an array of shape (height, width, 3), RGB."""
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]


def pixels(png: bytes) -> Picture:
    """One captured picture, in the same form."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


async def shot(capture: Capture, frame: int) -> bytes:
    """One frame as `capture` takes it."""
    picture = await capture.picture(frame)
    await capture.settle()
    return await picture.read()


def digests(path: Path) -> list[str]:
    return [hashlib.md5(picture.tobytes()).hexdigest() for picture in pictures(path)]


def frame_seconds(path: Path) -> list[Fraction]:
    """When each frame is shown."""
    with av.open(str(path)) as film:
        return [frame.pts * frame.time_base for frame in film.decode(video=0)]


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@contextmanager
def served(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A real HTTP server on the loopback; `answer(request)` writes each response."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def html(request: http.server.BaseHTTPRequestHandler, text: str, status: int = 200) -> None:
    body = text.encode()
    request.send_response(status)
    request.send_header("Content-Type", "text/html; charset=utf-8")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
