"""A program that reads directories over and over, as a service might, and tells what it found.

    python -m tests.support.reader DIRECTORY...

All files of a directory are to hold one and the same text, another one in each release. It reads in two
ways: from a directory that it opens once, where all files must agree; and each file by its path, where
none may be missing, and no text may come back that another one had replaced. It reads until the end of
its input, and then prints one object: faults, rounds, texts. It needs the standard library alone.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time

MOST_FAULTS = 5
PAUSE_SECONDS = 0.0005
"""Between two rounds: on a machine with two processors the daemon should have its turn."""


class Directory:
    """One directory, with the names that it had at first: they are to stay."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.names = names_of(path)
        self.latest: dict[str, str] = {}
        self.past: dict[str, set[str]] = {name: set() for name in self.names}
        self.texts: set[str] = set()

    def round(self) -> list[str]:
        """Read all, in both ways; return what is wrong."""
        try:
            return [*self._by_handle(), *self._by_path()]
        except OSError as exc:
            return [f"{self.path}: {exc!r}"]

    def _by_handle(self) -> list[str]:
        opened = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            texts = {read(name, opened) for name in self.names}
        finally:
            os.close(opened)
        self.texts |= texts
        return [f"{self.path}: mixed: {sorted(texts)}"] if len(texts) != 1 else []

    def _by_path(self) -> list[str]:
        faults = []
        for name in self.names:
            text = read(f"{self.path}/{name}", None)
            if text in self.past[name]:
                faults.append(f"{self.path}/{name}: {text!r} came back after {self.latest[name]!r}")
            if text != self.latest.get(name, text):
                self.past[name].add(self.latest[name])
            self.latest[name] = text
        return faults


def names_of(path: str) -> list[str]:
    """Return every file below `path`, relative to it; a failure to read is an error, not an empty list."""
    found = []
    for directory, _, files in os.walk(path, onerror=_raise):
        found += [os.path.relpath(f"{directory}/{name}", path) for name in files]
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def read(name: str, directory: int | None) -> str:
    """Return the text of one file."""
    opened = os.open(name, os.O_RDONLY, dir_fd=directory)
    try:
        return os.read(opened, 4096).decode()
    finally:
        os.close(opened)


def main(paths: list[str]) -> None:
    """Read until the end of the input."""
    directories = [Directory(path) for path in paths]
    faults = [f"{d.path} has no files" for d in directories if not d.names]
    rounds = 0
    while True:
        for directory in directories:
            faults += directory.round()
        rounds += 1
        if rounds == 1:
            print("reading", flush=True)
        if select.select([sys.stdin], [], [], 0)[0]:
            break
        time.sleep(PAUSE_SECONDS)
    texts = len(set().union(*(directory.texts for directory in directories)))
    print(json.dumps({"faults": faults[:MOST_FAULTS], "rounds": rounds, "texts": texts}))


if __name__ == "__main__":
    main(sys.argv[1:])
