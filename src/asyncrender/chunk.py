"""The chunks of one worker: one page, lived through from frame 0, and for each chunk an encoder beside it.

The only room where the browser meets the media.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectReceiveStream

from asyncrender import formats
from asyncrender.browser.capture import Capture, open_capture
from asyncrender.errors import AsyncRenderError, single_error
from asyncrender.log import get_logger
from asyncrender.media.encode import Encoder, open_encoder
from asyncrender.media.probe import check_frames
from asyncrender.progress import ChunkFinished, Event, FrameWritten
from asyncrender.specs import RenderChunk, RenderPlan
from asyncrender.workspace import Sidecar, Workspace

FRAMES_IN_FLIGHT = 3
"""Pictures waiting between browser and encoder: enough to keep both at work, few enough for 4K in little memory."""

Emit = Callable[[Event], None]
OnFinished = Callable[[RenderChunk, Sidecar, float], None]

_log = get_logger("asyncrender.chunk")


async def render_chunks(
    plan: RenderPlan, chunks: Sequence[RenderChunk], folder: Path, *, emit: Emit, on_finished: OnFinished
) -> None:
    """Render chunks of a plan, in order, in one browser; `on_finished(chunk, sidecar, seconds)` after each.

    `folder` is the plan's base made real. Errors carry the chunk and, where known, the frame.
    """
    workspace, position = Workspace(plan, folder), 0
    with _located(chunks[0]):
        async with open_capture(chunks[0].options, plan.composition_url, folder) as capture:
            for chunk in chunks:
                began = time.monotonic()
                with _located(chunk):
                    for frame in range(position, chunk.start_frame):
                        await capture.skip(frame)
                    sidecar = await _render_chunk(workspace, chunk, capture, emit)
                position = chunk.start_frame + chunk.frame_count
                on_finished(chunk, sidecar, time.monotonic() - began)


async def _render_chunk(workspace: Workspace, chunk: RenderChunk, capture: Capture, emit: Emit) -> Sidecar:
    part, rate = workspace.part(workspace.file(chunk)), chunk.options.fps
    assert rate is not None
    log = _log.bind(chunk=chunk.id, stage="render")
    log.debug("chunk begins", start_frame=chunk.start_frame, frames=chunk.frame_count)
    try:
        muxer = formats.video_codec(chunk.options.video.codec).chunk_muxer
        async with open_encoder(chunk.options, part, muxer=muxer) as encoder:
            await _stream_frames(chunk, capture, encoder, emit)
            await encoder.finish()
        idle_seconds = chunk.options.timeouts.encode
        await check_frames(part, rate, frames=chunk.frame_count, tolerance=0, idle_seconds=idle_seconds)
        warnings = tuple(capture.page.warnings)
        sidecar = await anyio.to_thread.run_sync(
            lambda: workspace.finish(chunk, part, capture=chunk.options.capture, warnings=warnings)
        )
    finally:
        part.unlink(missing_ok=True)
    emit(ChunkFinished(chunk.id, chunk.frame_count))
    log.debug("chunk finished", bytes=sidecar.bytes)
    return sidecar


async def _stream_frames(chunk: RenderChunk, capture: Capture, encoder: Encoder, emit: Emit) -> None:
    send, receive = anyio.create_memory_object_stream[bytes](FRAMES_IN_FLIGHT)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_encode, chunk, receive, encoder, emit)
            async with send:
                for frame in range(chunk.start_frame, chunk.start_frame + chunk.frame_count):
                    await send.send(await capture.picture(frame))
    except BaseExceptionGroup as group:
        raise single_error(group) from None


async def _encode(chunk: RenderChunk, pictures: MemoryObjectReceiveStream[bytes], encoder: Encoder, emit: Emit) -> None:
    written = 0
    async with pictures:
        async for picture in pictures:
            await encoder.write(picture)
            written += 1
            emit(FrameWritten(chunk.id, written, time.monotonic()))


@contextmanager
def _located(chunk: RenderChunk) -> Iterator[None]:
    try:
        yield
    except AsyncRenderError as error:
        error.at(chunk=chunk.id)
        raise
