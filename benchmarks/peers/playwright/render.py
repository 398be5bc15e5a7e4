"""What one writes by hand, Playwright and ffmpeg: python render.py URL FRAMES OUTPUT PRESET PROCESSES"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from playwright.async_api import async_playwright

FPS = 30
JPEG_QUALITY = 80
"""Playwright's own default."""


async def render(url: str, frames: range, output: str, preset: str) -> None:
    argv = [os.environ["FFMPEG"], "-y", "-v", "error", "-f", "image2pipe", "-c:v", "mjpeg", "-framerate", str(FPS)]
    argv += ["-i", "-", "-c:v", "libx264", "-preset", preset, "-crf", "18", "-pix_fmt", "yuv420p", output]
    ffmpeg = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.PIPE)
    assert ffmpeg.stdin
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1920, "height": 1080})
        await page.goto(url)
        for index in frames:
            await page.evaluate("seconds => window.seek(seconds)", index / FPS)
            ffmpeg.stdin.write(await page.screenshot(type="jpeg", quality=JPEG_QUALITY))
            await ffmpeg.stdin.drain()
        await browser.close()
    ffmpeg.stdin.close()
    if await ffmpeg.wait():
        raise SystemExit("ffmpeg failed")


def render_in_parts(url: str, frames: int, output: Path, preset: str, processes: int) -> None:
    """Each process renders its share of the frames; then the parts are joined without being encoded again."""
    bounds = [frames * part // processes for part in range(processes + 1)]
    parts = [output.with_suffix(f".{part}.mp4") for part in range(processes)]
    children = [
        subprocess.Popen([sys.executable, __file__, url, f"{first}:{last}", part, preset, "1"])
        for first, last, part in zip(bounds, bounds[1:], parts, strict=False)
    ]
    codes = [child.wait() for child in children]  # of all, before any complaint
    if any(codes):
        raise SystemExit("a part failed")
    listing = output.with_suffix(".txt")
    listing.write_text("".join(f"file '{part}'\n" for part in parts))
    argv = [
        os.environ["FFMPEG"],
        "-y",
        "-v",
        "error",
        "-f",
        "concat",
        "-safe",
        "0",
        "-i",
        listing,
        "-c",
        "copy",
        output,
    ]
    subprocess.run(argv, check=True)
    for left in (*parts, listing):
        left.unlink()


def main(url: str, frames: str, output: str, preset: str, processes: str) -> None:
    if processes == "1":
        first, _, last = frames.rpartition(":")
        asyncio.run(render(url, range(int(first or 0), int(last)), output, preset))
    else:
        render_in_parts(url, int(frames), Path(output), preset, int(processes))


if __name__ == "__main__":
    main(*sys.argv[1:])
