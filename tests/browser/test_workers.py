"""Workers go by the page's clock, and are heard at the same time on every machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asyncrender as ar
from frames import html, opened, pictures, served, small

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


MAKE = """<body><script>
  const log = [], note = event => log.push([performance.now(), event.data]);
  const make = (text, options) =>
    new Worker(URL.createObjectURL(new Blob([text], {type: 'text/javascript'})), options);
"""


async def said(script: str, tmp_path: Path, *, frames: int = 4, **options: object) -> list[Any]:
    """What a page has noted after so many frames, of 40 ms each."""
    async with opened(ar.Html(f"{MAKE}{script}</script>"), tmp_path, capture="beginframe", **options) as page:
        for frame in range(frames):
            await page.skip(frame)
        assert page.page.warnings == []
        heard: list[Any] = await page.page.evaluate("log")
        return heard


CLOCKS = """make(`
  const tell = what => postMessage([what, performance.now(), Date.now() - 1704067200000]);
  tell('start');
  setTimeout(() => tell('timer'), 50);
  setInterval(() => tell('interval'), 30);
  requestAnimationFrame(function draw(now) { tell('frame ' + Math.round(now)); requestAnimationFrame(draw); });
`).onmessage = note;"""


async def test_all_clocks_of_a_worker_show_the_time_of_the_frame(tmp_path: Path) -> None:
    assert await said(CLOCKS, tmp_path, frames=3) == [
        [0, ["start", 0, 0]],
        [0, ["frame 0", 0, 0]],
        [40, ["interval", 30, 30]],
        [40, ["frame 40", 40, 40]],
        [80, ["timer", 50, 50]],
        [80, ["interval", 60, 60]],
        [80, ["frame 80", 80, 80]],
    ]


STORIES: dict[str, tuple[str, list[Any]]] = {
    "one made during the film begins at that time": (
        """setTimeout(() => { make(`
             postMessage(performance.now());
             setTimeout(() => postMessage(performance.now()), 45)`).onmessage = note; }, 55)""",
        [[55, 55], [120, 100]],
    ),
    "a module, that waits": (
        """make(`await new Promise(done => setTimeout(done, 50)); postMessage(performance.now()); export {}`,
             {type: 'module', name: 'mine'}).onmessage = note""",
        [[80, 50]],
    ),
    "a worker's worker": (
        """make(`const inner = new Blob(['setInterval(() => postMessage(performance.now()), 50)']);
             new Worker(URL.createObjectURL(inner)).onmessage = event => postMessage([name, event.data])`,
             {name: 'mine'}).onmessage = note""",
        [[80, ["mine", 50]], [120, ["mine", 100]]],
    ),
    "a conversation takes no time": (
        """const worker = make(`onmessage = event => postMessage(event.data + 1)`);
           worker.onmessage = event => { note(event); if (event.data < 6) worker.postMessage(event.data + 1); };
           setTimeout(() => worker.postMessage(0), 15)""",
        [[15, 1], [15, 3], [15, 5], [15, 7]],
    ),
    "an answer that needs a second of computing": (
        """const worker = make(`onmessage = () => { for (let left = 5e8; left--;); postMessage('done'); }`);
           worker.onmessage = note;
           setTimeout(() => worker.postMessage(0), 50)""",
        [[50, "done"]],
    ),
    "an answer that waits for what is outside": (
        """const worker = make(`onmessage = async () => {
             const text = await new Blob(['text']).text(), code = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]);
             await WebAssembly.compile(code);
             postMessage([text, await (await fetch('data:,more')).text(), performance.now()]); }`);
           worker.onmessage = note;
           setTimeout(() => worker.postMessage(0), 50)""",
        [[50, ["text", "more", 50]]],
    ),
    "many are heard in the order in which they were asked": (
        """for (let number = 0; number < 6; number++) {
             const worker = make(`onmessage = event => {
               for (let left = 2e7 * (6 - event.data); left--;); postMessage(event.data); }`);
             worker.onmessage = note;
             setTimeout(() => worker.postMessage(number), 50); }""",
        [[50, number] for number in range(6)],
    ),
    "through a port": (
        """const {port1, port2} = new MessageChannel();
           make(`onmessage = ({data}) => { data.onmessage = event => data.postMessage(event.data + 1) }`)
             .postMessage(port2, [port2]);
           port1.onmessage = note;
           setTimeout(() => port1.postMessage(1), 50)""",
        [[50, 2]],
    ),
    "one that throws lives on": (
        """const worker = make(`onmessage = () => postMessage('lives'); throw 1`);
           worker.onmessage = note;
           worker.onerror = event => { event.preventDefault(); log.push('error'); };
           setTimeout(() => worker.postMessage(0), 50)""",
        ["error", [50, "lives"]],
    ),
    "one whose script is missing is not waited for": (
        """new Worker('missing.js').onerror = () => log.push('error');
           setTimeout(() => log.push(performance.now()), 50)""",
        ["error", 50],
    ),
    "ends": (
        """const ended = make(`setInterval(() => postMessage(performance.now()), 30)`);
           ended.onmessage = note;
           setTimeout(() => { ended.terminate(); ended.postMessage(0); }, 70);
           const ends = make(`setTimeout(() => { postMessage('ends'); close(); }, 30)`);
           ends.onmessage = note;
           setTimeout(() => ends.postMessage(0), 90)""",
        [[40, 30], [40, "ends"]],
    ),
    "in a frame that is removed": (
        """window.note = note;
           const frame = document.createElement('iframe');
           frame.srcdoc = '<script>new Worker(URL.createObjectURL(new Blob([' +
             '`setInterval(() => postMessage(performance.now()), 30)`]))).onmessage = parent.note</' + 'script>';
           addEventListener('DOMContentLoaded', () => document.body.append(frame));
           setTimeout(() => frame.remove(), 70)""",
        [[40, 30]],
    ),
}


@pytest.mark.parametrize("story", STORIES)
async def test_what_workers_say_comes_at_the_same_time_on_every_machine(story: str, tmp_path: Path) -> None:
    script, heard = STORIES[story]
    assert await said(f"{script};", tmp_path) == heard


async def test_a_page_sees_workers_as_they_are(tmp_path: Path) -> None:
    script = """
      class Own extends Worker {}
      const own = new Own('data:text/javascript,onmessage = event => postMessage([event.data.byteLength, self.name])');
      log.push(own instanceof Own, own instanceof Worker, make('').constructor === Worker, Worker.name);
      for (const wrong of [() => new Worker(), () => new Worker('', 'text'), () => own.postMessage()])
        try { wrong(); } catch (error) { log.push(error.name); }
      own.onmessage = event => log.push(event.data);
      for (const options of [bytes => [bytes], bytes => ({transfer: [bytes]}), () => undefined]) {
        const bytes = new ArrayBuffer(8);
        own.postMessage(bytes, options(bytes));
        log.push(bytes.byteLength);
      }"""
    heard = await said(script, tmp_path, frames=1)
    assert heard[:4] == [True, True, True, "Worker"]
    assert heard[4:] == ["TypeError"] * 3 + [0, 0, 8] + [[8, ""]] * 3


DEAF = """<body><script>
  const make = text => new Worker(URL.createObjectURL(new Blob([text])));
  const deaf = make('onmessage = () => { for (;;); }');
  make('setInterval(() => postMessage(0), 40)').onmessage = () => { document.body.style.background = 'black'; };
  setTimeout(() => deaf.postMessage(0), 50);
</script>"""


async def test_who_waits_for_a_worker_that_never_answers_gives_up(tmp_path: Path) -> None:
    result = await ar.render(ar.Html(DEAF), tmp_path / "out.mkv", small(frame_count=4, timeouts={"request": 1}))
    assert [warning.startswith("a worker does not answer") for warning in result.warnings] == [True]
    assert [int(picture[0, 0, 0]) for picture in pictures(result.output)] == [255, 0, 0, 0]


COUNTS = """<body style="margin: 0; background: black"><script>
  const worker = new Worker(URL.createObjectURL(new Blob(['let n = 0; setInterval(() => postMessage(++n), 40)'])));
  worker.onmessage = ({data}) => { document.body.style.background = `rgb(0, ${10 * data}, 0)`; };
</script>"""


async def test_a_worker_of_another_origins_document_begins_when_that_does(tmp_path: Path) -> None:
    with served(lambda request: html(request, COUNTS)) as url:
        page = f"""<body style="margin: 0"><script>setTimeout(() => {{
          const frame = document.createElement('iframe');
          Object.assign(frame, {{src: '{url}', style: 'border: 0; position: fixed; inset: 0'}});
          document.body.append(frame);
        }}, 80)</script>"""
        result = await ar.render(ar.Html(page), tmp_path / "out.mkv", small(frame_count=6))
    assert [int(picture[45, 80, 1]) for picture in pictures(result.output)] == [255, 255, 0, 10, 20, 30]


DRAWN = """<style>body { margin: 0 }</style><canvas width=160 height=90></canvas><script>
  const worker = new Worker('worker.js'), paper = document.querySelector('canvas').transferControlToOffscreen();
  worker.postMessage(paper, [paper]);
</script>"""

DRAWER = """let paper, ticks = 0;
setInterval(() => { ticks++; }, 10);
const draw = now => {
  paper.fillStyle = 'white';
  paper.fillRect(0, 0, 160, 90);
  paper.fillStyle = 'black';
  paper.fillRect(0, 0, now / 10, 40);
  paper.fillRect(0, 50, ticks, 40);
  requestAnimationFrame(draw);
};
onmessage = ({data}) => { paper = data.getContext('2d'); draw(0); };"""


@pytest.mark.parametrize("capture", ["raw", "beginframe", "screenshot"])
async def test_a_canvas_that_a_worker_draws_is_exact_however_the_film_is_cut(capture: str, tmp_path: Path) -> None:
    (tmp_path / "scene.html").write_text(DRAWN)
    (tmp_path / "worker.js").write_text(DRAWER)
    options = small(frame_count=12, chunk_frames=5, capture=capture)
    result = await ar.render(tmp_path / "scene.html", tmp_path / "out.mkv", options)
    assert result.warnings == ()
    dark = [np.asarray(picture)[:, :, 0] < 128 for picture in pictures(result.output)]
    assert [[int(rows[y].sum()) for y in (20, 70)] for rows in dark] == [[4 * frame] * 2 for frame in range(12)]
