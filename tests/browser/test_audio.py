"""Web Audio goes by the page's clock: what analysers show in frame k is what sounded until k ÷ fps."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asyncrender as ar
from asyncrender.browser.capture import open_capture
from asyncrender.browser.probe import is_seekable
from asyncrender.media.decode import open_decoder
from asyncrender.plan import complete
from frames import opened, small

pytestmark = pytest.mark.anyio

RATE, QUANTUM = 48000, 128
"""Sample frames: of a context that names no rate, and what it computes at once."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


TONE = """<script>
  const context = new AudioContext(), analyser = context.createAnalyser(), tone = new OscillatorNode(context);
  analyser.fftSize = 128;
  tone.connect(analyser).connect(context.destination);
  tone.start(0.1);
  tone.stop(0.3);
  const heard = [];
  const look = () => {
    const samples = new Float32Array(128);
    analyser.getFloatTimeDomainData(samples);
    heard.push([...samples]);
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
</script>"""


@pytest.mark.parametrize("capture", ["raw", "beginframe", "screenshot"])
async def test_an_analyser_shows_what_sounded_until_the_frame(capture: str, tmp_path: Path) -> None:
    async with opened(ar.Html(TONE), tmp_path, capture=capture) as page:
        await page.picture(0)
        for frame in range(1, 9):
            await page.skip(frame)
        await page.picture(9)
        heard = await page.page.evaluate("heard")
    for frame, samples in enumerate(heard):
        last = int(frame * 0.04 * RATE) // QUANTUM * QUANTUM
        times = np.arange(last - QUANTUM, last) / RATE
        sounds = (times >= 0.1) & (times < 0.3)
        assert samples == pytest.approx(np.sin(2 * math.pi * 440 * (times - 0.1)) * sounds, abs=0.02), frame


async def test_a_page_with_web_audio_cannot_be_sought(tmp_path: Path) -> None:
    for text, seekable in [("", True), ("new AudioContext();", False)]:
        async with opened(ar.Html(f"<script>asyncrender.seek = () => {{}}; {text}</script>"), tmp_path) as page:
            await page.picture(0)
            assert await is_seekable(page) is seekable


ELEMENT = """<audio id="song" src="steps.wav"></audio><script>
  const context = new AudioContext(), analyser = context.createAnalyser();
  analyser.smoothingTimeConstant = 0;
  analyser.fftSize = 512;
  const source = context.createMediaElementSource(song);
  source.connect(analyser).connect(context.destination);
  const is = source instanceof MediaElementAudioSourceNode && source.mediaElement === song;
  setTimeout(() => song.play(), 90);
  setTimeout(() => song.pause(), 250);
  setTimeout(() => { song.currentTime = 1.1; song.play(); }, 330);
  setTimeout(() => { song.playbackRate = 2; }, 450);
  setTimeout(() => { song.volume = 0; }, 570);
  const loudest = () => {
    const levels = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(levels);
    const most = Math.max(...levels);
    return most > -40 ? levels.indexOf(most) * context.sampleRate / analyser.fftSize : 0;
  };
</script>"""


async def test_an_analyser_shows_what_an_element_plays(tmp_path: Path) -> None:
    steps = "aevalsrc=sin(2*PI*t*(1000+1000*floor(t))):d=3:s=48000"
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", steps, tmp_path / "steps.wav"], check=True)
    (tmp_path / "scene.html").write_text(f"<!doctype html>{ELEMENT}")
    options = complete(small(), "x.mkv")
    heard: list[float] = []
    async with open_capture(options, "scene.html", tmp_path, open_film=open_decoder) as page:
        for frame in range(18):
            await page.picture(frame)
            heard.append(await page.page.evaluate("loudest()"))
        assert await page.page.evaluate("is")
    bins = [round(one / 1000) for one in heard]
    assert bins == [0, 0, 0, 1, 1, 1, 1, 0, 0, 2, 2, 2, 4, 4, 4, 0, 0, 0]


WORKLET = """<script>
  const context = new AudioContext(), analyser = context.createAnalyser(), said = [];
  analyser.connect(context.destination);
  const code = `registerProcessor('noise', class extends AudioWorkletProcessor {
    process(inputs, [[output]]) {
      for (let k = 0; k < output.length; k++) output[k] = Math.random();
      if (currentFrame % 4800 === 0) this.port.postMessage(currentFrame);
      return true;
    }
  });`;
  setTimeout(async () => {
    const asked = performance.now();
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([code], {type: 'text/javascript'})));
    said.push([asked, performance.now()]);
    const noise = new AudioWorkletNode(context, 'noise');
    noise.port.onmessage = ({data}) => said.push([data, performance.now()]);
    noise.connect(analyser);
  }, AFTER);
  const heard = () => {
    const samples = new Float32Array(32);
    analyser.getFloatTimeDomainData(samples);
    return [...samples];
  };
</script>"""


@pytest.mark.parametrize("after", [0, 100])
async def test_worklets_compute_the_same_in_every_run(after: int, tmp_path: Path) -> None:
    async def run() -> tuple[Any, Any]:
        async with opened(ar.Html(WORKLET.replace("AFTER", str(after))), tmp_path, capture="raw") as page:
            for frame in range(8):
                await page.picture(frame)
            return await page.page.evaluate("said"), await page.page.evaluate("heard()")

    (said, heard), again = await run(), await run()
    assert (said, heard) == again
    assert said[0] == [after, after]
    assert said[-1] == [9600, 240]  # 0.2 s, which the next frame is the first to be past of
    assert 0 < min(heard) < max(heard) < 1


PARTS = """<script>
  const {connect} = AudioNode.prototype;
  AudioNode.prototype.connect = function (...args) { connect.apply(this, args); };  // p5.sound
  class Own extends AudioContext {}
  const own = new Own({sampleRate: 22050}), context = new AudioContext();
  const microphone = context.createMediaStreamSource(new MediaStream());
  const out = new MediaStreamAudioDestinationNode(context);
  const processed = [];
  const processor = context.createScriptProcessor(1024, 1, 1);
  processor.onaudioprocess = ({playbackTime}) => processed.push(playbackTime);
  processor.connect(context.destination);
  context.destination.channelCount = context.destination.maxChannelCount;
  const found = () => [own instanceof Own, own.sampleRate, context.constructor === AudioContext, `${context}`,
    context.baseLatency, context.sinkId, microphone instanceof MediaStreamAudioSourceNode,
    out.stream.getAudioTracks().length, processed.length];
</script>"""


async def test_a_context_is_as_the_browsers_own(tmp_path: Path) -> None:
    async with opened(ar.Html(PARTS), tmp_path) as page:
        for frame in range(6):
            await page.picture(frame)
        *found, processed = await page.page.evaluate("found()")
    assert found == [True, 22050, True, "[object AudioContext]", 0, "", True, 1]
    assert processed == int(0.2 * RATE) // 1024
