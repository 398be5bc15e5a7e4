"""The command line: one user of the front door. It reads flags, shows progress, obeys signals and puts errors in words.

It must not know how a page is rendered: whatever it can do, a program can do with `import asyncrender`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import inspect
import json
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import anyio.abc
import structlog
import typer
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

import asyncrender as ar
from asyncrender.errors import single_error
from asyncrender.orchestrator import anchored
from asyncrender.progress import SHARES, STAGES, Stage

LINE_SECONDS = 5.0
"""Between two progress lines where there is no terminal: a day's render still makes a log that one can read."""

SHOWN_ERRORS = 5
"""Of a plan that does not validate: one wrong field can make a thousand chunks wrong."""

PLAN_PARTS = "a plan as `asyncrender plan` prints it"

Show = Callable[[ar.Progress], None]
ProgressMode = Literal["auto", "bar", "json", "none"]
PageErrors = Literal["fail", "warn"]
Capturing = Literal["auto", "beginframe", "screenshot"]

app = typer.Typer(
    name="asyncrender",
    help="Turns a moving web page into a video file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


# ---- flags


PICTURE, SOUND, PAGE, RUN = "Picture", "Sound", "Page", "Run"


@dataclass(frozen=True)
class Flag:
    """One flag of `render` and `plan`. `options` are the dotted options it sets; unset, it sets nothing."""

    names: tuple[str, ...]
    options: tuple[str, ...]
    type: Any
    panel: str
    help: str
    metavar: str | None = None

    @property
    def parameter(self) -> inspect.Parameter:
        """The flag as a parameter of a typer command."""
        about = typer.Option(*self.names, help=self.help, rich_help_panel=self.panel, metavar=self.metavar)
        name = self.options[0].replace(".", "_")
        kind = inspect.Parameter.KEYWORD_ONLY
        return inspect.Parameter(name, kind, default=None, annotation=Annotated[self.type | None, about])


def _flag(names: str, options: str, kind: Any, about: tuple[str, str], metavar: str | None = None) -> Flag:
    return Flag(tuple(names.split()), tuple(options.split()), kind, *about, metavar)


TRACK_FORM = r"PATH\[@OFFSET]\[,NAME=VALUE…], names: volume fade_in fade_out seek duration;"
DEADLINES = "timeouts.load timeouts.ready timeouts.request timeouts.frame"

FLAGS = (
    _flag("--width", "width", int, (PICTURE, "Pixels; the page's own, else 1920.")),
    _flag("--height", "height", int, (PICTURE, "Pixels; the page's own, else 1080.")),
    _flag("--fps", "fps", str, (PICTURE, "Such as 30 or 30000/1001; the page's own, else 30."), "RATE"),
    _flag("--duration", "duration", str, (PICTURE, "Length; the page's own."), "SECONDS"),
    _flag("--frames", "frame_count", int, (PICTURE, "Length in frames, instead of --duration.")),
    _flag("--start-frame", "start_frame", int, (PICTURE, "The first frame that is rendered; 0.")),
    _flag("--codec", "video.codec", str, (PICTURE, "ffmpeg's name of the encoder; libx264."), "NAME"),
    _flag("--crf", "video.crf", float, (PICTURE, "Constant rate factor: less is better.")),
    _flag("--bitrate", "video.bitrate", str, (PICTURE, "Such as 5M, instead of --crf."), "BITS"),
    _flag("--preset", "video.preset", str, (PICTURE, "The encoder's speed against size."), "NAME"),
    _flag("--pixel-format", "video.pixel_format", str, (PICTURE, "ffmpeg's name, such as yuv420p."), "NAME"),
    _flag("--audio", "audio.tracks", list[str], (SOUND, f"{TRACK_FORM} or JSON; repeatable"), "TRACK"),
    _flag("--audio-codec", "audio.codec", str, (SOUND, "ffmpeg's name; the container's usual one."), "NAME"),
    _flag("--muted", "audio.muted", bool, (SOUND, "Leave the sound out.")),
    _flag("--props", "props", str, (PAGE, "Data for the page: window.asyncrender.props."), "JSON|@FILE"),
    _flag("--seed", "seed", int, (PAGE, "Of the page's random numbers; 0.")),
    _flag("--page-errors", "page_errors", PageErrors, (PAGE, "What an uncaught error does; fail.")),
    _flag("--timeout", DEADLINES, float, (PAGE, "Deadline of load, readiness, a request, a frame."), "SECONDS"),
    _flag(
        "--capture",
        "capture",
        Capturing,
        (PAGE, "How frames leave: auto, beginframe, screenshot."),
        "WAY",
    ),
    _flag("--browser", "browser.executable", str, (PAGE, "Which Chromium; $ASYNCRENDER_BROWSER."), "PATH"),
    _flag("--concurrency -j", "concurrency", int, (RUN, "Browsers at work at once; as the machine allows.")),
    _flag("--chunk-frames", "chunk_frames", int, (RUN, "The most frames of one chunk; 900.")),
    _flag("--resume/--fresh", "resume", bool, (RUN, "Use finished chunks of an earlier run, or keep none.")),
)

FLAG_NAMES = {"scene": "SCENE", "output": "--output"} | {option: f.names[0] for f in FLAGS for option in f.options}
"""Each option's flag, so that errors speak to the user in the words of the command line."""


def _absolute_scene(scene: str) -> str:
    return str(anchored(scene)) if scene else scene


def _absolute(path: Path) -> Path:
    return path.absolute()


Scene = Annotated[str, typer.Argument(metavar="SCENE", help="A web page: a path or a URL.", callback=_absolute_scene)]
Output = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="FILE", help="The video: .mp4, .mov, .mkv or .webm.", callback=_absolute),
]
PlanFile = Annotated[
    str, typer.Argument(metavar="PLAN.json", help="What asyncrender plan printed; - reads standard input.")
]
Workdir = Annotated[Path | None, typer.Option("--workdir", metavar="DIR", help="The plan's base folder here.")]
Shown = Annotated[
    ProgressMode,
    typer.Option("--progress", help="On standard error; auto: a bar on a terminal, else a line now and then."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Log everything; show tracebacks.")]

READERS: dict[str, Callable[[Any], Any]] = {
    "props": lambda text: read_props(text),
    "audio.tracks": lambda texts: [read_track(text) for text in texts],
}
"""Options whose flag has a syntax of its own."""


def read_options(values: Mapping[str, Any]) -> ar.RenderOptions:
    """The options that the values of FLAGS' parameters stand for. Raises InvalidOption, ValidationError."""
    data: dict[str, Any] = {}
    for flag in FLAGS:
        given = values[flag.parameter.name]
        if given is None or given == []:
            continue
        for option in flag.options:
            *group, field = option.split(".")
            place = data.setdefault(group[0], {}) if group else data
            place[field] = READERS.get(option, lambda value: value)(given)
    return ar.RenderOptions.model_validate(data)


def read_track(text: str) -> dict[str, Any]:
    """The fields of one `--audio`: `music.mp3@1.5,volume=0.6`, or an AudioTrack as JSON. Raises InvalidOption."""
    form = 'PATH[@OFFSET][,NAME=VALUE…]; a path with @ or , goes as JSON: {"path": "…"}'
    if text.lstrip().startswith("{"):
        fields = _read_object("audio.tracks", text, source=text)
    else:
        head, *settings = text.split(",")
        path, at, offset = head.rpartition("@") if "@" in head else (head, "", "")
        fields = {"path": path, **({"offset": offset} if at else {})}
        if at and not re.fullmatch(r"[\d./]+", offset):
            raise ar.InvalidOption("audio.tracks", text, f"{offset!r} is not a time in seconds; write {form}")
        for setting in settings:
            name, equals, value = setting.partition("=")
            if not equals or name.strip() in fields:
                raise ar.InvalidOption("audio.tracks", text, f"{setting!r} is not NAME=VALUE, once each; write {form}")
            fields[name.strip()] = value.strip()
    if unknown := fields.keys() - ar.AudioTrack.model_fields.keys():
        known = ", ".join(ar.AudioTrack.model_fields)
        raise ar.InvalidOption("audio.tracks", text, f"{min(unknown)!r} is unknown; a track has {known}")
    return fields


def read_props(text: str) -> dict[str, Any]:
    """The object that `--props` gives: JSON, or `@FILE` with JSON in it. Raises InvalidOption."""
    if not text.startswith("@"):
        return _read_object("props", text, source=text)
    try:
        return _read_object("props", Path(text[1:]).read_bytes(), source=text)
    except OSError as error:
        raise ar.InvalidOption("props", text, f"the file cannot be read: {error.strerror}") from None


def _read_object(option: str, data: str | bytes, *, source: str) -> dict[str, Any]:
    try:
        value = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise ar.InvalidOption(option, source, f"it must be a JSON object: {error}") from None
    if not isinstance(value, dict):
        raise ar.InvalidOption(option, source, 'it must be a JSON object, such as {"title": "Hello"}')
    return value


def read_plan(path: str, workdir: Path | None) -> ar.RenderPlan:
    """The plan in a file or, for `-`, on standard input; rebased if a work folder is given. Raises InvalidPlan."""
    name = "standard input" if path == "-" else path
    try:
        text = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        plan = ar.RenderPlan.model_validate_json(text)
    except OSError as error:
        raise ar.InvalidPlan(f"{name} cannot be read: {error.strerror}. Give {PLAN_PARTS}.") from None
    except ValidationError as error:
        raise ar.InvalidPlan(f"{name} is not {PLAN_PARTS}: {_why_invalid(error)}") from None
    return plan if workdir is None else plan.model_copy(update={"base": str(workdir.absolute())})


def _why_invalid(error: ValidationError) -> str:
    found = error.errors(include_url=False)
    reasons = [
        f"{'.'.join(map(str, item['loc'])) or 'it'}: {item['msg'].removeprefix('Value error, ')}" for item in found
    ]
    more = f"; and {len(found) - SHOWN_ERRORS} more" if len(found) > SHOWN_ERRORS else ""
    return "; ".join(reasons[:SHOWN_ERRORS]) + more + "."


# ---- errors in words


def flag_name(option: str) -> str:
    """What the command line calls an option: `video.crf` is --crf, `audio.tracks.0.volume` is "--audio volume"."""
    name = re.sub(r"\.\d+|\[\d+\]", "", option)
    parent, _, field = name.rpartition(".")
    return FLAG_NAMES.get(name) or (f"{FLAG_NAMES[parent]} {field}" if parent in FLAG_NAMES else name)


def explain(error: BaseException) -> tuple[str, int]:
    """An error as one paragraph, and the exit code it asks for."""
    match error:
        case ar.InvalidOption():
            return _refusal(error.option, error.value, error.allowed), error.exit_code
        case ar.AsyncRenderError():
            return _in_flags(str(error)), error.exit_code
        case ValidationError():
            refusals = [
                _refusal(".".join(map(str, item["loc"])), item["input"], item["msg"].removeprefix("Value error, "))
                for item in error.errors(include_url=False)
            ]
            return " ".join(dict.fromkeys(refusals)), ar.InvalidOption.exit_code
    what = "".join(traceback.format_exception_only(error)).strip()
    return f"{what}. That was not expected; run with --debug to see where it comes from.", 1


def _refusal(option: str, value: object, allowed: str) -> str:
    shown_value = value if isinstance(value, int | float) else repr(value)
    given = "is missing" if value is None else f"{shown_value} is not possible"
    return f"{flag_name(option)} {given}: {_in_flags(allowed).rstrip('.')}."


def _in_flags(text: str) -> str:
    """The library's advice names options; the command line's names flags."""
    text = text.replace("page_errors='warn'", "--page-errors warn")
    return re.sub(r"\btimeouts\.(load|ready|request|frame)\b", "--timeout", text)


def say(kind: str, text: str, colour: str) -> None:
    typer.echo(f"{typer.style(kind, fg=colour, bold=True)} {text}", err=True)


# ---- running a command


class Interrupted(Exception):
    """A signal ended the command; everything is tidied."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.exit_code = 128 + number


def command(function: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Register a coroutine function as a command, with --debug. A parameter `options` becomes the FLAGS."""
    parameters = dict(inspect.signature(function, eval_str=True).parameters)
    flags = [flag.parameter for flag in FLAGS] if parameters.pop("options", None) else []
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters.values()]
    debug_flag = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug)

    def run(*, debug: bool, **values: Any) -> None:
        configure_logs(debug)
        try:
            if flags:
                values["options"] = read_options({flag.name: values.pop(flag.name) for flag in flags})
            carry_out(functools.partial(function, **values))
        except (typer.Exit, BrokenPipeError):
            raise
        except Interrupted as interrupt:
            raise typer.Exit(interrupt.exit_code) from None
        except Exception as error:
            if debug:
                typer.echo(traceback.format_exc(), err=True)
            text, code = explain(error)
            say("error:", text, "red")
            raise typer.Exit(code) from None

    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__signature__ = inspect.Signature([*own, *flags, debug_flag])  # type: ignore[attr-defined]
    run.__annotations__ = {}
    app.command()(run)
    return function


def configure_logs(debug: bool) -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.WARNING),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper("%H:%M:%S", utc=False),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        # looked up at each line, because a bar on the screen puts itself in the place of sys.stderr
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def carry_out(work: Callable[[], Awaitable[None]]) -> None:
    """Run to the end. SIGINT and SIGTERM cancel: what is at work tidies up, then Interrupted is raised."""
    try:
        anyio.run(_under_signals, work, backend="asyncio")
    except BaseExceptionGroup as group:
        raise single_error(group) from None


async def _under_signals(work: Callable[[], Awaitable[None]]) -> None:
    received: list[signal.Signals] = []
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            await group.start(_listen, scope, received)
            await work()
            group.cancel_scope.cancel()
    if scope.cancelled_caught:
        raise Interrupted(received[0])


async def _listen(
    scope: anyio.CancelScope, received: list[signal.Signals], *, task_status: anyio.abc.TaskStatus[None]
) -> None:
    with anyio.CancelScope(shield=True), anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            if received:
                os._exit(128 + number)  # told twice: at once, tidy or not; the children die with us
            received.append(number)
            scope.cancel()


# ---- progress


@contextmanager
def shown(mode: ProgressMode, *, resume: bool) -> Iterator[Show]:
    """Progress on standard error while the block lasts; on cancellation, a word about what is left."""
    displays: dict[str, Callable[[], AbstractContextManager[Show]]] = {"bar": bars, "json": json_lines, "none": silence}
    auto = bars if sys.stderr.isatty() else plain_lines
    try:
        with displays.get(mode, auto)() as show:
            yield show
    except anyio.get_cancelled_exc_class():
        kept = "finished chunks are kept, run the same command again to go on" if resume else "nothing is kept"
        typer.echo(f"cancelled; {kept}", err=True)
        raise


@contextmanager
def silence() -> Iterator[Show]:
    yield lambda now: None


@contextmanager
def json_lines() -> Iterator[Show]:
    """One object a line; the last one of a render that succeeds has fraction 1.0."""
    names = ("stage", "frames_done", "frames_total", "fraction", "fps", "eta_seconds", "elapsed_seconds")
    yield lambda now: typer.echo(json.dumps({name: getattr(now, name) for name in names}), err=True)


@contextmanager
def plain_lines() -> Iterator[Show]:
    """A line at each change of stage and every few seconds, for logs."""
    last: ar.Progress | None = None

    def show(now: ar.Progress) -> None:
        nonlocal last
        if last is None or now.stage != last.stage or now.elapsed_seconds - last.elapsed_seconds >= LINE_SECONDS:
            last = now
            typer.echo(f"{now.fraction:4.0%} {now.stage:<7} {_note(now)}".rstrip(), err=True)

    yield show


@contextmanager
def bars() -> Iterator[Show]:
    """One bar per stage."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

    done, note = TaskProgressColumn(), TextColumn("{task.fields[note]}")
    columns = (TextColumn("{task.description:>7}"), BarColumn(), done, note)
    tasks: dict[Stage, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True)) as live:

        def show(now: ar.Progress) -> None:
            for stage in STAGES[: STAGES.index(now.stage)]:
                if stage in tasks:
                    live.update(tasks[stage], total=1, completed=1)
            if now.stage != "done":
                if now.stage not in tasks:
                    tasks[now.stage] = live.add_task(now.stage, total=None, note="")
                start, end = SHARES[now.stage]
                size = end - start or None
                live.update(tasks[now.stage], note=_note(now), total=size, completed=now.fraction - start)

        yield show


def _note(now: ar.Progress) -> str:
    """What the stage has done: only rendering counts frames."""
    if now.stage != "render":
        return ""
    speed = f", {now.fps:.1f} frames/s" if now.fps else ""
    left = f", {now.eta_seconds:.0f} s left" if now.eta_seconds is not None else ""
    return f"{now.frames_done} of {now.frames_total} frames{speed}{left}"


def report(result: ar.RenderResult, *, as_json: bool) -> None:
    for warning in dict.fromkeys(result.warnings):
        say("warning:", warning, "yellow")
    length = f"{result.frames} frames, {result.duration:g} s at {result.fps:g} frames/s"
    words = f"{result.output}: {length}, made in {result.seconds['total']:.1f} s"
    typer.echo(_to_json(result) if as_json else words)


def _to_json(result: Any) -> str:
    if isinstance(result, BaseModel):
        return result.model_dump_json()
    return json.dumps(dataclasses.asdict(result), default=str, ensure_ascii=False)


# ---- commands


@command
async def render(
    scene: Scene, output: Output, options: ar.RenderOptions, progress: Shown = "auto", as_json: AsJson = False
) -> None:
    """Render a page into a video file."""
    with shown(progress, resume=options.resume) as show:
        result = await ar.render(scene, output, options, on_progress=show)
    report(result, as_json=as_json)


@command
async def plan(
    scene: Scene,
    output: Output,
    options: ar.RenderOptions,
    as_json: Annotated[bool, typer.Option("--json", help="On one line, instead of indented.")] = False,
) -> None:
    """Print the job for any runner, as JSON; nothing is rendered or written."""
    resolved = await ar.resolve(scene, output, options)
    job = ar.RenderOrchestrator.plan(scene, output, resolved)
    typer.echo(job.model_dump_json(indent=None if as_json else 2))


@command
async def chunk(
    plan_file: PlanFile,
    chunk_id: Annotated[int, typer.Argument(metavar="ID", help="The chunk's id in the plan.", min=0)],
    workdir: Workdir = None,
    progress: Shown = "auto",
    as_json: AsJson = False,
) -> None:
    """Render one chunk of a plan into its work folder."""
    job = read_plan(plan_file, workdir)
    with shown(progress, resume=job.options.resume) as show:
        result = await ar.render_chunk(job, chunk_id, on_progress=show)
    how = f"attempt {result.attempts}" if result.attempts else "it was finished before"
    words = f"chunk {result.id}: {job.chunks[chunk_id].frame_count} frames, {how}, {result.seconds:.1f} s"
    typer.echo(_to_json(result) if as_json else words)


@command
async def assemble(
    plan_file: PlanFile, workdir: Workdir = None, progress: Shown = "auto", as_json: AsJson = False
) -> None:
    """Join and mix the chunks that were rendered, and put the output in its place."""
    job = read_plan(plan_file, workdir)
    with shown(progress, resume=job.options.resume) as show:
        result = await ar.assemble(job, on_progress=show)
    report(result, as_json=as_json)


@command
async def probe(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A media file.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Say what a media file is."""
    info = await ar.probe(file)
    typer.echo(_to_json(info) if as_json else "\n".join(_outline(info.model_dump(mode="json"))))


def _outline(value: Any, depth: int = 0) -> Iterator[str]:
    """A nested value as indented lines."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, inner in items:
        if isinstance(inner, dict | list) and inner:
            yield f"{'  ' * depth}{name}:"
            yield from _outline(inner, depth + 1)
        elif inner not in (None, [], {}):
            yield f"{'  ' * depth}{name}: {inner}"


@command
async def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, what is missing, and how to install it; exit code 1 if something is missing."""
    examined = await ar.doctor()
    if as_json:
        typer.echo(_to_json(examined))
    else:
        for check in examined.checks:
            mark = typer.style("ok", fg="green") if check.ok else typer.style("missing", fg="red")
            advice = "" if check.ok else f". Install it with: {check.install}"
            typer.echo(f"{mark} {check.name}: {check.found or 'not found'}{advice}")
    if not examined.ok:
        raise typer.Exit(1)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"asyncrender {importlib.metadata.version('asyncrender')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Turns a moving web page into a video file."""


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
