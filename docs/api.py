"""Write the pages of the API reference: every public name, under the topic of its module.

A new function needs no line here: it is found in ``xs2p.__all__``, among the ``.s2p`` methods or in
``xs2p.plot``. One from a module that no topic names goes to the last topic.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import xs2p
from xs2p import accessor, plot

ROOT = Path(__file__).parent.parent
TOPICS = {
    "extract": ("The whole job", ["xs2p.pipeline"]),
    "rois": ("ROIs and masks", ["xs2p.rois", "xs2p.masks"]),
    "steps": ("Steps, one by one", ["xs2p.traces", "xs2p.compute.progress"]),
    "files": ("Files and sample data", ["xs2p.movie", "xs2p.io", "xs2p.sample"]),
    "plot": ("Pictures", ["xs2p.plot"]),
    "more": ("More", []),
}
ACCESSORS = {
    "DataArray": accessor.S2pDataArray,
    "Dataset": accessor.S2pDataset,
    "DataTree": accessor.S2pDataTree,
}
MODULES = {
    "suite2p": ("xs2p.suite2p", "Drop-in for suite2p"),
    "backends": ("xs2p.io.backends", "xarray's doors"),
    "testing": ("xs2p.testing", "For tests"),
}


def public_objects() -> dict[str, Any]:
    """Public functions and classes by the full name under which they are documented."""
    found = {f"xs2p.{name}": getattr(xs2p, name) for name in xs2p.__all__ if name[0] != "_"}
    known = set(map(id, found.values()))
    for name, thing in plots().items():
        if id(thing) not in known:
            found[f"xs2p.plot.{name}"] = thing
    known = set(map(id, found.values()))
    for method in (m for methods in ACCESSORS.values() for m in own_methods(methods).values()):
        function = inspect.unwrap(method)
        if id(function) not in known and function is not method:
            found[f"{function.__module__}.{function.__name__}"] = function
    return found


def plots() -> dict[str, Any]:
    """Public functions and classes of ``xs2p.plot``, wherever they are written."""
    names = getattr(plot, "__all__", None)
    if names is None:
        own = inspect.getmembers(plot, inspect.isfunction)
        names = [n for n, f in own if n[0] != "_" and f.__module__ == plot.__name__]
    return {name: getattr(plot, name) for name in names if callable(getattr(plot, name))}


def own_methods(accessor: type) -> dict[str, Any]:
    """Public methods of an accessor, in the order in which they are written."""
    return {name: method for name, method in vars(accessor).items() if name[0] != "_"}


def topic_of(name: str, thing: Any) -> str:
    """Key of the topic with the longest module name that a thing's name or module begins with."""
    best, topic = "", "more"
    for key, (_, modules) in TOPICS.items():
        for module in modules:
            within = any(f"{n}.".startswith(f"{module}.") for n in (thing.__module__, name))
            if within and len(module) > len(best):
                best, topic = module, key
    return topic


def pages() -> dict[str, str]:
    """All generated pages: name without suffix, and reStructuredText."""
    objects = public_objects()
    entries: dict[str, list[tuple[str, str]]] = {topic: [] for topic in TOPICS}
    for name, thing in sorted(objects.items()):
        entries[topic_of(name, thing)].append((name, first_line(thing)))
    written = {
        topic: _topic(title, entries[topic], objects)
        for topic, (title, _) in TOPICS.items()
        if entries[topic]
    }
    written["accessor"] = _accessor_page(objects)
    for page, (module, title) in MODULES.items():
        written[page] = (
            f"{_heading(title)}.. automodule:: {module}\n   :members:\n   :member-order: bysource\n"
        )
    written["index"] = (
        _heading("By topic")
        + ".. toctree::\n\n   "
        + "\n   ".join([*(t for t in TOPICS if t in written), "accessor", *MODULES, "cli"])
        + "\n"
    )
    return written


def command_line() -> str:
    """Page of the command line as Typer writes it, Markdown."""
    command = [sys.executable, "-m", "typer", "xs2p.cli", "utils", "docs", "--name", "xs2p"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    text = re.sub(r"</?span[^>]*>", "", text)
    text = re.sub(
        r"Example: (xs2p .*?)\n\n", r"Example:\n\n```console\n$ \1\n```\n\n", text, flags=re.S
    )
    return text.replace("# `xs2p`", "# The command `xs2p`", 1).replace("&#x27;", "'")


def write(folder: Path) -> None:
    """Write every page into a folder; those that have not changed keep their time."""
    folder.mkdir(exist_ok=True)
    files = {f"{page}.rst": text for page, text in pages().items()}
    files["cli.md"] = command_line()
    for path in folder.iterdir():
        if path.name not in files:
            path.unlink()
    for name, text in files.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def _topic(title: str, entries: list[tuple[str, str]], objects: dict[str, Any]) -> str:
    body = [f"{_heading(title)}{_table(entries)}"]
    for name, _ in entries:
        if inspect.isclass(objects[name]):
            body.append(f".. autoclass:: {name}\n   :members:\n")
        else:
            body.append(f".. autofunction:: {name}\n")
    return "\n".join(body)


def _accessor_page(objects: dict[str, Any]) -> str:
    """Which ``.s2p`` methods there are, each with the function that it calls."""
    names = {id(thing): name for name, thing in objects.items()}
    body = [
        _heading("Methods: .s2p"),
        "``import xs2p`` gives every DataArray, Dataset and DataTree a ``.s2p``. Each method is a "
        "function of the package with the object itself as first argument; the link has the "
        "parameters.\n",
    ]
    for kind, cls in ACCESSORS.items():
        body.append(_heading(f"{kind}.s2p", "-") + f"{first_line(cls)}\n")
        rows = []
        for name, method in own_methods(cls).items():
            function = inspect.unwrap(method)
            target = names.get(id(function))
            shown = f"{_subject(function, kind)}.s2p.{name}()"
            link = f":func:`{shown} <{target}>`" if target else f"``{shown}``"
            rows.append((link, first_line(function)))
        body.append(_rows(rows))
        for name, method in own_methods(cls).items():
            if inspect.unwrap(method) is method:
                body.append(f".. automethod:: {cls.__module__}.{cls.__name__}.{name}\n")
    return "\n".join(body)


def _subject(function: Any, kind: str) -> str:
    """What a user's own variable is called in the documentation: ``movie``, ``rois``, ``ds``."""
    first = next(iter(inspect.signature(function).parameters), "")
    if first in ("movie", "rois", "ds", "F", "traces"):
        return first
    return {"DataArray": "array", "Dataset": "ds", "DataTree": "tree"}[kind]


def first_line(thing: Any) -> str:
    """First line of a docstring."""
    return (inspect.getdoc(thing) or "").split("\n")[0]


def _table(entries: list[tuple[str, str]]) -> str:
    return _rows([(f":obj:`{name}`", text) for name, text in entries])


def _rows(rows: list[tuple[str, str]]) -> str:
    lines = [".. list-table::", "   :widths: 35 65", ""]
    for left, right in rows:
        lines += [f"   * - {left}", f"     - {right}"]
    return "\n".join(lines) + "\n"


def _heading(text: str, mark: str = "=") -> str:
    return f"{text}\n{mark * len(text)}\n\n"
