"""Somebody who reads a service's files over and over, and tells what a service must never see."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from libgitopper import Service

__all__ = ["reading"]

MOST_FAULTS = 10


@contextlib.contextmanager
def reading(service: Service, names: Sequence[str]) -> Iterator[list[str]]:
    """Read the mappings of `service` all the time, for the time of the block; yield what is wrong.

    Every file of a release holds the same text. A directory that is opened once has files of one release,
    all of `names`; a path is always there. Between two mappings a publisher may need an instant.
    """
    faults: list[str] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set() and len(faults) < MOST_FAULTS:
            for mapping in service.mappings:
                try:
                    texts = {_text(mapping.local, None)} if mapping.file else _texts(mapping.local, names)
                except OSError as exc:
                    faults.append(f"{exc.filename}: {exc.strerror}")
                    continue
                if len(texts) != 1 or "" in texts:
                    faults.append(f"{mapping.local}: {sorted(texts)} at once")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield faults
    finally:
        ended.set()
        reader.join()


def _texts(directory: Path, names: Sequence[str]) -> set[str]:
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return {_text(Path(name), opened) for name in names}
    finally:
        os.close(opened)


def _text(path: Path, directory: int | None) -> str:
    opened = os.open(path, os.O_RDONLY, dir_fd=directory)
    try:
        return os.read(opened, 4096).decode()
    finally:
        os.close(opened)
