"""Draw the house: its rooms, the package's folders and files, on floors by what they import."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "xs2p"


def picture() -> str:
    """Every room on one line, what uses it above it: its name, its files, what it stands on."""
    rooms = {name: _imported(files) - {name} for name, files in _rooms().items()}
    floors = _floors(rooms)
    order = sorted(rooms, key=lambda name: (-floors[name], name))
    drawn, before = [], None
    for name in order:
        floor = "" if floors[name] == before else f"{floors[name]}"
        before = floors[name]
        below = _without_what_others_bring(rooms[name], rooms)
        on = ", ".join(sorted(below, key=lambda room: (-floors[room], room)))
        drawn.append(f"{floor:>2}  {name:<10}{'on ' if on else ''}{on}".rstrip())
        drawn.extend(_listed(_rooms()[name]))
    return "\n".join(drawn) + "\n"


def _rooms() -> dict[str, list[Path]]:
    """Files of each room; those beside the folders are rooms of their own, but for labels."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if first != "__init__" and not first.startswith("_"):
            found.setdefault(first, []).append(path)
    return found


def _imported(files: list[Path]) -> set[str]:
    """Rooms that are imported anywhere in files, also within functions."""
    rooms: set[str] = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text("utf-8")))):
        if isinstance(node, ast.ImportFrom) and node.module == "xs2p":
            rooms |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xs2p."):
            rooms.add(str(node.module).split(".")[1])
    return rooms & set(_rooms())


def _floors(rooms: dict[str, set[str]]) -> dict[str, int]:
    floors: dict[str, int] = {}
    while len(floors) < len(rooms):
        ready = [n for n, below in rooms.items() if n not in floors and below <= floors.keys()]
        if not ready:
            raise ValueError(f"in a circle: {sorted(rooms.keys() - floors.keys())}")
        floors |= {n: 1 + max((floors[b] for b in rooms[n]), default=-1) for n in ready}
    return floors


def _without_what_others_bring(below: set[str], rooms: dict[str, set[str]]) -> set[str]:
    def all_below(name: str) -> set[str]:
        return rooms[name].union(*map(all_below, rooms[name]))

    return below - set().union(*map(all_below, below))


def _listed(files: list[Path]) -> list[str]:
    """Names of the files of a room, those of a pair of kernels and of a folder as one."""
    if len(files) == 1:
        return []
    names: list[str] = []
    for file in files:
        *folders, name = file.relative_to(PACKAGE).with_suffix("").parts[1:]
        name = f"{folders[0]}/" if folders else name
        if not name.startswith("_") and name not in names:
            names.append(name)
    lines, line = [], ""
    for name in names:
        if len(line) + len(name) > 70:
            lines, line = [*lines, line], ""
        line += f" {name}"
    return [f"{'':14}{line.strip()}" for line in [*lines, line]]


if __name__ == "__main__":
    print(picture(), end="")
