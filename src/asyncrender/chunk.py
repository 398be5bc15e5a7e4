"""The chunks of one worker: one page, lived through from frame 0, and for each chunk an encoder beside it.

The only room where the browser meets the media.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from asyncrender import formats
from asyncrender.browser.camera import Picture
from asyncrender.browser.capture import Capture, open_capture
from asyncrender.browser.requests import URL_SHOWN_CHARS
from asyncrender.errors import AsyncRenderError, InvalidOption, MediaError, located
from asyncrender.log import get_logger
from asyncrender.media.decode import open_decoder
from asyncrender.media.encode import Encoder, open_encoder
from asyncrender.media.probe import check_frames
from asyncrender.media.sound import add_sound, find_sound, render_sound
from asyncrender.media.soundgraph import SoundSource
from asyncrender.progress import ChunkFinished, Event, FrameWritten
from asyncrender.specs import RenderChunk, RenderPlan, SoundSegment
from asyncrender.tasks import open_patience, open_task_group
from asyncrender.threads import in_thread
from asyncrender.trace import Lane
from asyncrender.workspace import Sidecar, Workspace

FRAMES_IN_FLIGHT = 3
"""Pictures waiting between browser and encoder: enough to keep both at work, few enough for 4K in little memory."""

MOST_REPEATS = 10
"""So often a frame is repeated before its picture is sent again. ffmpeg repeats it once it knows for how long: so it
has work meanwhile, and little enough of it that its silence remains a sign that it hangs."""

Emit = Callable[[Event], None]
OnFinished = Callable[[RenderChunk, Sidecar, float], None]
Sources = dict[str, SoundSource | None]
"""What the page's media URLs stand for, looked at once; None: nothing that can be heard."""

_log = get_logger("asyncrender.chunk")


@dataclass
class _Worker:
    """One browser on its way through the film, and what belongs to it."""

    workspace: Workspace
    capture: Capture
    emit: Emit
    browser_lane: Lane
    encoder_lane: Lane
    position: int = 0
    """The frame that the page lives through next."""
    sources: Sources = field(default_factory=dict)


async def render_chunks(
    plan: RenderPlan,
    chunks: Sequence[RenderChunk],
    folder: Path,
    *,
    emit: Emit,
    on_finished: OnFinished,
    worker: int = 0,
) -> None:
    """Render chunks of a plan, in order, in one browser; `on_finished(chunk, sidecar, seconds)` after each.

    `folder` is the plan's base made real, `worker` a number for the trace. Errors carry the chunk and, where known, the
    frame.
    """
    workspace = Workspace(plan, folder)
    emit_trace = emit if plan.options.trace is not None else None
    browser, encoder = (Lane(f"worker {worker} {part}", emit_trace, time.monotonic) for part in ("browser", "encoder"))
    opened = partial(open_capture, chunks[0].options, plan.composition_url, folder)
    with located(chunk=chunks[0].id):
        async with opened(open_film=open_decoder, lane=browser) as capture:
            work = _Worker(workspace, capture, emit, browser, encoder)
            workspace.spare(_files(work))
            for chunk in chunks:
                began = time.monotonic()
                with located(chunk=chunk.id):
                    if chunk.options.preroll != "never" and work.position < chunk.start_frame:
                        await _live_through(work, chunk)
                    sidecar = await _render_chunk(work, chunk)
                work.position = chunk.start_frame + chunk.frame_count
                on_finished(chunk, sidecar, time.monotonic() - began)


async def _live_through(work: _Worker, chunk: RenderChunk) -> None:
    frames = chunk.start_frame - work.position
    _log.debug("earlier frames are lived through", chunk=chunk.id, stage="preroll", frames=frames)
    with work.browser_lane.slice("preroll", frames=frames):
        for frame in range(work.position, chunk.start_frame):
            await work.capture.skip(frame, more=True)


def _files(work: _Worker) -> dict[str, Path]:
    """The scene's own files that the page asked for."""
    folder = work.workspace.scene_folder
    return {name: folder / name for name in work.capture.files()} if folder else {}


async def _render_chunk(work: _Worker, chunk: RenderChunk) -> Sidecar:
    workspace, capture, lane = work.workspace, work.capture, work.encoder_lane
    part, sound, whole = (workspace.part(workspace.file(chunk)) for _ in range(3))
    rate = chunk.options.fps
    assert rate is not None
    log = _log.bind(chunk=chunk.id)
    log.debug("chunk begins", stage="capture", start_frame=chunk.start_frame, frames=chunk.frame_count)
    try:
        muxer = formats.video_codec(chunk.options.video.codec).chunk_muxer
        async with open_encoder(chunk.options, part, muxer=muxer) as encoder:
            await _stream_frames(work, chunk, encoder)
            log.debug("frames are handed over", stage="drain")
            with lane.slice("drain", chunk=chunk.id):
                await encoder.finish()
        with lane.slice("sound", chunk=chunk.id):
            heard = await _render_sound(work, chunk, sound)
            if heard:
                await add_sound(chunk, pictures=part, sound=sound, output=whole)
                whole.replace(part)
        idle_seconds = chunk.options.timeouts.encode
        with lane.slice("count the frames", chunk=chunk.id):
            await check_frames(part, rate, frames=chunk.frame_count, tolerance=0, idle_seconds=idle_seconds)
        workspace.spare(_files(work))
        finish = partial(workspace.finish, chunk, part, capture=chunk.options.capture, sound=heard)
        with lane.slice("publish", chunk=chunk.id):
            warnings = tuple(capture.page.warnings)
            sidecar = await in_thread(partial(finish, files=capture.files(), warnings=warnings))
    finally:
        for path in (part, sound, whole):
            path.unlink(missing_ok=True)
    work.emit(ChunkFinished(chunk.id, chunk.frame_count))
    log.debug("chunk finished", bytes=sidecar.bytes)
    return sidecar


async def _stream_frames(work: _Worker, chunk: RenderChunk, encoder: Encoder) -> None:
    lane = work.browser_lane
    send, receive = anyio.create_memory_object_stream[Picture](FRAMES_IN_FLIGHT)
    async with open_task_group() as tasks:
        tasks.start_soon(_encode, work, chunk, receive, encoder)
        async with send:
            last = chunk.start_frame + chunk.frame_count - 1
            try:
                for frame in range(chunk.start_frame, last + 1):
                    picture = await work.capture.picture(frame, more=frame < last)
                    with lane.slice("wait for the encoder", frame=frame):
                        await _hand_over(picture, send)
                    lane.reading("queue", frames=lambda: send.statistics().current_buffer_used)
                await work.capture.settle()
            except AsyncRenderError as error:
                error.at(chunk=chunk.id, frame=frame)
                raise


async def _hand_over(picture: Picture, send: MemoryObjectSendStream[Picture]) -> None:
    """Others get their turn only if there is no room: it is the browser whom they wait for."""
    try:
        try:
            send.send_nowait(picture)
        except anyio.WouldBlock:
            await send.send(picture)
    except anyio.BrokenResourceError:  # the encoder's task is ending: what ended it ends us, too
        await anyio.sleep_forever()


async def _encode(
    work: _Worker, chunk: RenderChunk, pictures: MemoryObjectReceiveStream[Picture], encoder: Encoder
) -> None:
    lane, shown, repeats = work.encoder_lane, None, 0
    async with open_patience() as patience, pictures:
        try:
            while (picture := await _next(pictures)) is not None:
                frame = chunk.start_frame + encoder.frames
                with lane.slice("wait for the browser", frame=frame):
                    data = await picture.read(patience)
                if data is shown and repeats < MOST_REPEATS and encoder.frames < chunk.frame_count - 1:
                    encoder.repeat()
                    repeats += 1
                else:
                    with lane.slice("write", frame=frame, bytes=len(data)):
                        await encoder.write(data, patience)
                    picture.check_intact()
                    shown, repeats = data, 0
                work.emit(FrameWritten(chunk.id, encoder.frames, time.monotonic()))
        except AsyncRenderError as error:
            error.at(chunk=chunk.id, frame=frame)
            raise


async def _next(pictures: MemoryObjectReceiveStream[Picture]) -> Picture | None:
    """None after the last. Others get their turn only if none is there yet."""
    with contextlib.suppress(anyio.EndOfStream):
        try:
            return pictures.receive_nowait()
        except anyio.WouldBlock:
            return await pictures.receive()
    return None


async def _render_sound(work: _Worker, chunk: RenderChunk, output: Path) -> bool:
    """Write what the page's elements sound like in the chunk; False if that is silence."""
    capture, sources = work.capture, work.sources
    if chunk.options.audio.muted:
        return False
    segments = [SoundSegment.model_validate(segment) for segment in await capture.sounds()]
    for url in sorted({segment.source for segment in segments} - sources.keys()):
        try:
            place, seconds = capture.local_source(url)
            sources[url] = None  # unless it turns out to be something; an element not opened yet is asked for again
            sources[url] = await find_sound(place, seconds=seconds, idle_seconds=chunk.options.timeouts.encode)
        except (InvalidOption, MediaError) as error:
            if error.transient:
                raise
            capture.page.warn(f"{url[:URL_SHOWN_CHARS]} cannot be heard: {error.message}")
    return await render_sound(chunk, segments, sources, output)
