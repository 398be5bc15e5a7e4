"""The page's own sound for one chunk: sources examined, segments mixed, laid beside the pictures. It knows no page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from asyncrender import formats
from asyncrender.errors import ChunkDamaged, MediaError
from asyncrender.media import ffmpeg, graphs, probe, soundgraph
from asyncrender.media.soundgraph import SoundSource
from asyncrender.specs import RenderChunk, SoundSegment
from asyncrender.workspace import write_text

DEADLINE = "timeouts.encode"

LONGEST_ARGUMENT = 100_000
"""Bytes; Linux takes 131071 (MAX_ARG_STRLEN)."""


async def find_sound(place: Path, *, seconds: float, idle_seconds: float) -> SoundSource | None:
    """What a media file gives to hear; None if it has no sound, as many a video. `seconds`: how long the page has it.

    Raises InvalidOption if there is no such file, MediaError if it is none that a browser plays, ToolStalled.
    """
    info = await probe.probe(place, idle_seconds=idle_seconds)
    names = set(info.container.split(","))
    if not names & soundgraph.CONTAINERS:
        raise MediaError(f"{place} is in a format that browsers do not play: {info.container}.")
    if not info.audio:
        return None
    sound, film = info.audio[0], bool(info.video) and bool(names & soundgraph.FILMS)
    return SoundSource(
        address=graphs.local(str(place.absolute())),
        sample_rate=sound.sample_rate,
        lead=round((sound.start_time or 0) * sound.sample_rate) if film else 0,
        seconds=Fraction(seconds),
    )


async def render_sound(
    chunk: RenderChunk, segments: Sequence[SoundSegment], sources: Mapping[str, SoundSource | None], output: Path
) -> bool:
    """Write the chunk's sound as bare 16-bit PCM, little-endian, no header; False, and nothing, if it is silent.

    `segments` are the page's, from the composition's start to the chunk's last frame; `sources` say what their URLs
    stand for: None, or no entry, for what cannot be heard. Raises ToolFailed, ToolStalled, DiskFull, ChunkDamaged.
    """
    argv = soundgraph.sound_argv(chunk, segments, sources, ffmpeg=ffmpeg.find(), output=str(output))
    if argv is None:
        return False
    graph_file = output.with_name(f"{output.name}.graph.part")
    try:
        argv = await _shortened(argv, graph_file)
        await _run(argv, chunk, output=output, doing=f"mixing the page's sound of chunk {chunk.id}")
    finally:
        graph_file.unlink(missing_ok=True)
    size, expected = output.stat().st_size, soundgraph.chunk_bytes(chunk)
    if size != expected:
        raise ChunkDamaged(f"The page's sound of chunk {chunk.id} has {size} bytes instead of {expected}.")
    return True


async def add_sound(chunk: RenderChunk, *, pictures: Path, sound: Path, output: Path) -> None:
    """Make the whole chunk out of its pictures and its sound. Raises as `render_sound` does."""
    muxer = formats.video_codec(chunk.options.video.codec).chunk_muxer
    argv = soundgraph.add_sound_argv(
        chunk.options, ffmpeg=ffmpeg.find(), muxer=muxer, pictures=str(pictures), sound=str(sound), output=str(output)
    )
    await _run(argv, chunk, output=output, doing=f"joining pictures and sound of chunk {chunk.id}")


async def _shortened(argv: list[str], graph_file: Path) -> list[str]:
    """With its graph in a file if that is too long for an argument."""
    if max(map(len, argv)) <= LONGEST_ARGUMENT:
        return argv
    version = probe.release(await probe.tool_version(argv[0]))
    command = graphs.graph_into_file(argv, str(graph_file), version)
    write_text(graph_file, command.graph or "")
    return command.argv


async def _run(argv: Sequence[str], chunk: RenderChunk, *, output: Path, doing: str) -> None:
    await ffmpeg.run(
        argv,
        output=output,
        doing=doing,
        seconds=chunk.frame_count / graphs.rate(chunk.options),
        idle_seconds=chunk.options.timeouts.encode,
        deadline=DEADLINE,
        on_progress=lambda _: None,
    )
