"""The library that asks for huge pages: it is loaded into the browser, advises the kernel, and changes nothing else."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import asyncrender as ar
import seccomp
from asyncrender.browser import hugepages
from asyncrender.browser.launch import open_browser
from asyncrender.specs import BrowserOptions

LAUNCH_SECONDS = 60

TAKE_MEMORY = """
import ctypes, errno, mmap, re, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
size = int(sys.argv[1])
memory = libc.mmap(None, size, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
ctypes.set_errno(errno.ENOTUNIQ)
assert libc.mprotect(memory, size, mmap.PROT_READ | mmap.PROT_WRITE) == 0
assert ctypes.get_errno() == errno.ENOTUNIQ
ctypes.memset(memory, 1, size)
with open("/proc/self/smaps") as maps:
    ours = maps.read().partition(f"{memory:x}-")[2]
print(re.search("VmFlags: (.*)", ours)[1])
"""
"""Makes memory accessible as Chromium's allocator does, and prints the kernel's marks ("hg": advised to be huge)."""

MOVING = """<body style="margin:0;background:#eee"><p id=p style="font-size:200px">moves</p>
<script>requestAnimationFrame(function step(now) {
  p.style.marginLeft = now / 10 + 'px'; requestAnimationFrame(step);
})</script>"""

pytestmark = pytest.mark.skipif(
    not hugepages.LIBRARY.is_file() and shutil.which("cc") is None, reason="there is no C compiler here"
)

needs_huge_pages = pytest.mark.skipif(hugepages.setting() is None, reason="this kernel has no transparent huge pages")


def take_memory(size: int) -> list[str]:
    return [sys.executable, "-c", TAKE_MEMORY, str(size)]


def marks(argv: list[str]) -> list[str]:
    environment = {**os.environ, "LD_PRELOAD": str(hugepages.LIBRARY)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.stdout.split()


@pytest.fixture(params=["madvise"])
def kernel(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What we take for the kernel's setting, whatever this machine's is."""
    setting = tmp_path / "enabled"
    setting.write_text("always madvise never\n".replace(request.param, f"[{request.param}]"))
    monkeypatch.setattr(hugepages, "SETTING", setting)


def test_it_is_built_with_the_package() -> None:
    assert hugepages.LIBRARY.is_file()


@needs_huge_pages
def test_memory_for_a_picture_is_advised_to_be_huge() -> None:
    assert "hg" in marks(take_memory(1920 * 1080 * 4))


@needs_huge_pages
@pytest.mark.parametrize("size", [1 << 20, 1 << 28])
def test_what_is_no_picture_is_left_alone(size: int) -> None:
    assert "hg" not in marks(take_memory(size))


@pytest.mark.skipif(not seccomp.possible, reason="no seccomp filter for this machine")
def test_where_advice_is_forbidden_memory_is_had_all_the_same() -> None:
    """As in the sandbox of Chromium's renderers."""
    found = marks(seccomp.without("madvise", errno.EPERM, take_memory(8 << 20)))
    assert "rd" in found
    assert "hg" not in found


@pytest.mark.anyio
@pytest.mark.usefixtures("kernel")
async def test_all_of_the_browser_has_it() -> None:
    async with open_browser(BrowserOptions(), capture="raw", launch_seconds=LAUNCH_SECONDS) as browser:
        process = psutil.Process(browser.pid)
        for part in [process, *process.children(recursive=True)]:
            assert str(hugepages.LIBRARY) in {file.path for file in part.memory_maps()}, part


@pytest.mark.usefixtures("kernel")
def test_libraries_that_were_to_be_loaded_are() -> None:
    assert hugepages.preload({}) == {"LD_PRELOAD": str(hugepages.LIBRARY)}
    assert hugepages.preload({"LD_PRELOAD": "theirs.so"}) == {"LD_PRELOAD": f"theirs.so:{hugepages.LIBRARY}"}


@pytest.mark.parametrize("kernel", ["always", "never"], indirect=True)
@pytest.mark.usefixtures("kernel")
def test_where_asking_makes_no_difference_nothing_is_loaded() -> None:
    assert hugepages.preload({}) == {}


@pytest.mark.usefixtures("kernel")
def test_a_path_that_the_loader_would_split_is_not_given_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "with space.so"
    library.write_bytes(hugepages.LIBRARY.read_bytes())
    monkeypatch.setattr(hugepages, "LIBRARY", library)
    assert hugepages.preload({}) == {}


@pytest.mark.anyio
@pytest.mark.usefixtures("kernel")
async def test_a_film_is_the_same_with_and_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ar.RenderOptions(width=1920, height=1080, frame_count=10, capture="raw")
    asked = await ar.render(ar.Html(MOVING), tmp_path / "asked.mp4", options)
    monkeypatch.setattr(hugepages, "LIBRARY", tmp_path / "none.so")
    plain = await ar.render(ar.Html(MOVING), tmp_path / "plain.mp4", options)
    assert asked.output.read_bytes() == plain.output.read_bytes()
