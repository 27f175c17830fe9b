"""What runs survive, in figures.

python -m benchmarks.reliability [kills prefixes mutants …]

All of them take about an hour; most of it goes into the mutants, of which there are 2,000 of each
reader (XS2P_FUZZ_MUTANTS sets another number).
"""

from __future__ import annotations

import argparse
import importlib

PARTS = [  # each in benchmarks/reliability_<part>.py
    "kills",
    "prefixes",
    "durable",
    "cluster",
    "mutants",
]


def main(arguments: list[str] | None = None) -> None:
    """Print the tables of the parts that are asked for, of all by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    for part in parser.parse_args(arguments).parts or PARTS:
        print(f"## {part}\n")
        importlib.import_module(f"benchmarks.reliability_{part}").main()
        print()


if __name__ == "__main__":
    main()
