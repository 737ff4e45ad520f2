"""The catalogue of proofs: ``python -m tests.proof [PART [OPTIONS]]`` prints a table of what was tried.

Without a part, all of them run, with the options that they have by default. The exit code is 1 when a
promise did not hold. Each part is a module with ``run(arguments) -> rows``; ``python -m tests.proof PART
--help`` tells its options.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from importlib import import_module

from tests.proof.table import Row, render

PARTS = {
    "killed": "tests.proof.killed",
    "failing": "tests.proof.failing",
    "walk": "tests.proof.walk",
    "hostile": "tests.proof.hostile",
    "long": "tests.proof.long",
}
LASTS = {
    "killed": "about half an hour on two cores; --spread N tries N points of each case",
    "failing": "about an hour on two cores; --spread N tries N faults of each scene",
    "walk": "as long as --seconds, ten minutes by default",
    "hostile": "some minutes, and the fuzzer as long as --seconds",
    "long": "as long as --minutes, ten by default, and the fetches; --services, --upstreams, --rate",
}
"""How long each part takes with the options that it has by default, and what makes it shorter."""


def main(arguments: list[str]) -> int:
    """Run the part that is named, or all; return the exit code."""
    name, *options = arguments or [""]
    if name in {"-h", "--help"}:
        print(_help())
        return 0
    if name and name not in PARTS:
        print(f"no such part: {name}; there are: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for part in [name] if name else PARTS:
        rows += _run(part, options)
    print(render(rows))
    return 1 if any(row.failures for row in rows) else 0


def _run(part: str, options: Sequence[str]) -> Sequence[Row]:
    """Run one part; where it can't be run to its end, that is a failure, and the others go on."""
    began = time.monotonic()
    print(f"{part}: {LASTS.get(part, '')}", file=sys.stderr, flush=True)
    try:
        rows: Sequence[Row] = import_module(PARTS[part]).run(options)
    except Exception:  # noqa: BLE001 - it is told, in the table
        row = Row(
            part=part, case="(came to no end)", points=0, promises=0, failures=[traceback.format_exc()]
        )
        rows = [row]
    print(f"{part}: done in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return rows


def _help() -> str:
    width = max(map(len, PARTS))
    lines = [f"  {name.ljust(width)}  {LASTS.get(name, '')}" for name in PARTS]
    return "\n".join([__doc__.strip(), "", "parts, and how long they take:", *lines])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
