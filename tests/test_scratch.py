"""Folders that go with their process: a dead run's with the next one, a live run's never."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asyncrender.errors import DiskFull, OutputError
from asyncrender.scratch import PREFIX, UNNAMED_PREFIX, open_folder, sweep

pytestmark = pytest.mark.anyio

HOLDER = """
import sys
from pathlib import Path
import anyio
from asyncrender.scratch import open_folder
async def main():
    async with open_folder(Path(sys.argv[1])) as folder:
        (folder / "file").write_text("x")
        print(folder, flush=True)
        await anyio.sleep_forever()
anyio.run(main)
"""


@contextmanager
def another_run(place: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(place)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


async def test_a_folder_goes_with_its_block(tmp_path: Path) -> None:
    async with open_folder(tmp_path) as folder:
        assert folder.parent == tmp_path
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_live_runs_folder_stays_and_a_dead_ones_goes(tmp_path: Path) -> None:
    with another_run(tmp_path) as (process, theirs):
        async with open_folder(tmp_path) as ours:
            assert {path.name for path in tmp_path.iterdir()} == {theirs.name, ours.name}
        assert (theirs / "file").exists()
        process.kill()
        process.wait()
        assert sweep(tmp_path, dry_run=True) == [theirs]
        assert theirs.exists()
        async with open_folder(tmp_path) as ours:
            assert [path.name for path in tmp_path.iterdir()] == [ours.name]


MANY = """
import sys
from pathlib import Path
import anyio
from asyncrender.scratch import open_folder
async def main():
    for _ in range(40):
        async with open_folder(Path(sys.argv[1])) as folder:
            (folder / "file").write_text("x")
            await anyio.sleep(0.001)
            assert (folder / "file").exists()
anyio.run(main)
"""


def test_many_runs_that_begin_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", MANY, str(tmp_path)]
    runs = [subprocess.Popen(argv, stderr=subprocess.PIPE) for _ in range(4)]
    said = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * 4, said
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_known_to_be_dead_stays(tmp_path: Path) -> None:
    """A folder that is just being made, a file and a link of that name, and whatever has another name."""
    (tmp_path / f"{UNNAMED_PREFIX}young").mkdir()
    (tmp_path / f"{PREFIX}file").write_text("x")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    before = sorted(tmp_path.iterdir())
    assert sweep(tmp_path) == []
    assert sorted(tmp_path.iterdir()) == before
    os.utime(tmp_path / f"{UNNAMED_PREFIX}young", (0, 0))
    assert sweep(tmp_path) == [tmp_path / f"{UNNAMED_PREFIX}young"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_place_that_is_not_there_or_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        async with open_folder(tmp_path / "nowhere"):
            pass
    monkeypatch.setattr("asyncrender.scratch.LEAST_BYTES", 1 << 60)
    with pytest.raises(DiskFull, match=rf"free in {tmp_path}"):
        async with open_folder(tmp_path):
            pass
