"""What else the world has in store: full disks, corrupt media, slow and broken servers, pages out of their minds."""

from __future__ import annotations

import http.server
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import anyio

import asyncrender as ar
from chaos.ground import LOOPS_OPTIONS, OLD, Ground
from disks import small_disk
from frames import digests, served, small

SOON = ar.Timeouts(launch=20, load=3, ready=3, request=2, frame=3, encode=10, mix=10)

QUICK = {"frame_count": 12, "chunk_frames": 4, "concurrency": 2, "timeouts": SOON}


@dataclass(frozen=True)
class Trouble:
    """One case and, once it was run, what came of it."""

    loop: str
    kind: str
    seed: int
    outcome: str = ""
    """"finished", or the error's name."""
    seconds: float = 0.0
    wrong: tuple[str, ...] = ()


def draw(seed: int, count: int) -> Iterator[Trouble]:
    dice, kinds = random.Random(seed), tuple(KINDS)
    for number in range(count):
        yield Trouble(dice.choice(tuple(LOOPS_OPTIONS)), kinds[number % len(kinds)], dice.randrange(1 << 30))


def carry_out(case: Trouble, ground: Ground) -> Trouble:
    """Run one case: it finishes, or fails with one clear error; look at what is left."""
    began = time.monotonic()
    allowed, prepare = KINDS[case.kind]
    wrong: list[str] = []
    with ExitStack() as stack:
        scene, options = prepare(ground, random.Random(case.seed), stack)
        outcome, text = anyio.run(_rendered, ground, scene, options, wrong, **LOOPS_OPTIONS[case.loop])
        if outcome not in allowed:
            wrong.append(f"{outcome} ({text})")
        if "Traceback" in text or text.count("\n") > 30:
            wrong.append(f"no readable words: {text}")
        wrong += ground.check(whole=None if outcome != "finished" else digests(ground.output))
        ground.clear()
    seconds = time.monotonic() - began
    return replace(case, outcome=outcome, seconds=seconds, wrong=tuple(wrong))


async def _rendered(ground: Ground, scene: Any, options: ar.RenderOptions, wrong: list[str]) -> tuple[str, str]:
    """(outcome, the error's words), and that exactly one event told it."""
    try:
        plan = ar.RenderOrchestrator.plan(scene, ground.output, await ar.resolve(scene, ground.output, options))
        seen, ends = [], []
        async with ar.open_render(plan) as job:
            async for event in job.events():
                if isinstance(event, ar.Progress):
                    seen.append(event.fraction)
                else:
                    ends.append(event)
            if len(ends) != 1 or seen != sorted(seen) or seen.count(1.0) != isinstance(ends[0], ar.Finished):
                wrong.append(f"events {ends}, progress {seen}")
            await job.result()
    except ar.AsyncRenderError as error:
        return type(error).__name__, str(error)
    return "finished", ""


# ---- kinds of trouble


Prepare = Callable[[Ground, random.Random, ExitStack], tuple[Any, ar.RenderOptions]]


def _full_disk(ground: Ground, dice: random.Random, stack: ExitStack) -> tuple[Any, ar.RenderOptions]:
    stack.enter_context(small_disk(ground.films, f"size={dice.randint(16, 260)}k"))
    ground.output.write_bytes(OLD)
    return ground.scene, ground.options(timeouts=SOON)


def _corrupt_track(ground: Ground, dice: random.Random, stack: ExitStack) -> tuple[Any, ar.RenderOptions]:
    track = ground.folder / "corrupt.m4a"
    source = (ground.folder / "scene" / "film.mp4").read_bytes()
    track.write_bytes(_damaged(source, dice))
    stack.callback(track.unlink)
    return ground.scene, ground.options(audio=ar.AudioOptions(tracks=(ar.AudioTrack(path=str(track)),)), timeouts=SOON)


def _corrupt_film(ground: Ground, dice: random.Random, stack: ExitStack) -> tuple[Any, ar.RenderOptions]:
    film = ground.folder / "scene" / "film.mp4"
    whole = film.read_bytes()
    film.write_bytes(_damaged(whole, dice))
    stack.callback(film.write_bytes, whole)
    return ground.scene, ground.options(timeouts=SOON)


def _damaged(data: bytes, dice: random.Random) -> bytes:
    if dice.random() < 0.4:
        return data[: dice.randrange(len(data))]
    garbled = bytearray(data)
    for _ in range(dice.randint(1, 200)):
        garbled[dice.randrange(len(garbled))] = dice.randrange(256)
    return bytes(garbled)


def _slow_server(ground: Ground, dice: random.Random, stack: ExitStack) -> tuple[Any, ar.RenderOptions]:
    """Answers come late, are cut off in the middle, or never end."""
    page = b"<!doctype html><link rel=stylesheet href=a.css><img src=b.png><script src=c.js></script><p>text"
    moods = {path: dice.choice(["late", "late", "cut", "hangs", "gone"]) for path in ("/a.css", "/b.png", "/c.js")}

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        mood = moods.get(request.path, "late")
        body = page if request.path == "/" else b"/* some text */ " * 100
        request.send_response(404 if mood == "gone" else 200)
        request.send_header("Content-Type", "text/html" if request.path == "/" else "text/css")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        time.sleep(dice.uniform(0, 0.2))
        request.wfile.write(body if mood in ("late", "gone") else body[:100])
        request.wfile.flush()
        if mood == "hangs":
            time.sleep(4)  # longer than any of SOON's patience

    return stack.enter_context(served(answer)), small(**QUICK)


PAGES = {
    "throws": "setTimeout(() => { throw new Error('no such star') }, 200)",
    "loops": "setTimeout(() => { for (;;); }, 200)",
    "loops-at-once": "for (;;);",
    "eats-memory": "const kept = []; setTimeout(() => { for (;;) kept.push(new Array(1e6).fill(kept.length)) }, 200)",
    "leaves": "setTimeout(() => { location.href = 'about:blank' }, 200)",
    "never-ready": "asyncrender.ready = new Promise(() => {})",
    "never-seeks": "asyncrender.seek = () => new Promise(() => {})",
    "asks-for-ever": "setTimeout(() => confirm('sure?'), 50); setInterval(() => alert('again'), 100)",
    "opens-windows": "setInterval(() => open('about:blank'), 50)",
    "closes": "setTimeout(() => window.close(), 100)",
}


def _mad_page(ground: Ground, dice: random.Random, stack: ExitStack) -> tuple[Any, ar.RenderOptions]:
    script = PAGES[dice.choice(tuple(PAGES))]
    args = ("--js-flags=--max-old-space-size=64",)  # so that eating memory is soon over
    return ar.Html(f"<p>text<script>{script}</script>"), small(**QUICK, browser=ar.BrowserOptions(args=args))


MEDIA = {"finished", "InvalidOption", "MediaError", "ToolFailed", "ChunkDamaged"}
PAGE = {"finished", "PageThrew", "PageStalled", "PageNotReady", "BrowserCrashed", "SceneNotFound"}

KINDS: dict[str, tuple[set[str], Prepare]] = {
    "full-disk": ({"finished", "DiskFull"}, _full_disk),
    "corrupt-track": (MEDIA, _corrupt_track),
    "corrupt-film": (MEDIA | {"PageNotReady"}, _corrupt_film),
    "slow-server": (PAGE, _slow_server),
    "mad-page": (PAGE, _mad_page),
}
