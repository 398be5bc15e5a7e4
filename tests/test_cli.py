"""The command line as a user meets it: flags, words, exit codes, signals, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import psutil
import pytest
from typer.testing import CliRunner, Result

import asyncrender as ar
from asyncrender import cli
from asyncrender.flags import FLAG_NAMES, flag_name, read_props, read_track
from asyncrender.workspace import Workspace

ASYNCRENDER = [sys.executable, "-m", "asyncrender.cli"]

PAGE = """<!doctype html>
<meta name="asyncrender" content="width=160, height=90, fps=30, duration=0.4">
<style>
  @keyframes move { to { transform: translateX(120px) } }
  div { width: 40px; height: 40px; background: crimson; animation: move .4s linear both }
</style>
<div></div>
<script>
  const step = time => { document.body.style.background = `rgb(0, 0, ${time % 255})`; requestAnimationFrame(step); };
  requestAnimationFrame(step);
</script>
"""

LONG_FRAMES, LONG_CHUNK_FRAMES = 120, 10
"""Long enough to be met in the middle, in chunks short enough that some are finished by then."""

MORE_THAN_A_PIPE_HOLDS = 2 << 20

SECONDS_TO_END = 30.0
"""Far more than tidying takes; a test that waits so long has failed."""


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    path = tmp_path / "scène %20 'one'.html"
    path.write_text(PAGE)
    return path


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    """The command in this process."""
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], input=stdin)


def frame_hashes(video: Path) -> str:
    argv = ["ffmpeg", "-v", "error", "-i", str(video), "-map", "0:v", "-f", "framemd5", "-"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


# ---- what flags mean


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("music.mp3", {"path": "music.mp3"}),
        ("music.mp3@1.5", {"path": "music.mp3", "offset": "1.5"}),
        ("a b'c%20.mp3@1/3", {"path": "a b'c%20.mp3", "offset": "1/3"}),
        (
            "m.m4a@2,volume=0.6,fade_out=1.5",
            {"path": "m.m4a", "offset": "2", "volume": "0.6", "fade_out": "1.5"},
        ),
        ("m.m4a, fade_in = 1", {"path": "m.m4a", "fade_in": "1"}),
        ("m.m4a,seek=3,duration=2", {"path": "m.m4a", "seek": "3", "duration": "2"}),
        ('{"path": "me@home, 1.mp3", "volume": 0.5}', {"path": "me@home, 1.mp3", "volume": 0.5}),
    ],
)
def test_an_audio_flag_is_a_track(text: str, fields: dict[str, Any]) -> None:
    assert read_track(text) == fields
    assert ar.AudioTrack.model_validate(fields).path == fields["path"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("me@home.mp3", "'home.mp3' is not a time"),
        ("m.mp3@", "'' is not a time"),
        ("m.mp3,loud", "'loud' is not NAME=VALUE"),
        ("m.mp3,volume=1,volume=2", "'volume=2' is not NAME=VALUE, once each"),
        ("m.mp3@1,offset=2", "'offset=2' is not NAME=VALUE, once each"),
        ("m.mp3,vol=1", "'vol' is unknown; a track has path, volume, offset"),
        ('{"path": ', "must be a JSON object"),
        ('{"path": "m.mp3", "gain": 1}', "'gain' is unknown"),
    ],
)
def test_an_audio_flag_that_is_none(text: str, words: str) -> None:
    with pytest.raises(ar.InvalidOption) as caught:
        read_track(text)
    assert words in caught.value.allowed


def test_props_are_json_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "props.json"
    file.write_text('{"title": "Grüße", "none": null}')
    assert read_props('{"n": [1, 2.5, null]}') == {"n": [1, 2.5, None]}
    assert read_props(f"@{file}") == {"title": "Grüße", "none": None}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "must be a JSON object, such as"),
        ("title=x", "must be a JSON object: "),
        ('{"a": NaN}', "must be a JSON object: "),
        ("@nowhere.json", "No such file"),
    ],
)
def test_props_that_are_none(text: str, words: str) -> None:
    with pytest.raises(ar.InvalidOption) as caught:
        read_props(text)
    assert words in caught.value.allowed


def test_every_flag_names_an_option_that_there_is() -> None:
    for option in FLAG_NAMES.keys() - {"scene", "output", "frame"}:
        place: Any = ar.RenderOptions()
        for part in option.split("."):
            assert part in type(place).model_fields
            place = getattr(place, part)


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("video.crf", "--crf"),
        ("frame_count", "--frames"),
        ("concurrency", "--concurrency"),
        ("timeouts.ready", "--timeout"),
        ("audio.tracks.0.volume", "--audio volume"),
        ("audio.tracks[1].path", "--audio path"),
        ("video.threads", "video.threads"),
    ],
)
def test_options_in_the_words_of_the_command_line(option: str, name: str) -> None:
    assert flag_name(option) == name


def test_flags_become_options(scene: Path, tmp_path: Path) -> None:
    flags = (
        "--width 320 --height 180 --fps 29.97 --frames 9 --start-frame 3 --codec libx264 --crf 20 --preset fast "
        "--pixel-format yuv444p --audio-codec aac --muted --seed 7 --capture screenshot --page-errors warn "
        "--timeout 12.5 -j 3 --chunk-frames 4 --fresh"
    )
    result = run("plan", scene, "-o", tmp_path / "out.mp4", *flags.split(), "--props", '{"a": 1}')
    assert result.exit_code == 0, result.stderr
    options = ar.RenderPlan.model_validate_json(result.stdout).options
    assert (options.width, options.height, options.fps) == (320, 180, Fraction(30000, 1001))
    assert (options.frame_count, options.start_frame, options.chunk_frames, options.concurrency) == (9, 3, 4, 3)
    video = options.video
    assert (video.codec, video.crf, video.preset, video.pixel_format) == ("libx264", 20, "fast", "yuv444p")
    assert (options.audio.codec, options.audio.muted) == ("aac", True)
    assert (options.seed, options.capture, options.page_errors) == (7, "screenshot", "warn")
    assert {options.timeouts.load, options.timeouts.ready, options.timeouts.request, options.timeouts.frame} == {12.5}
    assert (options.resume, options.props) == (False, {"a": 1})


# ---- wrong input


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--width", "0"], ["--width", "0", "greater than or equal to 1"]),
        (["--width", "161"], ["--width", "161", "even"]),
        (["--width", "wide"], ["--width", "wide", "valid integer"]),
        (["--fps", "fast"], ["--fps", "fast", "30000/1001"]),
        (["--fps", "0"], ["--fps", "0", "above 0"]),
        (["--duration", "-1"], ["--duration", "-1", "0 or more"]),
        (["--frames", "0"], ["--frames", "0", "greater than or equal to 1"]),
        (["-j", "0"], ["--concurrency", "0", "greater than or equal to 1"]),
        (["--crf", "52"], ["--crf", "52", "0 to 51"]),
        (["--crf", "99"], ["--crf", "99", "63"]),
        (["--crf", "20", "--bitrate", "5M"], ["--bitrate", "5M", "either crf or bitrate"]),
        (["--bitrate", "much"], ["--bitrate", "much"]),
        (["--codec", "h264"], ["--codec", "h264", "libx264"]),
        (["--codec", "ffv1"], ["--codec", "ffv1", ".mkv", "into .mp4 go libaom-av1"]),
        (["--preset", "-fast"], ["--preset", "-fast"]),
        (["--preset", "quick"], ["--preset", "quick", "ultrafast"]),
        (["--props", '{"a": "\udcff"}'], ["--props", "must be a JSON object"]),
        (["--pixel-format", "rgb24"], ["--pixel-format", "rgb24", "yuv420p"]),
        (["--audio-codec", "libvorbis"], ["--audio-codec", "libvorbis", "aac"]),
        (["--audio", "no-music.mp3"], ["--audio", "no-music.mp3", "no such file"]),
        (["--audio", "m.mp3,volume=loud"], ["--audio volume", "loud", "number"]),
        (["--props", "[]"], ["--props", "[]", "JSON object"]),
        (["--props", "[" * 10_000], ["--props '[[[", "…", "JSON object"]),
        (["--seed", "-1"], ["--seed", "-1", "greater than or equal to 0"]),
        (["--timeout", "0"], ["--timeout", "0", "greater than 0"]),
        (["--capture", "film"], ["--capture film is", "'auto', 'raw', 'beginframe'"]),
        (["--page-errors", "shrug"], ["--page-errors", "shrug", "warn"]),
        (["--progress", "dance"], ["--progress", "dance", "json"]),
        (["--no-such-flag"], ["--no-such-flag"]),
    ],
)
def test_a_wrong_option_names_itself_its_value_and_what_is_allowed(
    scene: Path, tmp_path: Path, flags: list[str], words: list[str]
) -> None:
    result = run("render", scene, "-o", tmp_path / "out.mp4", *flags)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert [word for word in words if word not in result.stderr] == []
    assert "Traceback" not in result.stderr
    assert len(result.stderr) < 3000
    assert [path.name for path in tmp_path.iterdir()] == [scene.name]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("out.avi", ["--output", "out.avi", ".mp4"]),
        ("nowhere/out.mp4", ["--output", "nowhere", "does not exist"]),
        ("/proc/x/out.mp4", ["--output", "/proc/x"]),
        ("/proc/out.mp4", ["--output", "/proc", "cannot be written"]),
        ("two\nlines.mp4", ["--output", "two", "no line breaks"]),
    ],
)
def test_an_output_that_cannot_be(scene: Path, tmp_path: Path, output: str, words: list[str]) -> None:
    result = run("render", scene, "-o", tmp_path / output, "--progress", "none")
    assert result.exit_code == 2
    assert [word for word in words if word not in result.stderr] == []
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("scene", "words"),
    [("nowhere.html", "nowhere.html"), (".", "/index.html"), ("", "SCENE '' is not possible: a path")],
)
def test_a_scene_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("render", scene, "-o", tmp_path / "out.mp4")
    assert result.exit_code == 2
    assert "SCENE" in result.stderr
    assert words in result.stderr


@pytest.mark.parametrize(("scene", "output"), [("scene.html", "/out.mp4"), ("/scene.html", "out.mp4")])
def test_the_working_folder_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: str, output: str) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    result = run("render", scene, "-o", output)
    assert result.exit_code == 2
    assert "the working folder is gone" in result.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is not a plan"),
        (b"{}", "composition_url: Field required"),
        (b"[1", "is not a plan"),
        (b"\xff\xfe", "is not a plan"),
    ],
)
def test_a_plan_that_is_none(text: bytes, words: str) -> None:
    result = run("chunk", "-", 0, stdin=text)
    assert result.exit_code == 2
    assert "standard input" in result.stderr
    assert words in result.stderr


def test_a_plan_that_is_not_there(tmp_path: Path) -> None:
    result = run("assemble", tmp_path / "plan.json")
    assert result.exit_code == 2
    assert "No such file" in result.stderr


def test_a_browser_that_is_not_there(scene: Path, tmp_path: Path) -> None:
    result = run("render", scene, "-o", tmp_path / "out.mp4", "--browser", tmp_path / "chrome")
    assert result.exit_code == 1
    assert "apt-get install" in result.stderr


def test_an_output_that_somebody_writes_is_worth_another_try(scene: Path, tmp_path: Path) -> None:
    plan = ar.RenderOrchestrator.plan(scene, tmp_path / "out.mp4", ar.RenderOptions(duration=1))
    with Workspace(plan, tmp_path).lock():
        result = run("render", scene, "-o", tmp_path / "out.mp4")
    assert result.exit_code == 75
    assert "Another render" in result.stderr


def test_a_page_that_throws_fails_or_warns(tmp_path: Path) -> None:
    scene = tmp_path / "throws.html"
    scene.write_text(PAGE + "<script>setTimeout(() => { throw new Error('out of tea') }, 100)</script>")
    failed = run("render", scene, "-o", tmp_path / "out.mp4", "--progress", "none")
    assert failed.exit_code == 1
    assert "out of tea" in failed.stderr
    assert "frame 3" in failed.stderr
    assert "--page-errors warn" in failed.stderr
    assert not (tmp_path / "out.mp4").exists()
    warned = run("render", scene, "-o", tmp_path / "out.mp4", "--progress", "none", "--page-errors", "warn", "-j", 3)
    assert warned.exit_code == 0
    assert warned.stderr.startswith("warning:")
    assert "out of tea" in warned.stderr


def test_what_nobody_expected_is_one_line_unless_debugged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def probe(path: Path) -> None:
        raise RuntimeError("the roof came down")

    monkeypatch.setattr(ar, "probe", probe)
    result = run("probe", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: RuntimeError: the roof came down.")
    assert "--debug" in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" in run("probe", tmp_path, "--debug").stderr


# ---- doing it


def test_version_and_help() -> None:
    assert run("--version").stdout.startswith("asyncrender 0.")
    commands = ("render", "plan", "chunk", "assemble", "still", "probe", "doctor", "clean")
    assert all(name in run("--help").stdout for name in commands)
    assert all(run(name, "--help").exit_code == 0 for name in commands)


def test_help_can_be_read_where_there_is_nothing_but_ascii() -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    told = subprocess.run([*ASYNCRENDER, "render", "--help"], env=env, check=True, capture_output=True, text=True)
    assert "--preset" in told.stdout


def test_the_doctor_agrees_with_itself() -> None:
    result = run("doctor", "--json")
    report = ar.DoctorReport.model_validate_json(result.stdout)
    assert result.exit_code == (0 if report.ok else 1)
    words = run("doctor").stdout
    assert all(check.name in words for check in report.checks)


def test_a_plan_is_the_same_twice_and_writes_nothing(scene: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    first, second = (run("plan", scene, "-o", tmp_path / "out.mkv", "--codec", "ffv1", "-j", 2) for _ in range(2))
    assert first.exit_code == 0, first.stderr
    assert first.stdout == second.stdout
    plan = ar.RenderPlan.model_validate_json(first.stdout)
    assert (plan.total_frames, len(plan.chunks), plan.base) == (12, 2, str(tmp_path))
    assert sorted(tmp_path.iterdir()) == before


def test_relative_paths_are_those_of_the_working_folder(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = run("plan", scene.name, "-o", "out.mp4", "-j", 1)
    assert relative.stdout == run("plan", scene, "-o", tmp_path / "out.mp4", "-j", 1).stdout


def test_plan_chunk_assemble_make_what_render_makes(scene: Path, tmp_path: Path) -> None:
    flags = ("--codec", "ffv1", "-j", 3)
    whole, parts, plan_file = tmp_path / "whole.mkv", tmp_path / "parts.mkv", tmp_path / "plan.json"
    rendered = run("render", scene, "-o", whole, *flags)
    assert rendered.exit_code == 0, rendered.stderr
    assert "12 frames" in rendered.stdout
    planned = run("plan", scene, "-o", parts, *flags, "--json")
    plan_file.write_text(planned.stdout)
    assert planned.stdout.count("\n") == 1
    early = run("assemble", plan_file)
    assert (early.exit_code, "chunk" in early.stderr) == (75, True)
    for chunk in reversed(ar.RenderPlan.model_validate_json(planned.stdout).chunks):
        result = run("chunk", plan_file, chunk.id, "--json")
        assert json.loads(result.stdout)["attempts"] == 1
    assert json.loads(run("chunk", plan_file, 0, "--json").stdout)["attempts"] == 0
    assert run("chunk", plan_file, 3).exit_code == 2
    assembled = run("assemble", "-", stdin=planned.stdout.encode())
    assert assembled.exit_code == 0, assembled.stderr
    assert frame_hashes(parts) == frame_hashes(whole)
    assert {path.name for path in tmp_path.iterdir()} == {scene.name, whole.name, parts.name, plan_file.name}


def test_a_plan_moves_to_another_folder(scene: Path, tmp_path: Path) -> None:
    planned = run("plan", scene, "-o", tmp_path / "out.mkv", "--codec", "ffv1", "-j", 1).stdout.encode()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    scene.rename(elsewhere / scene.name)
    for arguments in (("chunk", "-", 0), ("assemble", "-")):
        result = run(*arguments, "--workdir", elsewhere, stdin=planned)
        assert result.exit_code == 0, result.stderr
    assert {path.name for path in elsewhere.iterdir()} == {scene.name, "out.mkv"}
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


def test_json_is_all_there_is_on_standard_output(scene: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    argv = [*ASYNCRENDER, "render", str(scene), "-o", str(output), "--json", "--progress", "json", "-j", "2"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout)
    assert (result["output"], result["frames"], result["fps"], result["duration"]) == (str(output), 12, 30, 0.4)
    assert [chunk["id"] for chunk in result["chunks"]] == [0, 1]
    told = [json.loads(line) for line in done.stderr.splitlines()]
    names = {"stage", "frames_done", "frames_total", "fraction", "fps", "eta_seconds", "elapsed_seconds"}
    assert all(set(step) == names for step in told)
    fractions = [step["fraction"] for step in told]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions.count(1.0), fractions[-1]) == (0.0, 1, 1.0)
    probed = json.loads(run("probe", output, "--json").stdout)
    assert (probed["video"][0]["width"], probed["video"][0]["height"]) == (160, 90)
    assert "h264" in run("probe", output).stdout


def test_without_a_terminal_there_are_plain_lines(scene: Path, tmp_path: Path) -> None:
    done = run("render", scene, "-o", tmp_path / "out.mp4")
    lines = done.stderr.splitlines()
    assert lines[0].split() == ["0%", "prepare"]
    assert lines[-1].split() == ["100%", "done"]
    assert done.stderr.replace("\n", "").isprintable()


@pytest.mark.parametrize("mode", ["none", "bar"])
def test_other_ways_to_show_progress(scene: Path, tmp_path: Path, mode: str) -> None:
    done = run("render", scene, "-o", tmp_path / "out.mp4", "--progress", mode)
    assert done.exit_code == 0
    assert ("render" in done.stderr) == (mode == "bar")


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_error_is_no_obstacle(scene: Path, tmp_path: Path, closed: str) -> None:
    output = tmp_path / "out.mp4"
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh"]
    done = subprocess.run([*shell, *ASYNCRENDER, "render", str(scene), "-o", str(output)], check=False)
    assert done.returncode == 0
    assert json.loads(run("probe", output, "--json").stdout)["video"][0]["frames"] == 12
    done = subprocess.run([*shell, *ASYNCRENDER, "render", "nowhere.html", "-o", str(output)], check=False)
    assert done.returncode == 2


# ---- signals


def start_long_render(scene: Path, output: Path, *flags: str) -> subprocess.Popen[str]:
    argv = [*ASYNCRENDER, "render", str(scene), "-o", str(output), "--progress", "json", "-j", "1", *flags]
    window = ["--frames", str(LONG_FRAMES), "--chunk-frames", str(LONG_CHUNK_FRAMES)]
    return subprocess.Popen([*argv, *window], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def wait_for_frames(told: IO[str], frames: int) -> None:
    for line in told:
        if json.loads(line)["frames_done"] >= frames:
            return
    raise AssertionError("the render ended before it was met in the middle")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)])
def test_a_signal_leaves_nothing_but_finished_chunks(scene: Path, tmp_path: Path, number: signal.Signals) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"the old film")
    with start_long_render(scene, output) as process:
        assert process.stderr is not None
        wait_for_frames(process.stderr, 3 * LONG_CHUNK_FRAMES)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        words = process.stderr.read()
        assert process.wait(SECONDS_TO_END) == 128 + number
    assert "cancelled; finished chunks are kept, run the same command again to go on" in words
    assert "Traceback" not in words
    assert family
    assert psutil.wait_procs(family, timeout=5)[1] == []
    assert output.read_bytes() == b"the old film"
    kept = {path.stem for path in (tmp_path / ".out.mp4.asyncrender").glob("chunk-*.mov")}
    assert kept
    assert list((tmp_path / ".out.mp4.asyncrender").glob("*.part")) == []

    window = ("--frames", LONG_FRAMES, "--chunk-frames", LONG_CHUNK_FRAMES, "-j", 1)
    again = run("render", scene, "-o", output, *window, "--json")
    assert again.exit_code == 0, again.stderr
    chunks = json.loads(again.stdout)["chunks"]
    assert {f"chunk-{chunk['id']:05d}" for chunk in chunks if chunk["attempts"] == 0} == kept
    assert {path.name for path in tmp_path.iterdir()} == {scene.name, "out.mp4"}


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("launch", signal.SIGINT),
        ("load", signal.SIGTERM),
        ("drain", signal.SIGINT),
        ("concat", signal.SIGHUP),
        ("mix", signal.SIGINT),
    ],
)
def test_a_signal_at_any_stage(scene: Path, tmp_path: Path, stage: str, number: signal.Signals) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"the old film")
    argv = [*ASYNCRENDER, "render", scene, "-o", output, "--frames", "20", "--debug", "--progress", "none"]
    with subprocess.Popen([str(word) for word in argv], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any(f"stage={stage}" in line for line in process.stderr)
        process.send_signal(signal.SIGSTOP)  # the stage may last for less time than a look at its processes takes
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        words = process.stderr.read()
        assert process.wait(SECONDS_TO_END) == 128 + number
    assert "Traceback" not in words
    assert psutil.wait_procs(family, timeout=5)[1] == []
    assert output.read_bytes() == b"the old film"
    left = {path.name for path in tmp_path.rglob("*")} - {scene.name, "out.mp4", ".out.mp4.asyncrender"}
    assert {name.split(".")[0] for name in left} <= {"lock", "resolved", "chunk-00000"}
    assert not [name for name in left if name.endswith(".part")]


def test_a_fresh_render_that_is_interrupted_keeps_nothing(scene: Path, tmp_path: Path) -> None:
    with start_long_render(scene, tmp_path / "out.mp4", "--fresh") as process:
        assert process.stderr is not None
        wait_for_frames(process.stderr, 2 * LONG_CHUNK_FRAMES)
        process.send_signal(signal.SIGINT)
        assert "cancelled; nothing is kept" in process.stderr.read()
        assert process.wait(SECONDS_TO_END) == 130
    assert [path.name for path in tmp_path.iterdir()] == [scene.name]


def test_waiting_for_a_plan_can_be_interrupted() -> None:
    argv = [*ASYNCRENDER, "chunk", "-", "0"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.write(b" " * MORE_THAN_A_PIPE_HOLDS)
        process.stdin.flush()  # returns once it is being read
        while psutil.Process(process.pid).status() != psutil.STATUS_SLEEPING:
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS_TO_END) == 130


def test_it_runs_on_uvloop_where_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    loops: list[str] = []

    async def work() -> None:
        loops.append(type(asyncio.get_running_loop()).__module__.partition(".")[0])

    cli.carry_out(work)
    monkeypatch.setitem(sys.modules, "uvloop", None)  # as if it were not
    cli.carry_out(work)
    assert loops == ["uvloop", "asyncio"]


def test_signals_that_are_ignored_stay_so() -> None:
    """As `nohup` wants it, and shells for what runs in a script's background."""
    deaf = """
import os, signal
import anyio
from asyncrender.cli import ENDING, carry_out

async def work():
    for number in ENDING:
        os.kill(os.getpid(), number)
        await anyio.sleep(0.01)

for number in ENDING:
    signal.signal(number, signal.SIG_IGN)
carry_out(work)
"""
    subprocess.run([sys.executable, "-c", deaf], check=True)


def test_the_second_signal_ends_at_once_what_tidies_for_ever() -> None:
    stubborn = """
import anyio
from asyncrender.cli import carry_out

async def work():
    print("at work", flush=True)
    try:
        await anyio.sleep_forever()
    finally:
        print("tidying", flush=True)
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()

carry_out(work)
"""
    with subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "tidying\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS_TO_END) == 143
