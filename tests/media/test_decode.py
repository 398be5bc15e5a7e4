"""Films decoded: every picture is the one of its time."""

from __future__ import annotations

from pathlib import Path

import pytest
from films import SIZE, ffmpeg

from asyncrender.media.decode import open_decoder

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("name", "codec"), [("film.mkv", "libx264"), ("film.webm", "libvpx"), ("film.mov", "libx264")])
async def test_pictures_whose_times_are_no_whole_frames(tmp_path: Path, name: str, codec: str) -> None:
    film, grey = tmp_path / name, "geq=lum='16*mod(N,14)+16':cb=128:cr=128"
    source = f"color=s={SIZE[0]}x{SIZE[1]}:r=25:d=1,{grey}"
    ffmpeg("-f", "lavfi", "-i", source, "-c:v", codec, str(tmp_path / f"early-{name}"))
    ffmpeg("-i", str(tmp_path / f"early-{name}"), "-c", "copy", "-output_ts_offset", "0.021", str(film))
    async with open_decoder(film, 10) as (described, frame):
        shown = [round((await frame(index))[0] / 16) - 1 for index in range(20)]
    assert described["times"][0] == pytest.approx(0.021, abs=0.0005)
    assert shown == [index % 14 for index in range(20)]
