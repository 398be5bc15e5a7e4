"""The chunks become one file without being encoded again. This room knows nothing of tracks and of the final output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from asyncrender import formats
from asyncrender.errors import AsyncRenderError, ChunkDamaged, MediaError, ToolStalled
from asyncrender.media import ffmpeg, graphs, probe
from asyncrender.specs import RenderChunk, RenderPlan

DEADLINE = "timeouts.mix"


async def concat(plan: RenderPlan, folder: Path, *, on_progress: Callable[[float], None]) -> None:
    """Join the plan's chunks, in order, into `concat_output_file`; `folder` is the plan's `base` made real.

    The joined file appears whole or not at all, and holds exactly the plan's frames, evenly spaced. `on_progress` gets
    0 … 1, rising. Raises ChunkDamaged (with the chunk, if one is to blame), ToolFailed, ToolStalled, DiskFull.
    """
    joined = (folder / plan.concat_output_file).absolute()
    part, script = joined.with_name(f"{joined.name}.part"), joined.with_name(f"{joined.name}.txt.part")
    try:
        script.write_text(graphs.concat_script([str((folder / file).absolute()) for file in plan.concat_manifest]))
        await _join(plan, script, part, on_progress)
        await _check(plan, part)
        part.replace(joined)
    except ToolStalled:
        raise
    except MediaError as error:
        raise await _blamed(plan, folder, error) from error
    finally:
        part.unlink(missing_ok=True)
        script.unlink(missing_ok=True)


async def _join(plan: RenderPlan, script: Path, part: Path, on_progress: Callable[[float], None]) -> None:
    options = plan.options
    muxer = formats.video_codec(options.video.codec).chunk_muxer
    await ffmpeg.run(
        graphs.concat_argv(options, ffmpeg=ffmpeg.find(), script=str(script), muxer=muxer, output=str(part)),
        doing=f"joining {len(plan.chunks)} chunks",
        seconds=plan.total_frames / graphs.rate(options),
        idle_seconds=options.timeouts.mix,
        deadline=DEADLINE,
        on_progress=on_progress,
    )


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
    except ToolStalled:
        raise
    except AsyncRenderError as error:
        return f"is unreadable: {error}"
    frames = info.video[0].frames if info.video else 0
    return None if frames == chunk.frame_count else f"holds {frames} frames instead of {chunk.frame_count}."
