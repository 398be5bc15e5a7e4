"""Chromium as a child: found, started with the switches exactness needs, spoken to over its pipe, thrown away after.

One browser serves one worker and has a profile of its own, which goes with it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from asyncrender.browser import preload
from asyncrender.browser.connection import Connection, open_connection
from asyncrender.errors import BrowserCrashed, BrowserLaunchFailed, MediaError, MissingTool
from asyncrender.log import get_logger
from asyncrender.process import LAST_WORDS_BYTES, Child, Stranger, run, supervise
from asyncrender.scratch import open_folder
from asyncrender.specs import BrowserOptions, Capture

ENVIRONMENT_VARIABLE = "ASYNCRENDER_BROWSER"

CANDIDATES = (
    "/usr/lib/chromium/chromium-headless-shell",  # Debian: the binary behind the wrapper on PATH
    "chrome-headless-shell",
    "headless_shell",
    "chromium-headless-shell",
    "/usr/lib/chromium/chromium",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
"""Where a browser is looked for, best first: only the headless shell has BeginFrame control."""

INSTALL = "sudo apt-get install chromium-headless-shell"

COMMON_SWITCHES = (
    "--headless",
    "--log-level=3",  # fatal words only: on a machine without D-Bus the others would bury them
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-hang-monitor",
    "--disable-ipc-flooding-protection",
    "--disable-prompt-on-repost",
    "--disable-quic",
    "--disable-sync",
    "--deny-permission-prompts",
    "--metrics-recording-only",
    "--no-pings",
    "--password-store=basic",
    "--use-mock-keychain",
    # nothing is slowed down because nobody looks
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    # the same pixels on every machine, in every chunk
    "--font-render-hinting=none",
    "--force-color-profile=srgb",
    "--disable-lcd-text",
    "--hide-scrollbars",
    "--disable-threaded-animation",
    "--disable-threaded-scrolling",
    "--disable-checker-imaging",
    "--disable-image-animation-resync",
    "--disable-smooth-scrolling",
    "--disable-partial-raster",
    "--disable-skia-runtime-opts",
    # WebGL and compositing in software: no machine's graphics card leaks into the picture
    "--disable-gpu",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    # sound plays without a click, and nobody hears it
    "--autoplay-policy=no-user-gesture-required",
    "--mute-audio",
    # frames of other origins live in the page's process, so that one clock can reach them
    "--disable-site-isolation-trials",
    "--disable-features=IsolateOrigins,site-per-process,PaintHolding,Translate,LazyFrameLoading,BackForwardCache",
)

BEGIN_FRAME_SWITCHES = (
    "--deterministic-mode",
    "--enable-begin-frame-control",
    "--run-all-compositor-stages-before-draw",
    "--disable-new-content-rendering-timeout",
    "--enable-surface-synchronization",
)
"""Frames come when we ask for them (chromium/headless/app/headless_shell_switches.cc)."""

RAW_SWITCHES = (
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream=display-media-type=browser",
)
"""A page may share its own tab without anybody being asked (content/browser/.../fake_media_stream_ui_factory.cc)."""

# fds 3 and 4 are the DevTools pipe; the shell redirects, then becomes Chromium: same pid, no wrapper process.
# A page that eats all memory would leave a core file as large as that.
PIPE_SHELL = ("/bin/sh", "-c", 'ulimit -c 0; exec "$@" 3<&0 4>&1 </dev/null >/dev/null', "sh")

SMALL_SHM_BYTES = 1 << 29
"""Containers give /dev/shm 64 MB, in which a few 4K surfaces do not fit; with less than this Chromium uses files."""

NOISE = re.compile(
    r"^(\[[^\]]*:(INFO|WARNING|ERROR):(dbus/|device/bluetooth/|media/gpu/vaapi/|sandbox/policy/|components/viz/)"
    r"|ERROR: ld\.so: object .* cannot be preloaded).*\n?",
    re.MULTILINE,
)
"""What is written to standard error in a container that lacks nothing for rendering: by Chromium, whatever its log
level, and by the loader, where a confined browser may not read our library."""

LAST_BREATH_SECONDS = 0.5
"""For a browser that has closed its pipe, or lost a part, to end: by then it is known what it died of."""

STDERR_BYTES = 1 << 16
"""So much is looked through for words that are none of the NOISE."""

HELPERS = {"GPU": "its GPU process", "network.mojom.NetworkService": "its network process"}
"""Processes (DevTools' SystemInfo.ProcessInfo.type) that Chromium replaces when they die, but not what they held: WebGL
contexts, surfaces, answers under way. The frames after that would be others."""

_log = get_logger("asyncrender.browser")


@dataclass(frozen=True)
class Browser:
    """A running browser. `version` is its product, such as "HeadlessChrome/156.0.8078.79"."""

    connection: Connection
    version: str
    user_agent: str
    pid: int
    profile: Path
    """Its own folder, which goes with it."""


def find_browser(options: BrowserOptions) -> str:
    """Absolute path of the browser to use: the option, else ASYNCRENDER_BROWSER, else the usual names.

    Raises MissingTool with the command that installs one.
    """
    wished = options.executable or os.environ.get(ENVIRONMENT_VARIABLE)
    names = (wished,) if wished else CANDIDATES
    for name in names:
        if path := shutil.which(name):
            return str(Path(path).absolute())
    raise MissingTool("Chromium", install=INSTALL, looked=f"looked for {', '.join(names)}")


async def sandbox_possible() -> tuple[bool, str]:
    """Whether Chromium's sandbox can be on, and why: it needs user namespaces, and refuses the root user."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return False, "the browser's sandbox is off, because Chromium refuses it to the root user"
    if sys.platform == "linux" and (unshare := shutil.which("unshare")):
        try:
            await run([unshare, "--user", "true"], doing="trying a user namespace", idle_seconds=5, deadline="5 s")
        except MediaError:
            return False, "the browser's sandbox is off, because this machine forbids user namespaces"
    return True, "the browser's sandbox is on"


def switches(
    options: BrowserOptions, capture: Capture, port: int | None, *, screen: str | None, sandbox: bool
) -> list[str]:
    """The command line behind the binary, but for the profile. `port`: where http://scene.localhost is served."""
    chosen = [*COMMON_SWITCHES, *(BEGIN_FRAME_SWITCHES if capture != "screenshot" else ())]
    chosen += RAW_SWITCHES if capture == "raw" else ()
    chosen.append(f"--lang={options.locale}")
    if port is not None:
        chosen.append(f"--host-resolver-rules=MAP scene.localhost 127.0.0.1:{port}")
    if screen is not None:
        chosen.append(f"--screen-info={{{screen}}}")
    if not sandbox:
        chosen.append("--no-sandbox")
    if sys.platform == "linux" and _shm_bytes() < SMALL_SHM_BYTES:
        chosen.append("--disable-dev-shm-usage")
    return [*chosen, *options.args]


@asynccontextmanager
async def open_browser(
    options: BrowserOptions,
    *,
    capture: Capture,
    launch_seconds: float,
    port: int | None = None,
    screen: str | None = None,
) -> AsyncIterator[Browser]:
    """A browser for as long as the block lasts. `screen`: its size, such as "1920x1080"; 800x600 if unset.

    Raises MissingTool, BrowserLaunchFailed.
    """
    binary = find_browser(options)
    sandbox = options.sandbox == "on" or (options.sandbox == "auto" and (await sandbox_possible())[0])
    async with open_folder() as profile:
        chosen = switches(options, capture, port, screen=screen, sandbox=sandbox)
        argv = [binary, *chosen, f"--user-data-dir={profile}", "--remote-debugging-pipe=cbor"]
        env = {**os.environ, **preload.added(os.environ), "TMPDIR": str(profile), "TZ": "UTC"}
        _log.debug("the browser starts", stage="launch")
        async with (
            supervise([*PIPE_SHELL, *argv, *_first_page(capture)], stdin=True, stdout=True, env=env) as child,
            _conversation(child) as connection,
        ):
            product, user_agent = await _first_answer(connection, binary, launch_seconds)
            yield Browser(connection, product, user_agent, child.pid, profile)


def _first_page(capture: Capture) -> tuple[str, ...]:
    """The headless shell opens no tab that it is not told to, and each costs a process; Chromium would open its own."""
    return ("about:blank",) if capture == "screenshot" else ()


@asynccontextmanager
async def _conversation(child: Child) -> AsyncIterator[Connection]:
    """A connection whose crashes know how the browser ended."""
    connection: Connection | None = None
    try:
        async with open_connection(child.stdin, child.stdout, lambda: last_words(child)) as connection:
            yield connection
    except BrowserLaunchFailed as error:
        if connection is not None and (connection.gone or connection.broken):
            with anyio.move_on_after(LAST_BREATH_SECONDS):
                error.ended(await child.wait())
        raise


def last_words(child: Child) -> str:
    """What a browser last wrote to standard error, without the NOISE."""
    return NOISE.sub("", child.last_words(STDERR_BYTES))[-LAST_WORDS_BYTES:].strip()


async def watch_helpers(browser: Browser) -> None:
    """From now on, the death of one of Chromium's HELPERS is a BrowserCrashed. Only where there are pidfds."""
    if not hasattr(os, "pidfd_open"):
        return
    found = await browser.connection.call("SystemInfo.getProcessInfo")
    for helper in found["processInfo"]:
        if name := HELPERS.get(helper["type"]):
            why = f"The browser lost {name}."
            try:
                browser.connection.watch(Stranger(helper["id"]), why)
            except ProcessLookupError:
                browser.connection.break_off(why)
            except OSError:  # no pidfds: Linux before 5.3, or a seccomp filter
                return


async def _first_answer(connection: Connection, binary: str, seconds: float) -> tuple[str, str]:
    """(product, user agent)."""
    try:
        with anyio.fail_after(seconds):
            answer = await connection.call("Browser.getVersion")
    except BrowserCrashed as error:
        raise BrowserLaunchFailed(f"{binary} did not start.", stderr=error.stderr) from None
    except TimeoutError:
        raise BrowserLaunchFailed(f"{binary} gave no answer within {seconds:g} s (timeouts.launch).") from None
    try:
        return str(answer["product"]), str(answer["userAgent"])
    except KeyError:
        raise BrowserLaunchFailed(f"{binary} is no Chromium: asked for its version, it says {answer}.") from None


def _shm_bytes() -> int:
    try:
        stat = os.statvfs("/dev/shm")
    except OSError:
        return 0
    return stat.f_bavail * stat.f_frsize
