"""A program that keeps one store by the library alone: one fetch for each line on its input."""

from __future__ import annotations

import sys
from pathlib import Path

from libgitopper import Credentials, FetchRequest, load_plugins


def main(url: str, stores: str) -> None:
    """Say that all is loaded; then fetch, and say that it is done, until the input ends."""
    hooks = load_plugins()
    request = FetchRequest(
        upstream=url,
        credentials=Credentials(),
        branches=frozenset({"main"}),
        stores=Path(stores),
        timeout_seconds=3600,
    )
    print("done", flush=True)
    for _ in sys.stdin:
        hooks.fetch(request)
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
