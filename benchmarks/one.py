"""One render, in a process of its own: takes a job as JSON, prints what it took as JSON."""

from __future__ import annotations

import json
import sys
import time

import anyio

import asyncrender as ar


async def main(job: dict[str, object]) -> None:
    options = ar.RenderOptions(
        width=1920,
        height=1080,
        fps=30,
        frame_count=job["frames"],
        concurrency=job["workers"],
        video=ar.VideoOptions(preset="medium"),
    )
    first: list[float] = []

    def look(progress: ar.Progress) -> None:
        if progress.frames_done and not first:
            first.append(time.perf_counter())

    began = time.perf_counter()
    result = await ar.render(str(job["scene"]), str(job["output"]), options, on_progress=look)
    ended = time.perf_counter()
    (video,) = (await ar.probe(result.output, count_frames=True)).video
    said = {
        "seconds": ended - began,
        "first_frame_seconds": first[0] - began,
        "render_seconds": result.seconds["render"],
        "probed_frames": video.frames,
    }
    print(json.dumps(said))


if __name__ == "__main__":
    anyio.run(main, json.loads(sys.argv[1]))
