"""What a container is allowed: folders that look like control groups, and real ones where this machine lets us."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import asyncrender as ar
from asyncrender import machine

MACHINE_CORES, MACHINE_MB = 64, 1 << 20

V2 = "30 23 0:26 {top} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup rw,nsdelegate"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:10 - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 {top} /sys/fs/cgroup/memory rw,relatime master:11 - cgroup cgroup rw,memory\n"
    "38 31 0:35 {top} /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset"
)
HYBRID = V1 + "\n41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"

V1_GROUPS = "12:cpuset:/\n9:cpu,cpuacct:{path}\n4:memory:{path}\n1:name=systemd:/else\n0::/else"


def megabytes(count: int) -> str:
    return f"{count << 20}\n"


def group2(limit: int, *, used: int = 0, cache: int = 0, cpu: str = "max 100000") -> dict[str, str]:
    """Files of a group of version 2; megabytes."""
    stat = f"anon {megabytes(used - cache)}file {megabytes(cache)}inactive_file {megabytes(cache)}active_file 0\n"
    return {
        "memory.max": megabytes(limit),
        "memory.current": megabytes(used),
        "memory.stat": stat,
        "cpu.max": f"{cpu}\n",
    }


def memory1(limit: int, *, used: int = 0, cache: int = 0) -> dict[str, str]:
    """Files of a group of version 1."""
    return {
        "memory.limit_in_bytes": megabytes(limit),
        "memory.usage_in_bytes": megabytes(used),
        "memory.stat": f"inactive_file 0\ntotal_inactive_file {megabytes(cache)}",
    }


def cpu1(quota: int) -> dict[str, str]:
    return {"cpu.cfs_quota_us": f"{quota}\n", "cpu.cfs_period_us": "100000\n"}


@pytest.fixture(autouse=True)
def many_cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real" not in request.node.name:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(MACHINE_CORES)), raising=False)


def seen(root: Path, *, groups: str, mounts: str, files: dict[str, dict[str, str]]) -> tuple[int, int]:
    """(cores, free megabytes) of a machine whose control groups are those of `files`, by their folders."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:   {MACHINE_MB << 10} kB\n")
    (root / "proc/self/cgroup").write_text(groups)
    (root / "proc/self/mountinfo").write_text(f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n{mounts}\n")
    for folder, contents in files.items():
        (root / "sys/fs/cgroup" / folder).mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            (root / "sys/fs/cgroup" / folder / name).write_text(text)
    return machine.cores(root), machine.free_memory(root) >> 20


@pytest.mark.parametrize(("cpu", "cores"), [("150000 100000", 2), ("20000 100000", 1), ("max 100000", 64), ("", 64)])
def test_a_container_of_version_2_sees_its_own_group_as_the_root(cpu: str, cores: int, tmp_path: Path) -> None:
    files = {"": group2(2000, used=700, cache=300, cpu=cpu)}
    assert seen(tmp_path, groups="0::/\n", mounts=V2.format(top="/"), files=files) == (cores, 1600)


def test_the_least_of_a_group_and_those_around_it_counts(tmp_path: Path) -> None:
    unlimited = group2(0) | {"memory.max": "max\n"}
    files = {
        "a.slice/b/c": unlimited,
        "a.slice/b": group2(5000, used=100, cpu="800000 100000"),
        "a.slice": group2(6000, used=4500, cpu="250000 100000"),
        "other": group2(1, cpu="1000 100000"),
    }
    assert seen(tmp_path, groups="0::/a.slice/b/c\n", mounts=V2.format(top="/"), files=files) == (3, 1500)


@pytest.mark.parametrize(
    ("path", "top", "folder"),
    [
        ("/docker/0a1b", "/docker/0a1b", ""),  # the host's path, of which the container sees no more than its own
        ("/docker/0a1b", "/", "docker/0a1b"),
        ("/docker/0a1b/inner", "/docker/0a1b", "inner"),
        ("/", "/", ""),
        ("/", "/docker/0a1b", ""),
        ("/../elsewhere", "/", ""),
    ],
)
def test_a_container_of_version_1(path: str, top: str, folder: str, tmp_path: Path) -> None:
    files = {
        f"memory/{folder}": memory1(3000, used=1000, cache=500),
        f"cpu,cpuacct/{folder}": cpu1(350_000),
        "cpuset": cpu1(1) | memory1(1),
    }
    groups = V1_GROUPS.format(path=path)
    assert seen(tmp_path, groups=groups, mounts=HYBRID.format(top=top), files=files) == (4, 2500)


def test_no_limit_is_none(tmp_path: Path) -> None:
    root = {"memory.limit_in_bytes": "9223372036854771712\n", "memory.usage_in_bytes": "7\n", **cpu1(-1)}
    files = {"memory": root, "cpu,cpuacct": root, "unified": {}}
    groups = V1_GROUPS.format(path="/")
    assert seen(tmp_path, groups=groups, mounts=HYBRID.format(top="/"), files=files) == (MACHINE_CORES, MACHINE_MB)


@pytest.mark.parametrize(
    ("groups", "mounts"), [("", ""), ("0::/", ""), ("", V2.format(top="/")), ("rubbish\n0:", "- cgroup2\n30 23 -")]
)
def test_what_cannot_be_read_is_no_limit(groups: str, mounts: str, tmp_path: Path) -> None:
    files = {"": {"memory.max": "lots", "memory.current": "", "cpu.max": "1 2 3"}}
    assert seen(tmp_path, groups=groups, mounts=mounts, files=files) == (MACHINE_CORES, MACHINE_MB)


def test_a_group_that_is_full_has_nothing_left(tmp_path: Path) -> None:
    files = {"": group2(100, used=101)}
    assert seen(tmp_path, groups="0::/", mounts=V2.format(top="/"), files=files)[1] == 0


def test_without_proc_it_is_the_whole_machine(tmp_path: Path) -> None:
    assert machine.cores(tmp_path) == MACHINE_CORES
    assert machine.free_memory(tmp_path) >= machine.free_memory()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_plan_tells_what_the_container_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, output = tmp_path / "root", tmp_path / "out.mp4"
    files = {"": group2(2000, used=200, cpu="300000 100000")}
    seen(root, groups="0::/\n", mounts=V2.format(top="/"), files=files)
    for function in (machine.cores, machine.free_memory):
        monkeypatch.setattr(machine, function.__name__, lambda function=function: function(root))
    options = ar.RenderOptions(frame_count=200, capture="screenshot", preroll="never")
    resolved = await ar.resolve(ar.Html("<body>"), output, options)
    assert (resolved.concurrency, resolved.video.threads) == (2, 1)
    assert resolved.environment is not None
    assert "2 workers: 3 cores, 1800 MB free, 200 frames" in resolved.environment.notes


# ---- real ones


@contextmanager
def real_group(place: str, limits: dict[str, str]) -> Iterator[Path]:
    """A control group below a root, with limits; skips where there is none, or nothing of that is permitted."""
    group = Path("/sys/fs/cgroup") / place / f"asyncrender-test-{os.getpid()}"
    if not (group.parent / "cgroup.procs").is_file():
        pytest.skip("this machine has no control groups of that version")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        for name, limit in limits.items():
            if not os.access(group / name, os.W_OK):
                pytest.skip(f"control groups have no {name} here")
            (group / name).write_text(limit)
        yield group
    finally:
        group.rmdir()


ASK = """
import os, sys
from pathlib import Path
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
from asyncrender import machine
print(machine.cores(), machine.free_memory() >> 20)
"""


def asked_in(group: Path) -> tuple[int, int]:
    """(cores, free megabytes) that a process of the group is told."""
    argv = [sys.executable, "-c", ASK, str(group)]
    cores, free = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    return int(cores), int(free)


def test_a_real_group_of_version_2() -> None:
    with real_group("", {"cpu.max": "50000 100000", "memory.max": megabytes(300)}) as group:
        cores, free = asked_in(group)
    assert cores == 1
    assert 200 < free <= 300


def test_the_real_processor_time_of_version_1() -> None:
    with real_group("cpu", {"cpu.cfs_quota_us": "50000"}) as group:
        assert asked_in(group)[0] == 1


def test_the_real_memory_of_version_1(tmp_path: Path) -> None:
    """Nobody is moved into the group: that would take him out of the one that limits him."""
    (tmp_path / "sys").symlink_to("/sys")
    with real_group("memory", {"memory.limit_in_bytes": megabytes(300)}) as group:
        groups = V1_GROUPS.format(path=f"/{group.name}")
        assert seen(tmp_path, groups=groups, mounts=V1.format(top="/"), files={})[1] == 300
