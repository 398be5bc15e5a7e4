"""Raw frames: the same as those of the other paths but for the rounding, each in its place, none torn, none stale."""

from __future__ import annotations

import base64
import http.server
import io
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import structlog
from PIL import Image

import asyncrender as ar
from asyncrender.browser import images
from asyncrender.browser.capture import open_capture
from asyncrender.browser.recorder import ON_THEIR_WAY, ROUNDING_SECONDS, SLOTS, Recorder, Written
from asyncrender.chunk import MOST_REPEATS
from asyncrender.errors import CaptureUnavailable, InvalidOption
from asyncrender.machine import memory_of_all
from asyncrender.pipes import FilePart
from asyncrender.plan import complete, scene_url
from asyncrender.resolve import _unfit_for_raw
from disks import small_disk
from frames import LOSSLESS, LOSSLESS_420, SCENES, digests, pictures, pixels, planes, served, shot, small
from frames import html as answer_html

pytestmark = pytest.mark.anyio

LUMA_TOLERANCE = 3
"""Of 255: Chromium's conversion rounds, and so does the step from BT.601 to BT.709."""

LUMA_OFF_SHARE, LUMA_MOST_OFF = 0.005, 24
"""At edges between saturated colours that step errs, because it sees the mean colour of four pixels: so many of the
pixels may be off by more, and by so much at the most."""

CHROMA_MEAN_TOLERANCE = 1.5
"""Of 255, for a frame: Chromium takes the mean of four pixels where swscale filters; swscale's greys are off by one."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


async def film(scene: str | Path, output: Path, **options: object) -> ar.RenderResult:
    return await ar.render(scene, output, small(**{"video": LOSSLESS_420, **options}))


def raw_frames(file: Path, width: int, height: int) -> list[list[np.ndarray]]:
    return [planes(frame.tobytes(), width, height) for frame in pictures(file, "yuv420p")]


@pytest.mark.parametrize(
    "scene", ["torture", "closed", "canvas", *(pytest.param(name, marks=pytest.mark.soak) for name in ("css", "waapi"))]
)
async def test_frames_are_those_of_beginframe_but_for_the_rounding(scene: str, tmp_path: Path) -> None:
    size, shown = {"width": 640, "height": 480}, {}
    for capture in ("raw", "beginframe"):
        output = tmp_path / f"{capture}.mkv"
        result = await film(SCENES / f"{scene}.html", output, capture=capture, frame_count=36, **size)
        assert {chunk.capture for chunk in result.chunks} == {capture}
        shown[capture] = raw_frames(output, **size)
    for frame, (ours, theirs) in enumerate(zip(shown["raw"], shown["beginframe"], strict=True)):
        off = [np.abs(one.astype(int) - other) for one, other in zip(ours, theirs, strict=True)]
        assert (off[0] > LUMA_TOLERANCE).mean() <= LUMA_OFF_SHARE, f"frame {frame}"
        assert off[0].max() <= LUMA_MOST_OFF, f"frame {frame}: luma is off by {off[0].max()}"
        assert max(plane.mean() for plane in off[1:]) <= CHROMA_MEAN_TOLERANCE, f"frame {frame}"


WATCHED = """<style>
  body { margin: 0; background: #fff } i { position: absolute; width: 20px; height: 20px }
  #a { top: 0; animation: go .3s linear infinite } @keyframes go { from { left: -30px } to { left: 170px } }
</style><i id=a></i><i id=b style="top: 30px; width: 1px; background: #00f"></i><i id=c style="top: 60px"></i><script>
  // what the browser calls after it has laid a frame out shows in the next one
  const paint = entries => { a.style.background = entries.at(-1).isIntersecting ? '#f00' : '#0a0'; };
  new IntersectionObserver(paint).observe(a);
  new ResizeObserver(([{contentRect}]) => { c.style.left = `${contentRect.width}px`; }).observe(b);
  let turns = 0;
  a.addEventListener('animationiteration', () => { c.style.background = `rgb(0 0 ${40 * ++turns})`; });
  const grow = () => { b.style.width = `${(b.offsetWidth + 7) % 150}px`; requestAnimationFrame(grow); };
  requestAnimationFrame(grow);
</script>"""


async def test_what_is_called_after_the_layout_comes_before_the_next_frame(tmp_path: Path) -> None:
    """The page moves on while a frame is drawn, but not before the frame is out of its hands."""
    shown = {}
    for capture in ("raw", "beginframe"):
        await film(ar.Html(WATCHED), tmp_path / f"{capture}.mkv", capture=capture, frame_count=60)
        shown[capture] = raw_frames(tmp_path / f"{capture}.mkv", 160, 90)
    for frame, (ours, theirs) in enumerate(zip(shown["raw"], shown["beginframe"], strict=True)):
        assert np.abs(ours[0].astype(int) - theirs[0]).max() <= LUMA_MOST_OFF, f"frame {frame}"


OFFSCREEN = """<style>body { margin: 0; background: #fff } canvas, i { position: absolute; left: 0; top: 0 }
  i { top: 60px; width: 20px; height: 20px; background: #000 }</style>
  <canvas width=160 height=50></canvas><i></i><script>
  const paper = document.querySelector('canvas').transferControlToOffscreen().getContext('2d');
  let at = 0;
  const show = () => {
    paper.fillStyle = '#000';
    paper.fillRect(0, 0, 160, 50);
    paper.fillStyle = '#fff';
    paper.fillRect(at, 0, 20, 50);
    document.querySelector('i').style.left = `${at}px`;
    at = (at + 4) % 140;
    requestAnimationFrame(show);
  };
  requestAnimationFrame(show);
</script>"""


async def test_a_canvas_that_does_not_wait_for_frames_shows_the_same_moment_as_the_page(tmp_path: Path) -> None:
    await film(ar.Html(OFFSCREEN), tmp_path / "out.mkv", capture="raw", frame_count=40)
    for frame, (luma, _, _) in enumerate(raw_frames(tmp_path / "out.mkv", 160, 90)):
        canvas, page = int(np.argmax(luma[20] > 128)), int(np.argmax(luma[70] < 128))
        assert canvas == page == frame * 4 % 140


async def test_cutting_a_raw_film_changes_no_pixel(tmp_path: Path) -> None:
    films = {}
    for chunks in (1, 2, 5):
        output = tmp_path / f"{chunks}.mkv"
        await film(SCENES / "closed.html", output, capture="raw", concurrency=chunks, width=320, height=180)
        films[chunks] = digests(output)
    assert films[1] == films[2] == films[5]


NUMBERED = """<style>body { margin: 0 } i { float: left; width: 40px; height: 40px }</style><body><script>
  const bits = [...'1234'].map(() => document.body.appendChild(document.createElement('i')));
  const show = () => {
    const number = CHANGES.filter(change => change <= window.asyncrender.frame).length;
    bits.forEach((bit, index) => { bit.style.background = number >> index & 1 ? '#fff' : '#000'; });
    requestAnimationFrame(show);
  };
  requestAnimationFrame(show);
</script>"""

CHANGES = [0, 3, 4, 11, 12, 13, 20, 27, 28, 29]


def numbers(frames: list[list[Any]]) -> list[int]:
    return [sum(1 << bit for bit in range(4) if luma[20, 40 * bit + 20] > 128) for luma, _, _ in frames]


WANTED = [sum(change <= frame for change in CHANGES) for frame in range(30)]


@pytest.mark.parametrize("capture", ["raw", "beginframe", "screenshot"])
@pytest.mark.parametrize("chunks", [1, 4])
async def test_a_frame_in_which_nothing_changes_shows_what_was_there(capture: str, chunks: int, tmp_path: Path) -> None:
    page = ar.Html(NUMBERED.replace("CHANGES", json.dumps(CHANGES)))
    await film(page, tmp_path / "out.mkv", capture=capture, frame_count=30, concurrency=chunks)
    assert numbers(raw_frames(tmp_path / "out.mkv", 160, 90)) == WANTED


@pytest.mark.parametrize("capture", ["raw", pytest.param("beginframe", marks=pytest.mark.soak), "screenshot"])
async def test_what_stands_still_is_sent_once_and_the_film_is_the_same(
    capture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, films, writes = ar.Html(NUMBERED.replace("CHANGES", json.dumps(CHANGES))), {}, {}
    for most in (0, 5, MOST_REPEATS):
        monkeypatch.setattr("asyncrender.chunk.MOST_REPEATS", most)
        output, trace = tmp_path / f"{most}.mkv", tmp_path / f"{most}.json"
        await film(page, output, capture=capture, frame_count=50, trace=str(trace))
        films[most] = output.read_bytes()
        events = json.loads(trace.read_text())["traceEvents"]
        writes[most] = sum(event["name"] == "write" for event in events)
    assert films[0] == films[5] == films[MOST_REPEATS]
    places = [frame - max(change for change in CHANGES if change <= frame) for frame in range(50)]
    for most, count in writes.items():
        assert count == sum(place % (most + 1) == 0 for place in places[:-1]) + 1  # the last one is always sent


async def test_a_change_of_the_background_alone_is_in_its_frame(tmp_path: Path) -> None:
    """Chromium then draws once more than the page changes."""
    text = """<script>const show = () => { const {frame} = window.asyncrender;
      document.documentElement.style.background = `rgb(${[frame, frame, frame].map(f => 20 * Math.floor(f / 3))})`;
      requestAnimationFrame(show); }; requestAnimationFrame(show);</script>"""
    await film(ar.Html(text), tmp_path / "out.mkv", capture="raw", frame_count=30)
    shown = [int(luma[45, 80]) for luma, _, _ in raw_frames(tmp_path / "out.mkv", 160, 90)]
    assert shown == pytest.approx([16 + 219 * 20 * (frame // 3) / 255 for frame in range(30)], abs=2)


async def test_no_frame_is_torn(tmp_path: Path) -> None:
    """Every row of every frame carries the frame's number."""
    text = """<body style="margin: 0"><canvas width=640 height=360 style="display: block"></canvas><script>
      const paper = document.querySelector('canvas').getContext('2d');
      const show = () => {
        for (let bit = 0; bit < 8; bit++) {
          paper.fillStyle = window.asyncrender.frame >> bit & 1 ? '#fff' : '#000';
          paper.fillRect(bit * 80, 0, 80, 360);
        }
        requestAnimationFrame(show);
      };
      requestAnimationFrame(show);</script>"""
    await film(
        ar.Html(text), tmp_path / "out.mkv", capture="raw", frame_count=150, width=640, height=360, concurrency=2
    )
    for frame, (luma, _, _) in enumerate(raw_frames(tmp_path / "out.mkv", 640, 360)):
        bits = luma[:, 40::80] > 128
        assert (bits == [bool(frame >> bit & 1) for bit in range(8)]).all(), f"frame {frame}"


async def test_what_was_skipped_is_not_shown(tmp_path: Path) -> None:
    """After frames without a picture nothing changes any more: the picture is of now all the same."""
    page = ar.Html(NUMBERED.replace("CHANGES", json.dumps([0, 1, 2, 3, 4, 5])))
    options = complete(small(capture="raw"), "x.mkv")
    async with open_capture(options, scene_url(page, "/"), tmp_path) as capture:
        seen = [await shot(capture, 0)]
        for frame in range(1, 9):
            await capture.skip(frame)
        seen += [await shot(capture, 9), await shot(capture, 10)]
    assert numbers([[pixels(png)[:, :, 1], None, None] for png in seen]) == [1, 6, 6]


async def test_colours_are_right(tmp_path: Path) -> None:
    options = complete(small(capture="raw"), "x.mkv")
    for color in [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (18, 97, 201)]:
        page = ar.Html(f"<body style='background: rgb{color}'>")
        async with open_capture(options, scene_url(page, "/"), tmp_path) as capture:
            assert pixels(await shot(capture, 0))[45, 80].tolist() == pytest.approx(color, abs=3)


async def test_the_page_gets_no_camera_and_no_screen(tmp_path: Path) -> None:
    text = """<script>
      window.asyncrender.ready = Promise.all(['getUserMedia', 'getDisplayMedia'].map(name =>
        navigator.mediaDevices[name]({video: true}).then(() => 'there', error => error.name)))
        .then(async names => { window.found = [...names, (await navigator.mediaDevices.enumerateDevices()).length,
          Object.keys(window).filter(name => name.includes('written')).length]; });</script>"""
    options = complete(small(capture="raw"), "x.mkv")
    async with open_capture(options, scene_url(ar.Html(text), "/"), tmp_path) as capture:
        assert await capture.page.evaluate("window.found") == ["NotAllowedError", "NotAllowedError", 0, 0]


async def test_a_policy_of_the_page_is_no_obstacle(tmp_path: Path) -> None:
    policy = "default-src 'none'; require-trusted-types-for 'script'"
    text = f'<meta http-equiv="Content-Security-Policy" content="{policy}"><body style="background: #fff">'
    await film(ar.Html(text), tmp_path / "out.mkv", capture="raw", frame_count=2)


@pytest.mark.parametrize(
    ("options", "url", "reason"),
    [
        ({}, "/x.html", None),
        ({}, "data:text/html,x", None),
        ({}, "https://example.com/", None),
        ({}, "http://localhost:8000/", None),
        ({}, "http://example.com/", "https"),
        ({"video": {"codec": "libx264", "pixel_format": "yuv444p"}}, "/x.html", "yuv444p"),
        ({"video": {"codec": "libx264", "pixel_format": "yuv420p10le"}}, "/x.html", "yuv420p10le"),
        ({"fps": 500}, "/x.html", "500"),
    ],
)
def test_why_frames_are_not_taken_raw(options: dict[str, object], url: str, reason: str | None) -> None:
    found = _unfit_for_raw(ar.RenderOptions(**options), "out.mp4", url)
    assert reason in found if reason and found else found is reason


async def test_auto_says_which_way_it_takes_and_why(tmp_path: Path) -> None:
    for pixel_format, way in [("yuv420p", "raw"), ("bgr0", "beginframe")]:
        options = small(video=ar.VideoOptions(codec="ffv1", pixel_format=pixel_format))
        resolved = await ar.resolve(SCENES / "css.html", tmp_path / "out.mkv", options)
        assert resolved.capture == way
        assert any("raw" in note for note in resolved.environment.notes)


async def test_raw_is_refused_where_it_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"capture.*raw.*yuv420p.*bgr0"):
        await ar.resolve(SCENES / "css.html", tmp_path / "out.mkv", small(capture="raw", video=LOSSLESS))


async def test_a_page_that_forbids_it_is_rendered_without(tmp_path: Path) -> None:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        answer_html(request, "<body style='background: #fff'>", headers={"Permissions-Policy": "display-capture=()"})

    with served(answer) as url:
        resolved = await ar.resolve(url, tmp_path / "out.mkv", small(video=LOSSLESS_420))
        assert resolved.capture == "beginframe"
        assert "cannot be recorded" in " ".join(resolved.environment.notes)
        with pytest.raises(CaptureUnavailable, match="cannot be recorded"):
            await film(url, tmp_path / "out.mkv", capture="raw", frame_count=2)


@pytest.fixture
def small_tmpdir(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Temporary files go to a disk of 60 MB, of which Chromium uses 36, where this machine lets us mount one."""
    folder = Path(tempfile.mkdtemp())
    try:
        with small_disk(folder, "size=60m") as possible:
            if not possible:
                pytest.skip("mounting is not permitted here")
            monkeypatch.setattr(tempfile, "tempdir", str(folder))
            yield
    finally:
        folder.rmdir()


async def test_a_render_whose_frames_find_no_room_goes_on_without_raw(small_tmpdir: None, tmp_path: Path) -> None:
    page = """<script>const show = () => { const {frame} = window.asyncrender;
      document.documentElement.style.background = `rgb(${frame * 10} 0 0)`; requestAnimationFrame(show); };
      requestAnimationFrame(show);</script>"""
    options = small(video=LOSSLESS_420, width=1920, height=1080, frame_count=16)
    with structlog.testing.capture_logs() as said:
        result = await ar.render(ar.Html(page), tmp_path / "out.mkv", options)
    assert {chunk.capture for chunk in result.chunks} == {"beginframe"}
    (warning,) = [one for one in said if one["log_level"] == "warning"]
    assert warning["event"] == "all frames are taken by BeginFrame instead"
    assert "cannot be recorded: Failed to execute 'write'" in warning["reason"]
    assert "No space available" in warning["reason"]


async def test_frames_that_cannot_find_room_are_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncrender.browser.recorder.SLOTS", 1 << 40)
    with pytest.raises(CaptureUnavailable, match=rf"only \d+ MB are free in {tempfile.gettempdir()}, .*TMPDIR"):
        async with open_capture(complete(small(capture="raw"), "x.mkv"), scene_url(ar.Html(""), "/"), tmp_path):
            pass


class _Page:
    label = "page"

    def check_browser(self) -> None:
        pass


def test_which_frame_is_whose(tmp_path: Path) -> None:
    """Frames come in order with their times; those that were never handed out are as the one before."""
    recorder = Recorder(_Page(), tmp_path, complete(small(), "x.mkv"), "mark")  # type: ignore[arg-type]
    first, second, third = (recorder.expect() for _ in range(3))
    first.asked, second.asked, third.asked = 1.0, 2.0, 3.0
    of_nobody, one, three = (Written(FilePart(0, 0, 1), number) for number in range(3))
    recorder._take(of_nobody, 0.5)
    assert not first.there.is_set
    recorder._take(one, 1.1)
    recorder._take(three, 3.0 + ROUNDING_SECONDS)
    assert [picture._frame for picture in (first, second, third)] == [one, one, three]


def test_a_frame_whose_place_was_taken_is_not_passed_off(tmp_path: Path) -> None:
    recorder = Recorder(_Page(), tmp_path, complete(small(), "x.mkv"), "mark")  # type: ignore[arg-type]
    picture = recorder.expect()
    picture.fill(Written(FilePart(0, 0, 1), 0))
    recorder.count = SLOTS - ON_THEIR_WAY
    picture.check_intact()
    recorder.count += 1
    with pytest.raises(ar.BrowserStalled, match="lost before it was encoded"):
        picture.check_intact()


def image(kind: str, *, moving: bool) -> bytes:
    frames = [Image.new("RGB", (40, 40), color) for color in ("red", "blue", "lime")]
    out = io.BytesIO()
    more = {"save_all": True, "append_images": frames[1:], "duration": 100, "loop": 0} if moving else {}
    frames[0].save(out, kind, **more)
    return out.getvalue()


@pytest.mark.parametrize(
    ("kind", "moving"), [(kind, moving) for kind in ("GIF", "WEBP", "PNG") for moving in (True, False)]
)
def test_which_images_move(kind: str, moving: bool) -> None:
    assert images.moves(image(kind, moving=moving)) == moving


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("colors", [2, 7, 256])
def test_a_gif_moves_by_its_second_picture(colors: int, optimize: bool) -> None:
    noise = [Image.effect_noise((60, 50), sigma).quantize(colors) for sigma in (20, 90)]
    one, two = io.BytesIO(), io.BytesIO()
    noise[0].save(one, "GIF", optimize=optimize, comment=b"one;,!", transparency=0)
    noise[0].save(two, "GIF", save_all=True, append_images=noise[1:], optimize=optimize)
    whole = one.getvalue()
    assert not images.moves(whole)
    assert not images.moves(whole + b"what comes after its end")
    assert all(images.moves(whole[:length]) for length in range(10, len(whole)))
    assert images.moves(two.getvalue())


PLACES = {
    "element": "<img src=image>",
    "background": "<style>body { background: url(image) }</style>",
    "late": "<script>setTimeout(() => { document.body.append(Object.assign(new Image(), {src: 'image'})); "
    "}, 200)</script>",
    "data": "<img src='data:image/gif;base64,DATA'>",
    "blob": "<script>fetch('image').then(answer => answer.blob()).then(blob => { document.body.append("
    "Object.assign(new Image(), {src: URL.createObjectURL(blob)})); })</script>",
    "frame": "<iframe srcdoc='<img src=image>'></iframe>",
}


@pytest.mark.parametrize("place", PLACES)
async def test_an_animated_image_ends_raw_for_the_whole_film(place: str, tmp_path: Path) -> None:
    data = image("GIF", moving=True)
    (tmp_path / "image").write_bytes(data)
    text = PLACES[place].replace("DATA", base64.b64encode(data).decode())
    (tmp_path / "scene.html").write_text(f"<!doctype html><body>{text}")
    seen: list[ar.Progress] = []
    options = small(video=LOSSLESS_420, concurrency=2)
    result = await ar.render(tmp_path / "scene.html", tmp_path / "out.mkv", options, on_progress=seen.append)
    assert {chunk.capture for chunk in result.chunks} == {"beginframe"}
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


async def test_a_gif_of_one_picture_leaves_raw_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(image("GIF", moving=False))
    (tmp_path / "scene.html").write_text("<!doctype html><body><img src=image>")
    result = await ar.render(tmp_path / "scene.html", tmp_path / "out.mkv", small(video=LOSSLESS_420))
    assert {chunk.capture for chunk in result.chunks} == {"raw"}


async def test_an_animated_image_is_an_error_where_raw_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(image("GIF", moving=True))
    (tmp_path / "scene.html").write_text("<!doctype html><body><img src=image>")
    with pytest.raises(CaptureUnavailable, match="is an animation"):
        await ar.render(tmp_path / "scene.html", tmp_path / "raw.mkv", small(capture="raw"))


async def test_the_page_does_not_see_that_its_tab_was_moved(tmp_path: Path) -> None:
    options = complete(small(capture="raw"), "x.mkv")
    page = "<script>addEventListener('visibilitychange', () => { throw 1; })</script>still"
    async with open_capture(options, scene_url(ar.Html(page), "/"), tmp_path) as capture:
        await capture.picture(0)
        await capture.settle()
        seen = "[screenX, screenY, screenLeft, screenTop, outerWidth, innerWidth, document.visibilityState]"
        assert await capture.page.evaluate(f"[{seen}, document.hasFocus()]") == [
            [0, 0, 0, 0, 160, 160, "visible"],
            True,
        ]


@pytest.mark.soak
async def test_memory_is_flat_over_20_000_frames(tmp_path: Path) -> None:
    text = """<style>body { margin: 0; font: 40px sans-serif }</style><body><p></p><canvas></canvas><script>
      const paper = document.querySelector('canvas').getContext('2d'), words = document.querySelector('p');
      const show = time => {
        words.textContent = time;
        paper.fillStyle = `hsl(${time / 10}, 80%, 50%)`;
        paper.fillRect(time % 300, 0, 20, 150);
        requestAnimationFrame(show);
      };
      requestAnimationFrame(show);</script>"""
    used: dict[int, tuple[int, int]] = {}

    def look(progress: ar.Progress) -> None:
        if (thousand := progress.frames_done // 1000) not in used:
            used[thousand] = sum(memory_of_all().values()), psutil.Process().memory_info().rss

    options = small(capture="raw", frame_count=20_000, width=320, height=180)
    await ar.render(ar.Html(text), tmp_path / "out.mkv", options, on_progress=look)
    # the page's JavaScript heap has found its size by then
    early, late = ([used[number] for number in some] for some in (range(8, 12), range(16, 20)))
    everything, ours = ([statistics.median(one[which] for one in some) for some in (early, late)] for which in range(2))
    assert everything[1] < 1.05 * everything[0]
    assert ours[1] - ours[0] < 1 << 20


@pytest.mark.parametrize("resolved", [True, False])
async def test_a_plan_goes_on_without_raw_wherever_it_is_carried_out(resolved: bool, tmp_path: Path) -> None:
    (tmp_path / "image.gif").write_bytes(image("GIF", moving=True))
    scene, output = tmp_path / "scene.html", tmp_path / "out.mkv"
    scene.write_text("<!doctype html><body><img src=image.gif>")
    options = small(video=LOSSLESS_420, frame_count=4)
    if resolved:
        options = await ar.resolve(scene, output, options)
        assert options.capture == "raw"
    plan = ar.RenderPlan.model_validate_json(ar.RenderOrchestrator.plan(scene, output, options).model_dump_json())
    result = await ar.RenderOrchestrator().render(plan)
    assert {chunk.capture for chunk in result.chunks} == {"beginframe"}
    assert output.is_file()


async def test_a_still_image_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "image.webp").write_bytes(image("WEBP", moving=False))
    (tmp_path / "scene.html").write_text("<!doctype html><body><img src=image.webp>")
    await film(tmp_path / "scene.html", tmp_path / "out.mkv", capture="raw", frame_count=2)


async def test_no_frame_is_left_out_of_a_long_animation_that_turns(tmp_path: Path) -> None:
    """Chromium would take it for a film, and leave out those frames in which something else changes."""
    text = """<style>body { margin: 0 } i { position: absolute; width: 20px; height: 20px }</style><body><script>
      const bits = [...'12345678'].map((_, at) => document.body.appendChild(document.createElement('i')));
      bits.forEach((bit, at) => { bit.style.cssText = `left: ${at * 20}px; top: ${at % 2 * 40}px`; });
      const show = () => {
        bits.forEach((bit, at) => { bit.style.background = window.asyncrender.frame >> at & 1 ? '#fff' : '#000'; });
        requestAnimationFrame(show);
      };
      requestAnimationFrame(show);</script>"""
    await film(ar.Html(text), tmp_path / "out.mkv", capture="raw", frame_count=256, fps=60)
    for frame, (luma, _, _) in enumerate(raw_frames(tmp_path / "out.mkv", 160, 90)):
        found = sum(1 << bit for bit in range(8) if luma[10 + bit % 2 * 40, bit * 20 + 10] > 128)
        assert found == frame
