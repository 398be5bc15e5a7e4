"""The command line: one user of the front door. It reads flags, shows progress, obeys signals and puts errors in words.

It must not know how a page is rendered: whatever it can do, a program can do with `import asyncrender`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import importlib.util
import inspect
import io
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer
from anyio.abc import TaskStatus
from pydantic import BaseModel

import asyncrender as ar
from asyncrender.display import ProgressMode, shown
from asyncrender.flags import FLAGS, PLAN_FORM, STILL_FLAGS, Flag, explain, read_options, read_plan
from asyncrender.resolve import anchored
from asyncrender.tasks import open_task_group

STANDARD_ERROR = 2

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Unless whoever started us has them ignored, as `nohup` does, and shells do with a script's background."""

SHOW_CURSOR = b"\x1b[?25h"
"""DECTCEM: a bar that is killed would leave the terminal without a cursor."""

app = typer.Typer(
    name="asyncrender",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


# ---- flags


def _absolute_scene(scene: str) -> str:
    with _working_folder():
        return str(anchored(scene))


def _absolute(path: Path) -> Path:
    with _working_folder():
        return path.absolute()


@contextmanager
def _working_folder() -> Iterator[None]:
    """Where there is none, because somebody removed it, a path that begins there leads nowhere."""
    try:
        yield
    except FileNotFoundError:
        raise typer.BadParameter("the working folder is gone; give an absolute path") from None


def _output(text: str) -> Any:
    return typer.Option("--output", "-o", metavar="FILE", help=text, callback=_absolute)


Scene = Annotated[str, typer.Argument(metavar="SCENE", help="A web page: a path or a URL.", callback=_absolute_scene)]
Output = Annotated[Path, _output("The video: .mp4, .mov, .mkv or .webm.")]
Image = Annotated[Path, _output("The image: .png, .jpg or .webp.")]
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


def load_plan(values: Mapping[str, Any]) -> ar.RenderPlan:
    """The plan in a file or, for `-`, on standard input. Raises InvalidPlan."""
    path, workdir = values["plan_file"], values["workdir"]
    source = "standard input" if path == "-" else path
    try:
        text = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise ar.InvalidPlan(f"{source} cannot be read: {error.strerror}. Give {PLAN_FORM}.") from None
    return read_plan(text, source=source, base=workdir)


def _keyword(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _typed(flag: Flag) -> Any:
    about = typer.Option(*flag.names, help=flag.help, rich_help_panel=flag.panel, metavar=flag.metavar)
    return Annotated[flag.type | None, about]


def _keywords(flags: Iterable[Flag]) -> list[inspect.Parameter]:
    return [_keyword(flag.parameter, _typed(flag), None) for flag in flags]


INPUTS: dict[str, tuple[list[inspect.Parameter], Callable[[Mapping[str, Any]], Any]]] = {
    "options": (_keywords(FLAGS), read_options),
    "page_options": (_keywords(STILL_FLAGS), read_options),
    "job": ([_keyword("plan_file", PlanFile), _keyword("workdir", Workdir, None)], load_plan),
}
"""What several commands take: its flags, and how their values become one. Read before the event loop runs, because
nothing interrupts a loop that waits for standard input."""


def say(kind: str, text: str, colour: str) -> None:
    typer.echo(f"{typer.style(kind, fg=colour, bold=True)} {text}", err=True)


# ---- running a command


class Interrupted(Exception):
    """A signal ended the command; everything is tidied."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.exit_code = 128 + number


def command(function: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Register a coroutine function as a command, with --debug. A parameter of INPUTS is read before it runs."""
    own = dict(inspect.signature(function, eval_str=True).parameters)
    inputs = {name: INPUTS[name] for name in INPUTS if own.pop(name, None)}
    shared = [parameter for parameters, _ in inputs.values() for parameter in parameters]
    plain = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own.values()]

    def run(*, debug: bool, **values: Any) -> None:
        configure_logs(debug)
        try:
            for name, (parameters, read) in inputs.items():
                values[name] = read({parameter.name: values.pop(parameter.name) for parameter in parameters})
            carry_out(functools.partial(function, **values))
        except (typer.Exit, BrokenPipeError):
            raise
        except KeyboardInterrupt:  # while it read, before it ran
            raise typer.Exit(128 + signal.SIGINT) from None
        except Interrupted as interrupt:
            raise typer.Exit(interrupt.exit_code) from None
        except Exception as error:
            if debug:
                typer.echo(traceback.format_exc(), err=True)
            text, code = explain(error)
            say("error:", text, "red")
            raise typer.Exit(code) from None

    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__signature__ = inspect.Signature([*shared, *plain, _keyword("debug", Debug, False)])  # type: ignore[attr-defined]
    run.__annotations__ = {}
    app.command()(run)
    return function


def configure_logs(debug: bool) -> None:
    import structlog  # see log

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
    """Run to the end, on uvloop if that is installed. The signals of ENDING cancel: what is at work tidies up, then
    Interrupted is raised.
    """
    installed = importlib.util.find_spec("uvloop") is not None
    anyio.run(_under_signals, work, backend="asyncio", backend_options={"use_uvloop": installed})


async def _under_signals(work: Callable[[], Awaitable[None]]) -> None:
    received: list[signal.Signals] = []
    async with open_task_group() as group:
        scope = anyio.CancelScope()
        await group.start(_listen, scope, received)
        with scope:
            await work()
        group.cancel_scope.cancel()
    if scope.cancelled_caught:
        raise Interrupted(received[0])


async def _listen(scope: anyio.CancelScope, received: list[signal.Signals], *, task_status: TaskStatus[None]) -> None:
    obeyed = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    with anyio.open_signal_receiver(*obeyed) as signals:
        task_status.started()
        async for number in signals:
            if received:  # told twice: at once, tidy or not; the children die with us
                if sys.stderr.isatty():
                    os.write(STANDARD_ERROR, SHOW_CURSOR)
                os._exit(128 + number)
            received.append(number)
            scope.cancel()


# ---- results


def report(result: ar.RenderResult, *, as_json: bool) -> None:
    _warn(result.warnings)
    length = f"{result.frames} frames, {result.duration:g} s at {result.fps:g} frames/s"
    words = f"{result.output}: {length}, made in {result.seconds['total']:.1f} s"
    typer.echo(_to_json(result) if as_json else words)


def _warn(warnings: Iterable[str]) -> None:
    for warning in dict.fromkeys(warnings):
        say("warning:", warning, "yellow")


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
    with shown(progress, kept=options.resume) as show:
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
    job: ar.RenderPlan,
    chunk_id: Annotated[int, typer.Argument(metavar="ID", help="The chunk's id in the plan.", min=0)],
    progress: Shown = "auto",
    as_json: AsJson = False,
) -> None:
    """Render one chunk of a plan into its work folder."""
    with shown(progress, kept=True) as show:
        result = await ar.render_chunk(job, chunk_id, on_progress=show)
    how = f"attempt {result.attempts}" if result.attempts else "it was finished before"
    words = f"chunk {result.id}: {job.chunks[chunk_id].frame_count} frames, {how}, {result.seconds:.1f} s"
    typer.echo(_to_json(result) if as_json else words)


@command
async def assemble(job: ar.RenderPlan, progress: Shown = "auto", as_json: AsJson = False) -> None:
    """Join and mix the chunks that were rendered, and put the output in its place."""
    with shown(progress, kept=True) as show:
        result = await ar.assemble(job, on_progress=show)
    report(result, as_json=as_json)


@command
async def still(
    scene: Scene,
    output: Image,
    page_options: ar.RenderOptions,
    frame: Annotated[int, typer.Option("--frame", metavar="N", help="Which frame of the film.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Write one frame of a page as an image."""
    result = await ar.still(scene, output, page_options, frame=frame)
    _warn(result.warnings)
    words = f"{result.output}: frame {result.frame}, {result.width}x{result.height}"
    typer.echo(_to_json(result) if as_json else words)


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
            mark = typer.style("ok", fg="green") if check.ok else typer.style("no", fg="red")
            advice = "" if not check.install or check.install in check.found else f" Install it with: {check.install}"
            typer.echo(f"{mark} {check.name}: {check.found}{advice}")
    if not examined.ok:
        raise typer.Exit(1)


@command
async def clean(
    place: Annotated[Path, typer.Argument(metavar="PLACE", help="A folder, or an output file.")] = Path(),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what failed, cancelled or killed renders left: work folders, browser profiles. Live ones are untouched."""
    cleaned = await ar.clean(place, dry_run=dry_run)
    if as_json:
        typer.echo(_to_json(cleaned))
        return
    for folder in cleaned.removed:
        typer.echo(f"{'would remove' if dry_run else 'removed'} {folder}")
    for folder in cleaned.in_use:
        typer.echo(f"in use {folder}")
    if not cleaned.removed and not cleaned.in_use:
        typer.echo("nothing to remove")


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


def fill_closed_streams() -> None:
    """Let closed standard streams (`2>&-`) lead nowhere: the next file to be opened would get their number."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        pass
    os.close(fd)
    if sys.stderr is None:
        sys.stderr = os.fdopen(STANDARD_ERROR, "w", errors="replace", closefd=False)


def main() -> None:
    """The console script."""
    fill_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error: a locale may know nothing but ASCII
    app()


if __name__ == "__main__":
    main()
