"""Runs one peer once: python -m benchmarks.peers run NAME SCENE; or lists them: python -m benchmarks.peers list."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import meter, peers

RUN_SECONDS = 900
"""Longer than any peer needs for a short render; some hang now and then."""


def main() -> None:
    meter.end_runs_on_termination()
    given = _parser().parse_args()
    if given.act == "list":
        for peer in peers.PEERS:
            state = "" if peers.installed(peer) else " (not installed)"
            print(f"{peer.name:18} {' '.join(peer.groups) or '-':4} {peer.note}{state}")
        print(json.dumps(peers.versions()))
        return
    peer = next(peer for peer in peers.PEERS if peer.name == given.name)
    told = run(peer, given.scene, given.frames, given.output, given.group)
    print(json.dumps(told))
    sys.exit(told["returncode"] != 0 or told["frames"] != given.frames)


def run(peer: peers.Peer, scene: str, frames: int, output: Path | None, group: str | None) -> dict[str, object]:
    """What the run took, and how many frames came of it. Without `output` the film is thrown away."""
    with tempfile.TemporaryDirectory(prefix="asyncrender-peer-") as name:
        work = Path(name)
        film = output.absolute() if output else work / "out.mp4"
        film.unlink(missing_ok=True)
        peers.set_up(peer)
        peers.prepare(peer, scene, frames, work)
        usage = meter.measure(peers.program(peer, scene, frames, film, work, group), timeout_seconds=RUN_SECONDS)
        told = {"peer": peer.name, "scene": scene, "class": group, **dataclasses.asdict(usage), **probe(film)}
    if not usage.returncode:
        del told["stdout"], told["stderr"]
    return told


def probe(film: Path) -> dict[str, object]:
    """The film's frames as they are counted, not as its header says; and its codec, size and rate."""
    entries = "stream=codec_name,width,height,pix_fmt,r_frame_rate,nb_read_packets"
    argv = [
        "ffprobe",
        "-v",
        "error",
        "-select_streams",
        "v:0",
        "-count_packets",
        "-show_entries",
        entries,
        "-of",
        "json",
    ]
    found = subprocess.run([*argv, str(film)], capture_output=True, text=True)
    streams = json.loads(found.stdout or "{}").get("streams")
    if not streams:
        return {"frames": 0}
    return {"frames": int(streams[0].pop("nb_read_packets", 0)), **streams[0]}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    acts = parser.add_subparsers(dest="act", required=True)
    acts.add_parser("list")
    one = acts.add_parser("run")
    one.add_argument("name", choices=[peer.name for peer in peers.PEERS])
    one.add_argument("scene", choices=["dom", "canvas", "slides", "photo"])
    one.add_argument("--frames", type=int, default=60)
    one.add_argument("--class", dest="group", choices=["A", "B"])
    one.add_argument("-o", dest="output", type=Path)
    return parser


if __name__ == "__main__":
    main()
