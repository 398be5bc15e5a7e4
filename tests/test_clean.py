"""Cleaning up after failed and dead runs, and only after those."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import asyncrender as ar
from asyncrender.plan import make_plan
from asyncrender.workspace import Workspace
from frames import left_in

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def make(folder: Path, name: str = "out.mp4") -> Workspace:
    return Workspace(make_plan(folder / "scene.html", folder / name, ar.RenderOptions(duration=1)), folder)


@pytest.fixture
def films(tmp_path: Path) -> Iterator[Path]:
    """Three outputs' leftovers, and things that only look like it."""
    for name in ("a.mp4", "b.mkv", "c.mov"):
        workspace = make(tmp_path, name)
        workspace.prepare()
        (workspace.work / "chunk-00000.mov").write_bytes(b"x" * 1000)
        (workspace.work / "chunk-00000.mov.json").write_text("{}")
        (workspace.work / "chunk-00001.mov.1a2b.part").write_bytes(b"x" * 500)
    (tmp_path / "a.mp4").write_bytes(b"a film")
    (tmp_path / ".notes.asyncrender").mkdir()
    (tmp_path / ".d.mp4.asyncrender").write_text("a file")
    yield tmp_path
    assert (tmp_path / "a.mp4").read_bytes() == b"a film"
    assert {".notes.asyncrender", ".d.mp4.asyncrender"} < left_in(tmp_path)


async def test_a_folders_leftovers_go(films: Path) -> None:
    (films / ".b.mkv.asyncrender" / "mine.txt").write_text("not a render's")
    with make(films, "c.mov").lock():
        dry = await ar.clean(films, dry_run=True)
        assert len(dry.removed) == 2
        assert dry.in_use == (str(films / ".c.mov.asyncrender"),)
        assert dry.bytes == 2 * 1502
        assert len(left_in(films)) == 6
        report = await ar.clean(films)
    assert report.removed == (str(films / ".a.mp4.asyncrender"),)
    assert left_in(films / ".b.mkv.asyncrender") == {"mine.txt"}
    assert left_in(films / ".c.mov.asyncrender") > {"lock", "chunk-00000.mov"}


async def test_one_outputs_leftovers_go(films: Path) -> None:
    report = await ar.clean(films / "b.mkv")
    assert report.removed == (str(films / ".b.mkv.asyncrender"),)
    assert {".a.mp4.asyncrender", ".c.mov.asyncrender"} < left_in(films)


async def test_what_renders_single_chunks_is_in_use(films: Path) -> None:
    with make(films, "a.mp4").share():
        report = await ar.clean(films / "a.mp4")
    assert (report.removed, report.in_use) == ((), (str(films / ".a.mp4.asyncrender"),))


async def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ar.InvalidOption, match="nowhere"):
        await ar.clean(tmp_path / "nowhere" / "out.mp4")


def test_the_command(films: Path) -> None:
    command = [sys.executable, "-m", "asyncrender.cli", "clean", str(films)]
    dry = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=True).stdout
    assert dry.count("would remove") == 3
    found = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert (len(found["removed"]), found["in_use"]) == (3, [])
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "nothing to remove\n"
