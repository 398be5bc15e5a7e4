"""What was there before is not lost: inputs, older films, others' chunks; a full disk is known early, and said."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import asyncrender as ar
from asyncrender.diskspace import bits_per_second, check_space, estimate
from asyncrender.plan import make_plan
from asyncrender.workspace import Workspace
from disks import small_disk
from frames import SCENES, left_in, small

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def make_film(path: Path) -> bytes:
    source = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1", "-f", "lavfi", "-i", "sine=500:d=1"]
    subprocess.run(["ffmpeg", "-v", "error", *source, "-c:v", "ffv1", "-c:a", "flac", str(path)], check=True)
    return path.read_bytes()


# ---- inputs


@pytest.mark.parametrize("alias", [None, "link", "hard link"])
async def test_a_track_is_not_written_over(tmp_path: Path, alias: str | None) -> None:
    film = make_film(tmp_path / "film.mkv")
    output = tmp_path / "film.mkv"
    if alias:
        output = tmp_path / "out.mkv"
        output.symlink_to(tmp_path / "film.mkv") if alias == "link" else output.hardlink_to(tmp_path / "film.mkv")
    before = left_in(tmp_path)
    tracks = ar.AudioOptions(tracks=(ar.AudioTrack(path=str(tmp_path / "film.mkv")),))
    with pytest.raises(ar.InvalidOption, match=r"audio\.tracks\.0") as refused:
        await ar.render(SCENES / "css.html", output, small(audio=tracks))
    assert refused.value.option == "output"
    assert (tmp_path / "film.mkv").read_bytes() == film
    assert left_in(tmp_path) == before


async def test_a_film_that_the_page_plays_is_not_written_over(tmp_path: Path) -> None:
    film = make_film(tmp_path / "out.mkv")
    (tmp_path / "scene.html").write_text("<video src=out.mkv autoplay></video>")
    with pytest.raises(ar.InvalidOption, match=r"out\.mkv"):
        await ar.render(tmp_path / "scene.html", tmp_path / "out.mkv", small())
    assert (tmp_path / "out.mkv").read_bytes() == film
    assert left_in(tmp_path) == {"out.mkv", "scene.html"}


async def test_a_film_that_the_page_plays_late_is_not_written_over_either(tmp_path: Path) -> None:
    film = make_film(tmp_path / "out.mkv")
    late = "setTimeout(() => { document.body.innerHTML = '<video src=out.mkv></video>' }, 200)"
    (tmp_path / "scene.html").write_text(f"<body><script>{late}</script>")
    with pytest.raises(ar.InvalidOption, match=r"out\.mkv"):
        await ar.render(tmp_path / "scene.html", tmp_path / "out.mkv", small())
    assert (tmp_path / "out.mkv").read_bytes() == film


# ---- others' work


def test_parts_of_those_who_render_single_chunks_stay(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "scene.html", tmp_path / "out.mkv", ar.RenderOptions(duration=1))
    workspace = Workspace(plan, tmp_path)
    with workspace.share():
        part = workspace.part(workspace.file(plan.chunks[0]))
        part.write_bytes(b"under way")
        for keep in ("nothing", "ours", "any"):
            Workspace(plan, tmp_path).sweep(keep)
        Workspace(plan, tmp_path).remove_if_empty()
        assert part.exists()
    workspace.sweep("any")
    assert not part.exists()


async def test_assembling_too_early_disturbs_nobody(tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    plan = ar.RenderOrchestrator.plan(
        SCENES / "canvas.html", output, await ar.resolve(SCENES / "canvas.html", output, small(chunk_frames=5))
    )
    refused: list[ar.ChunkDamaged] = []

    async def assemble_too_early(progress: ar.Progress) -> None:
        if progress.frames_done > 1 and not refused:
            try:
                await ar.assemble(plan)
            except ar.ChunkDamaged as error:
                refused.append(error)

    await ar.render_chunk(plan, 0, on_progress=assemble_too_early)
    assert refused
    await ar.render_chunk(plan, 1)
    assert [chunk.attempts for chunk in (await ar.assemble(plan)).chunks] == [0, 0]


# ---- full disks


def test_the_estimate_knows_sizes_codecs_and_bitrates() -> None:
    def usual(**options: object) -> int:
        whole = {"duration": 60, "width": 1920, "height": 1080, **options}
        return estimate(make_plan("scene.html", "out.mkv", ar.RenderOptions.model_validate(whole)))[1]

    assert usual(duration=120) == 2 * usual()
    assert usual(width=960, height=540) * 4 == usual()
    assert usual(video={"codec": "ffv1"}) > 5 * usual()
    assert usual(video={"bitrate": "8M"}) == 3 * 60 * 1_000_000
    assert [bits_per_second(text) for text in ("5M", "192k", "800")] == [5_000_000, 192_000, 800]


def test_finished_chunks_need_no_more_room() -> None:
    plan = make_plan("scene.html", "out.mkv", ar.RenderOptions(duration=60))
    assert estimate(plan, finished_frames=plan.total_frames)[1] * 3 == estimate(plan)[1] * 2


@pytest.fixture
def two_megabytes(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB, where this machine lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(folder, "size=2m") as possible:
        if not possible:
            pytest.skip("mounting is not permitted here")
        yield folder


async def test_what_cannot_fit_is_refused_before_it_begins(two_megabytes: Path) -> None:
    (two_megabytes / "out.mov").write_bytes(b"an older film")
    options = ar.RenderOptions(frame_count=900, video=ar.VideoOptions(codec="prores_ks"), capture="screenshot")
    with pytest.raises(ar.DiskFull, match=r"MB are free in .*disk, and this film needs at least .* MB"):
        await ar.render(SCENES / "css.html", two_megabytes / "out.mov", options)
    assert left_in(two_megabytes) == {"out.mov"}
    assert (two_megabytes / "out.mov").read_bytes() == b"an older film"


async def test_what_may_not_fit_is_warned_of(two_megabytes: Path) -> None:
    options = small(width=640, height=360, frame_count=30)
    plan = make_plan(SCENES / "css.html", two_megabytes / "out.mkv", options)
    (warning,) = check_space(plan, two_megabytes)
    assert "are free in" in warning
    result = await ar.render(SCENES / "css.html", two_megabytes / "out.mkv", options)
    assert "are free in" in result.warnings[0]


NOISE = """<body style=margin:0><canvas id=c width=160 height=90></canvas><script>
  const context = c.getContext('2d'), picture = context.createImageData(160, 90);
  requestAnimationFrame(function draw() {
    for (let at = 0; at < picture.data.length; at++) picture.data[at] = at % 4 === 3 ? 255 : Math.random() * 256;
    context.putImageData(picture, 0, 0);
    requestAnimationFrame(draw);
  });
</script>"""
"""40 KB a frame, however it is encoded."""


@pytest.mark.parametrize("megabytes_left", [0.02, 0.2, 0.6])
async def test_a_disk_that_becomes_full_is_said_and_the_older_film_stays(
    two_megabytes: Path, tmp_path: Path, megabytes_left: float
) -> None:
    (two_megabytes / "out.mkv").write_bytes(b"an older film")
    (two_megabytes / "filler").write_bytes(bytes(int((2 - megabytes_left) * (1 << 20))))
    with pytest.raises(ar.DiskFull, match=r"No space left|no space is left"):
        await ar.render(ar.Html(NOISE), two_megabytes / "out.mkv", small(frame_count=20, resume=False))
    assert left_in(two_megabytes) == {"out.mkv", "filler"}
    assert (two_megabytes / "out.mkv").read_bytes() == b"an older film"
