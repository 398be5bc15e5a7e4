"""One render, in a process of its own: takes a job as JSON, prints what it took as JSON."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from typing import Any

import anyio

import asyncrender as ar
from asyncrender.browser import camera

ON_UVLOOP = importlib.util.find_spec("uvloop") is not None
"""As the command line."""


async def main(job: dict[str, Any]) -> None:
    options = ar.RenderOptions.model_validate(job["options"])
    if job.get("draws_all"):  # also the frames that nobody sees, as there is no option for it
        camera.DRAWN_EVERY = 1
    first: list[float] = []

    def look(progress: ar.Progress) -> None:
        if progress.frames_done and not first:
            first.append(time.perf_counter())

    began = time.perf_counter()
    result = await ar.render(job["scene"], job["output"], options, on_progress=look)
    said = {
        "seconds": time.perf_counter() - began,
        "first_frame_seconds": first[0] - began,
        "workers": len(result.chunks),
        "capture": sorted({chunk.capture for chunk in result.chunks}),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    anyio.run(main, json.loads(sys.argv[1]), backend_options={"use_uvloop": ON_UVLOOP})
