"""The pages of the reference name every public thing; notebooks are committed without outputs."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import re
from pathlib import Path

import cuda_on_cpu
import pytest

import xs2p
from xs2p import accessor, plot, suite2p, testing
from xs2p.compute import device

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def loaded(name):
    spec = importlib.util.spec_from_file_location(f"xs2p_docs_{name}", ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def api():
    return loaded("api")


@pytest.fixture(scope="module")
def pages(api):
    return api.pages()


def documented(pages):
    """Where each thing has an entry of its own: ``{full name: [page, …]}``."""
    found = {}
    for page, text in pages.items():
        for name in re.findall(r"^\.\. auto(?:function|class|method):: (\S+)$", text, re.M):
            found.setdefault(name, []).append(page)
    return found


def test_every_public_name_has_one_entry(pages):
    entries = documented(pages)
    for name in set(xs2p.__all__) - {"__version__"}:
        assert len(entries.get(f"xs2p.{name}", [])) == 1, name
    for name in plot.__all__:
        if callable(getattr(plot, name)) and name not in xs2p.__all__:
            assert entries[f"xs2p.plot.{name}"] == ["plot"], name
    assert max(map(len, entries.values())) == 1


@pytest.mark.parametrize("cls", [accessor.S2pDataArray, accessor.S2pDataset, accessor.S2pDataTree])
def test_every_method_is_listed_and_leads_to_an_entry(pages, cls):
    entries = documented(pages)
    for name in (name for name in vars(cls) if name[0] != "_"):
        row = re.search(rf":func:`\w+\.s2p\.{name}\(\) <(\S+)>`", pages["accessor"])
        own = f"{cls.__module__}.{cls.__name__}.{name}"
        assert (row and row[1] in entries) or own in entries, name


def test_new_names_are_found_without_a_line_in_the_pages(api, monkeypatch):
    def to_table(ds):
        """Give traces as a table."""

    monkeypatch.setattr(xs2p, "to_table", to_table, raising=False)
    monkeypatch.setattr(xs2p, "__all__", [*xs2p.__all__, "to_table"])
    monkeypatch.setattr(accessor.S2pDataset, "to_table", accessor._method(to_table), raising=False)
    for module, topic in (("xs2p.io.tables", "files"), ("xs2p.quite_new", "more")):
        to_table.__module__ = module
        pages = api.pages()
        assert ".. autofunction:: xs2p.to_table" in pages[topic]
        assert f"\n   {topic}\n" in pages["index"]
        assert ":func:`ds.s2p.to_table() <xs2p.to_table>`" in pages["accessor"]


def test_whole_modules_have_a_page(pages):
    for module in (suite2p, testing):
        assert f".. automodule:: {module.__name__}" in "".join(pages.values())


def test_the_command_line_page_has_every_option(api):
    from typer.main import get_command

    from xs2p.cli.options import app

    page = api.command_line()
    for name, command in get_command(app).commands.items():
        assert f"## `xs2p {name}`" in page
        for option in (o for p in command.params for o in p.opts if o.startswith("--")):
            assert option in page, option
    assert "<span" not in page and "&#" not in page


def test_the_picture_of_the_house_is_of_this_one():
    picture = loaded("house").picture()
    rooms = re.findall(r"^[ \d]{4}(\w+)(?: +on (.*))?$", picture, re.M)
    package = Path(xs2p.__file__).parent
    inside = [*package.glob("[a-z]*.py"), *(file.parent for file in package.glob("*/__init__.py"))]
    assert sorted(name for name, _ in rooms) == sorted(path.stem for path in inside)
    for at, (_, on) in enumerate(rooms):
        below = {name for name, _ in rooms[at + 1 :]}
        assert set(filter(None, on.split(", "))) <= below
    for file in ("snr_filter", "oasis_gpu", "suite2p/", "replace"):
        assert re.search(rf"^ {{14}}.*\b{file}", picture, re.M), file


def test_the_picture_of_backends_is_of_the_code(monkeypatch):
    """What a cell names is there, is what is picked for that row, and runs what is below it."""
    drawn = loaded("backends")
    monkeypatch.setattr(device, "require_gpu", lambda: None)
    assert {b.ending for b in drawn.BACKENDS.values()} == {"cpu", *device._MODULES.values()}
    assert [*device.KERNELS] == [name for name, b in drawn.BACKENDS.items() if b.ending != "cpu"]
    left = set(cuda_on_cpu.KERNELS)
    for name, backend in drawn.BACKENDS.items():
        for step in drawn.STEPS:
            cell, where = drawn.CELLS[name][step], f"{name}, {step}"
            picked = device.kernels_on(backend.ending, f"xs2p.traces.{step}").__name__
            assert picked in [f"xs2p.traces.{f.partition('.')[0]}" for f in cell.functions], where
            for function in cell.functions:
                module, _, named = function.partition(".")
                assert callable(getattr(importlib.import_module(f"xs2p.traces.{module}"), named))
            source = inspect.getsource(importlib.import_module(f"xs2p.traces.{module}"))
            for kernel in cell.kernels:
                called = re.split(r"[ .]", kernel)[-1]
                assert re.search(rf"\b{called}\b", source), (where, kernel)
                if kernel.startswith("CUDA "):
                    assert called in cuda_on_cpu.KERNELS, (where, kernel)
                left.discard(called)
    # What is left are the other dtypes of extraction, and kernels of other steps.
    other = {kernel for kernel in left if not kernel.startswith(("load_", "gather_"))}
    demixing, sparse = {"sparse_rows", "solve_frames", "descend_frames"}, {"sparse_oasis"}
    assert other == demixing | sparse | {"oasis_penalty"}
    picture = drawn.picture()
    assert picture.startswith("<?xml") and picture.count("<!-- sums_gpu.map_sums -->") == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_without_outputs(path):
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        bare = not cell.get("outputs") and cell.get("execution_count") is None
        assert bare, (
            f"{path.name} has outputs; jupyter nbconvert --clear-output --inplace strips them"
        )
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}
    assert path.stat().st_size < 60_000


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 4
