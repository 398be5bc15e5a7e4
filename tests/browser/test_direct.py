"""The direct path: a page that is one canvas takes its pictures itself, and nobody can tell from the film."""

from __future__ import annotations

import base64
import http.server
import io
import json
import random
import re
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wasmtime
from PIL import Image

import asyncrender as ar
from asyncrender.browser import recorder, scripts
from asyncrender.browser.raw import Raw
from asyncrender.browser.recorder import Recorder
from asyncrender.errors import CaptureUnavailable
from frames import LOSSLESS_420, digests, html, opened, planes, served, small

pytestmark = pytest.mark.anyio

SOURCE = Path(scripts.__file__).with_name("convert.wat")

FRAMES = 60


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Fills up with what pages say of the pictures they took."""
    said: list[dict[str, Any]] = []
    take = Recorder.taken

    def note(self: Recorder, told: dict[str, Any]) -> recorder.RawPicture:
        said.append(told)
        return take(self, told)

    monkeypatch.setattr(Recorder, "taken", note)
    return said


async def film(scene: ar.Html | str | Path, output: Path, **options: object) -> list[str]:
    """A digest of each frame."""
    wanted = {"capture": "raw", "frame_count": FRAMES, "video": LOSSLESS_420, **options}
    result = await ar.render(scene, output, small(**wanted))
    assert {chunk.capture for chunk in result.chunks} == {wanted["capture"]}
    return digests(output, "yuv420p")


async def film_of_drawn(scene: ar.Html | str | Path, output: Path, **options: object) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder, "SCRIPTS", ("recorder.js",))
        return await film(scene, output, **options)


# ---- the conversion -------------------------------------------------------------------------------------------------


def instance(text: str = SOURCE.read_text()) -> Callable[..., tuple[int, bytes]]:
    store = wasmtime.Store()
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, wasmtime.wat2wasm(text)), []).exports(store)
    memory, convert = exports["memory"], exports["convert"]
    memory.grow(store, 20)

    def call(pixels: np.ndarray, under: int = 0) -> tuple[int, bytes]:
        height, width, _ = pixels.shape
        memory.write(store, pixels.tobytes(), 0)
        found = convert(store, 0, pixels.size, width, height, under)
        return found, bytes(memory.read(store, pixels.size, pixels.size + pixels.size * 3 // 8))

    return call


def test_the_module_is_what_its_source_says() -> None:
    assert scripts.read_bytes("convert.wasm") == bytes(wasmtime.wat2wasm(SOURCE.read_text()))


@pytest.mark.parametrize("size", [(8, 2), (10, 4), (14, 6), (160, 90), (426, 240)])
def test_pixels_become_planes(size: tuple[int, int]) -> None:
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 4), np.uint8)
    pixels[..., 3] = 255
    blue, green, red = (pixels[..., channel].astype(int) for channel in range(3))
    means = [(one[::2, ::2] + one[::2, 1::2] + one[1::2, ::2] + one[1::2, 1::2] + 2) >> 2 for one in (blue, green, red)]
    luma = (66 * red + 129 * green + 25 * blue + 0x1080) >> 8
    cb = (112 * means[0] - 74 * means[1] - 38 * means[2] + 0x8000) >> 8
    cr = (112 * means[2] - 94 * means[1] - 18 * means[0] + 0x8000) >> 8
    convert = instance()
    changed, made = convert(pixels)
    assert changed == 1
    for ours, theirs in zip(planes(made, width, height), (luma, cb, cr), strict=True):
        assert np.array_equal(ours, theirs)
    assert convert(pixels) == (0, made)


@pytest.mark.parametrize("tiles", [False, True])
def test_what_can_be_seen_through_lies_over_a_colour(tiles: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 160, 4), np.uint32)
    alpha = pixels[..., 3:]
    pixels[..., :3] = (pixels[..., :3] * alpha + 127) // 255
    over, colour = pixels.copy(), np.array([0x66, 0x44, 0x22], np.uint32)
    over[..., :3] += (colour * (255 - alpha) + 127) // 255 if tiles else colour * (256 - alpha) >> 8
    over[..., 3] = 255
    found, made = instance()(pixels.astype(np.uint8), 0x224466 | tiles << 24)
    assert found == 3
    assert made == instance()(over.astype(np.uint8))[1]


@pytest.mark.parametrize("place", [(0, 0), (1, 9), (3, 5), (0, 6)])
def test_what_changes_is_seen_and_so_is_what_can_be_seen_through(place: tuple[int, int]) -> None:
    pixels = np.full((4, 10, 4), 255, np.uint8)
    convert = instance()
    convert(pixels)
    pixels[(*place, 0)] = 100
    assert convert(pixels)[0] == 1
    assert convert(pixels)[0] == 0
    pixels[(*place, 3)] = 254
    assert convert(pixels)[0] == 2


# ---- the film is the same -------------------------------------------------------------------------------------------

PAINT = """
  const canvas = document.querySelector('canvas'), paper = canvas.getContext('2d', ATTRIBUTES);
  const paint = n => {
    for (let y = 0; y < 9; y++)
      for (let x = 0; x < 16; x++) {
        paper.fillStyle = `rgb(${x * n * 7 % 256} ${y * n * 13 % 256} ${(x * y + n * 29) % 256})`;
        paper.fillRect(x * 10, y * 10, 10, 10);
      }
  };"""

SHOW = """
  const show = () => {
    const n = window.asyncrender.frame;
    ACT
    requestAnimationFrame(show);
  };
  requestAnimationFrame(show);"""


def page(act: str = "paint(n)", *, attributes: str = "{alpha: false}", style: str = "", more: str = "") -> ar.Html:
    paint = PAINT.replace("ATTRIBUTES", attributes) + SHOW.replace("ACT", act)
    return ar.Html(
        f"<!doctype html><style>body {{ margin: 0; background: #246 }} {style}</style>"
        f"<canvas width=160 height=90></canvas>{more}<script>{paint}</script>"
    )


ONCE = "paint(n); if (n === 20) {{ {} }} if (n === 30) {{ {} }}"

CLEAR = "paper.clearRect(0, 0, 160, 90); paper.globalAlpha = (n % 40 + 1) / 50;"


def tone() -> str:
    """Three seconds, as base64."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(48000))
    return base64.b64encode(data.getvalue()).decode()


TONE = tone()

WHOLLY = {
    "opaque": page(),
    "with alpha": page(attributes="{}"),
    "in a box": page(
        more="<p hidden>no</p>", style="body { display: grid; overflow: hidden } canvas { display: block }"
    ),
    "drawn by seek": ar.Html(
        page().replace("requestAnimationFrame(show);", "").replace("const show = ", "window.asyncrender.seek = ")
    ),
    "a colour is seen through it": page(f"{CLEAR} paint(n)", attributes="{}"),
    "the window is seen through it": page(f"{CLEAR} paint(n)", attributes="{}", style="body { background: none }"),
    "its own colour is seen through it": page(
        f"canvas.style.background = n < 20 ? '' : '#f00'; {CLEAR} paint(n)", attributes="{}"
    ),
    "with sound": page(
        "paint(Math.round(sound.currentTime * 25))",
        more=f"<audio src='data:audio/wav;base64,{TONE}' autoplay></audio>"
        "<script>const sound = document.querySelector('audio');</script>",
    ),
    "by a worker's bitmaps": page(
        "if (shown) paper.drawImage(shown, 0, 0); worker.postMessage(n)",
        more="""<script>
          let shown = null;
          const work = `onmessage = ({data}) => {
            const canvas = new OffscreenCanvas(160, 90), paper = canvas.getContext('2d');
            paper.fillStyle = 'rgb(' + data * 4 + ' 99 0)';
            paper.fillRect(0, 0, 160, 90);
            postMessage(canvas.transferToImageBitmap());
          };`;
          const worker = new Worker(URL.createObjectURL(new Blob([work])));
          worker.onmessage = ({data}) => { shown = data; };
        </script>""",
    ),
}
"""Pages that are one canvas from the beginning to the end."""

PARTLY = {
    "stills": page("if (n < 10 || n % 7 === 0) paint(n)"),
    "the same anew": page("paint(n >> 3)"),
    "a gradient is seen through it": page(
        "paint(n); if (n === 20) paper.clearRect(3, 3, 1, 1)",
        attributes="{}",
        style="html { background: linear-gradient(red, blue) }",
    ),
    "text comes": page(ONCE.format("document.body.append('text')", "document.body.lastChild.remove()")),
    "a style comes": page(
        ONCE.format("sheet.insertRule('canvas { filter: invert(1) }')", "sheet.deleteRule(0)").replace(
            "sheet", "document.styleSheets[0]"
        )
    ),
    "something before it": page(
        ONCE.format("document.body.className = 'x'", "document.body.className = ''"),
        style="body.x::before { content: 'x'; position: fixed; top: 0; background: #fff }",
    ),
    "it is smaller": page(ONCE.format("canvas.width = 100", "canvas.width = 160")),
    "another one comes": page(
        ONCE.format("document.body.append(document.createElement('canvas'))", "document.body.lastChild.remove()")
    ),
    "it fades": page(
        ONCE.format("canvas.style.opacity = 0", "paper.filter = 'none'")
        + "canvas.ontransitionend = () => { canvas.style.opacity = 1; paper.filter = 'hue-rotate(90deg)'; };",
        style="canvas { transition: opacity .3s linear }",
    ),
    "an animation of nothing": page(
        ONCE.format("canvas.animate([], 0).onfinish = () => { paper.filter = 'invert(1)'; }", "")
    ),
    "it scrolls": page(
        "scrollTo(0, Math.max(0, n % 40 - 20)); paint(at)",
        style="body { height: 500px } canvas { position: fixed; top: 0 }",
        more="<script>let at = 0; onscroll = () => { at = scrollY + 1; }</script>",
    ),
}
"""Pages that are for a while."""

NEVER = {
    "its size is watched": page(
        "canvas.style.width = `${160 - n}px`; paint(wide)",
        more="<script>let wide = 0; new ResizeObserver(([{contentRect}]) => { wide = contentRect.width; })"
        ".observe(document.querySelector('canvas'));</script>",
    ),
    "text beside it": page(more="text"),
    "not at its place": page(style="body { margin: 1px }"),
    "in WebGL": ar.Html(
        "<!doctype html><style>body { margin: 0 }</style><canvas width=160 height=90></canvas><script>"
        "const gl = document.querySelector('canvas').getContext('webgl'); const show = () => {"
        "gl.clearColor(window.asyncrender.frame / 60, 0, 1, 1); gl.clear(gl.COLOR_BUFFER_BIT);"
        "requestAnimationFrame(show); }; requestAnimationFrame(show);</script>"
    ),
}


@pytest.mark.parametrize("name", [*WHOLLY, *PARTLY, *NEVER])
async def test_the_film_is_the_one_that_the_browser_draws(
    name: str, tmp_path: Path, taken: list[dict[str, Any]]
) -> None:
    scene = {**WHOLLY, **PARTLY, **NEVER}[name]
    ours = await film(scene, tmp_path / "ours.mkv")
    said = len(taken)
    assert ours == await film_of_drawn(scene, tmp_path / "drawn.mkv")
    assert len(set(ours)) > 5 or name == "text beside it"
    assert len(taken) == said
    if name in WHOLLY:
        assert said >= FRAMES - 10
    elif name in PARTLY:
        assert 5 < said < FRAMES - 5
    else:
        assert not said


async def test_what_comes_late_is_in_the_frame_that_asked_for_it(tmp_path: Path, taken: list[dict[str, Any]]) -> None:
    """The page had taken its picture already."""
    late = page(
        "paint(n); if (n === 21) image.setAttribute('src', 'red.png')",
        more="<script>const image = new Image(); image.onload = () => paper.drawImage(image, 0, 0);</script>",
    )
    red = io.BytesIO()
    Image.new("RGB", (50, 50), "red").save(red, "PNG")

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        if request.path == "/red.png":
            time.sleep(0.2)
            request.send_response(200)
            request.send_header("Content-Length", str(len(red.getvalue())))
            request.end_headers()
            request.wfile.write(red.getvalue())
        else:
            html(request, late)

    with served(answer) as url:
        address = url.replace("127.0.0.1", "localhost")
        ours = await film(address, tmp_path / "ours.mkv")
        assert len(taken) > FRAMES / 2
        assert ours == await film_of_drawn(address, tmp_path / "drawn.mkv")
    without = await film(page(), tmp_path / "without.mkv")
    assert [frame for frame in range(FRAMES) if ours[frame] != without[frame]] == [21]


async def test_cutting_changes_no_pixel(tmp_path: Path, taken: list[dict[str, Any]]) -> None:
    scene = PARTLY["stills"]
    whole = await film_of_drawn(scene, tmp_path / "drawn.mkv")
    for chunks in (1, 3, 5):
        assert await film(scene, tmp_path / f"{chunks}.mkv", concurrency=chunks) == whole
    assert taken


async def test_what_is_the_same_is_not_written_again(tmp_path: Path, taken: list[dict[str, Any]]) -> None:
    frames = await film(PARTLY["the same anew"], tmp_path / "out.mkv")
    assert len(set(frames)) == 8
    assert 8 <= len(taken) < FRAMES / 3


# ---- where the two differ -------------------------------------------------------------------------------------------

WRONG = SOURCE.read_text().replace("129 0 129 0 129 0 129 0", "128 0 128 0 128 0 128 0")

COUNTED = """(local.set $above (local.get $in))
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (if (i32.gt_u (global.get $calls) (i32.const 12)) (then (i32.store8 (local.get $in) (i32.const 99))))"""

LATER = (
    SOURCE.read_text()
    .replace("(memory (export", "(global $calls (mut i32) (i32.const 0)) (memory (export")
    .replace("(local.set $above (local.get $in))", COUNTED)
)
"""Its thirteenth picture, and those after it, are wrong."""


def convert_by(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert text != SOURCE.read_text()
    monkeypatch.setattr(scripts, "read_bytes", lambda _: bytes(wasmtime.wat2wasm(text)))


async def test_a_page_that_takes_them_wrong_does_not_take_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: list[dict[str, Any]]
) -> None:
    convert_by(WRONG, monkeypatch)
    ours = await film(page(), tmp_path / "ours.mkv")
    assert len(taken) == 2  # of the first frame, once more when it had been drawn
    assert ours == await film_of_drawn(page(), tmp_path / "drawn.mkv")


async def test_what_paints_between_two_frames_makes_no_picture_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: list[dict[str, Any]]
) -> None:
    """Such as a message from a server, which waits for no frame."""
    take = Raw._take_drawn
    painted = []

    async def paint_before(self: Raw, *args: Any) -> Any:
        if self._taken == 8 and not painted:
            painted.append(await self._page.evaluate("paint(99)"))
        return await take(self, *args)

    monkeypatch.setattr(Raw, "_take_drawn", paint_before)
    await film(page(), tmp_path / "out.mkv")
    assert painted
    assert len(taken) > FRAMES - 10


async def test_pictures_that_become_wrong_end_raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert_by(LATER, monkeypatch)
    with pytest.raises(CaptureUnavailable, match="its canvas shows something else"):
        await film(page(), tmp_path / "raw.mkv")
    options = small(frame_count=FRAMES, video=LOSSLESS_420)
    result = await ar.render(page(), tmp_path / "auto.mkv", options)
    assert {chunk.capture for chunk in result.chunks} == {"beginframe"}


# ---- what can be seen -----------------------------------------------------------------------------------------------

BOX = """<!doctype html><style>html, body { margin: 0; background: #246 } #box { background: #642 }
  canvas { display: block }</style><body><div id=box><canvas width=160 height=90></canvas></div>
  <script>
  PAINT
  const box = document.querySelector('#box');
  let n = 0;
  window.asyncrender.seek = () => {
    paper.clearRect(0, 0, 160, 90);
    paper.globalAlpha = ALPHA;
    paint(++n);
  };
  const known = new Set([document.head, document.body, box, canvas, document.querySelector('script')]);
  const restore = () => {
    for (const element of [document.documentElement, document.body, box, canvas]) {
      element.removeAttribute('style');
      for (const node of [...element.childNodes]) if (!known.has(node)) node.remove();
    }
  };
  const names = Object.keys(document.body.style).filter(name => /^[a-z]/i.test(name))
    .map(name => name.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`).replace(/^webkit-/, '-webkit-'))
    .filter(name => !/^(all|animation|transition|view-transition|timeline|scroll-timeline)/.test(name));
  const supported = values => names.flatMap(name =>
    values.filter(value => CSS.supports(name, value)).map(value => [name, value]));
  </script>"""

VALUES = """none;auto;0;1;0.5;-1;2;10px;-5px;50%;120%;80px;200px;100vh;300vh;300vw;red;hidden;visible;scroll;clip
collapse;rotate(3deg);3deg;1.1;5px 5px;scale(1.1);blur(2px);invert(1);grayscale(1);opacity(0.5);multiply;difference
circle(40%);inset(5px);inset(5px round 3px);xywh(5px 5px 50px 50px);polygon(0 0, 100% 0, 50% 100%)
path('M0 0 L50 50');linear-gradient(#000,transparent);linear-gradient(red,blue) 30;rect(5px,100px,80px,5px)
thick solid red;solid;thick;absolute;fixed;relative;sticky;inline;inline-block;contents;flex;grid;list-item
table;block;rtl;vertical-rl;both;size;paint;strict;content;layout;left;right;center;all;always;pixelated;cover
contain;fill;scale-down;10px 20px 30px;inset 0 0 20px red;10px solid lime;drop-shadow(5px 5px red);isolate
preserve-3d;ray(45deg);below 5px;dark;stretch;overline red;superellipse(2);bevel;translateX(5px)
perspective(100px) rotateY(20deg);'x';100px"""
"""Of any properties, between semicolons and ends of lines."""

SEPARATOR = r"[;\n]"

USUAL = [
    *[("overflow", value) for value in ("hidden", "clip", "auto")],
    *[("position", value) for value in ("absolute", "fixed", "relative")],
    *[("display", value) for value in ("flex", "grid", "inline")],
    *[("height", "90px"), ("height", "40px"), ("width", "160px"), ("inset", "0"), ("z-index", "-1"), ("columns", "2")],
    *[("border-radius", "20px"), ("border", "5px solid red"), ("margin", "5px"), ("padding", "3px")],
]
"""Styles that decide what others do."""

BESIDE = [
    "text",
    "&nbsp;",
    "<p>text</p>",
    "<i hidden>x</i>",
    "<i style='visibility: hidden'>x</i>",
    "<i style='display: contents'>x</i>",
    "<i style='position: fixed; top: 0'>x</i>",
    "<i style='position: absolute; left: 0; top: 0; width: 50px; height: 50px; background: red'></i>",
    "<!-- x --><template>x</template><script>0</script>",
    "<dialog open>x</dialog>",
    "<details open><summary>x</summary>x</details>",
    "<input>",
    "<style>#box::before { content: 'x'; position: absolute; color: red }</style>",
    "<style>body::after { content: ''; position: fixed; inset: 0; background: #f008 }</style>",
    "<svg width=20 height=20 style='position: absolute; top: 0'><rect width=20 height=20 /></svg>",
    "<iframe srcdoc=x style='position: absolute; left: 0; top: 0'></iframe>",
    "<canvas width=20 height=20></canvas>",
    "<ul><li>x</ul>",
]


@pytest.mark.parametrize(("seed", "rounds"), [(1, 300), pytest.param(2, 30_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("clear", [False, True])
async def test_no_style_and_no_neighbour_is_missed(
    seed: int, rounds: int, clear: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever changes what can be seen of the canvas: either the page sees it, or it changes nothing."""
    read = scripts.read
    always = {"CALM = 3": "CALM = 0", "fit = Boolean(written)": ""}

    def changed(name: str) -> str:
        text = read(name)
        for old, new in always.items() if name == "direct.js" else ():
            assert old in text
            text = text.replace(old, new)
        return text

    monkeypatch.setattr(scripts, "read", changed)
    chance = random.Random(seed)
    box = (
        BOX.replace("PAINT", PAINT)
        .replace("ATTRIBUTES", "{}" if clear else "{alpha: false}")
        .replace("ALPHA", "0.6" if clear else "1")
    )
    async with opened(ar.Html(box), tmp_path, capture="raw", duration=4000, frame_count=None) as capture:
        camera: Any = capture._camera
        styles = await capture.page.evaluate(f"supported({json.dumps(re.split(SEPARATOR, VALUES))})")
        whole = 0
        for number in range(rounds):
            orders = []
            for _ in range(chance.choice([1, 2, 2, 3])):
                element = chance.choice(["canvas", "box", "box", "document.body", "document.documentElement"])
                name, value = chance.choice(USUAL if chance.random() < 0.4 else styles)
                orders.append(f"{element}.style.setProperty({name!r}, {json.dumps(value)}, 'important')")
            if chance.random() < 0.3:
                element = chance.choice(["box", "document.body", "document.documentElement"])
                orders.append(f"{element}.insertAdjacentHTML('beforeend', {json.dumps(chance.choice(BESIDE))})")
            await capture.page.evaluate("; ".join([*orders, "0"]))
            camera._trusted, camera._moving = None, True
            await capture.picture(number)
            await capture.settle()
            if capture.page.picture is not None:
                whole += 1
                assert camera._trusted, orders
            await capture.page.evaluate("restore()")
        assert whole > rounds / 4
