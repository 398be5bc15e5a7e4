"""Progress on standard error: bars for people, lines for logs, JSON for programs. It knows no command and no option."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

import anyio
import typer

from asyncrender.progress import SHARES, STAGES, Progress, Stage

LINE_SECONDS = 5.0
"""Between two progress lines where there is no terminal: a day's render still makes a log that one can read."""

Show = Callable[[Progress], None]
ProgressMode = Literal["auto", "bar", "json", "none"]


@contextmanager
def shown(mode: ProgressMode, *, kept: bool) -> Iterator[Show]:
    """Progress on standard error while the block lasts; on cancellation, a word about what is left."""
    displays: dict[str, Callable[[], AbstractContextManager[Show]]] = {"bar": bars, "json": json_lines, "none": silence}
    auto = bars if sys.stderr.isatty() else plain_lines
    try:
        with displays.get(mode, auto)() as show:
            yield show
    except anyio.get_cancelled_exc_class():
        go_on = "finished chunks are kept, run the same command again to go on"
        typer.echo(f"cancelled; {go_on if kept else 'nothing is kept'}", err=True)
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
    last: Progress | None = None

    def show(now: Progress) -> None:
        nonlocal last
        if last is None or now.stage != last.stage or now.elapsed_seconds - last.elapsed_seconds >= LINE_SECONDS:
            last = now
            typer.echo(f"{now.fraction:4.0%} {now.stage:<7} {_note(now)}".rstrip(), err=True)

    yield show


@contextmanager
def bars() -> Iterator[Show]:
    """One bar per stage."""
    from rich import progress as rich
    from rich.console import Console

    done, note = rich.TaskProgressColumn(), rich.TextColumn("{task.fields[note]}")
    columns = (rich.TextColumn("{task.description:>7}"), rich.BarColumn(), done, note)
    tasks: dict[Stage, rich.TaskID] = {}
    with rich.Progress(*columns, console=Console(stderr=True)) as live:

        def show(now: Progress) -> None:
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


def _note(now: Progress) -> str:
    """What the stage has done: only rendering counts frames."""
    if now.stage != "render":
        return ""
    speed = f", {now.fps:.1f} frames/s" if now.fps else ""
    left = f", {now.eta_seconds:.0f} s left" if now.eta_seconds is not None else ""
    return f"{now.frames_done} of {now.frames_total} frames{speed}{left}"
