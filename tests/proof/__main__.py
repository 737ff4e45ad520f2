"""The catalogue of proofs: ``python -m tests.proof [PART [OPTIONS]]`` prints a table of what was tried.

Without a part, all of them run. The exit code is 1 when a promise did not hold. Each part is a module
with ``run(arguments) -> rows``; ``python -m tests.proof PART --help`` tells its options.
"""

from __future__ import annotations

import sys
from importlib import import_module

from tests.proof.table import Row, render

PARTS = {
    "killed": "tests.proof.killed",
    "failing": "tests.proof.failing",
    "walk": "tests.proof.walk",
    "hostile": "tests.proof.hostile",
}


def main(arguments: list[str]) -> int:
    """Run the part that is named, or all; return the exit code."""
    name, *options = arguments or [""]
    if name and name not in PARTS:
        print(f"no such part: {name}; there are: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for part in [name] if name else PARTS:
        rows += import_module(PARTS[part]).run(options)
    print(render(rows))
    return 1 if any(row.failures for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
