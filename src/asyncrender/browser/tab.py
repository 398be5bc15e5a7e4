"""A tab in its fixed environment: the size, the clock, the language, the colours that every machine shall show.

It knows DevTools' domains; what is loaded into the tab, and when, is the page's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asyncrender.browser.connection import CallFailed
from asyncrender.browser.launch import Browser
from asyncrender.browser.page import ANNOUNCE, CONTROL, Page
from asyncrender.browser.server import COOKIE, ORIGIN, SceneServer
from asyncrender.browser.workers import WORKER_SCRIPTS, lead_workers
from asyncrender.errors import InvalidOption
from asyncrender.specs import RenderOptions

SCRIPTS = (*WORKER_SCRIPTS, "elements.js", "scrolling.js", "audio.js", "audiosources.js", "audiotap.js")
"""What runs in every document before its own first script, in this order."""


async def open_page(browser: Browser, options: RenderOptions, *, url: str, server: SceneServer | None) -> Page:
    """A tab of the right size in the fixed environment; nothing is loaded yet. It lives as long as its browser."""
    begin_frame = options.capture != "screenshot"
    width, height = options.width, options.height
    size = {"width": width, "height": height}
    connection = browser.connection
    tab = {**size, "enableBeginFrameControl": True} if begin_frame else {"newWindow": True}
    target = await connection.call("Target.createTarget", {"url": "about:blank", **tab})
    attach = {"targetId": target["targetId"], "flatten": True}
    session = (await connection.call("Target.attachToTarget", attach))["sessionId"]
    page = Page(browser, target["targetId"], session, options, url)
    await connection.call("Target.setDiscoverTargets", {"discover": True})
    for name in ("Page", "Runtime", "Network", "Animation"):
        await page.call(f"{name}.enable")
    if not begin_frame:  # there the tab's own size holds; changing it would want frames of its own
        metrics = {**size, "deviceScaleFactor": 1, "mobile": False}
        await page.call("Emulation.setDeviceMetricsOverride", metrics)
    locale, zone = options.browser.locale, options.browser.timezone
    with _named("browser.timezone", zone, "Europe/Berlin"):
        await page.call("Emulation.setTimezoneOverride", {"timezoneId": zone})
    with _named("browser.locale", locale, "de-DE"):
        await page.call("Emulation.setLocaleOverride", {"locale": locale})
    agent = {"userAgent": browser.user_agent, "acceptLanguage": locale}
    await page.call("Emulation.setUserAgentOverride", agent)
    await page.call("Emulation.setFocusEmulationEnabled", {"enabled": True})
    await page.call("Input.setIgnoreInputEvents", {"ignore": True})  # the mouse that there is not would hover at 0, 0
    features = {"prefers-color-scheme": options.browser.color_scheme, "prefers-reduced-motion": "no-preference"}
    media = [{"name": name, "value": value} for name, value in features.items()]
    await page.call("Emulation.setEmulatedMedia", {"features": media})
    await page.call("Runtime.addBinding", {"name": ANNOUNCE})
    await page.call("Animation.setPlaybackRate", {"playbackRate": 0})
    if server is not None:
        cookie = {
            "url": ORIGIN,
            "name": COOKIE,
            "value": server.secret,
            "httpOnly": True,
            "sameSite": "None",
            "secure": True,
        }
        await page.call("Network.setCookie", cookie)
    config = _config(options)
    for script in SCRIPTS:
        await page.add_script(script, config)
    await lead_workers(connection, session, config, CONTROL)
    return page


@contextmanager
def _named(option: str, value: str, example: str) -> Iterator[None]:
    """What the browser does not know is an option that is wrong."""
    try:
        yield
    except CallFailed as error:
        raise InvalidOption(option, value, f"the browser says: {error.reason}; such as {example}") from None


def _config(options: RenderOptions) -> dict[str, Any]:
    rate, length = options.fps, options.composition_duration
    assert rate is not None
    return {
        "rate": [rate.numerator, rate.denominator],
        "fps": float(rate),
        "width": options.width,
        "height": options.height,
        "duration": float(length) if length is not None else None,
        "props": options.props,
        "seed": options.seed,
        "epoch": options.epoch_ms,
        "requestSeconds": options.timeouts.request,
        "announce": ANNOUNCE,
    }
