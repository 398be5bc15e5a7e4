"""The house: which room may see which, and what no room may do. Read from the sources; only the door is opened."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import asyncrender

SOURCES = Path(__file__).parents[1] / "src" / "asyncrender"

FLOORS = (
    {"cli"},
    {"orchestrator", "flags", "display"},
    {"stages", "still", "executors.local", "executors.dask"},
    {"chunk", "resolve", "doctor", "clean"},
    {"browser.probe"},
    {"browser.capture"},
    {"browser.raw"},
    {"browser.camera"},
    {"browser.media", "browser.recorder", "browser.tab"},
    {"browser.page"},
    {"browser.requests", "browser.stall", "browser.trees"},
    {"browser.launch", "browser.server", "media.decode", "media.encode", "media.sound", "media.concat", "media.mix"},
    {"media.ffmpeg"},
    {"media.codecs", "media.film", "media.probe", "media.soundgraph", "workspace", "diskspace"},
    {"browser.workers"},
    {"browser.connection", "browser.preload", "browser.scripts", "files", "scratch"},
    {"process", "threads", "retry", "locks", "tasks", "machine"},
    {"pipes"},
    {"trace", "forks"},
    {"plan", "progress", "log", "browser.images", "browser.wire", "media.graphs", "media.matroska", "media.packets"},
    {"specs", "formats"},
    {"errors"},
)
"""From the roof down. A room sees only the floors below its own. A new module needs a floor here."""

DOORS = {"__init__", "browser.__init__", "executors.__init__", "media.__init__"}

PURE = {
    "errors",
    "specs",
    "formats",
    "plan",
    "progress",
    "trace",
    "browser.wire",
    "media.codecs",
    "media.film",
    "media.graphs",
    "media.matroska",
    "media.packets",
}
PURE |= {"browser.images", "media.soundgraph"}
IMPURE_IMPORTS = {"anyio", "asyncio", "os", "random", "socket", "structlog", "subprocess", "tempfile", "time", "trio"}

ONLY_IN = {
    "ffmpeg": {"media.graphs"},
    "typer": {"cli", "display"},
    "rich": {"display"},
    "structlog": {"cli", "log"},
    "logging": {"cli", "log"},
}
"""Libraries that few rooms may know."""

CALLS_ONLY_IN_CLI = {
    "print",
    "signal.signal",
    "logging.basicConfig",
    "logging.config.dictConfig",
    "structlog.configure",
    "structlog.configure_once",
}

MOST_LINES = 400


def read_modules() -> dict[str, ast.Module]:
    """Every module by its name without the package's: "browser.page"."""
    files = sorted(SOURCES.rglob("*.py"))
    names = (".".join(file.relative_to(SOURCES).with_suffix("").parts) for file in files)
    return {name: ast.parse(file.read_text(), str(file)) for name, file in zip(names, files, strict=True)}


MODULES = read_modules()
ROOMS = sorted(MODULES.keys() - DOORS)


def imports(tree: ast.Module) -> set[str]:
    """Full names of all that a module imports anywhere: "asyncrender.browser.wire", "os", "anyio.abc.TaskGroup"."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms_seen(tree: ast.Module) -> set[str]:
    """The rooms a module imports, or imports from; what is imported through a door is no room and has no floor."""
    ours = {name.removeprefix("asyncrender.") for name in imports(tree) if name.split(".")[0] == "asyncrender"}
    return {next((room for room in ROOMS if name == room or name.startswith(room + ".")), name) for name in ours}


def libraries(tree: ast.Module) -> set[str]:
    return {name.split(".")[0] for name in imports(tree)}


def calls(tree: ast.Module) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_every_module_has_a_floor() -> None:
    assert set(ROOMS) <= set().union(*FLOORS)


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "cli"])
def test_imports_go_down_only(room: str) -> None:
    floor = next(index for index, rooms in enumerate(FLOORS) if room in rooms)
    assert rooms_seen(MODULES[room]) <= set().union(*FLOORS[floor + 1 :])


def test_the_command_line_is_one_more_user_of_the_front_door() -> None:
    if "cli" in MODULES:
        assert "cli" not in set().union(*(rooms_seen(tree) for tree in MODULES.values()))


@pytest.mark.parametrize("door", sorted(DOORS))
def test_a_door_holds_names_only(door: str) -> None:
    allowed = ast.Import | ast.ImportFrom | ast.Assign | ast.Expr
    assert [ast.unparse(node) for node in MODULES[door].body if not isinstance(node, allowed)] == []


@pytest.mark.parametrize("room", sorted(PURE & MODULES.keys()))
def test_pure_rooms_do_no_io(room: str) -> None:
    assert libraries(MODULES[room]) & IMPURE_IMPORTS == set()
    assert not calls(MODULES[room]) & {"open", "input", "exec", "eval"}


@pytest.mark.parametrize("library", ONLY_IN)
def test_each_foreign_world_has_one_seam(library: str) -> None:
    assert {name for name, tree in MODULES.items() if library in libraries(tree)} <= ONLY_IN[library]


@pytest.mark.parametrize("room", sorted(MODULES.keys() - {"cli"}))
def test_the_library_prints_nothing_configures_nothing_and_handles_no_signal(room: str) -> None:
    assert calls(MODULES[room]) & CALLS_ONLY_IN_CLI == set()


@pytest.mark.parametrize("room", sorted(MODULES))
def test_the_library_keeps_no_state(room: str) -> None:
    changeable = ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp
    for node in MODULES[room].body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, changeable):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [ast.unparse(target) for target in targets]
            assert all(name.isupper() or name == "__all__" for name in names), f"{names} can change"
    assert not [node for node in ast.walk(MODULES[room]) if isinstance(node, ast.Global)]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_and_stays_small(room: str) -> None:
    assert ast.get_docstring(MODULES[room]), "it needs a docstring: what it is, what it must not know"
    lines = len((SOURCES / f"{room.replace('.', '/')}.py").read_text().splitlines())
    assert lines <= MOST_LINES


def test_the_front_door_shows_exactly_its_sorted_names() -> None:
    names = {name for name in vars(asyncrender) if not name.startswith("_")}
    submodules = {room.split(".")[0] for room in ROOMS}
    assert asyncrender.__all__ == sorted(asyncrender.__all__)
    assert {name for name in asyncrender.__all__ if not name.startswith("_")} >= names - submodules
    assert all(hasattr(asyncrender, name) for name in asyncrender.__all__)
