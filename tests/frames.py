"""What a viewer would see: frames decoded with PyAV, and real pages served over HTTP."""

from __future__ import annotations

import hashlib
import http.server
import io
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

import asyncrender as ar
from asyncrender.browser.capture import Capture, open_capture
from asyncrender.browser.recorder import RawPicture
from asyncrender.plan import complete

SCENES = Path(__file__).with_name("scenes")

Picture = NDArray[np.uint8]

LOSSLESS = ar.VideoOptions(codec="ffv1", pixel_format="bgr0")

LOSSLESS_420 = ar.VideoOptions(codec="ffv1", pixel_format="yuv420p")
"""For raw frames."""


def small(**options: object) -> ar.RenderOptions:
    """Options of a quick lossless render: 160x90 at 25 fps, 10 frames."""
    video = LOSSLESS_420 if options.get("capture") == "raw" else LOSSLESS
    size = {"width": 160, "height": 90, "fps": 25, "frame_count": 10, "concurrency": 1, "video": video}
    return ar.RenderOptions(**{**size, **options})


def pictures(path: Path, form: str = "rgb24") -> list[Picture]:
    """Each frame as an array: of shape (height, width, 3), RGB, unless another of PyAV's forms is asked for."""
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format=form) for frame in film.decode(video=0)]


def pixels(png: bytes) -> Picture:
    """One captured picture, in the same form."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def planes(data: bytes, width: int, height: int) -> list[Picture]:
    """Y, Cb and Cr of a raw picture, 4:2:0."""
    everything, pixels = np.frombuffer(data, np.uint8), width * height
    assert everything.size == pixels * 3 // 2
    luma, blue, red = np.split(everything, [pixels, pixels * 5 // 4])
    half = (height // 2, width // 2)
    return [luma.reshape(height, width), blue.reshape(half), red.reshape(half)]


@asynccontextmanager
async def opened(scene: str | Path | ar.Html, tmp_path: Path, **options: object) -> AsyncIterator[Capture]:
    """A page by name from tests/scenes, by its path, or from text."""
    path = SCENES / scene if not isinstance(scene, ar.Html) else tmp_path / "scene.html"
    if isinstance(scene, ar.Html):
        path.write_text(scene, encoding="utf-8")
    async with open_capture(complete(small(**options), "x.mkv"), str(path), Path("/")) as capture:
        yield capture


async def shot(capture: Capture, frame: int) -> bytes:
    """One frame as a PNG, whichever way it was taken."""
    picture = await capture.picture(frame)
    await capture.settle()
    data = bytes(await picture.read(capture.patience))
    if isinstance(picture, RawPicture):
        width, height = await capture.page.evaluate("[innerWidth, innerHeight]")
        png = io.BytesIO()
        Image.fromarray(rgb(planes(data, width, height))).save(png, "PNG")
        data = png.getvalue()
    return data


def rgb(picture: list[Picture]) -> Picture:
    """Planes of BT.601, limited range, as an array of RGB."""
    luma, *chroma = (plane.astype(float) for plane in picture)
    blue, red = (np.kron(plane, np.ones((2, 2))) - 128 for plane in chroma)
    luma = (luma - 16) * 255 / 219
    shown = [luma + 1.596 * red, luma - 0.392 * blue - 0.813 * red, luma + 2.017 * blue]
    return np.clip(np.stack(shown, axis=2).round(), 0, 255).astype(np.uint8)


def digests(path: Path, form: str = "rgb24") -> list[str]:
    return [hashlib.md5(picture.tobytes()).hexdigest() for picture in pictures(path, form)]


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


def html(
    request: http.server.BaseHTTPRequestHandler, text: str, status: int = 200, headers: Mapping[str, str] | None = None
) -> None:
    body = text.encode()
    request.send_response(status)
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    request.send_header("Content-Type", "text/html; charset=utf-8")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
