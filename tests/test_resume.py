"""Going on from where a run ended: only what is missing is rendered, and what changed meanwhile is seen and said."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

import asyncrender as ar
from frames import SCENES, digests, html, left_in, served, small

pytestmark = pytest.mark.anyio

CUT = {"chunk_frames": 3, "frame_count": 12}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A page that reads one file beside it, and asks for one that is not there."""
    page = tmp_path / "scene.html"
    page.write_text(
        "<!doctype html><link rel=stylesheet href=style.css><img src=gone.png width=9 height=9>"
        + (SCENES / "interval.html").read_text()
    )
    (tmp_path / "style.css").write_text("body { background: navy }")
    (tmp_path / "unused.css").write_text("body { background: red }")
    return page


async def interrupted(scene: Path | str, output: Path, options: ar.RenderOptions) -> None:
    """A render that is cancelled when two of its chunks are finished."""
    with anyio.CancelScope() as scope:

        def look(progress: ar.Progress) -> None:
            if progress.chunks_done >= 2:
                scope.cancel()

        await ar.render(scene, output, options, on_progress=look)
    assert scope.cancelled_caught


def attempts(result: ar.RenderResult) -> list[int]:
    return [chunk.attempts for chunk in result.chunks]


async def test_finished_chunks_survive_a_failure_and_are_not_rendered_again(tmp_path: Path) -> None:
    body = (SCENES / "interval.html").read_text()
    broken = body + "<script>setTimeout(() => { throw new Error('late') }, 300)</script>"
    pages, output = [broken], tmp_path / "out.mkv"
    with served(lambda request: html(request, pages[-1])) as url:  # from elsewhere: what it says is not looked at
        with pytest.raises(ar.PageThrew, match="late"):
            await ar.render(url, output, small(**CUT))
        kept = left_in(tmp_path / ".out.mkv.asyncrender")
        assert {name for name in kept if name.endswith(".nut")} == {"chunk-00000.nut", "chunk-00001.nut"}
        pages.append(body)
        result = await ar.render(url, output, small(**CUT))
        assert attempts(result) == [0, 0, 1, 1]
        assert result.discarded == ()
        await ar.render(url, tmp_path / "fresh.mkv", small(**CUT))
    assert digests(output) == digests(tmp_path / "fresh.mkv")
    assert left_in(tmp_path) == {"out.mkv", "fresh.mkv"}


async def test_a_cancelled_render_goes_on(scene: Path) -> None:
    output = scene.with_name("out.mkv")
    await interrupted(scene, output, small(**CUT))
    result = await ar.render(scene, output, small(**CUT))
    assert attempts(result)[:2] == [0, 0]
    assert attempts(result)[3] == 1
    await ar.render(scene, scene.with_name("fresh.mkv"), small(**CUT))
    assert digests(output) == digests(scene.with_name("fresh.mkv"))


def _change_the_page(scene: Path) -> None:
    scene.write_text(scene.read_text() + "<!-- changed -->")


def _change_a_style(scene: Path) -> None:
    scene.with_name("style.css").write_text("body { background: teal }")


def _bring_what_was_missing(scene: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / "examples" / "hello" / "frame.png", scene.with_name("gone.png"))


CHANGES: dict[str, tuple[Callable[[Path], None], dict[str, object], str]] = {
    "the page": (_change_the_page, {}, "scene.html changed"),
    "a file of the page": (_change_a_style, {}, "style.css changed"),
    "a file that was missing": (_bring_what_was_missing, {}, "gone.png changed"),
    "props": (lambda _: None, {"props": {"title": "new"}}, "props.title was unset, is new"),
    "seed": (lambda _: None, {"seed": 7}, "seed was 0, is 7"),
    "encoder": (lambda _: None, {"video": {"codec": "ffv1", "pixel_format": "yuv444p"}}, "video.pixel_format was bgr0"),
    "cuts": (lambda _: None, {"chunk_frames": 4}, "chunk_frames was 3, is 4"),
}


OFTEN = ("a file of the page", "a file that was missing", "encoder", "cuts")


@pytest.mark.parametrize(
    "case", [case if case in OFTEN else pytest.param(case, marks=pytest.mark.soak) for case in CHANGES]
)
async def test_what_changed_is_rendered_again_and_said(scene: Path, case: str) -> None:
    change, options, reason = CHANGES[case]
    output = scene.with_name("out.mkv")
    await interrupted(scene, output, small(**CUT))
    change(scene)
    now = small(**{**CUT, **options})
    result = await ar.render(scene, output, now)
    assert set(attempts(result)) == {1}
    assert any(reason in sentence for sentence in result.discarded), result.discarded
    await ar.render(scene, scene.with_name("fresh.mkv"), now)
    assert digests(output) == digests(scene.with_name("fresh.mkv"))


async def test_another_version_of_a_tool_is_said(scene: Path) -> None:
    output = scene.with_name("out.mkv")
    resolved = await ar.resolve(scene, output, small(**CUT))
    assert resolved.environment is not None
    older = resolved.environment.model_copy(update={"ffmpeg": "4.0", "notes": ("written by another run",)})
    await interrupted(scene, output, resolved.model_copy(update={"environment": older}))
    result = await ar.render(scene, output, small(**CUT))
    assert set(attempts(result)) == {1}
    assert any("environment.ffmpeg was 4.0, is" in sentence for sentence in result.discarded)


async def test_what_does_not_change_the_film_does_not_count(scene: Path) -> None:
    """Files the page never read, a touched file, deadlines, and the reasons for what was found on the machine."""
    output = scene.with_name("out.mkv")
    resolved = await ar.resolve(scene, output, small(**CUT))
    await interrupted(scene, output, resolved)
    scene.with_name("unused.css").write_text("body { background: green }")
    scene.touch()
    assert resolved.environment is not None
    again = resolved.model_copy(
        update={
            "environment": resolved.environment.model_copy(update={"notes": ("other memory is free now",)}),
            "timeouts": ar.Timeouts(load=99),
        }
    )
    result = await ar.render(scene, output, again)
    assert attempts(result)[:2] == [0, 0]
    assert result.discarded == ()


async def test_a_damaged_chunk_is_rendered_again_and_said(scene: Path) -> None:
    output = scene.with_name("out.mkv")
    await interrupted(scene, output, small(**CUT))
    chunk = scene.parent / ".out.mkv.asyncrender" / "chunk-00001.nut"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    result = await ar.render(scene, output, small(**CUT))
    assert attempts(result)[:2] == [0, 1]
    assert any("chunk-00001.nut is damaged" in sentence for sentence in result.discarded)
    await ar.render(scene, scene.with_name("fresh.mkv"), small(**CUT))
    assert digests(output) == digests(scene.with_name("fresh.mkv"))


async def test_a_chunk_that_is_damaged_after_it_was_counted_is_rendered_again(tmp_path: Path) -> None:
    """What concat cannot read costs that one chunk, not the render."""
    output = tmp_path / "out.mkv"

    def damage(progress: ar.Progress) -> None:
        chunk = tmp_path / ".out.mkv.asyncrender" / "chunk-00001.nut"
        if progress.stage == "render" and progress.chunks_done == 3 and chunk.exists():
            chunk.write_bytes(chunk.read_bytes()[:200])

    result = await ar.render(SCENES / "interval.html", output, small(**CUT), on_progress=damage)
    assert len(result.chunks) == 4
    await ar.render(SCENES / "interval.html", tmp_path / "fresh.mkv", small(**CUT))
    assert digests(output) == digests(tmp_path / "fresh.mkv")
    assert left_in(tmp_path) == {"out.mkv", "fresh.mkv"}


async def test_names_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    page = (SCENES / "interval.html").read_text() + "<img src='%FF%FEgone.png'><img src='%FFthere.svg'>"
    (tmp_path / "scene.html").write_text(page)
    (tmp_path / os.fsdecode(b"\xffthere.svg")).write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    result = await ar.render(tmp_path / "scene.html", tmp_path / "out.mkv", small(**CUT))
    assert attempts(result) == [1, 1, 1, 1]


async def test_auto_concurrency_takes_the_cuts_that_are_there(scene: Path) -> None:
    output = scene.with_name("out.mkv")
    resolved = await ar.resolve(scene, output, small(frame_count=12, concurrency=4))
    await interrupted(scene, output, resolved)
    kept = {path.stem for path in (scene.parent / ".out.mkv.asyncrender").glob("*.nut")}
    result = await ar.render(scene, output, small(frame_count=12, concurrency=None))
    assert len(result.chunks) == 4
    assert attempts(result).count(0) == len(kept)


async def test_a_chunk_of_other_scene_files_is_not_assembled(scene: Path) -> None:
    output = scene.with_name("out.mkv")
    plan = ar.RenderOrchestrator.plan(scene, output, await ar.resolve(scene, output, small(**CUT)))
    for number in range(4):
        if number == 2:
            _change_a_style(scene)
        await ar.render_chunk(plan, number)
    with pytest.raises(ar.ChunkDamaged, match=r"chunk 0, 1 \(2 chunks are of no use: .*style\.css changed"):
        await ar.assemble(plan)
    for number in range(4):
        await ar.render_chunk(plan, number)
    assert attempts(await ar.assemble(plan)) == [0, 0, 0, 0]
    assert left_in(scene.parent) == {"scene.html", "style.css", "unused.css", "out.mkv"}


async def test_assembling_another_plan_removes_nothing(scene: Path) -> None:
    output = scene.with_name("out.mkv")
    plans = [
        ar.RenderOrchestrator.plan(scene, output, await ar.resolve(scene, output, small(**CUT, seed=n))) for n in (1, 2)
    ]
    await ar.render_chunk(plans[0], 0)
    before = left_in(scene.parent / ".out.mkv.asyncrender")
    with pytest.raises(ar.ChunkDamaged, match="seed was 1, is 2"):
        await ar.assemble(plans[1])
    assert left_in(scene.parent / ".out.mkv.asyncrender") == before
