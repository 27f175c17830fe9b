"""The house: rooms on floors, imports down only, no circle, one name in one place."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from pathlib import Path

import pytest

import xs2p

PACKAGE = Path(xs2p.__file__).parent
# From the ground up; what stands on one line does not import each other.
FLOORS = [
    {"_version"},
    {"_flags", "_given", "_lazy", "_names", "_warnings"},
    {"_time"},
    {"_attrs", "_frames"},
    {"disk"},
    {"compute"},
    {"movie", "rois"},
    {"masks"},
    {"traces"},
    {"pipeline", "io", "plot", "suite2p", "sample", "testing"},
    {"report"},
    {"accessor"},
    {"_public", "_register"},
    {""},
    {"cli"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
PAIRS = ["filters", "oasis", "rolling", "sparse", "sums"]
# Longer than 400 lines, or than 50 within a function, and why they stay so.
LONG = {
    "cli/extract.py:extract": "the options of a command are its parameters",
    "traces/oasis_cpu.py:oasis_pools": "one kernel: its loop holds the last pool in registers",
}


@functools.cache
def files() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(("xs2p", *path.relative_to(PACKAGE).with_suffix("").parts))
        found[name.removesuffix(".__init__")] = path
    return found


@functools.cache
def tree(name: str) -> ast.Module:
    return ast.parse(files()[name].read_text(encoding="utf-8"))


def imports(name: str) -> list[tuple[str, str, int]]:
    """Modules of the package that a file imports, the names it takes, and how deep it does so."""
    found: list[tuple[str, str, int]] = []

    def visit(node: ast.AST, depth: int) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "xs2p":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                within = whole in files()
                found.append(
                    (whole if within else str(node.module), "" if within else alias.name, depth)
                )
        elif isinstance(node, ast.Import):
            found.extend((a.name, "", depth) for a in node.names if a.name.split(".")[0] == "xs2p")
        elif isinstance(node, ast.Constant) and str(node.value) in pairs():  # for kernels_on
            found.extend((half, "", 1) for half in halves(str(node.value)))
        deeper = depth + isinstance(node, ast.FunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, deeper)

    visit(tree(name), 0)
    return found


def pairs() -> list[str]:
    return [f"xs2p.traces.{step}" for step in PAIRS]


def halves(step: str) -> list[str]:
    """A step's modules of kernels: the CPU's, the GPU's, and that by CuPy where there is one."""
    return [f"{step}_{on}" for on in ("cpu", "gpu", "cupyx") if f"{step}_{on}" in files()]


def room(name: str) -> str:
    return (name.split(".") + [""])[1]


def test_every_room_has_a_floor():
    assert {room(name) for name in files()} == set(FLOOR)


def test_imports_go_down_only():
    up = [
        f"{name} imports {other}"
        for name in files()
        for other, _, _ in imports(name)
        if room(name) != room(other) and FLOOR[room(other)] >= FLOOR[room(name)]
    ]
    assert not up


def test_no_circle_of_files():
    graph = {name: {other for other, _, _ in imports(name)} - {name} for name in files()}
    while graph:
        ground = [name for name, others in graph.items() if not others & graph.keys()]
        assert ground, f"in a circle, or above one: {sorted(graph)}"
        for name in ground:
            del graph[name]


def test_threads_that_import_cannot_wait_for_each_other():
    """Who imports a file holds its lock, then its packages', then those of what it imports.

    ``xs2p`` itself imports files of its own, which nobody else is the first to import: each is
    private, and in no package below. The command line has its process for itself.
    """

    def at_import(name: str) -> set[str]:
        packages = {name.rpartition(".")[0]} & files().keys()
        found = {other for other, _, depth in imports(name) if depth == 0} | packages
        return {other for other in found if other != "xs2p"}

    first, seen = ["xs2p"], set()
    while first:
        name = first.pop()
        seen.add(name)
        first.extend(at_import(name) - seen)
    assert seen == {"xs2p", *(f"xs2p._{name}" for name in ("given", "lazy", "register", "version"))}
    graph = {name: at_import(name) for name in files() if room(name) != "cli"}
    while graph:
        ground = [name for name, others in graph.items() if not others & graph.keys()]
        assert ground, f"wait for each other: {sorted(graph)}"
        for name in ground:
            del graph[name]


def test_no_private_name_of_another_file():
    private = []
    for name in files():
        aliases = {}
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "xs2p":
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    if whole in files():
                        aliases[alias.asname or alias.name] = whole
                    elif alias.name.startswith("_") and not alias.name.endswith("__"):
                        private.append(f"{name}: {whole}")
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                of = aliases.get(node.value.id)
                if of and node.attr.startswith("_") and not node.attr.endswith("__"):
                    private.append(f"{name}: {of}.{node.attr}")
    assert not private


def test_kernels_are_imported_by_their_step_alone_and_late():
    users: dict[str, set[str]] = {}
    for name in files():
        for other, _, depth in imports(name):
            if not other.endswith(("_cpu", "_gpu", "_cupyx")) or other.startswith("xs2p.compute"):
                continue
            if name.rpartition("_")[0] == other.rpartition("_")[0]:  # a pair's own other half
                continue
            assert depth > 0, f"{name} imports {other} at its top"
            users.setdefault(other.rpartition("_")[0], set()).add(name)
    assert users == {
        "xs2p.masks.masks": {"xs2p.masks.build"},
        "xs2p.movie.images": {"xs2p.movie.images"},
        "xs2p.movie.shifts": {"xs2p.movie.registration"},
        "xs2p.rois.inflation": {"xs2p.rois.inflation"},
        "xs2p.traces.filters": {"xs2p.traces.baseline_methods", "xs2p.suite2p.dcnv"},
        "xs2p.traces.oasis": {"xs2p.traces.deconvolve", "xs2p.suite2p.dcnv"},
        "xs2p.traces.rolling": {
            "xs2p.traces.baseline_methods",
            "xs2p.traces.measures",
            "xs2p.traces.neuropil",
            "xs2p.traces.noise",
        },
        "xs2p.traces.sparse": {"xs2p.traces.deconvolve"},
        "xs2p.traces.sums": {"xs2p.traces.extraction", "xs2p.suite2p.extraction"},
    }


@pytest.mark.parametrize("step", PAIRS)
def test_kernels_of_a_pair_have_the_same_functions_and_signatures(step):
    cpu, *others = map(importlib.import_module, halves(f"xs2p.traces.{step}"))
    assert others
    for other in others:
        assert cpu.__all__ == other.__all__
        for name in cpu.__all__:
            ours, theirs = (inspect.signature(getattr(m, name)).parameters for m in (cpu, other))
            shown = [[(p.name, p.kind, p.default) for p in s.values()] for s in (ours, theirs)]
            assert shown[0] == shown[1], name


def test_blocks_know_nothing_of_gpus():
    text = files()["xs2p.traces.blocks"].read_text(encoding="utf-8").lower()
    assert "gpu" not in text and "device" not in text and "cupy" not in text


def test_faces_only_pass_on():
    for name, path in files().items():
        if path.name != "__init__.py" or name == "xs2p.cli":
            continue
        for node in tree(name).body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            listed = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            lazy = ast.unparse(node).startswith("if TYPE_CHECKING:")
            assert docstring or listed or lazy or isinstance(node, ast.ImportFrom), (
                f"{name}: {ast.unparse(node)}"
            )


@pytest.mark.parametrize("name", ["io", "masks", "plot", "rois", "suite2p"])
def test_mypy_is_told_the_names_that_come_when_they_are_asked_for(name):
    package = importlib.import_module(f"xs2p.{name}")
    (told,) = (node for node in tree(f"xs2p.{name}").body if isinstance(node, ast.If))
    typed = {node.module: [a.name for a in node.names] for node in told.body}
    (given,) = (node.value for node in told.orelse)
    assert ast.literal_eval(given.args[1]) == typed
    assert sorted(sum(typed.values(), [])) == sorted(package.__all__) == dir(package)
    assert all(getattr(package, each) is vars(package)[each] for each in package.__all__)


def test_nothing_is_long_without_a_reason():
    long = {}
    for path in files().values():
        short = path.relative_to(PACKAGE).as_posix()
        if len(path.read_text(encoding="utf-8").splitlines()) > 400:
            long[short] = "lines"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body and (node.end_lineno or 0) - body[0].lineno + 1 > 50:
                    long[f"{short}:{node.name}"] = "lines"
    assert set(long) == set(LONG)
