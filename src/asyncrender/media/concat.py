"""The chunks become one file without being encoded again. This room knows nothing of tracks and of the final output.

Pictures are joined by the concat demuxer; sound is joined as bare PCM, sample after sample, and silence where a chunk
has none, because a demuxer's clock would round at every seam.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

import anyio

from asyncrender import formats
from asyncrender.errors import (
    AsyncRenderError,
    ChunkDamaged,
    InvalidOption,
    MediaError,
    disk_error,
)
from asyncrender.media import ffmpeg, graphs, probe, soundgraph
from asyncrender.specs import RenderChunk, RenderPlan
from asyncrender.tasks import open_task_group
from asyncrender.threads import in_thread, pause_point
from asyncrender.workspace import Workspace, write_text

DEADLINE = "timeouts.mix"

COPY_BYTES = 1 << 20
"""One piece of sound: some milliseconds between two chances to stop."""

PROBES_AT_ONCE = 4
"""Each is a process of some 40 ms; there may be hundreds of chunks, where an executor of the user's made them."""


async def concat(plan: RenderPlan, folder: Path, *, on_progress: Callable[[float], None]) -> bool:
    """Join the plan's chunks, in order, into `concat_output_file`; `folder` is the plan's `base` made real.

    The joined file appears whole or not at all, and holds exactly the plan's frames, evenly spaced. Returns whether it
    has sound. `on_progress` gets 0 … 1, rising. Raises ChunkDamaged (with the chunk, if one is to blame), ToolFailed,
    ToolStalled, DiskFull.
    """
    joined = (folder / plan.concat_output_file).absolute()
    part, script, sound = (joined.with_name(f"{joined.name}{more}.part") for more in ("", ".txt", ".s16le"))
    try:
        heard = await _join_sound(plan, folder, script, sound)
        _write_script(script, plan, folder, plan.chunks)
        await _join(plan, script, sound if heard else None, part, on_progress)
        await _check(plan, part)
        part.replace(joined)
        return heard
    except MediaError as error:
        if error.transient and not isinstance(error, ChunkDamaged):
            raise
        raise await _blamed(plan, folder, error) from error
    finally:
        part.unlink(missing_ok=True)
        script.unlink(missing_ok=True)
        sound.unlink(missing_ok=True)


def _write_script(script: Path, plan: RenderPlan, folder: Path, chunks: Sequence[RenderChunk]) -> None:
    files = [(str((folder / chunk.output_file).absolute()), chunk.frame_count) for chunk in chunks]
    write_text(script, graphs.concat_script(files, graphs.rate(plan.options)))


async def _join(
    plan: RenderPlan, script: Path, sound: Path | None, part: Path, on_progress: Callable[[float], None]
) -> None:
    options = plan.options
    argv = graphs.concat_argv(
        options,
        ffmpeg=ffmpeg.find(),
        script=str(script),
        sound=None if sound is None else str(sound),
        muxer=formats.video_codec(options.video.codec).chunk_muxer,
        output=str(part),
    )
    await ffmpeg.run(
        argv,
        output=part,
        doing=f"joining {len(plan.chunks)} chunks",
        seconds=plan.total_frames / graphs.rate(options),
        idle_seconds=options.timeouts.mix,
        deadline=DEADLINE,
        on_progress=on_progress,
    )


async def _join_sound(plan: RenderPlan, folder: Path, script: Path, sound: Path) -> bool:
    """Write all chunks' sound, exactly as many samples as the frames last. False, and nothing, if none has any."""
    sounding = await _sounding(plan, folder)
    if not sounding:
        return False
    piece = sound.with_name(f"piece-{sound.name}")
    write_text(sound, "")
    for heard, run in groupby(plan.chunks, lambda chunk: chunk.id in sounding):
        chunks = list(run)
        size = sum(soundgraph.chunk_bytes(chunk) for chunk in chunks)
        try:
            if heard:
                _write_script(script, plan, folder, chunks)
                await _extract(plan, script, piece, chunks, size)
            await in_thread(partial(_append, sound, piece if heard else None, size), stoppable=True)
        finally:
            piece.unlink(missing_ok=True)
    # From frame 0 on; in a later window the chunks' own borders may be rounded the other way, by one sample.
    await in_thread(partial(_resize, sound, soundgraph.total_bytes(plan.options, plan.total_frames)))
    return True


async def _sounding(plan: RenderPlan, folder: Path) -> set[int]:
    """The chunks that have sound. (One that is not there is found and named later.)"""
    if plan.options.audio.muted:
        return set()
    workspace = Workspace(plan, folder)
    known = await in_thread(lambda: {chunk.id: workspace.sounds(chunk) for chunk in plan.chunks})
    limiter, found = anyio.CapacityLimiter(PROBES_AT_ONCE), {number for number, sounds in known.items() if sounds}

    async def look(chunk: RenderChunk) -> None:
        async with limiter:
            try:
                info = await probe.probe(folder / chunk.output_file, idle_seconds=plan.options.timeouts.mix)
            except InvalidOption:
                return
        if info.audio:
            found.add(chunk.id)

    async with open_task_group() as tasks:
        for chunk in plan.chunks:
            if known[chunk.id] is None:
                tasks.start_soon(look, chunk)
    return found


async def _extract(plan: RenderPlan, script: Path, piece: Path, chunks: Sequence[RenderChunk], size: int) -> None:
    await ffmpeg.run(
        soundgraph.extract_argv(ffmpeg=ffmpeg.find(), script=str(script), output=str(piece)),
        output=piece,
        doing=f"joining the sound of {len(chunks)} chunks",
        seconds=sum(chunk.frame_count for chunk in chunks) / graphs.rate(plan.options),
        idle_seconds=plan.options.timeouts.mix,
        deadline=DEADLINE,
        on_progress=lambda _: None,
    )
    if (found := piece.stat().st_size) != size:
        which = f"chunks {chunks[0].id} to {chunks[-1].id}" if len(chunks) > 1 else f"chunk {chunks[0].id}"
        raise ChunkDamaged(f"The sound of {which} has {found} bytes instead of {size}.")


def _append(sound: Path, piece: Path | None, size: int) -> None:
    """The piece's bytes, or so much silence."""
    if piece is None:
        _resize(sound, sound.stat().st_size + size)
        return
    try:
        with sound.open("ab") as target, piece.open("rb") as source:
            while data := source.read(COPY_BYTES):
                pause_point()
                target.write(data)
    except OSError as error:
        raise disk_error(sound, error) from None


def _resize(sound: Path, size: int) -> None:
    try:
        with sound.open("r+b") as file:
            file.truncate(size)
    except OSError as error:
        raise disk_error(sound, error) from None


async def _check(plan: RenderPlan, part: Path) -> None:
    fps, seconds = graphs.rate(plan.options), plan.options.timeouts.mix
    await probe.check_frames(part, fps, frames=plan.total_frames, tolerance=0, idle_seconds=seconds)


async def _blamed(plan: RenderPlan, folder: Path, error: MediaError) -> AsyncRenderError:
    """The first damaged chunk as the error to raise; the error itself if the chunks are innocent."""
    for chunk in plan.chunks:
        damage = await _damage(folder / chunk.output_file, chunk, plan.options.timeouts.mix)
        if damage is not None:
            return ChunkDamaged(f"{chunk.output_file} {damage}").at(chunk=chunk.id)
    return error


async def _damage(file: Path, chunk: RenderChunk, idle_seconds: float) -> str | None:
    try:
        info = await probe.probe(file, count_frames=True, idle_seconds=idle_seconds)
    except AsyncRenderError as error:
        if error.transient:
            raise
        return f"is unreadable: {error}"
    frames = info.video[0].frames if info.video else 0
    return None if frames == chunk.frame_count else f"holds {frames} frames instead of {chunk.frame_count}."
