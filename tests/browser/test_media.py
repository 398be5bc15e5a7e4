"""Films in the page: each output frame shows the film's frame for its time, on both capture paths."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import anyio
import anyio.lowlevel
import numpy as np
import pytest
from PIL import Image

import asyncrender as ar
from asyncrender.browser.capture import Capture, open_capture
from asyncrender.errors import CaptureUnavailable
from asyncrender.media.decode import open_decoder
from asyncrender.plan import complete
from frames import digests, pictures, pixels, served, shot, small
from frames import html as answer_html

pytestmark = pytest.mark.anyio

BITS = 8
"""A film's frame shows its number as so many bars, white for one, the lowest bit at the left."""

CODECS = {
    "h264": (["-c:v", "libx264", "-bf", "2", "-g", "250", "-pix_fmt", "yuv420p"], "mp4"),
    "vp9": (["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M", "-g", "100"], "webm"),
    "av1": (["-c:v", "libsvtav1", "-preset", "12", "-crf", "20", "-g", "60", "-pix_fmt", "yuv420p"], "mp4"),
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["raw", "beginframe", "screenshot"])
def capture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make_film(
    path: Path,
    codec: str = "h264",
    *,
    rate: str = "25",
    frames: int = 50,
    times: str = "null",
    transfer: str = "unspecified",
) -> Path:
    bar = "if(mod(floor(N/pow(2\\,floor(X/20)))\\,2)\\,235\\,16)"
    source = f"color=c=black:s=160x80:r={rate},trim=end_frame={frames},geq=lum={bar}:cb=128:cr=128,{times}"
    settings, extension = CODECS[codec]
    film = path.with_suffix(f".{extension}")
    argv = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y", "-f", "lavfi", "-i", source, "-fps_mode", "passthrough"]
    subprocess.run([*argv, *settings, "-color_trc", transfer, f"file:{film}"], check=True, capture_output=True)
    return film


def number_in(picture: np.ndarray, x: int = 0, y: int = 0) -> int:
    """The number that the film's frame at (x, y) shows, in its own size."""
    return sum(int(picture[y + 40, x + 20 * bit + 10].mean() > 127) << bit for bit in range(BITS))


@asynccontextmanager
async def opened(html: str, folder: Path, *, background: str = "#123", **options: object) -> AsyncIterator[Capture]:
    scene = folder / "scene.html"
    scene.write_text(f"<!doctype html><body style='margin:0;background:{background}'>{html}", encoding="utf-8")
    chosen = complete(small(**{"timeouts": {"ready": 20, "load": 20, "frame": 20}, **options}), "x.mkv")
    async with open_capture(chosen, str(scene), Path("/"), open_film=open_decoder) as capture:
        yield capture


async def numbers(capture: Capture, frames: range, x: int = 0, y: int = 0) -> list[int]:
    return [number_in(pixels(await shot(capture, frame)), x, y) for frame in frames]


async def rows_of(capture: Capture, frame: int) -> list[int]:
    """The numbers that five films show, one below the other."""
    shown = pixels(await shot(capture, frame))
    return [number_in(shown, y=80 * row) for row in range(5)]


@pytest.mark.parametrize("codec", CODECS)
async def test_every_codec_shows_each_of_its_frames_in_its_time(codec: str, capture: str, tmp_path: Path) -> None:
    film = make_film(tmp_path / "film", codec)
    async with opened(f"<video src={film.name} autoplay></video>", tmp_path, capture=capture) as page:
        assert await numbers(page, range(30)) == list(range(30))


@pytest.mark.parametrize(
    "rate", [pytest.param("24", marks=pytest.mark.soak), "30000/1001", pytest.param("30", marks=pytest.mark.soak), "60"]
)
async def test_a_film_of_the_compositions_rate_loses_and_doubles_no_frame(rate: str, tmp_path: Path) -> None:
    mp4 = make_film(tmp_path / "film", rate=rate, frames=130)
    webm = make_film(tmp_path / "film", "vp9", rate=rate, frames=130)
    html = "".join(f"<video src={film.name} autoplay style='display:block'></video>" for film in (mp4, webm))
    async with opened(html, tmp_path, fps=rate, height=160) as page:
        for frame in range(125):
            await page.skip(frame) if frame % 8 else None
            if frame % 8 == 0:
                shown = pixels(await shot(page, frame))
                assert [number_in(shown), number_in(shown, y=80)] == [frame, frame]


PLACES = """
  <video src=FILM autoplay data-asyncrender-offset=0.2 data-asyncrender-seek=0.4></video>
  <video id=fast src=FILM></video>
  <video src=FILM autoplay loop></video>
  <video id=stepped src=FILM></video>
  <div id=opened></div>
  <div id=shut></div>
  <div><template shadowrootmode=open><video src=FILM autoplay></video></template></div>
  <iframe srcdoc="<body style='margin:0'><video src=FILM autoplay></video>"></iframe>
  <video autoplay><source src=missing.mp4><source src=FILM type=video/mp4></video>
  <video id=blob autoplay></video>
  <video id=data autoplay></video>
  <canvas width=160 height=80></canvas>
<style>body > * { display: block; width: 160px; height: 80px; border: 0 } video { width: 160px; height: 80px }</style>
<script>
  fast.playbackRate = 2; fast.play();
  opened.attachShadow({mode: 'open'}).innerHTML = '<video src=FILM autoplay></video>';
  shut.attachShadow({mode: 'closed'}).innerHTML = '<video src=FILM autoplay></video>';
  setTimeout(() => { stepped.currentTime = 1; stepped.play(); }, 120);
  setTimeout(() => stepped.pause(), 280);
  const load = async () => {
    const film = await (await fetch('FILM')).blob();
    blob.src = URL.createObjectURL(film);
    const reader = new FileReader();
    reader.onload = () => { data.src = reader.result; };
    reader.readAsDataURL(film);
  };
  const drawn = document.createElement('video'), context = document.querySelector('canvas').getContext('2d');
  drawn.src = 'FILM';
  drawn.play();
  const draw = () => { context.drawImage(drawn, 0, 0); requestAnimationFrame(draw); };
  requestAnimationFrame(draw);
  window.asyncrender.ready = load();
  setTimeout(() => {
    const late = document.createElement('video');
    late.src = 'FILM';
    late.autoplay = true;
    late.style.cssText = 'position: absolute; left: 160px; top: 0';
    document.body.append(late);
  }, 200);
</script>"""


async def test_films_play_wherever_they_are_and_whoever_plays_them(capture: str, tmp_path: Path) -> None:
    film = make_film(tmp_path / "film", frames=12)
    long = make_film(tmp_path / "long", frames=50)
    html = PLACES.replace("loop", "LOOP", 1).replace("FILM autoplay LOOP", f"{film.name} autoplay loop")
    html = html.replace("FILM", long.name)
    async with opened(html, tmp_path, capture=capture, width=320, height=960, frame_count=30) as page:
        for frame in range(16):
            shown = pixels(await shot(page, frame))
            expected = [
                10 + max(0, frame - 5),
                2 * frame,
                frame % 12,
                0 if frame < 3 else 25 + min(4, frame - 3),
                *[frame] * 8,
            ]
            assert [number_in(shown, y=80 * row) for row in range(12)] == expected, f"frame {frame}"
            if frame >= 5:
                assert number_in(shown, x=160) == frame - 5


async def test_a_frame_is_the_same_whether_those_before_it_were_seen_or_skipped(capture: str, tmp_path: Path) -> None:
    film = make_film(tmp_path / "film", rate="30000/1001")
    html = f"<video src={film.name} autoplay loop style='width: 240px; height: 120px; filter: blur(1px)'></video>"
    shown = {}
    for start in (0, 4, 9):
        async with opened(html, tmp_path, capture=capture, width=240, height=120) as page:
            for frame in range(start):
                await page.skip(frame)
            shown[start] = [await shot(page, frame) for frame in range(start, 12)]
    assert shown[0][4:] == shown[4]
    assert shown[0][9:] == shown[9]


async def test_both_paths_show_the_same_pixels_of_a_film(tmp_path: Path) -> None:
    argv = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=s=160x80:r=25:d=1", "-pix_fmt", "yuv420p"]
    subprocess.run([*argv, tmp_path / "film.mp4"], check=True)
    shown = []
    for path in ("beginframe", "screenshot"):
        html = "<video src=film.mp4 autoplay style='width: 100%; object-fit: cover'></video>"
        async with opened(html, tmp_path, capture=path) as page:
            shown.append([pixels(await shot(page, frame)) for frame in range(4)])
    assert np.array_equal(shown[0], shown[1])


async def test_frames_that_come_unevenly_stay_until_the_next_one_is_due(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film", frames=12, times="settb=1/50,setpts=N*N")  # frame n is shown at n²/50 s
    async with opened(f"<video src={film.name} autoplay></video>", tmp_path, fps=50) as page:
        expected = [int((Fraction(frame)) ** 0.5 + 1e-9) for frame in range(40)]
        assert await numbers(page, range(40)) == expected


@pytest.mark.parametrize("values", ["tv", "pc"])
async def test_what_lies_under_a_transparent_film_is_seen(values: str, capture: str, tmp_path: Path) -> None:
    transparency = "geq=lum='lum(X,Y)':cb='cb(X,Y)':cr='cr(X,Y)':a='if(lt(X,80),0,255)'"
    source = f"color=c=red:s=160x80:r=25:d=1,format=yuva420p,{transparency},scale=in_range=tv:out_range={values}"
    argv = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", source, "-c:v", "libvpx-vp9", "-b:v", "1M"]
    subprocess.run([*argv, "-pix_fmt", "yuva420p", "-color_range", values, tmp_path / "film.webm"], check=True)
    async with opened("<video src=film.webm autoplay></video>", tmp_path, capture=capture) as page:
        shown = pixels(await shot(page, 3)).astype(int)
    assert abs(shown[40, 20] - (0x11, 0x22, 0x33)).max() <= 3
    assert shown[40, 120][0] > 240
    assert shown[40, 120][1:].max() < 20


CHANGES = """<style>video, canvas { display: block; width: 160px; height: 80px }</style>
  <video id=next src=A></video>
  <video id=moved src=A autoplay></video>
  <video id=poster src=A poster=poster.png></video>
  <canvas id=gl width=160 height=80></canvas>
  <canvas id=bitmap width=160 height=80></canvas>
  <video id=hidden src=A autoplay hidden></video>
<script>
  hidden.style.display = 'none';
  next.play();
  next.onended = () => { next.src = 'B'; next.play(); };
  next.currentTime = 1.8;
  const element = moved;
  setTimeout(() => element.remove(), 120);
  setTimeout(() => { document.body.prepend(element); element.play(); }, 200);
  setTimeout(() => poster.play(), 200);
  setTimeout(() => { hidden.style.display = 'block'; }, 200);
  const context = gl.getContext('webgl', {preserveDrawingBuffer: true});
  const shader = (type, text) => {
    const made = context.createShader(type);
    context.shaderSource(made, text);
    context.compileShader(made);
    context.attachShader(program, made);
  };
  const program = context.createProgram();
  shader(context.VERTEX_SHADER, `attribute vec2 at; varying vec2 uv;
    void main() { uv = vec2(at.x + 1.0, 1.0 - at.y) / 2.0; gl_Position = vec4(at, 0, 1); }`);
  shader(context.FRAGMENT_SHADER, `precision mediump float; varying vec2 uv; uniform sampler2D film;
    void main() { gl_FragColor = texture2D(film, uv); }`);
  context.linkProgram(program);
  context.useProgram(program);
  context.bindBuffer(context.ARRAY_BUFFER, context.createBuffer());
  context.bufferData(context.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), context.STATIC_DRAW);
  context.enableVertexAttribArray(0);
  context.vertexAttribPointer(0, 2, context.FLOAT, false, 0, 0);
  context.bindTexture(context.TEXTURE_2D, context.createTexture());
  for (const name of [context.TEXTURE_WRAP_S, context.TEXTURE_WRAP_T])
    context.texParameteri(context.TEXTURE_2D, name, context.CLAMP_TO_EDGE);
  context.texParameteri(context.TEXTURE_2D, context.TEXTURE_MIN_FILTER, context.NEAREST);
  const draw = async () => {
    requestAnimationFrame(draw);
    context.texImage2D(context.TEXTURE_2D, 0, context.RGBA, context.RGBA, context.UNSIGNED_BYTE, hidden);
    context.drawArrays(context.TRIANGLE_STRIP, 0, 4);
    const picture = await createImageBitmap(hidden);
    bitmap.getContext('2d').drawImage(picture, 0, 0);
  };
  window.asyncrender.ready = new Promise(resolve => { hidden.onloadeddata = resolve; });
  requestAnimationFrame(draw);
</script>"""


async def test_what_a_page_does_with_its_films_is_seen_in_its_frame(capture: str, tmp_path: Path) -> None:
    one, other = make_film(tmp_path / "one"), make_film(tmp_path / "other", frames=8)
    Image.new("RGB", (160, 80), (255, 255, 255)).save(tmp_path / "poster.png")
    html = CHANGES.replace("=A", f"={one.name}").replace("'B'", f"'{other.name}'")
    async with opened(html, tmp_path, capture=capture, height=480, timeouts={}) as page:
        for frame in range(12):
            shown = pixels(await shot(page, frame))
            rows = [number_in(shown, y=80 * row) for row in range(6)]
            chained = 45 + frame if frame < 5 else min(7, frame - 5)
            poster = 255 if frame < 5 else frame - 5
            if frame < 3:
                assert rows[:5] == [chained, frame, poster, frame, frame], f"frame {frame}"
            elif frame < 5:
                assert rows[:4] == [chained, poster, frame, frame], f"frame {frame}"
            else:
                assert rows == [frame - 2, chained, poster, frame, frame, frame], f"frame {frame}"


EVENTS = """<video id=v src=FILM></video><script>
  const said = [];
  for (const name of ['loadstart', 'durationchange', 'loadedmetadata', 'loadeddata', 'canplay', 'canplaythrough',
    'play', 'playing', 'pause', 'ended', 'seeking', 'seeked', 'ratechange', 'emptied', 'error'])
    v.addEventListener(name, event => said.push([event.type, performance.now(), v.currentTime]));
  const seen = [];
  const see = (now, {mediaTime, presentedFrames}) => { seen.push([now, mediaTime]); v.requestVideoFrameCallback(see); };
  v.requestVideoFrameCallback(see);
  setTimeout(async () => { await v.play(); said.push(['resolved', performance.now(), v.paused]); }, 60);
  setTimeout(() => { v.currentTime = 1.9; }, 200);
</script>"""


async def test_a_page_hears_of_its_film_in_virtual_time(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film")
    async with opened(EVENTS.replace("FILM", film.name), tmp_path) as page:
        for frame in range(10):
            await page.skip(frame)
        said, seen = await page.page.evaluate("[said, seen]")
        state = "[v.duration, v.ended, v.paused, v.currentTime, v.readyState, v.videoWidth, v.videoHeight, v.error]"
        assert await page.page.evaluate(state) == [2, True, True, 2, 4, 160, 80, None]
    loading = ["loadstart", "durationchange", "loadedmetadata", "loadeddata", "canplay", "canplaythrough"]
    assert [name for name, _, _ in said[:6]] == loading
    assert said[6:] == [
        ["play", 60, 0],
        ["playing", 60, 0],
        ["resolved", 60, False],
        ["seeking", 200, 1.9],
        ["seeked", 200, 1.9],
        ["pause", 300, 2],
        ["ended", 300, 2],
    ]
    assert seen == [[0, 0], [120, 0.04], [160, 0.08], [200, 1.88], [240, 1.92], [280, 1.96]]


async def test_a_video_without_a_source_holds_nothing_up(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film")
    html = f"""<video id=v></video><video id=w></video><video id=x src=missing.mp4></video><script>
      v.play();
      w.currentTime = 0;
      setTimeout(() => {{ x.currentTime = 0; v.src = '{film.name}'; }}, 80);
    </script>"""
    async with opened(html, tmp_path, timeouts={"load": 5, "frame": 5}) as page:
        assert (await numbers(page, range(6)))[2:] == [0, 1, 2, 3]


def turned(film: Path) -> Path:
    """The same film, to be shown turned by a quarter: the matrix of its track header (ISO/IEC 14496-12, 8.3.2)."""
    data, other = bytearray(film.read_bytes()), film.with_name(f"turned-{film.name}")
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    other.write_bytes(data)
    return other


async def test_films_begin_end_and_are_as_large_as_chromium_has_them(tmp_path: Path) -> None:
    plain, narrow = make_film(tmp_path / "film"), make_film(tmp_path / "narrow", frames=1, times="setsar=8/9")
    late, sound = tmp_path / "late.mp4", tmp_path / "sound.mp4"  # late: frame 0 is at 0.08 s, where it begins to play
    fragmented = ["-c", "copy", "-movflags", "frag_keyframe+empty_moov+default_base_moof"]
    subprocess.run(["ffmpeg", "-loglevel", "error", "-i", plain, *fragmented, late], check=True)
    subprocess.run(["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "sine=d=1", sound], check=True)
    html = f"""<style>video {{ display: block }} .small {{ width: 160px; height: 80px }}</style>
      <video src={late.name} autoplay class=small></video>
      <video src={plain.name}#t=1,1.12 autoplay class=small></video>
      <video src={plain.name}#t=0:01.9 autoplay loop class=small></video>
      <video src={narrow.name}></video><video src={turned(narrow).name}></video>
      <video src={sound.name} autoplay></video>
      <script>const films = [...document.querySelectorAll('video')], ends = [];
        films[1].onpause = ({{timeStamp}}) => ends.push(timeStamp);</script>"""
    async with opened(html, tmp_path, height=320) as page:
        for frame in range(5):
            shown = pixels(await shot(page, frame))
            rows = [number_in(shown, y=80 * row) for row in range(3)]
            assert rows == [frame, 25 + min(frame, 3), (47 + frame) if frame < 3 else frame - 3], f"frame {frame}"
        facts = await page.page.evaluate("films.map(film => [film.videoWidth, film.videoHeight])")
        assert facts == [*[[160, 80]] * 3, [160, 90], [90, 160], [0, 0]]
        assert await page.page.evaluate("[ends, films[0].currentTime, films[5].paused, films[5].clientWidth]") == [
            [120], 0.24, False, 300,
        ]  # fmt: skip
        assert page.page.warnings == []


async def test_elements_in_no_document_speak_in_virtual_time(tmp_path: Path) -> None:
    """They are not asked about anything: only listened to."""
    film = make_film(tmp_path / "film", frames=5)
    html = f"""<script>
      const said = [], keep = [], say = name => () => said.push([name, performance.now()]);
      setTimeout(() => {{
        const one = new Audio('{film.name}'), other = document.createElement('video');
        one.addEventListener('canplaythrough', () => {{ say('one')(); one.play(); }});
        one.onended = say('end of one');
        other.oncanplay = say('other');
        other.setAttribute('src', '{film.name}');
        keep.push(one, other);
      }}, 40);
    </script>"""
    async with opened(html, tmp_path) as page:
        for frame in range(8):
            await page.skip(frame)
        assert await page.page.evaluate("said") == [["one", 40], ["other", 40], ["end of one", 240]]


SOURCES = """<style>video, canvas { display: block; width: 160px; height: 80px }</style>
<video id=gone src=FILM autoplay></video>
<video id=back src=FILM></video>
<video id=stepped src=FILM></video>
<canvas id=paper width=160 height=80></canvas>
<video id=again src=FILM autoplay></video>
<script>
  setTimeout(() => { gone.removeAttribute('src'); gone.load(); }, 120);
  back.currentTime = 99;
  const said = [];
  setTimeout(() => { said.push(back.ended); back.play(); }, 120);
  setTimeout(() => { again.src = 'FILM'; again.play(); }, 120);
  const heard = [];
  for (const name of ['play', 'playing']) again.addEventListener(name, () => heard.push(name));
  const draw = () => { paper.getContext('2d').drawImage(stepped, 0, 0); };
  window.asyncrender.seek = async (time, frame) => {
    said.push(await new Promise(resolve => {
      stepped.requestVideoFrameCallback((now, {mediaTime}) => { draw(); resolve(mediaTime); });
      stepped.currentTime = (frame >> 1) / 25 + (frame & 1) / 100;
    }));
  };
</script>"""


async def test_sources_change_and_places_are_sought(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film")
    async with opened(SOURCES.replace("FILM", film.name), tmp_path, height=400) as page:
        for frame in range(6):
            rows = await rows_of(page, frame)
            past = frame - 3
            assert rows == [
                0 if past >= 0 else frame,
                max(past, 0) if past >= 0 else 49,
                frame // 2,
                frame // 2,
                past if past >= 0 else frame,
            ], f"frame {frame}"
        assert await page.page.evaluate("heard") == ["play", "playing"] * 2
        said = await page.page.evaluate("said")
    assert [one for one in said if one is not True] == [0, 0, 0.04, 0.04, 0.08, 0.08]
    assert said.count(True) == 1


CHOICES = """<style>video { display: block; width: 160px; height: 80px }</style>
<video autoplay><source src=FILM type="video/mp4; codecs=hvc1"><source src=FILM#t=1 type=video/mp4></video>
<video autoplay><source src=FILM#t=1 type="video/mp4; codecs=hvc1"></video>
<video id=same autoplay><source id=first src=FILM></video>
<video id=own autoplay src=FILM></video>
<video id=filled></video>
<script>
  const said = [], add = (video, src) => {
    const source = document.createElement('source');
    source.src = src;
    source.onerror = () => said.push('source');
    video.append(source);
  };
  add(filled, 'missing.mp4');
  filled.onerror = () => said.push('video');
  filled.play().then(() => said.push('plays'));
  add(filled, 'FILM');
  setTimeout(() => {
    add(same, 'FILM#t=1');
    first.src = 'FILM#t=1';
    own.removeAttribute('src');
  }, 80);
</script>"""


async def test_sources_are_chosen_once_and_by_their_types(tmp_path: Path) -> None:
    """What only ffmpeg plays is taken where there is nothing else; what comes later than the film changes nothing."""
    film = make_film(tmp_path / "film")
    async with opened(CHOICES.replace("FILM", film.name), tmp_path, height=400) as page:
        for frame in range(5):
            rows = await rows_of(page, frame)
            assert rows == [25 + frame, 25 + frame, frame, frame, frame], f"frame {frame}"
        assert await page.page.evaluate("said") == ["source", "plays"]


EARLY = """<style>video, canvas { display: block; width: 160px; height: 80px }</style>
<canvas id=paper width=160 height=80></canvas>
<video id=lazy preload=none src=FILM></video>
<video id=back poster=poster.png src=FILM></video>
<script>
  const film = document.createElement('video'), said = [];
  for (const name of ['loadedmetadata', 'seeking', 'seeked', 'loadeddata'])
    film.addEventListener(name, () => said.push(name));
  film.addEventListener('seeked', () => paper.getContext('2d').drawImage(film, 0, 0));
  film.src = 'FILM';
  film.currentTime = 1;
  back.play();
  setTimeout(() => {
    lazy.preload = 'auto';
    back.load();
  }, 80);
</script>"""


async def test_a_film_is_sought_before_it_is_there_and_shows_its_poster_again(capture: str, tmp_path: Path) -> None:
    film = make_film(tmp_path / "film")
    Image.new("RGB", (160, 80), (255, 255, 255)).save(tmp_path / "poster.png")
    async with opened(EARLY.replace("FILM", film.name), tmp_path, capture=capture, height=240) as page:
        for frame in range(4):
            shown = pixels(await shot(page, frame))
            rows = [number_in(shown, y=80 * row) for row in range(3)]
            assert rows == [25, 0, frame if frame < 2 else 255], f"frame {frame}"
        assert shown[120, 150].max() < 9  # of the film, where there was nothing
        assert await page.page.evaluate("said") == ["loadedmetadata", "seeking", "seeked", "loadeddata"]


async def test_what_an_element_played_before_is_heard_whatever_comes_next(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film")
    html = f"""<audio id=a src={film.name} autoplay></audio><audio id=b src={film.name} autoplay></audio>
      <iframe srcdoc="<audio src={film.name} autoplay></audio>"></iframe><script>
      setTimeout(() => document.querySelector('iframe').remove(), 120);
      setTimeout(() => {{ a.src = 'missing.mp3'; a.play().catch(() => {{}}); }}, 80);
      setTimeout(() => {{ b.src = b.src; b.play(); }}, 80);
    </script>"""
    async with opened(html, tmp_path) as page:
        for frame in range(5):
            await page.skip(frame)
        heard = await page.page.evaluate("__asyncrender__.sounds()")
    places = [(one["element"], one["start"], one["end"], one["position"]) for one in heard]
    assert places == [(0, 0, 0.08, 0), (1, 0, 0.08, 0), (1, 0.08, None, 0), (2, 0, 0.12, 0)]


SOUNDS = """<video id=v src=FILM autoplay loop data-asyncrender-fade-in=0.5></video>
<audio id=a src=FILM preload=none></audio><script>
  a.volume = 0.5;
  setTimeout(() => a.play(), 100);
  setTimeout(() => { a.muted = true; }, 200);
  setTimeout(() => { a.playbackRate = 2; a.preservesPitch = false; }, 240);
  setTimeout(() => a.pause(), 280);
</script>"""


async def test_what_was_heard_is_known_from_the_beginning(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film")
    async with opened(SOUNDS.replace("FILM", film.name), tmp_path) as page:
        for frame in range(10):
            await page.skip(frame)
        first, *others = await page.page.evaluate("__asyncrender__.sounds()")
        source = f"http://scene.localhost/{film.name}"
        assert page.local_source(source) == (film, 2)
    whole = {"element": 0, "source": source, "kind": "video", "start": 0, "end": None, "position": 0, "rate": 1}
    assert first == {**whole, "loop": True, "pitch": True, "gains": [[0, 1]], "fade_in": 0.5, "fade_out": 0}
    assert [(one["start"], one["end"], one["position"], one["rate"], one["gains"]) for one in others] == [
        (0.1, 0.24, 0, 1, [[0.1, 0.5], [0.2, 0]]),
        (0.24, 0.28, pytest.approx(0.14), 2, [[0.24, 0]]),
    ]
    assert [(one["kind"], one["pitch"]) for one in others] == [("audio", True), ("audio", False)]


async def test_a_film_that_is_missing_broken_or_not_wanted_yet_is_no_error(capture: str, tmp_path: Path) -> None:
    make_film(tmp_path / "film")
    (tmp_path / "broken.mp4").write_bytes(b"no film" * 100)
    html = """<video src=missing.mp4 autoplay></video><video src=broken.mp4></video>
        <audio src=missing.mp3 autoplay></audio>
        <video src=film.mp4 preload=none></video><audio src=film.mp4 preload=none></audio><video></video>
        <script>document.querySelector('video').play();</script>"""
    async with opened(html, tmp_path, capture=capture) as page:
        await shot(page, 0)
        await shot(page, 1)
        warnings = "\n".join(page.page.warnings)
    assert "the video http://scene.localhost/missing.mp4 cannot be shown: there is no such file" in warnings
    assert "the video http://scene.localhost/broken.mp4 cannot be shown" in warnings
    assert "the audio http://scene.localhost/missing.mp3 cannot be" in warnings


async def test_a_film_that_cannot_be_shown_shows_nothing(capture: str, tmp_path: Path) -> None:
    html = """<video id="video" autoplay></video><script>
      setTimeout(() => { video.src = URL.createObjectURL(new MediaSource()); }, 100);
    </script>"""
    async with opened(html, tmp_path, capture=capture) as page:
        shown = [pixels(await shot(page, frame)) for frame in range(6)]
        (warning,) = page.page.warnings
    assert all(np.array_equal(picture, shown[0]) for picture in shown)
    assert warning.endswith("cannot be shown: what blob: names cannot be read, as a MediaSource cannot")


async def test_a_film_of_which_no_picture_can_be_decoded_shows_nothing(capture: str, tmp_path: Path) -> None:
    film = make_film(tmp_path / "film", frames=5)
    data = film.read_bytes()
    begin, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    film.write_bytes(data[:begin] + b"\xff" * (end - begin) + data[end:])
    async with opened(f"<video src={film.name} autoplay></video>", tmp_path, capture=capture) as page:
        shown = pixels(await shot(page, 0)).astype(int)
        assert "has no frame at 0 s" in page.page.warnings[0]
        assert await page.page.evaluate("document.querySelector('video').clientWidth") == 160
    assert abs(shown[40, 20] - (0x11, 0x22, 0x33)).max() <= 4


@pytest.mark.parametrize("comes", ["at once", "later"])
async def test_a_film_without_pictures_holds_no_page_up_that_has_no_background(
    comes: str, capture: str, tmp_path: Path
) -> None:
    html = """<div style="height: 20px; background: red"></div><script>
      const add = () => {
        const video = document.createElement('video');
        video.src = 'missing.mp4';
        document.body.prepend(video);
      };
      WHEN;
    </script>"""
    html = html.replace("WHEN", "add()" if comes == "at once" else "setTimeout(add, 60)")
    async with opened(html, tmp_path, background="none", capture=capture, fps=50) as page:
        shown = [pixels(await shot(page, frame)) for frame in range(6)]
    assert [int(picture[10, 10, 1]) > 127 for picture in shown] == [
        comes == "at once" or frame >= 3 for frame in range(6)
    ]


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67", "bt709"])
async def test_a_film_whose_colours_come_out_wrong_is_warned_of(transfer: str, tmp_path: Path) -> None:
    film = make_film(tmp_path / "film", transfer=transfer)
    async with opened(f"<video src={film.name}></video><video src={film.name}></video>", tmp_path) as page:
        await shot(page, 0)
        await shot(page, 1)
        warnings = page.page.warnings
    name = f"the video http://scene.localhost/{film.name} is HDR ({transfer})"
    assert [warning.partition(",")[0] for warning in warnings] == ([] if transfer == "bt709" else [name])


async def test_colours_are_those_that_chromium_shows(tmp_path: Path) -> None:
    """Measured with its own player: VP8 of 720 lines is BT.709, on canvases Display P3 is wider. (6: coding loses.)"""
    source = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "color=0xC04020:s=1280x720,format=gbrp"]
    coded = ["-frames:v", "1", "-vf", "scale=out_color_matrix=bt709,format=yuv420p"]
    tags = ["-colorspace", "bt709", "-color_primaries", "smpte432", "-color_trc", "bt709"]
    subprocess.run([*source, *coded, "-c:v", "libvpx", "-b:v", "4M", tmp_path / "hd.webm"], check=True)
    subprocess.run([*source, *coded, "-c:v", "libx264", "-qp", "8", *tags, tmp_path / "p3.mp4"], check=True)
    html = """<video id=hd src=hd.webm></video><video id=wide src=p3.mp4></video><script>const look = film => {
        const context = document.createElement('canvas').getContext('2d');
        context.drawImage(film, 0, 0, 9, 9);
        return [...context.getImageData(4, 4, 1, 1).data];
      };</script>"""
    async with opened(html, tmp_path) as page:
        shown = np.array(await page.page.evaluate("[look(hd), look(wide)]"))
    assert abs(shown - [(194, 65, 36, 255), (211, 50, 15, 255)]).max() <= 6


async def test_what_the_browser_draws_upon_a_film_by_itself_is_warned_of(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film", frames=3)
    html = f"""<video src={film.name} autoplay controls></video><video src={film.name}></video><script>
      const track = document.querySelector('video').addTextTrack('captions');
      track.mode = 'showing';
      track.addCue(new VTTCue(0, 9, 'said'));
    </script>"""
    async with opened(html, tmp_path) as page:
        for frame in range(4):
            await shot(page, frame)
        warnings = page.page.warnings
    assert sorted(warning.partition(" http")[0] for warning in warnings) == [
        "the captions of the video",
        "the controls of the video",
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "film.test"])
async def test_a_page_from_elsewhere_may_show_films_too(host: str, capture: str, tmp_path: Path) -> None:
    """Also one that forbids all connections to others, and one whose origin is not secure."""
    film = make_film(tmp_path / "film")

    def answer(request: BaseHTTPRequestHandler) -> None:
        address = f"http://127.0.0.1:{request.server.server_port}"
        if request.path == "/film.mp4":
            data = film.read_bytes()
            request.send_response(200)
            request.send_header("Content-Length", str(len(data)))
            request.end_headers()
            request.wfile.write(data)
        else:
            policy = "<meta http-equiv=Content-Security-Policy content=\"connect-src 'none'\">"
            page = f"<body style='margin:0'><video src={address}/film.mp4 autoplay></video>"
            answer_html(request, f"<!doctype html>{policy}{page}")

    browser = {"args": ["--host-resolver-rules=MAP film.test 127.0.0.1"]}
    options = complete(small(capture=capture, browser=browser, timeouts={"ready": 20, "load": 20}), "x.mkv")
    with served(answer) as url:
        address = url.replace("127.0.0.1", host)
        if (host, capture) == ("film.test", "raw"):
            with pytest.raises(CaptureUnavailable, match="no secure context"):
                async with open_capture(options, address, tmp_path, open_film=open_decoder):
                    pass
            return
        async with open_capture(options, address, tmp_path, open_film=open_decoder) as page:
            assert await numbers(page, range(6)) == list(range(6))


async def test_a_film_that_breaks_off_on_its_way_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    data = make_film(tmp_path / "film", "vp9").read_bytes()

    def answer(request: BaseHTTPRequestHandler) -> None:
        if request.path == "/nonsense":
            request.wfile.write(b"what?\r\n")
            return
        request.send_response(200)
        if request.path == "/chunked":
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            request.wfile.write(b"%x\r\n" % len(data) + data[:-2000])
            return
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data[:-2000])

    with served(answer) as url:
        films = "".join(f"<video src={url}{name}></video>" for name in ("short", "chunked", "nonsense"))
        async with opened(films, tmp_path) as page:
            await page.skip(0)
            said = [warning for warning in page.page.warnings if "cannot be shown: it could not be loaded" in warning]
    assert len(said) == 3
    assert "2000 bytes are missing" in "".join(said)


async def test_chunks_of_a_film_join_without_a_seam(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film", rate="30000/1001")
    scene = tmp_path / "scene.html"
    scene.write_text(f"<!doctype html><body style='margin:0'><video src={film.name} autoplay loop></video>")
    shown = []
    for concurrency, chunk_frames in ((1, 900), (2, 7)):
        options = small(fps="30000/1001", frame_count=20, concurrency=concurrency, chunk_frames=chunk_frames)
        result = await ar.render(scene, tmp_path / f"out{concurrency}.mkv", options)
        shown.append(digests(tmp_path / f"out{concurrency}.mkv"))
        assert [number_in(picture) for picture in pictures(tmp_path / f"out{concurrency}.mkv")] == list(range(20))
        assert result.warnings == ()
    assert shown[0] == shown[1]


async def test_a_film_that_does_not_come_is_named(tmp_path: Path) -> None:
    over = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        over.wait(20)

    with served(answer) as url:
        try:
            with pytest.raises(ar.PageNotReady, match=r"the video http://127\.0\.0\.1:\d+/never\.mp4"):
                async with opened(f"<video src={url}never.mp4></video>", tmp_path, timeouts={"load": 2, "request": 2}):
                    pass
        finally:
            over.set()


@pytest.mark.soak
@pytest.mark.parametrize("attempt", range(3))
async def test_no_frame_is_late_on_a_busy_machine(attempt: int, capture: str, tmp_path: Path) -> None:
    film = make_film(tmp_path / "film", frames=250)
    films = "".join(f"<video src={film.name} autoplay data-asyncrender-seek={seek}></video>" for seek in (0, 1, 2))
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(6)]
    try:
        html = f"<style>video {{ display: block }}</style>{films}"
        async with opened(html, tmp_path, capture=capture, height=240, timeouts={}) as page:
            for frame in range(150):
                shown = pixels(await shot(page, frame))
                assert [number_in(shown, y=80 * row) for row in range(3)] == [frame, frame + 25, frame + 50]
    finally:
        for process in busy:
            process.kill()
            process.wait()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_film_that_is_just_being_opened_at_the_end_is_closed(tmp_path: Path) -> None:
    make_film(tmp_path / "film")
    (tmp_path / "scene.html").write_text("<video src=film.mp4></video>")
    began, opened, closed = anyio.Event(), [], []

    @asynccontextmanager
    async def stubborn(path: Path, idle_seconds: float) -> AsyncIterator[tuple[dict[str, object], object]]:
        """Notices only later that all is over, as ending a decoder before another is begun does."""
        with anyio.CancelScope(shield=True):
            began.set()
            for _ in range(1000):
                await anyio.lowlevel.checkpoint()
        opened.append(path.name)
        try:
            yield {"duration": 1}, None
        finally:
            closed.append(path.name)

    async def work() -> None:
        async with open_capture(complete(small(), "x.mkv"), "scene.html", tmp_path, open_film=stubborn):
            pytest.fail("it is not ready without its film")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await began.wait()
        tasks.cancel_scope.cancel()
    assert opened == closed == ["film.mp4"]


LOADED_LATE = """<video id="video" muted autoplay></video><script>
  const said = [];
  for (const name of ['loadstart', 'loadedmetadata', 'canplay', 'error'])
    video.addEventListener(name, () => said.push(`${name} ${performance.now().toFixed()}`));
  const load = () => {
    video.src = SOURCE;
    setTimeout(() => said.push('timer'), 1);
    setTimeout(() => said.push('timer'), 1);
  };
  ON
</script>"""


@pytest.mark.parametrize(
    ("on", "said", "position"),
    [
        ("setTimeout(load, 50)", ["timer", "timer", "loadstart 52", "loadedmetadata 52", "canplay 52"], 0.03),
        ("setTimeout(load, 79)", ["loadstart 80", "loadedmetadata 80", "canplay 80", "timer", "timer"], 0.001),
        ("setTimeout(load, 80)", ["loadstart 80", "loadedmetadata 80", "canplay 80"], 0),
    ],
)
async def test_a_load_begins_after_timers_of_a_millisecond_if_the_frame_has_room(
    on: str, said: list[str], position: float, tmp_path: Path
) -> None:
    film = make_film(tmp_path / "film")
    page_text = LOADED_LATE.replace("SOURCE", f"'{film.name}'").replace("ON", on)
    async with opened(page_text, tmp_path, capture="beginframe") as page:
        await numbers(page, range(3))
        assert await page.page.evaluate("said") == said
        assert await page.page.evaluate("video.currentTime") == pytest.approx(position)


async def test_what_is_missing_says_so_when_its_load_has_begun(tmp_path: Path) -> None:
    page_text = LOADED_LATE.replace("SOURCE", "'missing.mp4'").replace("ON", "setTimeout(load, 50)")
    async with opened(page_text, tmp_path, capture="beginframe") as page:
        for frame in range(3):
            await shot(page, frame)
        assert await page.page.evaluate("said") == ["timer", "timer", "loadstart 52", "error 52"]


PARTS = """<p id="p"></p><script>
  const {takeRecords} = MutationObserver.prototype;
  let looks = 0;
  MutationObserver.prototype.takeRecords = function () { looks++; return takeRecords.call(this); };
  customElements.define('e-part', class extends HTMLElement {
    constructor() { super(); this.attachShadow({mode: 'open'}).innerHTML = '<b>b</b>'; }
  });
  requestAnimationFrame(function draw() {
    p.innerHTML = '<e-part></e-part><iframe></iframe>';
    requestAnimationFrame(draw);
  });
</script>"""


async def test_parts_that_have_left_the_page_are_not_looked_at_any_more(tmp_path: Path) -> None:
    """A page that draws its parts anew would be slower from frame to frame."""
    counted = []
    async with opened(PARTS, tmp_path, capture="beginframe") as page:
        for frame in range(12):
            await page.skip(frame)
            counted.append(await page.page.evaluate("looks"))
    looks = np.diff(counted)
    assert set(looks[4:]) == {looks[2]}
