"""The joined pictures get their sound and their final container. This room encodes no picture and joins no chunk."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from asyncrender.errors import InvalidOption
from asyncrender.media import ffmpeg, graphs, probe
from asyncrender.plan import with_paths
from asyncrender.specs import AudioTrack, RenderOptions, RenderPlan
from asyncrender.workspace import write_text

DEADLINE = "timeouts.mix"


async def mix(
    plan: RenderPlan, folder: Path, output: Path, *, heard: bool, on_progress: Callable[[float], None]
) -> None:
    """Make `output`, whatever its ending, out of the joined file and the plan's tracks; `folder` is `base` made real.

    The container is that of `final_output_file`. `heard`: the joined file has sound. `on_progress` gets 0 … 1, rising.
    Raises InvalidOption for a track that is no sound file, ChunkDamaged if frames are missing, ToolFailed, ToolStalled,
    DiskFull; what is then left of `output` is the caller's to remove.
    """
    joined, tool = (folder / plan.concat_output_file).absolute(), ffmpeg.find()
    options = with_paths(plan.mix_options, lambda _, path: str((folder / path).absolute()))
    options = await _with_durations(options)
    version = probe.NEWEST
    if graphs.will_sound(options.audio, joined_has_audio=heard):
        version = probe.release(await probe.tool_version(tool))
    graph_file = joined.with_name("mix.graph.part")
    command = graphs.mix_argv(
        options,
        ffmpeg=tool,
        ffmpeg_version=version,
        joined=str(joined),
        joined_has_audio=heard,
        total_frames=plan.total_frames,
        output=str(output),
        output_name=plan.final_output_file,
        graph_file=str(graph_file),
    )
    try:
        write_text(graph_file, command.graph or "")
        await ffmpeg.run(
            command.argv,
            output=output,
            doing=f"mixing {plan.final_output_file}",
            seconds=plan.total_frames / graphs.rate(options),
            idle_seconds=options.timeouts.mix,
            deadline=DEADLINE,
            on_progress=on_progress,
        )
    finally:
        graph_file.unlink(missing_ok=True)
    fps, seconds = graphs.rate(options), options.timeouts.mix
    await probe.check_frames(output, fps, frames=plan.total_frames, tolerance=1, idle_seconds=seconds)


async def _with_durations(options: RenderOptions) -> RenderOptions:
    """Where a track ends is known here at the latest: its fade depends on it."""
    if options.audio.muted:
        return options
    tracks = tuple([await _with_duration(track, options.timeouts.mix) for track in options.audio.tracks])
    return options.model_copy(update={"audio": options.audio.model_copy(update={"tracks": tracks})})


async def _with_duration(track: AudioTrack, idle_seconds: float) -> AudioTrack:
    if track.duration is not None or not track.fade_out:
        return track
    info = await probe.probe(track.path, idle_seconds=idle_seconds)
    if not info.audio:
        raise InvalidOption("audio.tracks", track.path, "the file has no sound")
    length = info.audio[0].duration or info.duration
    if length is None:
        return track
    return track.model_copy(update={"duration": max(Fraction(0), Fraction(str(length)) - track.seek)})
