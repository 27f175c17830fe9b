"""What README and the pages say in code exists: names, methods and arguments."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import xs2p
from xs2p import accessor
from xs2p.rois.assemble import KNOWN_STATUS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CALLS = [
    (page.name, call)
    for page in PAGES
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    for call in ast.walk(ast.parse(block))
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
]


def meant(func):
    """The functions that ``xs2p.name`` or ``….s2p.name`` may be."""
    value = func.value
    if isinstance(value, ast.Name) and value.id == "xs2p":
        return [getattr(xs2p, func.attr)]
    if isinstance(value, ast.Attribute) and value.attr == "s2p":
        kinds = (accessor.S2pDataArray, accessor.S2pDataset, accessor.S2pDataTree)
        found = [getattr(kind, func.attr) for kind in kinds if hasattr(kind, func.attr)]
        assert found, func.attr
        return found
    return []


@pytest.mark.parametrize("page", sorted({name for name, _ in CALLS}))
def test_calls_name_what_is_there(page):
    for call in (call for name, call in CALLS if name == page):
        functions = meant(call.func)
        given = {word.arg for word in call.keywords if word.arg}
        takes = [inspect.signature(function).parameters for function in functions]
        fits = [given <= {*names} for names in takes]
        assert not takes or any(fits), ast.unparse(call)


def test_there_are_calls():
    assert len([call for _, call in CALLS if meant(call.func)]) > 60


def test_the_table_of_statuses_is_complete():
    explained = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "questions.md").read_text(), re.M)
    assert sorted(["ok", *explained]) == sorted(KNOWN_STATUS)


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
