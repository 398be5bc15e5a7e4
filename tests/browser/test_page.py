"""Time in the page: frame k shows k ÷ fps on every clock, on all capture paths."""

from __future__ import annotations

import http.server
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from PIL import Image

import asyncrender as ar
from asyncrender.browser.camera import BeginFrame
from asyncrender.browser.capture import Capture, open_capture
from asyncrender.browser.page import Page
from asyncrender.plan import complete
from frames import html, opened, pixels, served, shot, small

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["raw", "beginframe", "screenshot"])
def capture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def answers(page: Capture, question: str, *, frames: int) -> list[Any]:
    """What a page answers after each frame."""
    answered = []
    for frame in range(frames):
        await page.picture(frame)
        answered.append(await page.page.evaluate(question))
    return answered


async def test_every_clock_shows_the_time_of_its_frame(capture: str, tmp_path: Path) -> None:
    async with opened("clocks.html", tmp_path, capture=capture) as page:
        for frame in range(12):
            shown = pixels(await shot(page, frame))
            lengths = [(shown[row * 8 + 4, :, 0] > 127).sum() for row in range(10)]
            assert lengths == [4 * frame] * 10, f"frame {frame}"


async def test_a_frame_that_was_skipped_is_lived_through_all_the_same(capture: str, tmp_path: Path) -> None:
    async with opened("canvas.html", tmp_path, capture=capture) as page:
        full = [await shot(page, frame) for frame in range(6)]
    async with opened("canvas.html", tmp_path, capture=capture) as page:
        for frame in range(5):
            await page.skip(frame)
        assert (pixels(await shot(page, 5)) == pixels(full[5])).all()


SAYS = (
    "<script>const told = [], tell = (...words) => told.push([...words, Math.round(performance.now())]);</script><body>"
)

UNSEEN = {
    "observers": """<div id=box style='position: absolute; width: 50px; height: 50px; background: red'></div>
      <div id=scroller style='height: 40px; overflow: auto'><p style='height: 999px'>text</div><script>
      new ResizeObserver(([{contentRect}]) => tell('resized', contentRect.width)).observe(box);
      new IntersectionObserver(([{isIntersecting}]) => tell('seen', isIntersecting)).observe(box);
      scroller.onscroll = () => tell('scrolled', scroller.scrollTop);
      scroller.onscrollend = () => tell('scrolled to its end');
      let n = 0;
      requestAnimationFrame(function move() {
        box.style.left = `${++n % 20 * 20 - 100}px`;
        box.style.width = `${20 + n % 13}px`;
        if (n % 9 === 0) scroller.scrollTo({top: n * 3, behavior: 'smooth'});
        requestAnimationFrame(move);
      });</script>""",
    "animations": """<style>#box { width: 50px; height: 50px; background: red; transition: translate .3s }
      @keyframes turn { to { rotate: 90deg } } .turned { animation: turn .2s }</style><div id=box></div><script>
      for (const name of ['transitionstart', 'transitionend', 'animationstart', 'animationend'])
        addEventListener(name, () => tell(name));
      setInterval(() => { box.style.translate = `${performance.now() / 9 % 99}px`;
        box.classList.toggle('turned'); }, 270);</script>""",
    "pictures": """<script>let n = 0;
      setInterval(async () => {
        const picture = Object.assign(new Image(), {src: `picture.png?${n++}`, style: `margin-left: ${n * 9}px`});
        await picture.decode();
        tell('decoded');
        document.body.replaceChildren(picture);
      }, 170);</script>""",
    "view transitions": """<style>::view-transition-group(*) { animation-duration: .4s }</style>
      <p id=box style='width: 50px; height: 50px; background: red'></p><script>
      const change = () => { tell('changed'); box.style.marginLeft = `${told.length * 20}px`; };
      setInterval(() => { document.startViewTransition(change).ready.then(() => tell('ready')); }, 500);</script>""",
    "canvas": """<canvas width=160 height=90></canvas><script>let n = 0;
      const canvas = document.querySelector('canvas'), paper = canvas.getContext('2d');
      requestAnimationFrame(function draw() {
        paper.fillStyle = `hsl(${++n * 17}, 80%, 50%)`;
        paper.fillRect(n % 150, n % 80, 40, 30);
        paper.drawImage(canvas, 2, 1);
        requestAnimationFrame(draw);
      });</script>""",
    "webgl": """<canvas width=160 height=90></canvas><script>let n = 0;
      const gl = document.querySelector('canvas').getContext('webgl', {preserveDrawingBuffer: true});
      gl.enable(gl.SCISSOR_TEST);
      requestAnimationFrame(function draw() {
        gl.scissor(++n % 150, n % 80, 20, 20);
        gl.clearColor(n % 7 / 7, n % 5 / 5, n % 3 / 3, 1);
        gl.clear(gl.COLOR_BUFFER_BIT);
        requestAnimationFrame(draw);
      });</script>""",
}
"""Pages that depend on what was lived through, be it drawn or not."""

ALWAYS_DRAWN = {"webgl"}


@pytest.mark.parametrize("capture", ["raw", "beginframe"])
@pytest.mark.parametrize("name", UNSEEN)
async def test_a_page_does_not_notice_that_nobody_looks(
    name: str, capture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.effect_noise((40, 30), 90).save(tmp_path / "picture.png")
    (tmp_path / "scene.html").write_text(SAYS + UNSEEN[name])
    unseen: list[str] = []
    call = Page.call

    async def noted(page: Page, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        if "noDisplayUpdates" in (params or {}):
            unseen.append(method)
        return await call(page, method, params)

    async def lived() -> list[Any]:
        async with opened(tmp_path / "scene.html", tmp_path, capture=capture) as page:
            for frame in range(50):
                await page.skip(frame, more=True)
            return [*[await shot(page, frame) for frame in range(50, 53)], await page.page.evaluate("told")]

    monkeypatch.setattr(Page, "call", noted)
    found = await lived()
    assert bool(unseen) == (name not in ALWAYS_DRAWN)
    monkeypatch.setattr(BeginFrame, "_has_to_draw", lambda camera: True)
    unseen.clear()
    assert found == await lived()
    assert not unseen


async def test_both_paths_give_the_same_pixels(tmp_path: Path) -> None:
    shown = {}
    for path in ("beginframe", "screenshot"):
        async with opened("css.html", tmp_path, capture=path) as page:
            shown[path] = [pixels(await shot(page, frame)) for frame in range(4)]
    assert np.array_equal(shown["beginframe"], shown["screenshot"])


async def test_the_script_of_a_worker_keeps_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / "worker.js").write_text("postMessage('works')")
    text = """<script>
      window.asyncrender.ready = new Promise(done => { new Worker('worker.js').onmessage = event => {
        document.title = event.data;
        done();
      }; });</script>"""
    async with opened(ar.Html(text), tmp_path, capture="beginframe") as page:
        assert await page.page.evaluate("document.title") == "works"


ORDER = """<script>
  const order = [];
  setTimeout(() => { order.push('t10'); Promise.resolve().then(() => order.push('t10 promise')); }, 10);
  setTimeout(() => order.push('t5'), 5);
  const never = setTimeout(() => order.push('never'), 20);
  setTimeout(() => { order.push('t15'); clearTimeout(never); }, 15);
  setTimeout(() => { order.push('t10 second'); }, 10);
  requestAnimationFrame(now => {
    order.push(`raf ${now.toFixed()}`);
    Promise.resolve().then(() => order.push('raf promise'));
  });
  const cancelled = requestAnimationFrame(() => order.push('never'));
  cancelAnimationFrame(cancelled);
  requestAnimationFrame(() => { order.push('raf second'); requestAnimationFrame(now => order.push(`raf ${now}`)); });
  setTimeout(() => order.push('t40'), 40);
</script>"""


async def test_timers_promises_and_frames_come_in_the_browsers_order(tmp_path: Path) -> None:
    async with opened(ar.Html(ORDER), tmp_path) as page:
        await page.skip(0)
        first = ["raf 0", "raf promise", "raf second"]
        assert await page.page.evaluate("order") == first
        await page.skip(1)
        timers = ["t5", "t10", "t10 promise", "t10 second", "t15", "t40", "raf 40"]
        assert await page.page.evaluate("order") == first + timers


FOUR_MS = """<script>
  let times = [];
  setTimeout(function next() { times.push(performance.now()); if (times.length < 9) setTimeout(next, 0); }, 0);
</script>"""


DUE = """<script>
  const log = [], say = name => () => log.push([name, Math.round(performance.now())]);
  window.asyncrender.ready = new Promise(resolve => { setTimeout(resolve, 100); });
  setTimeout(say('before'), 300);
  setTimeout(() => {
    const far = setTimeout(say('cleared'), 160);
    setTimeout(say('third'), 130);
    setTimeout(say('first'), 90);
    setTimeout(say('fourth'), 130);
    setTimeout(() => {
      clearTimeout(far);
      setTimeout(say('second'), 5);
      setTimeout(say('fifth'), 40);
    }, 90);
    const id = setInterval(() => { if (say('every')() > 7) clearInterval(id); }, 65);
  }, 100);
</script>"""


async def test_timers_come_when_they_are_due_whenever_they_were_set(tmp_path: Path) -> None:
    """Some are set before zero, some for frames to come, some for the present one."""
    log = await told(DUE, "log", tmp_path)
    assert log == [
        ["every", 65],
        ["first", 90],
        ["second", 95],
        ["third", 130],
        ["fourth", 130],
        ["every", 130],
        ["fifth", 130],
        ["every", 195],
        ["before", 200],
    ]


async def test_nested_timers_are_slowed_down_as_html_says_so_that_none_stops_the_clock(tmp_path: Path) -> None:
    async with opened(ar.Html(FOUR_MS), tmp_path) as page:
        await page.skip(0)
        await page.skip(1)
        assert await page.page.evaluate("times") == [0, 0, 0, 0, 0, 4, 8, 12, 16]


async def test_a_page_is_idle_once_its_timers_are_done(tmp_path: Path) -> None:
    text = """<script>const said = [];
      requestIdleCallback(() => said.push('idle'));
      requestAnimationFrame(() => { said.push('frame'); setTimeout(() => said.push('timer')); });</script>"""
    assert await told(text, "said", tmp_path, frames=1) == ["frame", "timer", "idle"]


async def test_frames_in_the_page_are_animated_after_it_in_their_order(tmp_path: Path) -> None:
    text = """<body><iframe id="one"></iframe><iframe id="two"></iframe><script>const said = [];
      setTimeout(() => {
        const inner = [one, two].map(frame => frame.contentWindow);
        inner[1].requestAnimationFrame(() => said.push('two'));
        requestAnimationFrame(() => said.push('page 1'));
        inner[0].requestAnimationFrame(() => said.push('one'));
        requestAnimationFrame(() => said.push('page 2'));
        const last = inner[1].requestAnimationFrame(() => said.push('never'));
        requestAnimationFrame(() => inner[1].cancelAnimationFrame(last));
      }, 20);</script>"""
    assert await told(text, "said", tmp_path, frames=2) == ["page 1", "page 2", "one", "two"]


async def test_how_long_the_machine_took_nobody_can_ask(tmp_path: Path) -> None:
    text = """<p>painted</p><script>
      performance.mark('begin');
      setTimeout(() => performance.measure('film', 'begin'), 100);
      const times = () => performance.getEntries().flatMap(one => [one.startTime, one.duration, one.responseEnd ?? 0,
        one.toJSON().domComplete ?? 0]);
    </script>"""
    now = "[performance.getEntriesByType('paint').length, times().reduce((one, other) => one + other)]"
    assert await told(text, f"[...{now}, new File([], 'x').lastModified - Date.now()]", tmp_path) == [2, 100, 0]


async def test_an_animation_ends_and_says_so(capture: str, tmp_path: Path) -> None:
    text = """<div id=a></div><script>const said = [];
      const animation = a.animate([{opacity: 0}, {opacity: 1}], 100);
      animation.onfinish = () => said.push(['finish', performance.now()]);
      animation.finished.then(() => said.push(['finished', performance.now()]));</script>"""
    async with opened(ar.Html(text), tmp_path, capture=capture) as page:
        for frame in range(5):
            await shot(page, frame)
        said = dict(await page.page.evaluate("said"))
        assert said == {"finished": 120, "finish": 120}
        assert await page.page.evaluate("animation.playState") == "finished"


async def test_an_animation_with_a_start_time_runs_though_it_was_paused(tmp_path: Path) -> None:
    """Motion, for one, starts all of its animations so."""
    text = """<p id="paused"></p><p id="idle"></p><script>
      const shown = [paused, idle].map(p => p.animate([{opacity: 0}, {opacity: 1}], {duration: 1000}));
      shown[0].pause();
      shown[1].cancel();
      setTimeout(() => {
        shown[0].startTime = document.timeline.currentTime;
        shown[1].startTime = document.timeline.currentTime - 100;
      }, 40);
      const still = paused.animate([{opacity: 0}, {opacity: 1}], {duration: 1000});
      still.startTime = null;  // holds it where it is
    </script>"""
    told = "[...shown, still].map(one => [one.playState, one.currentTime])"
    async with opened(ar.Html(text), tmp_path, capture="beginframe") as page:
        for frame in range(5):
            await page.picture(frame)
        assert await page.page.evaluate(told) == [["running", 120], ["running", 220], ["paused", 0]]
        assert await page.page.evaluate("shown.map(one => one.startTime)") == [40, -60]


async def test_what_a_timer_asks_of_animations_is_about_its_time(tmp_path: Path) -> None:
    text = """<p id="p"></p><script>
      const make = () => p.animate([{opacity: 0}, {opacity: 1}], {duration: 1000});
      const [first, stopped, faster] = [make(), make(), make()], told = [];
      let second;
      setTimeout(() => {
        second = make();
        second.startTime = first.startTime;
        told.push(first.currentTime, first.startTime);
        stopped.pause();
        faster.playbackRate = 2;
      }, 100);
    </script>"""
    now = "[...told, ...[first, second, stopped, faster].map(one => one.currentTime)]"
    assert await told(text, now, tmp_path, frames=5) == [100, 0, 160, 160, 100, 220]


async def test_an_animation_on_a_timeline_of_the_pages_own_keeps_time(tmp_path: Path) -> None:
    text = """<p id="p"></p><script>
      const effect = new KeyframeEffect(p, {opacity: [0, 1]}, {duration: 1000});
      new Animation(effect, new DocumentTimeline()).play();
    </script>"""
    assert await told(text, "Number(getComputedStyle(p).opacity)", tmp_path) == 0.36


async def test_what_a_frame_leaves_to_be_done_is_done_before_the_next(capture: str, tmp_path: Path) -> None:
    """Here it waits for a task that takes longer than the drawing does."""
    text = """<div id="grows"><p id="seen" hidden>seen</p></div><script>
      const told = [], {port1, port2} = new MessageChannel();
      port1.onmessage = () => { for (let n = 0, x = 1; n < 12e6; n++) x = x * 16807 % 2147483647; };
      new ResizeObserver(() => port2.postMessage(0)).observe(grows);
      new IntersectionObserver(found => told.push([found[0].isIntersecting, performance.now()])).observe(seen);
      requestAnimationFrame(function draw(now) {
        grows.style.height = `${100 + now}px`;
        seen.hidden = Math.round(now / 40) % 2 == 0;
        requestAnimationFrame(draw);
      });
    </script>"""
    frames = range(16)
    async with opened(ar.Html(text), tmp_path, capture=capture) as page:
        for frame in frames:
            await page.picture(frame, more=frame < frames[-1])
        await page.settle()
        told = await page.page.evaluate("told")
    assert [seen for seen in told if seen[1] > 0] == [[frame % 2 == 1, frame * 40] for frame in frames[1:-1]]


async def test_what_a_drawing_has_the_page_do_is_seen_in_the_next_frame(capture: str, tmp_path: Path) -> None:
    """Also where a page that stood still is drawn twice for its picture."""
    text = """<body style="margin: 0"><p id="p" style="position: absolute; top: 99px; margin: 0">p</p><script>
      const show = ([{isIntersecting}]) => { document.body.style.background = isIntersecting ? '#00f' : '#fff'; };
      new IntersectionObserver(show).observe(p);
      setTimeout(() => { p.style.top = '40px'; }, 190);
    </script>"""
    async with opened(ar.Html(text), tmp_path, capture=capture) as page:
        shown = [pixels(await shot(page, frame)) for frame in range(8)]
    assert [int(picture[4, 4, 0]) < 127 for picture in shown] == [False] * 6 + [True] * 2


async def test_a_view_transition_begins_with_its_frame(tmp_path: Path) -> None:
    """The compositor first takes pictures for it, and the page shall not move on meanwhile."""
    text = """<body><p id="p" style="position: absolute; width: 9px; height: 9px; background: #00f"></p><script>
      const told = [];
      requestAnimationFrame(function draw(now) {
        p.style.left = `${now / 10}px`;
        if (Math.round(now) % 480 === 240)
          document.startViewTransition(() => told.push(now)).ready.then(() => told.push(performance.now()));
        requestAnimationFrame(draw);
      });
    </script>"""
    frames = range(20)
    async with opened(ar.Html(text), tmp_path, capture="raw") as page:
        for frame in frames:
            await page.picture(frame, more=frame < frames[-1])
        assert await page.page.evaluate("told") == [240, 240, 720, 720]


@pytest.mark.parametrize("capture", ["beginframe", "screenshot"])
async def test_a_view_transition_may_take_time_to_change_the_page(capture: str, tmp_path: Path) -> None:
    """Nothing is drawn meanwhile, and what a screenshot waits for Chromium gives up."""
    text = """<body><style>::view-transition-group(*) { animation: none }</style><p id="p">old</p><script>
      const told = [], wait = () => new Promise(resolve => setTimeout(resolve, 70));
      const change = async () => { told.push('changes'); await wait(); told.push(performance.now()); };
      setTimeout(() => document.startViewTransition(change).ready.then(() => told.push('ready')), 80);
    </script>"""
    assert await told(text, "told", tmp_path, frames=7, capture=capture) == ["changes", 150, "ready"]


async def test_a_seekable_page_is_waited_for(tmp_path: Path) -> None:
    text = """<body style="margin:0;background:#000"><script>
      window.asyncrender.seek = async (time, frame) => {
        await new Promise(resolve => { const channel = new MessageChannel();
          channel.port1.onmessage = resolve; channel.port2.postMessage(0); });
        document.body.style.background = `rgb(${frame}, ${Math.round(time * 100)}, 0)`;
      };</script>"""
    async with opened(ar.Html(text), tmp_path) as page:
        for frame in (0, 1, 7):
            shown = pixels(await shot(page, frame))
            assert tuple(shown[5, 5]) == (frame, 4 * frame, 0)


async def test_readiness_by_a_promise_that_needs_a_timer_sets_zero_when_ready(tmp_path: Path) -> None:
    text = """<script>
      window.asyncrender.ready = new Promise(resolve => setTimeout(resolve, 300));
      let first; window.asyncrender.ready.then(() => requestAnimationFrame(now => { first = now; }));</script>"""
    async with opened(ar.Html(text), tmp_path) as page:
        await page.skip(0)
        assert await page.page.evaluate("[first, performance.now()]") == pytest.approx([0, 0])


async def test_the_page_knows_its_film(tmp_path: Path) -> None:
    text = "<script>const seen = JSON.stringify(window.asyncrender);</script>"
    async with opened(ar.Html(text), tmp_path, props={"name": "Ünïcödé 🎬", "list": [1, None]}) as page:
        seen = await page.page.evaluate("JSON.parse(seen)")
    expected = {"fps": 25, "width": 160, "height": 90, "duration": 0.4, "frame": 0, "time": 0}
    assert seen == {**expected, "props": {"name": "Ünïcödé 🎬", "list": [1, None]}}


async def test_the_environment_is_fixed(tmp_path: Path) -> None:
    look = """[Intl.DateTimeFormat().resolvedOptions().timeZone, navigator.language, new Date().toISOString(),
        isSecureContext, document.hasFocus(), matchMedia('(prefers-color-scheme: light)').matches,
        devicePixelRatio, innerWidth, innerHeight, location.origin, performance.timing.navigationStart]"""
    async with opened("css.html", tmp_path) as page:
        await page.skip(0)
        seen = await page.page.evaluate(look)
    at = "2024-01-01T00:00:00.000Z"
    assert seen == ["UTC", "en-US", at, True, True, True, 1, 160, 90, "http://scene.localhost", 1_704_067_200_000]


async def test_the_screen_is_as_large_as_the_film(tmp_path: Path) -> None:
    look = "[screen.width, screen.height, outerWidth, outerHeight, matchMedia('(device-width: 1000px)').matches]"
    async with opened("css.html", tmp_path, capture="screenshot", width=1000, height=900) as page:
        assert await page.page.evaluate(look) == [1000, 900, 1000, 900, True]


async def test_no_mouse_hovers(capture: str, tmp_path: Path) -> None:
    """What lies in the page's corner would be hovered over, and carousels stand still where they are."""
    text = """<!doctype html><style>div { position: absolute; inset: 0 }</style><div id="one"></div><script>
      let mice = 0;
      for (const name of ['pointerover', 'mouseenter', 'mousemove'])
        document.addEventListener(name, () => mice++, true);
      setTimeout(() => one.after(one.cloneNode()), 100);
      requestAnimationFrame(function f(t) { one.textContent = t; requestAnimationFrame(f); });
    </script>"""
    async with opened(ar.Html(text), tmp_path, capture=capture) as page:
        told = await answers(page, "[mice, document.querySelectorAll(':hover').length]", frames=8)
    assert told == [[0, 0]] * 8


async def test_the_caret_does_not_blink_by_the_wall_clock(tmp_path: Path) -> None:
    text = """<body style="margin: 0"><input autofocus style="font: 40px monospace; border: 0; outline: 0">
      <script>document.adoptedStyleSheets = [new CSSStyleSheet()];</script>"""
    async with opened(ar.Html(text), tmp_path, capture="beginframe") as page:
        first = pixels(await shot(page, 0))
        time.sleep(0.6)
        assert np.array_equal(pixels(await shot(page, 1)), first)
        assert first.min() == 0, "it is there"


async def test_the_environment_can_be_set(tmp_path: Path) -> None:
    look = """[Intl.DateTimeFormat().resolvedOptions().timeZone, navigator.language, new Date().getHours(),
        (1234.5).toLocaleString(), matchMedia('(prefers-color-scheme: dark)').matches, Date.now()]"""
    browser = {"timezone": "Asia/Tokyo", "locale": "de-DE", "color_scheme": "dark"}
    async with opened("css.html", tmp_path, browser=browser, epoch_ms=1_000_000_000_000) as page:
        await page.skip(0)
        assert await page.page.evaluate(look) == ["Asia/Tokyo", "de-DE", 10, "1.234,5", True, 1_000_000_000_000]


@pytest.mark.parametrize(("option", "value"), [("timezone", "Mars/Olympus"), ("locale", "no such!")])
async def test_an_environment_that_there_is_not_is_a_wrong_option(tmp_path: Path, option: str, value: str) -> None:
    with pytest.raises(ar.InvalidOption, match=f"browser.{option}='{value}'"):
        async with opened("css.html", tmp_path, browser={option: value}):
            pass


async def test_chance_is_seeded(tmp_path: Path) -> None:
    draw = "[Math.random(), crypto.randomUUID(), [...crypto.getRandomValues(new Uint8Array(4))]]"

    async def drawn(seed: int) -> object:
        async with opened("css.html", tmp_path, seed=seed) as page:
            return await page.page.evaluate(draw)

    first, again, other = await drawn(1), await drawn(1), await drawn(2)
    assert first == again != other


async def told(text: str, expression: str, tmp_path: Path, *, frames: int = 10, capture: str = "beginframe") -> Any:
    """What the page says after so many frames of 40 ms."""
    async with opened(ar.Html(text), tmp_path, capture=capture) as page:
        for frame in range(frames):
            await page.picture(frame)
        return await page.page.evaluate(expression)


FALL_BACK = """<p id="p"></p><script>
  fetch('%s').then(answer => answer.ok && '%s' ? answer.json() : 'instead').then(said => { p.textContent = said; });
  setTimeout(() => fetch('there.json'), 100);
</script>"""


@pytest.mark.parametrize("capture", ["beginframe", "raw"])
@pytest.mark.parametrize(("name", "read"), [("missing.json", "yes"), ("there.json", "")])
async def test_an_answer_need_not_be_read(name: str, read: str, capture: str, tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text('"' + "x" * 100_000 + '"')
    text = FALL_BACK % (name, read)
    assert await told(text, "p.textContent", tmp_path, capture=capture) == "instead"


READ = {
    "reader": "const reader = body.getReader(); while (!(part = await reader.read()).done) bytes += part.value.length",
    "loop": "for await (const part of body) bytes += part.length",
    "decoded": "for await (const part of body.pipeThrough(new TextDecoderStream())) bytes += part.length",
    "piped": "await body.pipeTo(new WritableStream({write(part) { bytes += part.length; }}))",
    "split": "for await (const part of body.tee()[1]) bytes += part.length",
}


@contextmanager
def slow_site(page: str) -> Iterator[str]:
    """A page, and beside it `slow`: 3000 bytes that come bit by bit."""

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        if request.path == "/":
            html(request, page)
            return
        request.send_response(200)
        request.end_headers()
        for _ in range(3):
            request.wfile.write(b"x" * 1000)
            time.sleep(0.1)

    with served(answer) as url:
        yield url


@pytest.mark.parametrize("way", READ)
async def test_a_body_that_is_read_in_pieces_holds_the_clock(way: str, tmp_path: Path) -> None:
    text = f"""<script>
      let found = null;
      setTimeout(async () => {{
        const {{body}} = await fetch('slow');
        let bytes = 0, part;
        {READ[way]};
        found = [bytes, performance.now()];
      }}, 80);
    </script>"""
    with slow_site(text) as url:
        async with open_capture(complete(small(capture="beginframe"), "x.mkv"), url, tmp_path) as page:
            for frame in range(4):
                await page.picture(frame)
            assert await page.page.evaluate("found") == [3000, 80]


async def test_a_stream_of_the_pages_own_may_wait_for_its_clock(tmp_path: Path) -> None:
    text = """<script>
      let found = 0;
      const later = {async transform(part, out) { await new Promise(go => setTimeout(go, 40)); out.enqueue(part); }};
      setTimeout(async () => {
        const {body} = await fetch('slow');
        for await (const part of body.pipeThrough(new TransformStream(later))) found += part.length;
      }, 80);
    </script>"""
    with slow_site(text) as url:
        async with open_capture(complete(small(capture="beginframe"), "x.mkv"), url, tmp_path) as page:
            for frame in range(10):
                await page.picture(frame)
            assert await page.page.evaluate("found") > 0


async def test_an_image_that_is_not_loaded_after_all_holds_nothing_up(tmp_path: Path) -> None:
    text = """<script>
      const lazy = document.createElement('img');
      lazy.src = 'lazy.png';
      lazy.loading = 'lazy';
      lazy.style = 'position: absolute; top: 9000px';
      document.body.append(lazy);
      const none = new Image();
      none.src = 'none.png';
      none.removeAttribute('src');
    </script>"""
    assert await told(f"<body>{text}", "performance.now()", tmp_path) == 360


ANIMATIONS = """<style>
  @keyframes move { to { translate: 100px } }
  .css { animation: move 1s linear }
</style>
<p id="stopped" class="css"></p><p id="back"></p><p id="bounced"></p><p id="sought"></p>
<p class="css" style="animation-timeline: none"></p><p class="css" style="animation-timeline: --nowhere"></p>
<script>
  const make = (element, length = 1000, more = {}) =>
    element.animate([{translate: '0px'}, {translate: '100px'}], {duration: length, ...more});
  setTimeout(() => { stopped.style.animationPlayState = 'paused'; }, 100);
  setTimeout(() => { stopped.style.animationPlayState = 'running'; }, 240);
  make(back).reverse();
  const bounces = make(bounced, 200);
  bounces.onfinish = () => bounces.reverse();
  make(sought, 1000, {fill: 'both'}).currentTime = 500;
  const where = () => [stopped, back, bounced, sought].map(p => Math.round(parseFloat(getComputedStyle(p).translate)));
</script>"""


async def test_animations_go_on_from_where_they_are(tmp_path: Path) -> None:
    async with opened(ar.Html(ANIMATIONS), tmp_path, capture="beginframe") as page:
        where = await answers(page, "where()", frames=11)
    stopped, back, bounced, sought = zip(*where, strict=True)
    assert stopped == (0, 4, *[8] * 5, 12, 16, 20, 24)
    assert back == tuple(100 - 4 * frame for frame in range(11))
    assert sought == tuple(50 + 4 * frame for frame in range(11))
    assert bounced[:5] == (0, 20, 40, 60, 80)
    assert bounced[6:10] == (80, 60, 40, 20)


APART = """<p id="leaves"></p><script>
  const log = [], move = [{translate: '0px'}, {translate: '100px'}];
  const tell = (name, animation) => animation.finished.then(() => log.push(name + Math.round(performance.now())));
  const late = document.createElement('p'), never = document.createElement('p');
  late.animate(move, 1000);
  tell('never', never.animate(move, 120));
  tell('back', leaves.animate(move, 160));
  leaves.getAnimations()[0].reverse();
  tell('leaves', leaves.animate(move, 200));
  tell('ends', document.documentElement.animate({rotate: '0deg'}, {duration: 80, endDelay: 160}));
  setTimeout(() => leaves.remove(), 80);
  setTimeout(() => document.body.append(late), 160);
</script>"""


async def test_animations_move_though_nothing_is_seen_of_them(tmp_path: Path) -> None:
    said = await told(f"<body>{APART}", "[parseFloat(getComputedStyle(late).translate), ...log]", tmp_path)
    assert said == [36, "never120", "back160", "leaves200", "ends240"]


BACKWARDS = """<b id="b">b</b><script>
  const one = b.animate([{opacity: 0}, {opacity: 0.5}], 100);
  one.pause();
  %s;
  setTimeout(() => requestAnimationFrame(() => { one.startTime = performance.now() + 300; }), 200);
</script>"""


@pytest.mark.parametrize("turn", ["one.reverse(); one.pause()", "one.updatePlaybackRate(-1)", "one.playbackRate = -1"])
async def test_what_goes_backwards_is_not_over_where_it_begins(turn: str, tmp_path: Path) -> None:
    opacity = "Math.round(getComputedStyle(b).opacity * 100)"
    async with opened(ar.Html(BACKWARDS % turn), tmp_path, capture="beginframe") as page:
        assert (await answers(page, opacity, frames=7))[5:] == [50, 50]


STEPS = """<body><style>@keyframes m { from { left: 0 } to { left: 100px } }
  i { position: absolute; animation: m 1s steps(10) both }</style><script>
  const begun = [];
  requestAnimationFrame(function draw() {
    if (begun.push(document.createElement('i')) < 10) requestAnimationFrame(draw);
    document.body.append(begun.at(-1));
  });
  const where = () => begun.map(i => parseFloat(getComputedStyle(i).left));
</script>"""


async def test_steps_last_equally_long_whenever_they_begin(tmp_path: Path) -> None:
    async with opened(ar.Html(STEPS), tmp_path, capture="beginframe", fps=30) as page:
        for frame in range(26):
            await page.skip(frame)
            shown = await page.page.evaluate("where()")
            assert shown == [(frame - begin) // 3 * 10 for begin in range(min(frame + 1, 10))], f"frame {frame}"


ROUNDS = """<style>@keyframes m { from { left: 0 } to { left: 100px } }
  i { position: absolute; animation: m .4s steps(5) infinite }</style>
<i id="on"></i><i id="back" style="animation-direction: reverse"></i>
<i id="both" style="animation-direction: alternate"></i>
<i id="loop" style="animation-duration: .52s; animation-timing-function: linear"></i>
<script>
  const where = () => [on, back, both, loop].map(i => parseFloat(getComputedStyle(i).left));
</script>"""


async def test_steps_and_rounds_begin_in_the_very_frame(tmp_path: Path) -> None:
    async with opened(ar.Html(ROUNDS), tmp_path, capture="beginframe") as page:
        on, back, both, loop = zip(*await answers(page, "where()", frames=41), strict=True)
    rounds = [divmod(frame, 10) for frame in range(41)]
    assert on == tuple(step // 2 * 20 for _, step in rounds)
    within = [frame for frame, (_, step) in enumerate(rounds) if step]  # for where they turn there is no number
    assert [back[frame] for frame in within] == [(10 - frame % 10) // 2 * 20 for frame in within]
    turned = {frame: 10 - frame % 10 if frame // 10 % 2 else frame % 10 for frame in within}
    assert [both[frame] for frame in within] == [step // 2 * 20 for step in turned.values()]
    assert [round(left * 13 / 100) for left in loop] == [frame % 13 for frame in range(41)]


SMIL = """<svg id="one"><rect id="a"><animate attributeName="x" to="1000" dur="1s"/></rect>
  <rect id="b"><set attributeName="x" to="1" begin=".04s"/><set attributeName="x" to="2" begin=".28s"/></rect>
  <rect id="c"><animate attributeName="x" to="1000" dur="1s" begin="indefinite"/></rect>
  <svg><rect id="d"><animate attributeName="x" to="1000" dur="1s"/></rect></svg></svg>
<svg id="two"><rect id="e"><animate attributeName="x" to="1000" dur="1s"/></rect></svg>
<script>
  two.setCurrentTime(.2);
  setTimeout(() => one.pauseAnimations(), 360);
  setTimeout(() => one.unpauseAnimations(), 440);
  requestAnimationFrame(function draw(now) {
    if (Math.round(now) === 120) c.firstChild.beginElement(); else requestAnimationFrame(draw);
  });
  const where = () => [a, b, c, d, e].map(rect => Math.round(rect.x.animVal.value));
</script>"""


async def test_svg_has_a_clock_that_a_page_may_stop_and_set(tmp_path: Path) -> None:
    async with opened(ar.Html(SMIL), tmp_path, capture="beginframe") as page:
        where = await answers(page, "[...where(), one.animationsPaused()]", frames=13)
    stopped, sets, begun, nested, sought, paused = zip(*where, strict=True)
    assert stopped == (*range(0, 361, 40), 360, 360, 400)
    assert sets == (0, *[1] * 6, *[2] * 6), "in the very frame in which they begin"
    assert begun == (0, 0, 0, *range(0, 241, 40), 240, 240, 280)
    assert nested == tuple(40 * frame for frame in range(13))
    assert sought == tuple(200 + 40 * frame for frame in range(13))
    assert paused == (*[False] * 9, True, True, False, False)


SHADOWS = """<style></style><div id="deep"><template shadowrootmode="open">
  <div id="host"><template shadowrootmode="open"><style>@keyframes m { to { translate: 100px } }
    p { animation: m 1s linear }</style><p id="p"></p></template></div></template></div>
<script>
  customElements.define('e-one', class extends HTMLElement {
    constructor() {
      super();
      this.attachShadow({mode: 'open'}).innerHTML =
        '<style>@keyframes m { to { translate: 100px } } p { animation: m 1s linear }</style><p></p>';
    }
  });
  const late = document.createElement('e-one'), again = document.createElement('e-one');
  setTimeout(() => document.body.append(late), 80);
  document.body.append(again);
  setTimeout(() => again.remove(), 80);
  setTimeout(() => document.body.append(again), 200);
  const at = root => parseFloat(getComputedStyle(root.querySelector('p')).translate);
</script>"""


async def test_animations_in_all_shadow_trees_move(tmp_path: Path) -> None:
    expression = "[late.shadowRoot, again.shadowRoot, deep.shadowRoot.querySelector('#host').shadowRoot].map(at)"
    assert await told(SHADOWS, expression, tmp_path) == [28, 16, 36]


MANY = """<!doctype html><style>b { animation: go 1s infinite } @keyframes go { to { rotate: 1turn } }</style><script>
  for (let n = 0; n < 50; n++) document.write('<b>b</b>');
  const native = Document.prototype.getAnimations;
  let looks = 0;
  Document.prototype.getAnimations = function () { looks++; return native.call(this); };
</script>"""


@pytest.mark.parametrize("script", ["", "requestAnimationFrame(function draw() { requestAnimationFrame(draw); });"])
async def test_what_moves_by_itself_is_looked_for_once_a_frame_and_not_told_of(script: str, tmp_path: Path) -> None:
    """Each look, and each word of Chromium's about one of them, costs: some pages have hundreds."""
    told_of: list[dict[str, Any]] = []
    async with opened(ar.Html(f"{MANY}<script>{script}</script>"), tmp_path) as page:
        page.page.listen("Animation.animationUpdated", told_of.append)
        for frame in range(3):
            await page.skip(frame)
        before = await page.page.evaluate("looks")
        told_of.clear()
        for frame in range(3, 33):
            await page.skip(frame)
        assert await page.page.evaluate("looks") == before + 30
    assert not told_of


BEGUN = {
    "in a frame": "requestAnimationFrame(function step() { if (++k === 3) go(); requestAnimationFrame(step); })",
    "on the way": "setTimeout(go, 120)",
    "by what is drawn": "new IntersectionObserver(([seen]) => { if (seen.isIntersecting) go(); }).observe(late);"
    "setTimeout(() => scrollTo({top: 3000, behavior: 'instant'}), 90)",
    "by an animation": "first.onfinish = go",
}


@pytest.mark.parametrize("how", BEGUN)
async def test_an_animation_begins_at_the_frame_at_which_the_page_begins_it(how: str, tmp_path: Path) -> None:
    text = f"""<!doctype html><div style="height: 3000px"></div><b id=late>b</b><script>
      const first = document.body.animate([{{opacity: 1}}, {{opacity: 0.5}}], 100);
      let k = 0, at = null, moved;
      const go = () => {{
        at = performance.now();
        moved = late.animate([{{opacity: 1}}, {{opacity: 0.5}}], 1e5);
      }};
      {BEGUN[how]};
    </script>"""
    async with opened(ar.Html(text), tmp_path, capture="beginframe") as page:
        for frame in range(12):
            await page.skip(frame)
        at, time = await page.page.evaluate("[at, moved.currentTime]")
    assert at in (80, 120, 160)
    assert time == pytest.approx(11 * 40 - at)


SYMBOL = (
    "<svg width=0 height=0 style='position: absolute'>"
    "<symbol id=s><rect class=moves width=10 height=20 /></symbol></svg><svg width=160 height=20>"
)
INNER_TREES = {
    "use": f"{SYMBOL}<use href=#s /></svg>",
    "late use": f"{SYMBOL}<use id=u /></svg><script>setTimeout(() => u.setAttribute('href', '#s'), 80)</script>",
    "a form's button": "<style>::file-selector-button { all: unset; display: block; width: 10px; height: 20px;"
    "background: black; overflow: hidden; animation: go 1s linear infinite }</style>"
    "<input type=file style='color: white; width: 160px'>",
    "progress": "<style>progress { all: unset; appearance: none; display: block; width: 100px; height: 20px }"
    "::-webkit-progress-bar { background: white }::-webkit-progress-value { background: black;"
    "transition: width 1s linear }</style><progress max=100 value=10 id=p></progress>"
    "<script>setTimeout(() => { p.value = 100; }, 80)</script>",
    "details": "<style>summary { display: none }::details-content { content-visibility: visible; display: block;"
    "width: 10px; height: 20px; background: black; animation: go 1s linear infinite }</style>"
    "<details><summary></details>",
}


@pytest.mark.parametrize("host", INNER_TREES)
async def test_what_is_in_trees_of_the_browsers_own_moves(host: str, capture: str, tmp_path: Path) -> None:
    """The right edge of what is black goes right by 4 px a frame."""
    style = "body { margin: 0; background: white } .moves { animation: go 1s linear infinite }"
    style += "@keyframes go { to { transform: translateX(100px) } }"
    text = f"<!doctype html><style>{style}</style>{INNER_TREES[host]}"
    begins = 2 if "setTimeout" in text else 0
    async with opened(ar.Html(text), tmp_path, capture=capture) as page:
        edges = []
        for frame in range(8):
            dark = (pixels(await shot(page, frame))[10, :, 1] < 100).nonzero()[0]
            edges.append(int(dark.max()) + 1 if dark.size else 0)
    step = 90 / 25 if host == "progress" else 4
    expected = [10 + step * (frame - begins) for frame in range(begins, 8)]
    assert edges[begins:] == pytest.approx(expected, abs=1)


async def test_a_frame_without_scripts_keeps_nobody_waiting(capture: str, tmp_path: Path) -> None:
    text = "<iframe sandbox srcdoc='<p>x'></iframe>"
    assert await told(text, "performance.now()", tmp_path, capture=capture) == 360


async def test_a_document_that_has_left_its_frame_does_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "old.html").write_text("""<script>
      setInterval(() => parent.told.push('timer'), 40);
      requestAnimationFrame(function draw() { parent.told.push('frame'); requestAnimationFrame(draw); });
      </script><audio src="tone.wav" autoplay></audio>""")
    (tmp_path / "new.html").write_text("new")
    tone = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=d=1", str(tmp_path / "tone.wav")]
    subprocess.run(tone, check=True)
    text = """<iframe id="inner" src="old.html"></iframe><script>
      var told = [], before = 0;
      inner.addEventListener('load', () => { before = told.length; });
      setTimeout(() => { inner.src = 'new.html'; }, 130);
    </script>"""
    path = tmp_path / "scene.html"
    path.write_text(text, encoding="utf-8")
    result = await ar.render(path, tmp_path / "film.mkv", small(frame_count=12, capture="beginframe"))
    assert result.warnings == ()
    async with opened(ar.Html(text), tmp_path, capture="beginframe") as page:
        for frame in range(12):
            await page.picture(frame)
        at_navigation, in_all = await page.page.evaluate("[before, told.length]")
    assert at_navigation == in_all > 0


TALL = "<div style='height: %s'></div><p id='end'>end</p><div style='height: 2000px'></div>"
SCROLLS = {
    "options": "scrollTo({top: 900, behavior: 'smooth'})",
    "relative": "scrollBy({top: 900, behavior: 'smooth'})",
    "an element": "end.scrollIntoView({behavior: 'smooth'})",
    "by style": "document.documentElement.style.scrollBehavior = 'smooth'; scrollTo(0, 900)",
    "a property": "document.documentElement.style.scrollBehavior = 'smooth'; document.documentElement.scrollTop = 900",
    "a link": "document.documentElement.style.scrollBehavior = 'smooth'; location.hash = '#end'",
}


@pytest.mark.parametrize("way", SCROLLS)
async def test_smooth_scrolling_takes_the_pages_time(way: str, tmp_path: Path) -> None:
    """900 px take √900 ÷ 60 s, from the first frame that comes after, by cubic-bezier(.4, 0, 0, 1)."""
    text = f"""<!doctype html><body style="margin: 0">{TALL % "900px"}<style>p {{ margin: 0 }}</style><script>
      let ends = 0;
      addEventListener('scrollend', () => ends++);
      setTimeout(() => {{ {SCROLLS[way]} }}, 100);
    </script>"""
    async with opened(ar.Html(text), tmp_path, capture="raw", fps=20) as page:
        tops = await answers(page, "scrollY", frames=16)
        assert await page.page.evaluate("ends") == 1
    t = np.linspace(0, 1, 10_000)
    curve = np.interp(np.arange(11) / 10, 1.2 * (1 - t) ** 2 * t + t**3, 3 * (1 - t) * t**2 + t**3)
    assert tops == pytest.approx([0, 0, *(900 * curve), 900, 900, 900], abs=1)


async def test_a_long_way_takes_a_second_and_a_half(tmp_path: Path) -> None:
    text = f"""<!doctype html><body style="margin: 0">{TALL % "10000px"}<script>
      scrollTo({{top: 9000, behavior: 'smooth'}});
    </script>"""
    async with opened(ar.Html(text), tmp_path, capture="beginframe", fps=4) as page:
        tops = await answers(page, "scrollY", frames=8)
    assert tops == sorted(tops)
    assert tops[4] < tops[5] < tops[6] == 9000


async def test_what_need_not_scroll_smoothly_jumps(tmp_path: Path) -> None:
    text = f"""<!doctype html><body style="margin: 0">{TALL % "900px"}
      <div id="box" style="height: 100px; overflow: scroll"><div style="height: 900px"></div></div><script>
      setTimeout(() => {{ scrollTo(0, 300); box.scrollTo({{top: 500, behavior: 'smooth'}}); }}, 40);
      setTimeout(() => box.scrollTop = 70, 120);
    </script>"""
    async with opened(ar.Html(text), tmp_path, capture="beginframe") as page:
        shown = await answers(page, "[scrollY, Math.round(box.scrollTop)]", frames=6)
    assert [window for window, _ in shown] == [0, *[300] * 5]
    assert [box for _, box in shown] == [0, 0, shown[2][1], 70, 70, 70]
    assert 0 < shown[2][1] < 70


async def test_what_snaps_scrolls_smoothly_all_the_same(tmp_path: Path) -> None:
    text = """<!doctype html><style>
      div { display: flex; overflow: auto; width: 100px; scroll-snap-type: x mandatory }
      p { flex: 0 0 100px; scroll-snap-align: start }
      </style><div id="box"><p>1</p><p>2</p><p>3</p></div><script>
      let ends = 0;
      box.addEventListener('scrollend', () => ends++);
      setTimeout(() => box.scrollBy({left: 60, behavior: 'smooth'}), 40);
    </script>"""
    async with opened(ar.Html(text), tmp_path, capture="beginframe") as page:
        shown = await answers(page, "box.scrollLeft", frames=10)
        assert await page.page.evaluate("[ends, box.getAnimations().length]") == [1, 0]
    assert shown == sorted(shown)
    assert len({left for left in shown if 0 < left < 100}) >= 3
    assert shown[:2] + shown[7:] == [0, 0, 100, 100, 100], "where it snaps"


@pytest.mark.parametrize(
    ("inner", "warned"),
    [
        ("<animate attributeName='x' to='9' dur='1s'/>", True),
        ("<animateTransform attributeName='transform' type='rotate' to='9' dur='1s'/>", True),
        ("<style>@keyframes m { to { x: 9px } } rect { animation: m 1s }</style>", True),
        ("<style>rect { transition: x 1s } rect:hover { x: 9px }</style>", False),
    ],
)
async def test_an_svg_image_that_moves_is_told_of(inner: str, warned: bool, tmp_path: Path) -> None:
    size = "width='90' height='90'"
    (tmp_path / "image.svg").write_text(
        f"<svg xmlns='http://www.w3.org/2000/svg' {size}><rect {size}>{inner}</rect></svg>"
    )
    text = "<img src='image.svg'><p style='background: url(image.svg)'>"
    async with opened(ar.Html(text), tmp_path, capture="beginframe") as page:
        await page.picture(0)
        assert [warning.startswith("http://scene.localhost/image.svg moves") for warning in page.page.warnings] == (
            [True] if warned else []
        )


async def test_a_frame_of_nobodys_origin_gets_the_scenes_files(tmp_path: Path) -> None:
    (tmp_path / "child.js").write_text("parent.postMessage('came', '*')")
    (tmp_path / "child.html").write_text("<script src='child.js'></script>")
    text = """<iframe sandbox="allow-scripts" src="child.html"></iframe>
      <script>onmessage = event => found = event.data</script>"""
    async with opened(ar.Html(text), tmp_path, capture="beginframe") as page:
        await page.picture(0)
        assert await page.page.evaluate("found") == "came"
        assert page.page.warnings == []


async def test_the_first_animation_frames_time_counts_as_one(tmp_path: Path) -> None:
    """Libraries such as Fabric and CountUp take 0 for "not begun"; Pixi draws only where it is more than now()."""
    text = """<script>
      let start;
      const told = [];
      requestAnimationFrame(function draw(now) {
        start ||= now;
        told.push(now - start, now > performance.now());
        if (told.length < 6) requestAnimationFrame(draw);
      });
    </script>"""
    assert await told(text, "told", tmp_path) == [0, True, 40, False, 80, False]


LATER = """<body><script>
  const said = [];
  onmessage = event => said.push(event.data);
  setTimeout(() => {
    const frame = document.createElement('iframe');
    frame.sandbox = 'allow-scripts';
    frame.src = 'inner.html';
    document.body.append(frame);
  }, 200);
</script>"""
INNER = """<style>@keyframes m { to { translate: 100px } } p { animation: m 1s linear }</style><p id="p"></p><script>
  let ticks = 0;
  setInterval(() => ticks++, 40);
  requestAnimationFrame(function draw(now) {
    parent.postMessage([Math.round(now), ticks, Math.round(parseFloat(getComputedStyle(p).translate) || 0)], '*');
    requestAnimationFrame(draw);
  });
</script>"""


async def test_a_document_of_another_origin_that_comes_later_begins_then(capture: str, tmp_path: Path) -> None:
    (tmp_path / "inner.html").write_text(INNER)
    times, ticks, places = zip(*await told(LATER, "said", tmp_path, frames=12, capture=capture), strict=True)
    assert len(times) >= 4
    assert times == tuple(range(times[0], 440 + 1, 40))
    assert places == tuple(places[0] + 4 * frame for frame in range(len(places)))
    assert max(places[0], ticks[0]) <= 8
    assert ticks == tuple(ticks[0] + frame for frame in range(len(ticks)))


SEEKS = {
    "a frame": "await new Promise(go => requestAnimationFrame(go))",
    "two frames": "await new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))",
    "a timer": "await new Promise(go => setTimeout(go, 0))",
    "an answer": "await (await fetch('scene.html')).text()",
    "nothing": "",
}


@pytest.mark.parametrize("waits", SEEKS)
async def test_seek_may_wait_for_what_a_frame_brings(waits: str, capture: str, tmp_path: Path) -> None:
    text = f"""<script>
      let loops = 0;
      const told = [];
      requestAnimationFrame(function draw() {{ loops++; requestAnimationFrame(draw); }});
      asyncrender.seek = async (time, frame) => {{ {SEEKS[waits]}; told.push([frame, loops, performance.now()]); }};
    </script>"""
    found = await told(text, "told", tmp_path, frames=4, capture=capture)
    assert found == [[frame, frame, 40 * frame] for frame in range(4)]


async def test_a_seek_that_throws_may_be_gone_on_from(tmp_path: Path) -> None:
    text = "<script>asyncrender.seek = (time, frame) => { if (frame === 1) throw new Error('boo'); }</script>"
    async with opened(ar.Html(text), tmp_path, page_errors="warn") as page:
        for frame in range(3):
            await page.picture(frame)
        assert [warning.split("\n")[0] for warning in page.page.warnings] == ["the page threw: Error: boo"]
    async with opened(ar.Html(text), tmp_path) as page:
        await page.picture(0)
        with pytest.raises(ar.PageThrew, match="boo"):
            await page.picture(1)


async def test_tasks_that_the_page_gives_itself_belong_to_the_frame(capture: str, tmp_path: Path) -> None:
    """React draws in such."""
    text = """<body style="margin: 0"><p id="p" style="margin: 0; height: 9px; width: 0; background: #000"></p><script>
      const {port1, port2} = new MessageChannel();
      const ways = [() => port1.postMessage(0), () => postMessage(0), () => scheduler.postTask(go)];
      let left;
      const go = () => {
        for (let n = 0, x = 1; n < 1e6; n++) x = x * 16807 % 2147483647;
        if (left-- > 0) ways[left % 3](); else p.style.width = `${Math.round(performance.now() / 4)}px`;
      };
      port2.onmessage = onmessage = go;
      requestAnimationFrame(function draw() { left = 9; go(); requestAnimationFrame(draw); });
    </script>"""
    async with opened(ar.Html(text), tmp_path, capture=capture) as page:
        shown = [pixels(await shot(page, frame)) for frame in range(4)]
    assert [int((picture[4, :, 0] < 127).sum()) for picture in shown] == [0, 10, 20, 30]


BESIDE = {
    "a lock": """await navigator.locks.request('a', () => {});
      await Promise.all([1, 2].map(() => navigator.locks.request('b', () => Promise.resolve())))""",
    "a channel": """const [from, to] = [1, 2].map(() => new BroadcastChannel('a'));
      await new Promise(done => { to.onmessage = done; from.postMessage(1); })""",
    "which databases": "await indexedDB.databases()",
    "which devices": "await navigator.mediaDevices.enumerateDevices()",
    "which files": """const folder = await navigator.storage.getDirectory();
      await folder.getFileHandle('x', {create: true});
      for await (const name of folder.keys());""",
    "a cache": "const all = await caches.open('a'); await all.put('/q', new Response('x')); await all.match('/q')",
    "a blob": "await new Blob(['x'.repeat(1e6)]).text()",
    "a reader": "await new Promise(done => { const reader = new FileReader(); reader.onload = done;"
    " reader.readAsText(new Blob(['x'])); })",
    "a key": "await crypto.subtle.digest('SHA-256', new Uint8Array(1e6))",
    "a picture": "await new Promise(done => document.createElement('canvas').toBlob(done))",
    "an encoder": """const canvas = Object.assign(document.createElement('canvas'), {width: 1280, height: 720});
      const coder = new VideoEncoder({output() {}, error() {}});
      coder.configure({codec: 'vp8', width: 1280, height: 720});
      for (let timestamp = 0; timestamp < 5; timestamp++) {
        const frame = new VideoFrame(canvas, {timestamp});
        coder.encode(frame);
        frame.close();
      }
      await coder.flush()""",
    "a file": """const folder = await navigator.storage.getDirectory();
      const file = await folder.getFileHandle('x', {create: true}), writer = await file.createWritable();
      await writer.write('x');
      await writer.close();
      await (await file.getFile()).text()""",
    "a database": """await new Promise(done => {
      const request = indexedDB.open('x', 1);
      request.onupgradeneeded = () => request.result.createObjectStore('s');
      request.onsuccess = () => {
        const change = request.result.transaction('s', 'readwrite');
        change.objectStore('s').put(1, 1);
        change.oncomplete = done;
      };
    })""",
}


@pytest.mark.parametrize("what", BESIDE)
async def test_what_the_browser_does_beside_the_page_takes_none_of_its_time(what: str, tmp_path: Path) -> None:
    text = f"""<script>
      const told = [];
      const work = async now => {{ {BESIDE[what]}; told.push([Math.round(now), performance.now()]); }};
      requestAnimationFrame(function draw(now) {{ work(now); requestAnimationFrame(draw); }});
    </script>"""
    found = await told(text, "told", tmp_path, frames=5)
    assert found == [[40 * frame, 40 * frame] for frame in range(5)]


CARD = """<script>
  const told = [], gl = new OffscreenCanvas(256, 256).getContext('webgl2'), program = gl.createProgram();
  const shaders = {
    VERTEX: 'void main() { gl_Position = vec4(gl_VertexID % 2 * 4 - 1, gl_VertexID / 2 * 4 - 1, 0, 1); }',
    FRAGMENT: `out highp vec4 color;
      void main() { color = gl_FragCoord; for (int i = 0; i < 300; i++) color = sin(color.yzwx) + cos(color); }`,
  };
  for (const [type, source] of Object.entries(shaders)) {
    const shader = gl.createShader(gl[`${type}_SHADER`]);
    gl.shaderSource(shader, `#version 300 es\n${source}`);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  const draw = () => gl.drawArrays(gl.TRIANGLES, 0, 3);
  const done = {
    fence() {
      draw();
      const fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
      return () => gl.getSyncParameter(fence, gl.SYNC_STATUS) === gl.SIGNALED;
    },
    query() {
      const query = gl.createQuery();
      gl.beginQuery(gl.ANY_SAMPLES_PASSED, query);
      draw();
      gl.endQuery(gl.ANY_SAMPLES_PASSED);
      return () => gl.getQueryParameter(query, gl.QUERY_RESULT_AVAILABLE);
    },
  };
  const begin = way => {
    const isDone = done[way](), asked = performance.now();
    const ask = () => isDone() ? told.push(performance.now() - asked) : setTimeout(ask, 4);
    ask();
    setTimeout(begin, 10, way);
  };
</script>"""


@pytest.mark.parametrize("way", ["fence", "query"])
async def test_the_graphics_card_takes_none_of_the_pages_time(way: str, tmp_path: Path) -> None:
    """Never within the task that asks."""
    found = await told(f"{CARD}<script>setTimeout(begin, 5, '{way}')</script>", "told", tmp_path, frames=4)
    assert found == [4] * 12


async def test_how_fast_the_graphics_card_is_nobody_can_ask(tmp_path: Path) -> None:
    text = """<script>
      const told = ['webgl', 'webgl2'].map(name => document.createElement('canvas').getContext(name)).flatMap(
        gl => [gl.getSupportedExtensions(), ['EXT_disjoint_timer_query', 'ext_disjoint_timer_query_webgl2']
          .map(name => gl.getExtension(name))]);
    </script>"""
    one, ones, two, twos = await told(text, "told", tmp_path, frames=1)
    assert ones == twos == [None, None]
    assert "OES_texture_float_linear" in two
    assert not any("timer" in name for name in one + two)


AUDIO = """<script>
  const said = [], context = new AudioContext();
  const times = () => `${context.currentTime.toFixed(3)} ${performance.now().toFixed()}`;
  const say = what => said.push(`${what} ${context.state} ${times()}`);
  say('new');
  context.onstatechange = () => say('change');
  const tone = context.createOscillator(), piece = new AudioBufferSourceNode(context);
  tone.onended = () => say('tone');
  tone.start();
  tone.stop(0.15);
  piece.buffer = context.createBuffer(1, 4410, 44100);
  piece.playbackRate.value = 0.5;
  piece.addEventListener('ended', () => say('piece'));
  piece.start(0.2);
  setTimeout(() => context.suspend().then(() => say('suspended')), 100);
  setTimeout(() => context.resume().then(() => say('resumed')), 200);
  setTimeout(() => {
    said.push(context.getOutputTimestamp());
    context.close().then(() => context.resume()).catch(error => say(error.name));
  }, 600);
</script>"""


async def test_an_audio_context_goes_by_the_pages_clock(capture: str, tmp_path: Path) -> None:
    async with opened(ar.Html(AUDIO), tmp_path, capture=capture) as page:
        *_, said = await answers(page, "said", frames=17)
    assert said == [
        "new suspended 0.000 0",
        "change running 0.000 0",
        "change suspended 0.100 100",
        "suspended suspended 0.100 100",
        "change running 0.100 200",
        "resumed running 0.100 200",
        "tone running 0.150 250",
        "piece running 0.400 500",
        {"contextTime": pytest.approx(0.5), "performanceTime": 600},
        "change closed 0.500 600",
        "InvalidStateError closed 0.500 600",
    ]


AUDIO_BEFORE = """<script>
  const context = new AudioContext();
  window.asyncrender.ready = new Promise(done => { setTimeout(done, 200); });
</script>"""


async def test_an_audio_context_that_ran_before_frame_0_goes_on_where_it_is(tmp_path: Path) -> None:
    async with opened(ar.Html(AUDIO_BEFORE), tmp_path) as page:
        times = await answers(page, "context.currentTime", frames=3)
    assert times == pytest.approx([0.2, 0.24, 0.28])


async def test_an_offline_audio_context_has_a_clock_of_its_own(tmp_path: Path) -> None:
    text = """<script>
      let over = null;
      const context = new OfflineAudioContext(1, 4480, 44800), tone = new OscillatorNode(context);
      tone.onended = () => { over = context.currentTime; };
      tone.start();
      tone.stop(0.05);
      context.startRendering();
    </script>"""
    async with opened(ar.Html(text), tmp_path) as page:
        await page.picture(0)
        assert await page.page.evaluate("[context.currentTime, context.state]") == [0.1, "closed"]
        for _ in range(100):
            if await page.page.evaluate("over !== null"):
                break
            await anyio.sleep(0.05)
        else:
            pytest.fail("nobody was told of the end")
