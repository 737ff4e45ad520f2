"""A program that reads files over and over, and tells every text that it ever saw in each, and when.

    python -m tests.support.sightings DIRECTORY...

It reads until the end of its input, and then prints one object: path -> [[text, first, last], …] in the
order of their first sight; times are those of the monotonic clock in seconds, and `missing` as a text
stands for a file that could not be read. It needs the standard library alone.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time

PAUSE_SECONDS = 0.0005
MISSING = "missing"


def main() -> None:
    """Read until told to end."""
    seen: dict[str, dict[str, list[float]]] = {}
    told = False
    while not select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
        for directory in sys.argv[1:]:
            look(directory, seen)
        if not told:
            print("reading", flush=True)
            told = True
    print(
        json.dumps({path: [[text, *span] for text, span in texts.items()] for path, texts in seen.items()})
    )


def look(directory: str, seen: dict[str, dict[str, list[float]]]) -> None:
    """Read every file of `directory`, and every one that was there before."""
    paths = {path for path in seen if path.startswith(f"{directory}/")}
    for top, _, names in os.walk(directory):
        paths |= {f"{top}/{name}" for name in names}
    for path in paths:
        try:
            with open(path) as file:  # noqa: PTH123 - quick
                text = file.read()
        except OSError:
            text = MISSING
        now = time.monotonic()
        seen.setdefault(path, {}).setdefault(text, [now, now])[1] = now


if __name__ == "__main__":
    main()
