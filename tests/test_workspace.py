"""The work folder: whole files or none, one render at a time, nothing damaged taken for finished."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

import seccomp
from asyncrender.errors import DiskFull, InvalidOption, OutputError, OutputLocked
from asyncrender.plan import make_plan
from asyncrender.specs import RenderOptions, RenderPlan
from asyncrender.workspace import Workspace, idle
from children import ended, forked
from disks import small_disk

HOLDER = """
import sys
from pathlib import Path
from asyncrender.specs import RenderPlan
from asyncrender.workspace import Workspace
with Workspace(RenderPlan.model_validate_json(sys.argv[1]), Path(sys.argv[2])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""
"""Holds the lock until its standard input ends."""
FORKER = """
import os, signal, sys
from pathlib import Path
from asyncrender.specs import RenderPlan
from asyncrender.workspace import Workspace
with Workspace(RenderPlan.model_validate_json(sys.argv[1]), Path(sys.argv[2])).lock():
    if not os.fork():
        print(os.getpid(), flush=True)
    signal.pause()
"""
"""Holds the lock for good, and has forked a process that goes on without it."""
LOCKER = """
import os, sys
from pathlib import Path
from asyncrender.specs import RenderPlan
from asyncrender.workspace import Workspace, idle
workspace = Workspace(RenderPlan.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
before = os.listdir("/proc/self/fd")
with workspace.lock(), workspace.share(), idle(workspace.work) as unused:
    assert unused
workspace.sweep("nothing")
workspace.remove_if_empty()
assert os.listdir("/proc/self/fd") == before
"""
"""Takes every lock there is, and gives it back."""


def make(seed: int = 0) -> RenderPlan:
    return make_plan("scene.html", "out.mp4", RenderOptions(duration=1, concurrency=2, seed=seed))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(make(), tmp_path)


@contextmanager
def held_elsewhere(folder: Path) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", HOLDER, make().model_dump_json(), str(folder)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def finish(workspace: Workspace, index: int = 0, content: bytes = b"film") -> Path:
    chunk = workspace._plan.chunks[index]
    part = workspace.part(workspace.file(chunk))
    part.write_bytes(content)
    workspace.finish(chunk, part, capture="beginframe", sound=False, warnings=("a",), files={})
    return workspace.file(chunk)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# ---- the lock


def test_one_render_at_a_time(workspace: Workspace) -> None:
    with workspace.lock(), pytest.raises(OutputLocked, match=r"out\.mp4"), Workspace(make(), workspace.folder).lock():
        pass
    with workspace.lock():
        pass


def test_another_process_holds_the_lock_until_it_ends(workspace: Workspace) -> None:
    with held_elsewhere(workspace.folder) as holder:
        with pytest.raises(OutputLocked), workspace.lock():
            pass
        holder.communicate("")
        with workspace.lock():
            pass


def test_the_lock_of_a_killed_process_is_free(workspace: Workspace) -> None:
    with held_elsewhere(workspace.folder) as holder:
        holder.kill()
        holder.wait()
        with workspace.lock():
            pass


def test_the_lock_of_a_killed_process_is_free_though_one_lives_that_it_has_forked(workspace: Workspace) -> None:
    argv = [sys.executable, "-c", FORKER, make().model_dump_json(), str(workspace.folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        living = psutil.Process(int(holder.stdout.readline()))
        holder.kill()
    try:
        with workspace.lock():
            assert not ended(living)
    finally:
        living.kill()


def test_a_forked_process_frees_no_lock_of_ours(workspace: Workspace) -> None:
    with ExitStack() as held:
        held.enter_context(workspace.lock())
        with forked(held.close) as pid:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(OutputLocked), Workspace(make(), workspace.folder).lock():
            pass


def test_a_lock_whose_folder_was_removed_meanwhile_is_taken_anew(workspace: Workspace) -> None:
    with workspace.lock():
        workspace.remove_if_empty()
        with Workspace(make(), workspace.folder).lock():
            assert names(workspace.work) == {"lock"}


@pytest.mark.skipif(not seccomp.possible, reason="seccomp filters are Linux'")
@pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_where_there_are_no_locks_it_goes_without(tmp_path: Path, error: int) -> None:
    argv = [sys.executable, "-c", LOCKER, make().model_dump_json(), str(tmp_path)]
    subprocess.run(seccomp.without("flock", error, argv), check=True)
    assert names(tmp_path) == set()


@contextmanager
def just_forked(folder: Path) -> Iterator[None]:
    """A child of another thread, not at its exec yet: it has every file in `folder` that is open at the beginning."""
    opened = ((int(link.name), link.resolve()) for link in list(Path("/proc/self/fd").iterdir()))
    shared = [os.dup(descriptor) for descriptor, path in opened if folder in (path, path.parent)]
    assert shared
    try:
        yield
    finally:
        for descriptor in shared:
            os.close(descriptor)


HOLDS: dict[str, Callable[[Workspace], AbstractContextManager[object]]] = {
    "one render": lambda workspace: workspace.lock(),
    "single chunks": lambda workspace: workspace.share(),
    "clean": lambda workspace: idle(workspace.work),
}


@pytest.mark.parametrize("hold", HOLDS.values(), ids=HOLDS.keys())
def test_what_is_given_back_is_free_though_a_child_was_just_forked(
    workspace: Workspace, hold: Callable[[Workspace], AbstractContextManager[object]]
) -> None:
    workspace.prepare()
    with ExitStack() as stack:
        with hold(workspace):
            stack.enter_context(just_forked(workspace.work))
        with workspace.lock():
            workspace.remove_if_empty()
    assert not workspace.work.exists()


# ---- finished chunks


def test_a_finished_chunk_is_known_again(workspace: Workspace) -> None:
    workspace.prepare()
    path = finish(workspace)
    assert path.read_bytes() == b"film"
    sidecar = Workspace(make(), workspace.folder).look(make().chunks[0]).sidecar
    assert sidecar is not None
    assert (sidecar.frames, sidecar.bytes, sidecar.capture, sidecar.warnings) == (15, 4, "beginframe", ("a",))
    assert workspace.look(make().chunks[1]).sidecar is None
    assert names(workspace.work) == {"lock", path.name, path.name + ".json"}


def _same_size(path: Path) -> None:
    path.write_bytes(b"fold")


def _cut_short(path: Path) -> None:
    path.write_bytes(b"fil")


def _longer(path: Path) -> None:
    path.write_bytes(b"films")


def _chunk_gone(path: Path) -> None:
    path.unlink()


def _sidecar_gone(path: Path) -> None:
    path.with_name(path.name + ".json").unlink()


def _sidecar_cut(path: Path) -> None:
    sidecar = path.with_name(path.name + ".json")
    sidecar.write_text(sidecar.read_text()[:-5])


def _sidecar_of_another(path: Path) -> None:
    sidecar = path.with_name(path.name + ".json")
    sidecar.write_text(sidecar.read_text().replace('"frames":15', '"frames":14'))


@pytest.mark.parametrize(
    "damage",
    [_same_size, _cut_short, _longer, _chunk_gone, _sidecar_gone, _sidecar_cut, _sidecar_of_another],
    ids=lambda damage: damage.__name__.strip("_"),
)
def test_a_damaged_chunk_is_not_finished(workspace: Workspace, damage: object) -> None:
    workspace.prepare()
    path = finish(workspace)
    assert callable(damage)
    damage(path)
    assert workspace.look(make().chunks[0]).sidecar is None


def test_a_chunk_of_another_plan_is_not_finished(workspace: Workspace) -> None:
    workspace.prepare()
    finish(workspace)
    other = make(seed=1)
    assert Workspace(other, workspace.folder).look(other.chunks[0]).sidecar is None


def test_a_chunk_may_be_made_again(workspace: Workspace) -> None:
    workspace.prepare()
    finish(workspace)
    finish(workspace, content=b"another film")
    sidecar = workspace.look(make().chunks[0]).sidecar
    assert sidecar is not None
    assert sidecar.bytes == 12


# ---- publishing


def test_the_output_appears_whole_or_not_at_all(workspace: Workspace) -> None:
    workspace.prepare()
    workspace.output.write_bytes(b"old")
    reader = workspace.output.open("rb")
    part = workspace.part(workspace.output)
    part.write_bytes(b"whole new")
    assert workspace.output.read_bytes() == b"old"
    workspace.publish(part)
    with reader:
        assert reader.read() == b"old"
    assert workspace.output.read_bytes() == b"whole new"
    assert not part.exists()


def test_what_cannot_be_published_leaves_the_old_output(workspace: Workspace) -> None:
    workspace.prepare()
    workspace.output.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"out\.mp4 could not be written"):
        workspace.publish(workspace.work / "not-there.part")
    assert workspace.output.read_bytes() == b"old"


def test_two_writers_never_share_a_part(workspace: Workspace) -> None:
    assert len({workspace.part(workspace.output) for _ in range(100)}) == 100


@pytest.fixture
def fail_folders(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the file system one that answers so if a folder shall be synced."""
    sync = os.fsync

    def begin(error: int) -> None:
        def fail(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(error, os.strerror(error))
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", fail)

    return begin


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOTSUP, errno.EBADF], ids=errno.errorcode.get)
def test_what_is_renamed_is_there_though_its_folder_cannot_be_synced(
    workspace: Workspace, fail_folders: Callable[[int], None], error: int
) -> None:
    workspace.prepare()
    fail_folders(error)
    finish(workspace)
    assert workspace.look(make().chunks[0]).sidecar is not None


def test_a_folder_that_fails_to_be_synced_is_said(workspace: Workspace, fail_folders: Callable[[int], None]) -> None:
    workspace.prepare()
    fail_folders(errno.EIO)
    with pytest.raises(OutputError):
        finish(workspace)


# ---- tidying


def test_sweep_keeps_finished_chunks_of_this_plan_and_nothing_else(workspace: Workspace) -> None:
    workspace.prepare()
    kept, unvouched = finish(workspace, 0), finish(workspace, 1)
    _sidecar_gone(unvouched)
    for stranger in ("chunk-00000.mov.1234.part", "concat.mov", "old.txt"):
        (workspace.work / stranger).write_bytes(b"x")
    workspace.sweep("ours")
    assert names(workspace.work) == {"lock", kept.name, kept.name + ".json"}
    Workspace(make(seed=1), workspace.folder).sweep("ours")
    assert names(workspace.work) == {"lock"}


def test_sweep_can_keep_nothing(workspace: Workspace) -> None:
    workspace.prepare()
    finish(workspace)
    workspace.sweep("nothing")
    assert names(workspace.work) == {"lock"}


def test_an_empty_folder_is_removed_and_a_full_one_stays(workspace: Workspace) -> None:
    workspace.prepare()
    path = finish(workspace)
    workspace.remove_if_empty()
    assert path.exists()
    workspace.sweep("nothing")
    workspace.remove_if_empty()
    assert names(workspace.folder) == set()
    workspace.remove_if_empty()
    workspace.sweep("ours")


def test_what_was_resolved_first_counts(workspace: Workspace) -> None:
    workspace.prepare()
    first, second = (make(seed).options for seed in (1, 2))
    assert workspace.recorded_options() is None
    assert workspace.record_options(first, replace_old=False) == first
    assert workspace.record_options(second, replace_old=False) == first
    assert workspace.recorded_options() == first
    assert workspace.record_options(second, replace_old=True) == second
    assert workspace.recorded_options() == second
    workspace.remove_if_empty()
    assert names(workspace.folder) == set()


# ---- places where no output can lie


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("/proc", "cannot be written"),
        ("/nowhere/at/all", "does not exist"),
        ("/etc/passwd", "exist"),
        (f"/{'x' * 999}", "does not exist"),
    ],
)
def test_a_folder_that_cannot_hold_the_output_is_named(folder: str, why: str) -> None:
    with pytest.raises(InvalidOption, match=why) as refused, Workspace(make(), Path(folder)).lock():
        pass
    assert folder in str(refused.value)


def test_an_output_that_is_a_folder_is_refused(workspace: Workspace) -> None:
    workspace.output.mkdir()
    with pytest.raises(InvalidOption, match="it is a folder"):
        workspace.prepare()


def test_a_pipe_is_not_replaced(workspace: Workspace) -> None:
    os.mkfifo(workspace.output)
    with pytest.raises(InvalidOption, match="it is a pipe"):
        workspace.prepare()
    assert workspace.output.is_fifo()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB with 8 files, where this machine lets us mount one."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    with small_disk(folder, "size=64k,nr_inodes=8") as possible:
        if not possible:
            pytest.skip("mounting is not permitted here")
        yield folder


def test_a_full_disk_is_called_so(tiny_disk: Path) -> None:
    for index in range(7):
        (tiny_disk / str(index)).touch()
    with pytest.raises(DiskFull, match=str(tiny_disk)):
        Workspace(make(), tiny_disk).prepare()
    (tiny_disk / "0").unlink()
    with pytest.raises(DiskFull, match=str(tiny_disk)), Workspace(make(), tiny_disk).lock():
        pass


def test_a_sidecar_that_finds_no_room_leaves_the_chunk_unfinished(tiny_disk: Path) -> None:
    workspace = Workspace(make(), tiny_disk)
    workspace.prepare()
    part = workspace.part(workspace.file(make().chunks[0]))
    part.write_bytes(b"x" * 4096)
    (tiny_disk / "filler").write_bytes(b"x" * (64 * 1024 - 4096))
    with pytest.raises(DiskFull):
        workspace.finish(make().chunks[0], part, capture="beginframe", sound=False, warnings=(), files={})
    assert workspace.look(make().chunks[0]).sidecar is None
