"""Single frames as images: those that the film shows, in the format that was asked for, or nothing at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import asyncrender as ar
from asyncrender import cli
from frames import SCENES, left_in, pictures, pixels, small

one_loop = pytest.mark.parametrize("anyio_backend", ["asyncio"])
pytestmark = pytest.mark.anyio

FRAME = 7

JUMPING = """<!doctype html>
<meta name="asyncrender" content="width=160, height=90, fps=30, duration=400">
<script>
  let calls = 0;
  window.asyncrender.seek = (time, frame) => {
    calls++;
    document.body.style.background = calls > 3 ? 'red' : `rgb(0, ${frame % 256}, ${Math.round(time) % 256})`;
  };
</script>
<body></body>
"""

PHOTO = """<!doctype html><body style="margin: 0"><img src="photo.png" width="160" height="90">"""


async def test_it_is_the_films_frame_on_each_event_loop(tmp_path: Path) -> None:
    result = await ar.still(SCENES / "canvas.html", tmp_path / "still.png", small(), frame=FRAME)
    assert result == ar.StillResult(tmp_path / "still.png", FRAME, 160, 90)
    assert left_in(tmp_path) == {"still.png"}
    await ar.render(SCENES / "canvas.html", tmp_path / "film.mkv", small(capture="beginframe"))
    film = pictures(tmp_path / "film.mkv")
    assert np.array_equal(pixels(result.output.read_bytes()), film[FRAME])
    assert not np.array_equal(film[FRAME], film[FRAME - 1]), "the scene stands still: the comparison would say nothing"


@one_loop
async def test_options_resolved_for_a_film_do(tmp_path: Path) -> None:
    options = await ar.resolve(
        SCENES / "css.html", tmp_path / "film.mp4", ar.RenderOptions(width=160, height=90, duration=1)
    )
    assert options.capture == "raw"
    resolved = await ar.still(SCENES / "css.html", tmp_path / "one.png", options, frame=FRAME)
    plain = await ar.still(
        SCENES / "css.html", tmp_path / "other.png", ar.RenderOptions(width=160, height=90), frame=FRAME
    )
    assert resolved.output.read_bytes() == plain.output.read_bytes()


@one_loop
@pytest.mark.parametrize(
    ("name", "kind", "worst"), [("a.jpg", "JPEG", 12), ("b.JPEG", "JPEG", 12), ("c.webp", "WEBP", 0)]
)
async def test_other_formats(name: str, kind: str, worst: int, tmp_path: Path) -> None:
    scene = ar.Html("<!doctype html><body style='background: linear-gradient(90deg, #246, #fc8)'>")
    options = ar.RenderOptions(width=161, height=91)
    png = await ar.still(scene, tmp_path / "still.png", options)
    await ar.still(scene, tmp_path / name, options)
    with Image.open(tmp_path / name) as image:
        assert (image.format, image.size) == (kind, (161, 91))
        shown = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(shown - pixels(png.output.read_bytes())).max() <= worst


@one_loop
async def test_a_page_that_can_seek_is_jumped_through(tmp_path: Path) -> None:
    scene = tmp_path / "scene.html"
    scene.write_text(JUMPING)
    result = await ar.still(scene, tmp_path / "still.png", frame=11_000)
    assert pixels(result.output.read_bytes())[45, 80].tolist() == [0, 11_000 % 256, 367 - 256]


@one_loop
@pytest.mark.parametrize(
    ("output", "frame", "words"),
    [
        ("still.gif", 0, ["output", "still.gif", ".png, .jpg, .jpeg, .webp"]),
        ("nowhere/still.png", 0, ["output", "nowhere", "does not exist"]),
        ("still.png", 10, ["frame=10", "frame 9"]),
        ("still.png", -1, ["frame=-1", "from 0"]),
    ],
)
async def test_what_cannot_be(output: str, frame: int, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "still.png").write_text("older")
    with pytest.raises(ar.InvalidOption) as caught:
        await ar.still(SCENES / "css.html", tmp_path / output, small(), frame=frame)
    assert [word for word in words if word not in str(caught.value)] == []
    assert (tmp_path / "still.png").read_text() == "older"
    assert left_in(tmp_path) == {"still.png"}


@one_loop
async def test_an_image_that_the_page_shows_is_not_replaced(tmp_path: Path) -> None:
    Image.new("RGB", (16, 9), "teal").save(tmp_path / "photo.png")
    (tmp_path / "scene.html").write_text(PHOTO)
    before = (tmp_path / "photo.png").read_bytes()
    with pytest.raises(ar.InvalidOption, match=r"made from, photo\.png"):
        await ar.still(tmp_path / "scene.html", tmp_path / "photo.png", small())
    assert (tmp_path / "photo.png").read_bytes() == before
    assert left_in(tmp_path) == {"photo.png", "scene.html"}


def test_the_command(tmp_path: Path) -> None:
    def run(*arguments: object) -> tuple[int, str]:
        done = CliRunner().invoke(cli.app, ["still", *map(str, arguments)])
        return done.exit_code, done.output

    scene, output = tmp_path / "scene.html", tmp_path / "still.png"
    scene.write_text("<script>setTimeout(() => { throw new Error('out of tea') }, 100)</script>")
    code, text = run(scene, "-o", output, "--width", 161, "--height", 91, "--frame", 2, "--json")
    said = json.loads(text)
    assert (code, said["output"], said["frame"], said["width"], said["height"]) == (0, str(output), 2, 161, 91)
    before = output.read_bytes()
    code, text = run(scene, "-o", output, "--width", 161, "--height", 91, "--frame", 5)
    assert (code, "frame 3" in text, "out of tea" in text) == (1, True, True)
    assert output.read_bytes() == before
    code, text = run(scene, "-o", output, "--duration", 1, "--frame", 30)
    assert (code, text) == (2, "error: --frame 30 is not possible: the film ends with frame 29.\n")
