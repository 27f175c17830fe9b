"""The page of promises names tests: each must be there, and be run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "promises.md"
NAMED = re.findall(r"`(tests/[\w/]+\.py)::([\w:]+)`", PAGE.read_text())


def _found(file: str, name: str) -> ast.FunctionDef | None:
    within: list[ast.stmt] = ast.parse((ROOT / file).read_text()).body
    for part in name.split("::"):
        nodes = [
            node
            for node in within
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == part
        ]
        if not nodes:
            return None
        within = nodes[-1].body
    return nodes[-1] if isinstance(nodes[-1], ast.FunctionDef) else None


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_each_is_held_by_a_test(file, name):
    assert (ROOT / file).exists()
    found = _found(file, name)
    assert found is not None
    marks = [ast.unparse(mark) for mark in found.decorator_list]
    assert not [mark for mark in marks if "xfail" in mark or re.search(r"mark\.skip\b", mark)]


def test_each_promise_names_one():
    promises, rest = PAGE.read_text().split("## Not promised")
    for promise in re.split(r"\n- ", promises)[1:]:
        assert "`tests/" in promise, promise[:60]
    assert "`tests/" not in rest
