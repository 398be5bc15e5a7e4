"""A frame is a function of its number: not of the chunks, the capture path, the machine's load, or the network."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import asyncrender as ar
from asyncrender.browser import camera
from asyncrender.browser import capture as opening
from frames import SCENES, Picture, digests, html, pictures, served, small

pytestmark = pytest.mark.anyio

FRAMES, FPS = 21, 30


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def row_length(picture: Picture, row: int) -> int:
    return int((picture[row, :, 0] > 127).sum())


def check_closed_forms(frame: int, picture: Picture) -> None:
    """Whether a decoded frame of closed.html shows what its number says."""
    seconds = frame / FPS
    left = int(np.argmax(picture[4, :, 0] > 127))
    assert left == round(160 + 120 * math.sin(math.pi * seconds)), "the ball, moved by performance time"
    ys, xs = np.nonzero(picture[20:105, :110, 0] > 127)
    angle = math.degrees(math.atan2((ys + 20.5).mean() - 60, (xs + 0.5).mean() - 60)) % 360
    assert abs((angle - 360 * seconds + 180) % 360 - 180) < 1, "the spinner, a CSS animation"
    assert row_length(picture, 124) == int(seconds * 1000 / 7 + 1e-9), "the chain of timeouts"
    assert abs(row_length(picture, 134) - 100 * seconds) <= 0.51, "the tween of the Web Animations API"
    assert row_length(picture, 144) == 4 * (frame + 1), "the canvas that remembers every frame"
    date = sum(2**bit for bit in range(40) if picture[164, bit * 8 + 4, 0] > 127)
    assert date == int(seconds * 1000 + 1e-6), "Date.now()"


@contextmanager
def a_busy_machine() -> Iterator[None]:
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


@pytest.fixture(scope="module")
async def reference(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The frames of closed.html in one chunk."""
    return await closed_film(tmp_path_factory.mktemp("reference"), 1, "beginframe")


async def closed_film(folder: Path, chunks: int, capture: str) -> list[str]:
    options = small(width=320, height=180, fps=FPS, frame_count=FRAMES, concurrency=chunks, capture=capture)
    result = await ar.render(SCENES / "closed.html", folder / f"{chunks}-{capture}.mkv", options)
    assert len(result.chunks) == chunks
    shown = pictures(result.output)
    for frame, picture in enumerate(shown):
        check_closed_forms(frame, picture)
    assert len({picture[154].tobytes() for picture in shown}) == FRAMES, "ten random numbers in each frame"
    return digests(result.output)


@pytest.mark.parametrize(
    ("chunks", "capture"),
    [(2, "beginframe"), (3, "beginframe"), (7, "beginframe"), (1, "screenshot"), (3, "screenshot")],
)
async def test_every_frame_shows_its_time(chunks: int, capture: str, reference: list[str], tmp_path: Path) -> None:
    assert await closed_film(tmp_path, chunks, capture) == reference


async def test_load_changes_nothing(reference: list[str], tmp_path: Path) -> None:
    with a_busy_machine():
        assert await closed_film(tmp_path, 2, "screenshot") == reference


FRAMED = (SCENES / "framed.html").read_text(encoding="utf-8")

INNER = (SCENES / "inner.html").read_text(encoding="utf-8")


async def test_frames_of_any_origin_and_shadow_trees_keep_the_same_time(tmp_path: Path) -> None:
    with served(lambda request: html(request, INNER)) as other:

        def answer(request: object) -> None:
            page = FRAMED.replace("INNER", INNER).replace("OTHER/", other)
            html(request, INNER if request.path == "/inner" else page)  # type: ignore[attr-defined, arg-type]

        with served(answer) as url:
            options = small(height=120, frame_count=6, concurrency=2)
            shown = pictures((await ar.render(url, tmp_path / "out.mkv", options)).output)
    rows = [top + offset for top in (0, 30, 60) for offset in (4, 12, 20)] + [94, 102]
    for frame, picture in enumerate(shown):
        assert [row_length(picture, row) for row in rows] == [4 * frame] * 11, f"frame {frame}"


SLOW = (SCENES / "slow.html").read_text(encoding="utf-8")

DOT = "<svg xmlns='http://www.w3.org/2000/svg' width='20' height='20'><circle cx='10' cy='10' r='9' fill='red'/></svg>"


def answering(delay: float) -> Callable[[object], None]:
    def answer(request: object) -> None:
        path = request.path  # type: ignore[attr-defined]
        if path != "/":
            time.sleep(delay)
        if path.startswith("/number"):
            html(request, json.dumps({"value": int(path.partition("?")[2]) + 1}))  # type: ignore[arg-type]
        elif path.startswith("/dot"):
            request.send_response(200)  # type: ignore[attr-defined]
            request.send_header("Content-Type", "image/svg+xml")  # type: ignore[attr-defined]
            request.send_header("Content-Length", str(len(DOT)))  # type: ignore[attr-defined]
            request.end_headers()  # type: ignore[attr-defined]
            request.wfile.write(DOT.encode())  # type: ignore[attr-defined]
        else:
            html(request, SLOW)  # type: ignore[arg-type]

    return answer


async def test_a_slow_network_gives_the_frames_of_a_fast_one(tmp_path: Path) -> None:
    films = []
    for name, delay, chunks in (("fast", 0.0, 1), ("slow", 0.15, 1), ("slower", 0.4, 2)):
        with served(answering(delay)) as url:
            result = await ar.render(url, tmp_path / f"{name}.mkv", small(concurrency=chunks, frame_count=12))
        films.append(digests(result.output))
    assert films[0] == films[1] == films[2]
    assert len(set(films[0])) > 4


BOX = "<style>@keyframes m { to { left: 150px } }</style><p style='position: absolute; animation: m 1s infinite'>x"


def shades_gif(folder: Path, rate: int) -> None:
    graph = f"color=black:size=160x90:rate={rate},trim=end_frame=15,geq=lum='16+N*14':cb=128:cr=128"
    graph += ",split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none"
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", graph, str(folder / "shades.gif")], check=True)


@pytest.mark.parametrize("beside", ["", BOX], ids=["alone", "beside something that moves"])
async def test_animated_images_keep_the_time_of_their_frames(beside: str, tmp_path: Path) -> None:
    """A GIF of 10 frames a second, each a shade brighter, in a film of 25."""
    shades_gif(tmp_path, rate=10)
    scene = tmp_path / "scene.html"
    scene.write_text(f"<body style='margin:0'><img src=shades.gif>{beside}")
    for chunks in (1, 3):
        result = await ar.render(scene, tmp_path / "out.mkv", small(frame_count=24, concurrency=chunks))
        shades = [int(picture[45, 80, 0]) for picture in pictures(result.output)]
        steps = [shades.index(shade) for shade in dict.fromkeys(shades)]
        assert shades == sorted(shades)
        assert steps == [0, 3, 5, 8, 10, 13, 15, 18, 20, 23], "the first frame at or after each tenth of a second"
        assert result.warnings == ()


LATE = "<img id=i src=shades.gif style='display:none'><script>setTimeout(() => { i.style = ''; }, 120)</script>"


async def test_an_animated_image_may_come_into_view_beside_something_that_moves(tmp_path: Path) -> None:
    """It keeps time from then on."""
    shades_gif(tmp_path, rate=25)
    scene = tmp_path / "scene.html"
    scene.write_text(f"<body style='margin:0'>{LATE}{BOX}")
    options = small(frame_count=9, timeouts=ar.Timeouts(frame=5))
    shades = [int(one[30, 80, 0]) for one in pictures((await ar.render(scene, tmp_path / "out.mkv", options)).output)]
    assert len(set(shades[3:])) == 6
    assert shades[3:] == sorted(shades[3:])


SEEKABLE = """<body style="margin:0;background:#000"><script>
  let seeks = 0;
  window.asyncrender.seek = (time, frame) => { document.body.style.background = `rgb(${frame % 256}, ${++seeks}, 0)`; };
</script>"""


async def test_a_seekable_page_is_jumped_through(tmp_path: Path) -> None:
    """How often it was sought shows in the green channel."""
    page = ar.Html(SEEKABLE)
    for preroll, seeks in (("never", 1), ("always", 11)):
        options = small(start_frame=10, frame_count=2, preroll=preroll)
        shown = pictures((await ar.render(page, tmp_path / f"{preroll}.mkv", options)).output)
        assert shown[0][5, 5].tolist() == [10, seeks, 0]


async def test_whether_to_jump_is_found_out_and_written_down(tmp_path: Path) -> None:
    long = small(frame_count=2000, concurrency=2, preroll="auto")
    pages = {SEEKABLE: "never", SEEKABLE + "<video></video>": "always", "<p>plain": "always"}
    for page, expected in pages.items():
        resolved = await ar.resolve(ar.Html(page), tmp_path / "out.mkv", long)
        assert resolved.preroll == expected
        assert resolved.environment
        assert any("earlier frames" in note for note in resolved.environment.notes)


# ---- any scene, any number of chunks

numbers = st.integers(1, 9)
PIECES = {
    "css": "<style>#E{{animation:k{n} .{n}s {easing} infinite}}"
    "@keyframes k{n}{{to{{transform:translateX({n}0px) rotate({n}0deg)}}}}</style><div id=E></div>",
    "step": "<style>#E{{animation:s{n} 1s steps({n}0) infinite}}@keyframes s{n}{{to{{width:150px}}}}</style>"
    "<div id=E></div>",
    "waapi": "<div id=E></div><script>E.animate([{{opacity:.1}},{{opacity:1,width:'{n}0px'}}],{{duration:{n}00,"
    "iterations:{n},direction:'alternate',easing:'{easing}'}}).finished.then(()=>E.remove())</script>",
    "transition": "<style>#E{{transition:width .{n}s {easing}}}</style><div id=E></div>"
    "<script>setInterval(()=>E.style.width=Math.random()*150+'px',{n}0)</script>",
    "interval": "<pre id=E></pre><script>{{let i=0;"
    "setInterval(()=>E.textContent=i+=Math.random()<.5?1:2,{n}0)}}</script>",
    "timeouts": "<pre id=E></pre><script>{{let i=0;"
    "(function f(){{E.textContent=i++;setTimeout(f,Math.random()*{n}0)}})()}}</script>",
    "walk": "<canvas id=E width=150 height=12></canvas><script>{{let x=0;requestAnimationFrame(function f(t){{"
    "x+=Math.random()*{n};const g=E.getContext('2d');g.fillStyle=`hsl(${{t}} 90% 50%)`;g.fillRect(x%150,0,{n},12);"
    "requestAnimationFrame(f)}})}}</script>",
    "smil": "<svg width=150 height=12><rect height=12 width=9>"
    "<animate attributeName=x values='0;140;0' dur='.{n}s' repeatCount=indefinite /></rect></svg>",
    "idle": "<pre id=E></pre><script>{{let i=0;(function f(){{requestIdleCallback(()=>{{E.textContent=i++;"
    "setTimeout(f,{n}0)}})}})()}}</script>",
    "late": "<div id=E></div><script>setTimeout(()=>E.attachShadow({{mode:'open'}}).innerHTML='<style>"
    "b{{animation:q .{n}s infinite}}@keyframes q{{to{{margin-left:99px}}}}</style><b>x</b>',{n}0)</script>",
}
"""Pieces of pages. E stands for an id of its own; n and easing are drawn."""


@st.composite
def scenes(draw: st.DrawFn) -> str:
    chosen = draw(st.lists(st.sampled_from(sorted(PIECES)), min_size=1, max_size=5))
    easing = st.sampled_from(["linear", "ease-in-out", "cubic-bezier(.2, -1, .7, 2)", "steps(5)"])
    pieces = [PIECES[name].format(n=draw(numbers), easing=draw(easing)) for name in chosen]
    parts = [re.sub(r"\bE\b", f"e{index}", piece) for index, piece in enumerate(pieces)]
    style = "<style>body{margin:0}div,pre,b{margin:0;font:9px monospace;width:12px;height:12px;background:#48c}</style>"
    return "<!doctype html>" + style + "".join(parts)


async def _same_frames(scene: str, chunks: int, capture: str, folder: Path) -> None:
    films = []
    for count, path in ((1, "beginframe"), (chunks, capture)):
        output = folder / f"{count}-{path}.mkv"
        options = small(frame_count=14, concurrency=count, capture=path)
        await ar.render(ar.Html(scene), output, options)
        films.append(digests(output))
        output.unlink()
    assert films[0] == films[1], scene


def _property(examples: int) -> Callable[[Callable[..., object]], Callable[..., object]]:
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=examples, suppress_health_check=checks, derandomize=examples < 50)


@given(scene=scenes(), chunks=st.integers(2, 7), capture=st.sampled_from(["beginframe", "screenshot"]))
@_property(3)
async def test_chunk_borders_do_not_show(scene: str, chunks: int, capture: str, tmp_path: Path) -> None:
    await _same_frames(scene, chunks, capture, tmp_path)


@pytest.mark.soak
@given(scene=scenes(), chunks=st.integers(2, 7), capture=st.sampled_from(["beginframe", "screenshot"]))
@_property(60)
async def test_chunk_borders_do_not_show_in_many_scenes(scene: str, chunks: int, capture: str, tmp_path: Path) -> None:
    await _same_frames(scene, chunks, capture, tmp_path)


@pytest.mark.parametrize("capture", ["beginframe", "raw"])
@pytest.mark.parametrize("uptime", [469_141, 3_378_900, 29_627_159])
async def test_however_long_the_machine_is_up(
    uptime: int, capture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ticks of these sizes, multiplied by floats, were the same for two frames in a row."""
    monkeypatch.setattr(camera, "TICKS_LEAD_SECONDS", uptime - 0.5 - time.monotonic())
    monkeypatch.setattr(opening, "FIRST_PICTURE_SECONDS", 3)
    options = small(frame_count=3, fps=FPS, width=320, height=180, capture=capture)
    result = await ar.render(SCENES / "closed.html", tmp_path / "film.mkv", options)
    shown = pictures(result.output)
    assert len(shown) == options.frame_count
    if capture == "beginframe":
        for frame, picture in enumerate(shown):
            check_closed_forms(frame, picture)


@given(st.integers(1, 10 * 365 * 86400), st.integers(0, 1000))
def test_no_two_ticks_are_the_same_for_chromium(uptime: int, ticks: int) -> None:
    """It makes whole microseconds of DevTools' milliseconds, and cuts off the rest (base/time/time_delta.h)."""
    ticks += uptime * camera.TICKS_PER_SECOND
    assert int(camera.milliseconds(ticks) * 1000) == ticks
