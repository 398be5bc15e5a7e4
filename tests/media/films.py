"""Small films and sounds for the media tests, and what they look and sound like once decoded."""

from __future__ import annotations

import io
import subprocess
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from asyncrender import formats
from asyncrender.media.encode import open_encoder
from asyncrender.plan import make_plan
from asyncrender.specs import RenderOptions, RenderPlan
from asyncrender.tasks import open_patience

SIZE = (64, 64)

NO_LENGTH = ("-c:a", "libmp3lame", "-q:a", "2", "-write_xing", "0")
"""An MP3 whose header does not say how long it is."""


def png(color: tuple[int, int, int], *, alpha: bool = False) -> bytes:
    """`alpha`: with an alpha channel, which says that nothing is transparent."""
    file = io.BytesIO()
    Image.new("RGB", SIZE, color).convert("RGBA" if alpha else "RGB").save(file, "png")
    return file.getvalue()


def numbered(frame: int, *, alpha: bool = False) -> bytes:
    """A picture whose grey says which frame it is, modulo 16."""
    return png((16 * (frame % 16),) * 3, alpha=alpha)


def number_of(picture: np.ndarray) -> int:
    return round(float(picture.mean()) / 16)


def film_plan(name: str, **options: Any) -> RenderPlan:
    return make_plan("scene.html", name, RenderOptions(width=SIZE[0], height=SIZE[1], **options))


async def encode_chunks(plan: RenderPlan, folder: Path, picture: Callable[[int], bytes] = numbered) -> None:
    (folder / plan.work_folder).mkdir(parents=True)
    muxer = formats.video_codec(plan.options.video.codec).chunk_muxer
    for chunk in plan.chunks:
        async with (
            open_encoder(chunk.options, folder / chunk.output_file, muxer=muxer) as encoder,
            open_patience() as patience,
        ):
            for frame in range(chunk.start_frame, chunk.start_frame + chunk.frame_count):
                await encoder.write(picture(frame), patience)
            await encoder.finish()


def make_joined(plan: RenderPlan, folder: Path, sound: Path | None = None) -> None:
    """What concat would leave, without its work."""
    joined = folder / plan.concat_output_file
    joined.parent.mkdir(parents=True)
    source = f"color=c=gray:s={SIZE[0]}x{SIZE[1]}:r={plan.options.fps},trim=end_frame={plan.total_frames}"
    clock = ["-video_track_timescale", "120000"] if joined.suffix in {".mov", ".mp4"} else []
    heard = [] if sound is None else ["-i", f"file:{sound}", "-c:a", "copy"]
    ffmpeg("-f", "lavfi", "-i", source, *heard, "-c:v", plan.options.video.codec, *clock, f"file:{joined}")


def ffmpeg(*arguments: str) -> None:
    subprocess.run(["ffmpeg", "-nostdin", "-loglevel", "error", "-y", *arguments], check=True)


def write_wav(path: Path, samples: np.ndarray, rate: int = 48_000) -> Path:
    """`samples` -1 … 1, one row per channel, as 16-bit PCM."""
    channels = np.atleast_2d(samples)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(channels.T * 32767).astype("<i2").tobytes())
    return path


def unstated(path: Path, *more: str) -> Path:
    """A second of noise, three of a tone: by the bit rate of its beginning, a file that says no more is far shorter."""
    source = "anoisesrc=d=1:a=0.9:r=44100[noise];sine=440:d=3:r=44100[tone];[noise][tone]concat=n=2:v=0:a=1"
    ffmpeg("-f", "lavfi", "-i", source, *more, f"file:{path}")
    return path


def sine(seconds: float, amplitude: float = 0.25, rate: int = 48_000) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)


def decode_pictures(path: Path) -> list[np.ndarray]:
    """Each frame as RGB, by the BT.709 matrix."""
    with av.open(str(path)) as film:
        return [frame.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray() for frame in film.decode(video=0)]


def decode_sound(path: Path) -> np.ndarray:
    """Channels × samples, -1 … 1, from time zero on: what lies before it no player plays."""
    with av.open(str(path)) as film:
        rate, parts, before = film.streams.audio[0].rate, [], None
        layout = film.streams.audio[0].layout.name
        planar = av.AudioResampler(format="fltp", layout=layout, rate=rate)
        for frame in film.decode(audio=0):
            if before is None:
                before = max(0, round(-frame.pts * frame.time_base * rate))
            frame.pts = None
            parts += [part.to_ndarray() for part in planar.resample(frame)]
    return np.concatenate(parts, axis=1)[:, before:]
