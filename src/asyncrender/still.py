"""One frame of a page as an image: it goes a film's way as far as the picture, with one browser and no chunks."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePath

import anyio

from asyncrender import formats, scratch
from asyncrender.browser.capture import Capture, open_capture
from asyncrender.browser.probe import is_seekable
from asyncrender.errors import InvalidOption, located
from asyncrender.files import check_output
from asyncrender.media import ffmpeg, graphs
from asyncrender.media.decode import open_decoder
from asyncrender.plan import scene_url
from asyncrender.process import run
from asyncrender.resolve import JUMP_FRAMES, anchored, resolve
from asyncrender.retry import retried
from asyncrender.specs import AudioOptions, RenderOptions, VideoOptions
from asyncrender.threads import in_thread
from asyncrender.workspace import PART_SUFFIX, replace, scene_folder, spare, write_bytes

LOSSLESS = VideoOptions(codec="ffv1", pixel_format="bgr0")
"""The film of which it would be a frame: all sizes are possible, and no colour is lost."""

FILM_NAME = "still.mkv"

ROOT = Path("/")


@dataclass(frozen=True)
class StillResult:
    """An image that was written."""

    output: Path
    frame: int
    width: int
    height: int
    warnings: tuple[str, ...] = ()


async def still(
    scene: str | PurePath,
    output: str | PurePath,
    options: RenderOptions | None = None,
    *,
    frame: int = 0,
    limiter: anyio.CapacityLimiter | None = None,
) -> StillResult:
    """Write one frame of a scene (path, URL or `Html`) as an image: a .png, .jpg, .jpeg or .webp.

    `frame` counts from the composition's beginning; it is the one a film with these options shows, lossless. Only
    `options` that concern the page count. A page need not say how long it is. The browsers take a token of `limiter`.
    Raises as `render` does; an image that was there before stays until the new one is whole.
    """
    output, scene = Path(output).absolute(), anchored(scene)
    encoding = formats.image(output.name)
    check_output(output)
    film = await _resolved(scene, output, options or RenderOptions(), frame, limiter)
    url = scene_url(scene, str(ROOT))
    async with limiter or nullcontext():
        data, warnings = await retried(lambda: _take(film, url, frame, output), doing=f"taking frame {frame}")
        if encoding is not None:
            data = await _converted(data, encoding, output.name, film.timeouts.encode)
    await in_thread(lambda: _publish(data, output))
    assert film.width is not None
    assert film.height is not None
    return StillResult(output, frame, film.width, film.height, warnings)


async def _resolved(
    scene: str | PurePath, output: Path, options: RenderOptions, frame: int, limiter: anyio.CapacityLimiter | None
) -> RenderOptions:
    """The options of the film that the frame is in. Raises InvalidOption if there is none, and what `resolve` does."""
    if frame < 0:
        raise InvalidOption("frame", frame, "frames are counted from 0")
    jump, name = "never" if options.preroll == "never" else "always", output.with_name(FILM_NAME)
    update = {"video": LOSSLESS, "audio": AudioOptions(muted=True), "concurrency": 1, "preroll": jump, "trace": None}
    wanted = options if options.environment is not None else options.model_copy(update=update)
    try:
        film = await resolve(scene, name, wanted, limiter=limiter)
    except InvalidOption as error:
        if error.option != "duration" or error.value is not None:
            raise
        long_enough = {"frame_count": max(1, frame + 1 - options.start_frame)}
        film = await resolve(scene, name, wanted.model_copy(update=long_enough), limiter=limiter)
    assert film.frame_count is not None
    end = film.start_frame + film.frame_count
    if frame >= end:
        raise InvalidOption("frame", frame, f"the film ends with frame {end - 1}")
    return film.model_copy(
        update={"capture": "beginframe" if film.capture == "raw" else film.capture, "preroll": options.preroll}
    )


async def _take(film: RenderOptions, url: str, frame: int, output: Path) -> tuple[bytes, tuple[str, ...]]:
    """(PNG, the page's warnings)."""
    async with open_capture(film, url, ROOT, open_film=open_decoder) as capture:
        await _live_through(capture, film, frame)
        with located(frame=frame):
            picture = await capture.picture(frame)
            await capture.settle()
            data = bytes(await picture.read(capture.patience))
        if folder := scene_folder(url, ROOT):
            spare(output, {"the scene": ROOT / url, **{name: folder / name for name in capture.files()}})
        return data, tuple(capture.page.warnings)


async def _live_through(capture: Capture, film: RenderOptions, frame: int) -> None:
    """All frames before; of a page that can be jumped through, the first one."""
    for number in range(frame):
        with located(frame=number):
            await capture.skip(number, more=True)
        if number == 0 and await _may_jump(capture, film, frame):
            return


async def _may_jump(capture: Capture, film: RenderOptions, frame: int) -> bool:
    if film.preroll == "auto":
        return frame >= JUMP_FRAMES and await is_seekable(capture)
    return film.preroll == "never"


async def _converted(png: bytes, encoding: Sequence[str], name: str, idle_seconds: float) -> bytes:
    async with scratch.open_folder() as folder:
        source = folder / "still.png"
        await in_thread(lambda: write_bytes(source, png))
        argv = graphs.image_argv(encoding, ffmpeg=ffmpeg.find(), source=str(source))
        return await run(argv, doing=f"making {name}", idle_seconds=idle_seconds, deadline="timeouts.encode")


def _publish(data: bytes, output: Path) -> None:
    part = output.with_name(f".{output.name}.{secrets.token_hex(4)}{PART_SUFFIX}")
    try:
        write_bytes(part, data)
        replace(part, output)
    finally:
        part.unlink(missing_ok=True)
