"""Other renderers, and how each is made to render the pages that are measured. See README.md beside this.

Everything of a peer but its driver lies in benchmarks/.work, where `benchmarks/peers/install` puts it.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks import meter, scenes
from benchmarks.meter import Program

HERE = Path(__file__).parent

INSTALLED = HERE.with_name(".work")

CHROMIUM = "/usr/lib/chromium/chromium-headless-shell"
"""Where Debian puts it. Its command of the same name is a script, and ending that leaves the browser alive."""

PRESETS = {"A": "medium", "B": "ultrafast", None: "medium"}
"""The classes, and x264's preset in each; crf 18 and yuv420p in all."""

WARM_UP_SECONDS = 60
"""Of a run that is not measured. If it hangs, the measured one may not."""

LONGEST_BUNDLING_SECONDS = 300
"""Remotion's webpack takes five to ten."""

QUIET = {
    "CI": "1",
    "DO_NOT_TRACK": "1",
    "DISABLE_TELEMETRY": "true",
    "HYPERFRAMES_NO_AUTO_INSTALL": "1",
    "HYPERFRAMES_NO_TELEMETRY": "1",
    "HYPERFRAMES_NO_UPDATE_CHECK": "1",
}
"""Nobody phones home, and nobody installs a browser of its own."""


@dataclass(frozen=True)
class Peer:
    """A renderer in one way of using it."""

    name: str
    package: str
    """As npm or PyPI call it."""
    folder: str
    """Of its driver here, and of its installation."""
    groups: tuple[str, ...]
    """The classes whose settings it takes; none: it encodes with settings of its own."""
    note: str
    """What it captures, what it encodes with, why it is not ranked."""
    target: Callable[[str, Path], str]
    """(scene, work): what its driver is told to render."""
    options: tuple[str, ...] = ()
    scenes: tuple[str, ...] = ("dom", "canvas", "slides", "photo")
    redrawn: bool = False
    """It renders scenes that were drawn again for it: shown beside the others of its classes, not ranked among them."""

    @property
    def ranked(self) -> bool:
        return bool(self.groups) and not self.redrawn


def _url(fragment: str) -> Callable[[str, Path], str]:
    return lambda scene, work: f"{scenes.page(scene).as_uri()}#{fragment}"


def _page(scene: str, work: Path) -> str:
    return str(scenes.page(scene))


def _name(scene: str, work: Path) -> str:
    return scene


def _project(scene: str, work: Path) -> str:
    return str(work / "project")


_HYPERFRAMES_NOTE = (
    "BeginFrame JPEG, streamed into x264 with --crf 18 and no B-frames; class B is its --quality draft, whose JPEG is "
    "coarser; "
)
_HELIOS_NOTE = "screenshots (JPEG 90) or, of a canvas, WebCodecs in the page, then x264 through its preset option"

PEERS = (
    Peer(
        "hyperframes",
        "hyperframes",
        "hyperframes",
        ("A", "B"),
        _HYPERFRAMES_NOTE + "as many browsers as it likes",
        _project,
    ),
    Peer(
        "hyperframes-w2",
        "hyperframes",
        "hyperframes",
        ("A", "B"),
        _HYPERFRAMES_NOTE + "two browsers",
        _project,
        ("--workers", "2"),
    ),
    Peer(
        "remotion",
        "@remotion/renderer",
        "remotion",
        ("A", "B"),
        "renderMedia from a ready bundle, the scenes drawn again in React; JPEG 80, two tabs, its own ffmpeg",
        _name,
        ("2",),
        redrawn=True,
    ),
    Peer(
        "helios",
        "@helios-project/renderer",
        "helios",
        ("A", "B"),
        f"RenderOrchestrator with two browsers; {_HELIOS_NOTE}",
        _url("pn"),
        ("2",),
    ),
    Peer(
        "puppeteer-capture",
        "puppeteer-capture",
        "puppeteer-capture",
        ("A", "B"),
        "BeginFrame PNG, one page, x264 through fluent-ffmpeg, fragmented MP4",
        _url("raf"),
    ),
    Peer(
        "timecut",
        "timecut",
        "timecut",
        ("A", "B"),
        "screenshots (JPEG 80) piped into x264: its quickest way, not its default; one page",
        _url("raf"),
    ),
    Peer(
        "wvc",
        "web-video-creator",
        "wvc",
        (),
        "BeginFrame JPEG 80, one page, x264 medium at 5760 kbit/s: it has no crf",
        _page,
    ),
    Peer(
        "revideo",
        "@revideo/renderer",
        "revideo",
        (),
        "the scenes drawn again on its own canvas, encoded in the page by WebCodecs at a bitrate of its own",
        _name,
    ),
    Peer(
        "playwright",
        "playwright",
        "playwright",
        ("A", "B"),
        "written by hand: page.screenshot (JPEG 80) for each frame, piped into x264; one page",
        _url("seek"),
        ("1",),
    ),
    Peer(
        "playwright-2",
        "playwright",
        "playwright",
        ("A", "B"),
        "the same in two processes, each with half of the frames, joined by stream copy",
        _url("seek"),
        ("2",),
    ),
)


def installed(peer: Peer) -> bool:
    return (INSTALLED / peer.folder / "installed").exists()


def set_up(peer: Peer) -> None:
    """Lay out what all its runs share: drivers, bundles. Not while one of them is under way: some watch their files."""
    home = INSTALLED / peer.folder
    shutil.copytree(HERE / peer.folder, home, dirs_exist_ok=True)
    match peer.folder:
        case "remotion":
            _bundle(home)
        case "revideo":
            shutil.copy(scenes.page("photo").with_name("photo.jpg"), home / "scenes")
            if not (home / "node_modules" / ".vite").exists():
                _warm_up(peer, home / "warm-up")
        case "puppeteer-capture":
            link = home / "chrome-headless-shell"
            link.unlink(missing_ok=True)
            link.symlink_to(_chromium())


def _warm_up(peer: Peer, work: Path) -> None:
    """The first run of all prepares what later ones find, which would count as the short render's time alone."""
    prepare(peer, "dom", 2, work)
    meter.measure(program(peer, "dom", 2, work / "out.mp4", work), timeout_seconds=WARM_UP_SECONDS)
    shutil.rmtree(work)


def prepare(peer: Peer, scene: str, frames: int, work: Path) -> None:
    """Lay out what a run has for itself, but is not part of it: its project, and an empty folder for temporary files.

    `work` is the run's own folder, to be removed by the caller; every peer writes what it drops into `work / "tmp"`.
    """
    shutil.rmtree(work / "tmp", ignore_errors=True)
    (work / "tmp").mkdir(parents=True)
    if peer.folder == "hyperframes":
        _write_project(scene, frames, work / "project")


def program(peer: Peer, scene: str, frames: int, output: Path, work: Path, group: str | None = None) -> Program:
    """What renders the first `frames` frames into `output`, once all is laid out; `group` says with which preset."""
    home, target = INSTALLED / peer.folder, peer.target(scene, work)
    if peer.folder == "hyperframes":
        quality = ["--quality", "draft"] if group == "B" else []
        main = home / "node_modules" / "hyperframes" / "bin" / "hyperframes.mjs"
        argv = [main, "render", target, "-o", output, "--fps", "30", "--crf", "18", *quality, *peer.options]
    else:
        argv = [next(home.glob("render.*")), target, frames, output, PRESETS[group], *peer.options]
    interpreter = home / "venv" / "bin" / "python" if peer.folder == "playwright" else _node() / "bin" / "node"
    return Program([str(word) for word in (interpreter, *argv)], work, _environment(work))


def versions() -> dict[str, str]:
    """Of Node and of the peers that are installed."""
    found = {"node": _npm_version(_node())} if _node().exists() else {}
    for peer in PEERS:
        if installed(peer) and peer.package not in found:
            home = INSTALLED / peer.folder
            package = home / "node_modules" / peer.package
            found[peer.package] = _npm_version(package) if package.exists() else _pip_version(home, peer.package)
    return found


def _npm_version(package: Path) -> str:
    return str(json.loads((package / "package.json").read_text())["version"])


def _pip_version(home: Path, package: str) -> str:
    about = next(home.glob(f"venv/lib/python*/site-packages/{package}-*.dist-info"))
    return about.name.removesuffix(".dist-info").rpartition("-")[2]


def _node() -> Path:
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return INSTALLED / "node" / "node_modules" / f"node-linux-{machine}"


def _chromium() -> str:
    return CHROMIUM if Path(CHROMIUM).exists() else _installed_program("chromium-headless-shell", "chromium")


@cache
def _installed_program(name: str, otherwise: str) -> str:
    return shutil.which(name) or otherwise


def _environment(work: Path) -> dict[str, str]:
    chromium = _chromium()
    return {
        **QUIET,
        "PATH": f"{_node() / 'bin'}:{_installed_program('ffmpeg', '/usr/bin/ffmpeg').rpartition('/')[0]}:/usr/bin:/bin",
        "TMPDIR": str(work / "tmp"),
        "CHROMIUM": chromium,
        "FFMPEG": _installed_program("ffmpeg", "/usr/bin/ffmpeg"),
        "FFPROBE": _installed_program("ffprobe", "/usr/bin/ffprobe"),
        "HYPERFRAMES_BROWSER_PATH": chromium,
        "PRODUCER_HEADLESS_SHELL_PATH": chromium,
    }


def _write_project(scene: str, frames: int, folder: Path) -> None:
    """The page as a HyperFrames composition: its style, its body and its script, moved by a GSAP timeline."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    page, source = scenes.page(scene), HERE / "hyperframes"
    text = page.read_text()
    timeline = "slides.js" if scene == "slides" else "clock.js"
    parts = {
        "SCENE": scene,
        "SECONDS": f"{frames / scenes.FPS:.10g}",
        "STYLE": _between(text, "<style>", "</style>"),
        "BODY": _between(text, "<body>", "<script"),
        "SCRIPT": _between(text, "<script>", "</script>"),
        "TIMELINE": (source / timeline).read_text(),
    }
    project = (source / "composition.html").read_text()
    (folder / "index.html").write_text(re.sub(r"@([A-Z]+)@", lambda found: parts[found[1]], project))
    shutil.copy(INSTALLED / "hyperframes" / "node_modules" / "gsap" / "dist" / "gsap.min.js", folder)
    if scene == "photo":
        shutil.copy(page.with_name("photo.jpg"), folder)


def _between(text: str, start: str, end: str) -> str:
    return text.partition(start)[2].partition(end)[0].strip()


def _bundle(home: Path) -> None:
    """Remotion's bundle of all scenes, unless there is one that is newer than they are."""
    bundle, photo = home / "bundled", scenes.page("photo").with_name("photo.jpg")
    sources = (HERE / "remotion" / "scenes" / "index.jsx", HERE / "remotion" / "package.json", photo)
    if bundle.exists() and bundle.stat().st_mtime > max(source.stat().st_mtime for source in sources):
        return
    (home / "public").mkdir(exist_ok=True)
    shutil.copy(photo, home / "public")
    shutil.rmtree(bundle, ignore_errors=True)
    made = bundle.with_name("bundled-part")
    shutil.rmtree(made, ignore_errors=True)
    argv = [_node() / "bin" / "node", home / "bundle.mjs", made]
    subprocess.run(argv, cwd=home, check=True, capture_output=True, timeout=LONGEST_BUNDLING_SECONDS)
    made.rename(bundle)
    bundle.touch()
