"""The library that keeps the browser's memory for pictures: nobody can tell, but by page faults."""

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
from asyncrender.browser import preload
from asyncrender.browser.launch import open_browser
from asyncrender.specs import BrowserOptions

LAUNCH_SECONDS = 60

PICTURE = 1920 * 1080 * 4

MEMORY = """
import ctypes, mmap, random, re, resource, sys, threading, zlib
libc = ctypes.CDLL(None, use_errno=True)
for name in ("mmap", "mremap"):
    getattr(libc, name).restype = ctypes.c_void_p
libc.mmap.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
libc.mremap.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p
libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
libc.munmap.argtypes = ctypes.c_void_p, ctypes.c_size_t
PAGE, MB, ANONYMOUS, FIXED, UNTAKEN = mmap.PAGESIZE, 1 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 16, 1 << 20
NONE, READ, BOTH = 0, mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE

def reserve(size):
    return libc.mmap(None, size, NONE, ANONYMOUS, -1, 0)

def take(start, size, access=BOTH):
    assert libc.mprotect(start, size, access) == 0

def give_back(start, size):
    assert libc.mmap(start, size, NONE, ANONYMOUS | FIXED, -1, 0) == start

def marks(start):
    with open("/proc/self/smaps") as maps:
        return re.search("VmFlags: (.*)", maps.read().partition(f"{start:x}-")[2])[1].split()

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE
"""
"""What Chromium's allocator does: it reserves addresses, makes memory there accessible, and gives it back."""

AT_RANDOM = """
chance, size = random.Random(int(sys.argv[1])), 12 * MB
arena = reserve(size)
somewhere = lambda most: chance.randrange(0, most, PAGE)
places = [(PAGE * 4, 3 * MB), (5 * MB, 2 * MB), (8 * MB + PAGE, 3 * MB)]
for turn in range(200):
    start, length = chance.choice(places)
    if chance.random() < 0.2:  # not as a whole
        start = somewhere(size - PAGE)
        length = PAGE + somewhere(min(4 * MB, size - start))
    match chance.choice(["take"] * 6 + ["give back"] * 5 + ["read", "close", "anew", "shrink", "move"]):
        case "take":
            take(arena + start, length)
            ctypes.memset(arena + start + somewhere(length), chance.randrange(256), 1)
            if chance.random() < 0.5:
                ctypes.memset(arena + start, chance.randrange(256), length)
        case "give back":
            begin, end = start - PAGE * chance.randrange(5), start + length + PAGE * chance.randrange(5)
            begin, end = max(0, begin), min(size, end)
            give_back(arena + begin, end - begin)
        case "read":
            take(arena + start, length, READ)
        case "close":
            take(arena + start, length, NONE)
        case "anew":
            assert libc.munmap(arena + start, length) == 0
            assert libc.mmap(arena + start, length, BOTH, ANONYMOUS | UNTAKEN, -1, 0) == arena + start
            ctypes.memset(arena + start, chance.randrange(256), length)
        case "shrink":
            libc.mremap(arena + start, length, PAGE, 0, None)  # fails where a mapping ends
            libc.mmap(arena + start + PAGE, length - PAGE, BOTH, ANONYMOUS | UNTAKEN, -1, 0)
            take(arena + start + PAGE, length - PAGE)
        case "move":
            other = libc.mmap(None, length, BOTH, ANONYMOUS, -1, 0)
            ctypes.memset(other, chance.randrange(256), length)
            assert libc.mremap(other, length, length, 3, arena + start) == arena + start
    seen, sums = [], 0
    with open("/proc/self/maps") as maps:
        for line in maps:
            first, last = (int(word, 16) for word in line.split()[0].split("-"))
            first, last, access = max(first, arena), min(last, arena + size), line.split()[1]
            if first < last:
                seen += [access] * ((last - first) // PAGE)
                sums = zlib.crc32(ctypes.string_at(first, last - first), sums) if access[0] == "r" else sums
    print(turn, len(seen), zlib.crc32(repr(seen).encode()), sums)
"""

pytestmark = pytest.mark.skipif(
    not preload.LIBRARY.is_file() and shutil.which("cc") is None, reason="there is no C compiler here"
)


def program(script: str, *words: object) -> list[str]:
    return [sys.executable, "-c", MEMORY + script, *map(str, words)]


def run(argv: list[str], *, library: bool = True) -> str:
    environment = {**os.environ, **({"LD_PRELOAD": str(preload.LIBRARY)} if library else {})}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert not done.stderr
    assert done.returncode == 0
    return done.stdout


@pytest.fixture
def huge_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What we take for the kernel's setting, whatever this machine's is."""
    monkeypatch.setattr(preload, "HUGE_PAGES", tmp_path / "enabled")
    return tmp_path / "enabled"


def test_it_is_built_with_the_package() -> None:
    assert preload.LIBRARY.is_file()


@pytest.mark.parametrize("seed", range(3))
def test_memory_holds_and_allows_what_it_would_without(seed: int) -> None:
    argv = program(AT_RANDOM, seed)
    assert run(argv) == run(argv, library=False)


def test_a_picture_after_another_costs_no_page_faults() -> None:
    cycles = """
whole = reserve(12 * MB)
faults = []
for _ in range(10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    take(whole + 4 * PAGE, int(sys.argv[1]))
    ctypes.memset(whole + 4 * PAGE, 7, int(sys.argv[1]))
    give_back(whole, 12 * MB)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(max(faults[1:]))
"""
    assert int(run(program(cycles, PICTURE))) < 20
    assert int(run(program(cycles, 1280 * 720 * 4))) < 20


def test_kept_memory_is_inaccessible() -> None:
    read = "whole = reserve(PICTURE); take(whole, PICTURE); give_back(whole, PICTURE); ctypes.string_at(whole, 1)"
    argv = program(read.replace("PICTURE", str(PICTURE)))
    died = subprocess.run(argv, env={**os.environ, "LD_PRELOAD": str(preload.LIBRARY)}, check=False)
    assert died.returncode == -11


def test_no_more_is_kept_than_eight_pictures() -> None:
    many = """
size = int(sys.argv[1])
pictures, before = [reserve(size) for _ in range(14)], resident()
for picture in pictures:
    take(picture, size)
    ctypes.memset(picture, 7, size)
for picture in pictures:
    give_back(picture, size)
print((resident() - before) / size)
"""
    assert 7.5 < float(run(program(many, PICTURE))) < 9


def test_a_child_of_a_process_with_threads_has_memory_too() -> None:
    fork = """
import os
whole, ended = reserve(8 * MB), threading.Event()
def work(start):
    while not ended.is_set():
        take(start, 2 * MB)
        give_back(start, 2 * MB)
threads = [threading.Thread(target=work, args=[whole + 2 * MB * part]) for part in range(2)]
for thread in threads:
    thread.start()
for _ in range(60):
    child = os.fork()
    if not child:
        take(whole + 4 * MB, 2 * MB)
        os._exit(ctypes.string_at(whole + 4 * MB, 1)[0])
    assert os.waitpid(child, 0)[1] == 0
ended.set()
"""
    assert run(program(fork)) == ""


ALLOCATOR = """
#include <pthread.h>
#include <sys/mman.h>
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void hold(void) { pthread_mutex_lock(&lock); }
static void let_go(void) { pthread_mutex_unlock(&lock); }
__attribute__((constructor)) static void on_load(void) { pthread_atfork(hold, let_go, let_go); }
int again(void *start, size_t bytes) {
  hold();
  mmap(start, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  const int failed = mprotect(start, bytes, PROT_READ | PROT_WRITE);
  let_go();
  return failed;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler here")
def test_an_allocator_that_holds_its_lock_while_it_forks_does_not_hang(tmp_path: Path) -> None:
    """As Chromium's, which is there before our library is: of 2600 browsers one never came up."""
    (tmp_path / "allocator.c").write_text(ALLOCATOR)
    allocator = tmp_path / "allocator.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", allocator, tmp_path / "allocator.c"], check=True)
    fork = """
import os
allocator, whole, ended = ctypes.CDLL(sys.argv[1]), reserve(8 * MB), threading.Event()
allocator.again.argtypes = ctypes.c_void_p, ctypes.c_size_t
def work(start):
    while not ended.is_set():
        allocator.again(start, 2 * MB)
threads = [threading.Thread(target=work, args=[whole + 2 * MB * part], daemon=True) for part in range(2)]
for thread in threads:
    thread.start()
for _ in range(300):
    child = os.fork()
    if not child:
        os._exit(allocator.again(whole + 4 * MB, 2 * MB) or ctypes.string_at(whole + 4 * MB, 1)[0])
    assert os.waitpid(child, 0)[1] == 0
ended.set()
"""
    environment = {**os.environ, "LD_PRELOAD": f"{preload.LIBRARY}:{allocator}"}  # the last is the first to be ready
    subprocess.run(program(fork, allocator), env=environment, check=True, timeout=60)


def test_what_was_kept_is_not_seen_in_a_child() -> None:
    fork = """
import os
whole = reserve(4 * MB)
take(whole, 2 * MB)
ctypes.memset(whole, 7, 2 * MB)
give_back(whole, 2 * MB)
child = os.fork()
if not child:
    take(whole, 1 * MB)
    os._exit(max(ctypes.string_at(whole, 1 * MB)))
assert os.waitpid(child, 0)[1] == 0
take(whole, 2 * MB)
print(max(ctypes.string_at(whole, 2 * MB)))
"""
    assert run(program(fork)) == "0\n"


ADVISED = """
memory, size = reserve(int(sys.argv[1])), int(sys.argv[1])
ctypes.set_errno(5)
take(memory, size)
assert ctypes.get_errno() == 5
ctypes.memset(memory, 1, size)
print(*marks(memory))
"""
"""Prints the kernel's marks ("hg": advised to be huge)."""


@pytest.mark.skipif(preload.huge_pages() is None, reason="this kernel has no transparent huge pages")
def test_memory_for_a_picture_is_advised_to_be_huge() -> None:
    assert "hg" in run(program(ADVISED, PICTURE)).split()


@pytest.mark.parametrize("size", [1 << 20, 1 << 28])
def test_what_is_no_picture_is_left_alone(size: int) -> None:
    assert "hg" not in run(program(ADVISED, size)).split()


@pytest.mark.skipif(not seccomp.possible, reason="no seccomp filter for this machine")
def test_where_advice_is_forbidden_memory_is_had_all_the_same() -> None:
    """As in the sandbox of Chromium's renderers."""
    found = run(seccomp.without("madvise", errno.EPERM, program(ADVISED, 8 << 20))).split()
    assert "rd" in found
    assert "hg" not in found


@pytest.mark.anyio
async def test_all_of_the_browser_has_it() -> None:
    async with open_browser(BrowserOptions(), capture="raw", launch_seconds=LAUNCH_SECONDS) as browser:
        process = psutil.Process(browser.pid)
        for part in [process, *process.children(recursive=True)]:
            assert str(preload.LIBRARY) in {file.path for file in part.memory_maps()}, part


def test_libraries_that_were_to_be_loaded_are() -> None:
    assert preload.added({}) == {"LD_PRELOAD": str(preload.LIBRARY)}
    assert preload.added({"LD_PRELOAD": "theirs.so"}) == {"LD_PRELOAD": f"theirs.so:{preload.LIBRARY}"}


@pytest.mark.parametrize("name", ["with space.so", "a:colon.so"])
def test_a_path_that_the_loader_would_split_is_not_given_to_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / name
    library.write_bytes(preload.LIBRARY.read_bytes())
    monkeypatch.setattr(preload, "LIBRARY", library)
    assert preload.added({}) == {}


@pytest.mark.parametrize("setting", ["always", "madvise", "never"])
def test_the_kernels_setting_is_known(huge_pages: Path, setting: str) -> None:
    huge_pages.write_text("always madvise never\n".replace(setting, f"[{setting}]"))
    assert preload.huge_pages() == setting


@pytest.mark.usefixtures("huge_pages")
def test_a_kernel_without_a_setting_has_none() -> None:
    assert preload.huge_pages() is None


MOVING = """<body style="margin:0;background:#eee"><p id=p style="font-size:200px">moves</p>
<script>requestAnimationFrame(function step(now) {
  p.style.marginLeft = now / 10 + 'px'; requestAnimationFrame(step);
})</script>"""


@pytest.mark.anyio
async def test_a_film_is_the_same_with_and_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ar.RenderOptions(width=1920, height=1080, frame_count=10, capture="raw")
    kept = await ar.render(ar.Html(MOVING), tmp_path / "kept.mp4", options)
    monkeypatch.setattr(preload, "LIBRARY", tmp_path / "none.so")
    plain = await ar.render(ar.Html(MOVING), tmp_path / "plain.mp4", options)
    assert kept.output.read_bytes() == plain.output.read_bytes()
