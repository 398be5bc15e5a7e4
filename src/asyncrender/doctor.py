"""What is installed, what is missing, how to install it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from pydantic import BaseModel, ConfigDict

from asyncrender import formats
from asyncrender.browser import preload
from asyncrender.browser.launch import find_browser
from asyncrender.browser.probe import probe_capture
from asyncrender.errors import AsyncRenderError, MissingTool
from asyncrender.media.probe import encoders, fit_version, tool_version
from asyncrender.process import find_tool, sets_death_signal
from asyncrender.specs import BrowserOptions, VideoOptions

LAUNCH_SECONDS = 30.0


class DoctorCheck(BaseModel):
    """One thing that was looked at."""

    model_config = ConfigDict(frozen=True)

    name: str
    ok: bool
    found: str
    """What is there, or what is wrong."""
    install: str | None = None
    """A command that helps, where it is not ok."""


class DoctorReport(BaseModel):
    """All that was looked at. `ok`: rendering works on this machine."""

    model_config = ConfigDict(frozen=True)

    ok: bool
    checks: tuple[DoctorCheck, ...]


async def doctor(browser: BrowserOptions | None = None) -> DoctorReport:
    """Look at the tools: really starts the browser and asks ffmpeg. Raises nothing for what is missing."""
    options = browser or BrowserOptions()
    looks: list[tuple[str, Callable[[], Awaitable[str]]]] = [
        ("ffmpeg", _ffmpeg),
        ("ffprobe", _ffprobe),
        ("encoders", _encoders),
        ("browser", partial(_browser, options)),
        ("capture", partial(_capture, options)),
    ]
    checks = [await _check(name, look) for name, look in looks]
    return DoctorReport(ok=all(check.ok for check in checks), checks=(*checks, _parent_death(), _picture_memory()))


async def _check(name: str, look: Callable[[], Awaitable[str]]) -> DoctorCheck:
    try:
        return DoctorCheck(name=name, ok=True, found=await look())
    except MissingTool as error:
        return DoctorCheck(name=name, ok=False, found=error.message, install=error.install)
    except AsyncRenderError as error:
        return DoctorCheck(name=name, ok=False, found=error.message)


async def _ffmpeg() -> str:
    path = find_tool("ffmpeg", package="ffmpeg")
    return f"{path} {await fit_version(path)}"


async def _ffprobe() -> str:
    path = find_tool("ffprobe", package="ffmpeg")
    return f"{path} {await tool_version(path)}"


async def _encoders() -> str:
    there = await encoders(find_tool("ffmpeg", package="ffmpeg"))
    known = sorted(formats.VIDEO_CODECS.keys() & there)
    if not known:
        raise MissingTool("a video encoder", install="sudo apt-get install ffmpeg", looked="asked ffmpeg -encoders")
    default = VideoOptions().codec
    return ", ".join(known) + ("" if default in known else f"; without {default}, the default: --codec names another")


async def _browser(options: BrowserOptions) -> str:
    return find_browser(options)


async def _capture(options: BrowserOptions) -> str:
    probed = await probe_capture(options, wished=None, launch_seconds=LAUNCH_SECONDS)
    return f"{probed.version}: {'; '.join(probed.notes)}"


def _parent_death() -> DoctorCheck:
    try:
        found = find_tool("setpriv", package="util-linux")
    except MissingTool as error:
        return DoctorCheck(name="setpriv", ok=False, found=error.message, install=error.install)
    if not sets_death_signal(found):
        why = f"{found} cannot set a parent-death signal: children outlive us if SIGKILL ends us"
        return DoctorCheck(name="setpriv", ok=False, found=why, install="sudo apt-get install util-linux")
    return DoctorCheck(name="setpriv", ok=True, found=f"{found}: children die with us, even by SIGKILL")


def _picture_memory() -> DoctorCheck:
    """The browser would take new memory for each frame, which costs less in huge pages."""
    if preload.possible():
        found = "the browser keeps it from frame to frame"
    else:
        found = f"new for each frame, for want of {preload.LIBRARY}"
        if preload.huge_pages() in {"madvise", "never"}:
            found += f"; raw frames come faster with: echo always | sudo tee {preload.HUGE_PAGES}"
    return DoctorCheck(name="picture memory", ok=True, found=found)
