"""The oldest versions that are allowed are those that are tried."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lowest():
    """What `.ci/lowest.txt` has to say: each lower bound of pyproject.toml, the highest of each."""
    packaging = pytest.importorskip("packaging.requirements")
    from packaging.version import Version

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"].values()
    found = {}
    for text in [*project["dependencies"], *(each for some in optional for each in some)]:
        required = packaging.Requirement(text)
        assert {bound.operator for bound in required.specifier} <= {">="}, text
        for bound in required.specifier:
            marker = f"; {required.marker}" if required.marker else ""
            version = Version(bound.version)
            found[required.name] = max(
                found.get(required.name, (version, marker)), (version, marker)
            )
    return [f"{name}=={version}{marker}" for name, (version, marker) in sorted(found.items())]


def test_constraints_of_the_lowest_are_the_lower_bounds():
    path = ROOT / ".ci" / "lowest.txt"
    if not path.exists():
        pytest.skip("not in a checkout: .ci is no part of the source distribution")
    written = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert written == lowest(), "write these lines into .ci/lowest.txt:\n" + "\n".join(lowest())
