"""Whether a file has changed, for ``-r``: looked at every second, for Python has no inotify."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from gitopperd.work.threads import Threads

__all__ = ["FileWatch"]

LOOK_SECONDS = 1.0

Signature: TypeAlias = tuple[int, int, int, int, int]


class FileWatch:
    """Notices that the file at a path is another one, or has other content.

    A change counts when two looks in a row find the same: a file that is being written is left
    alone. A file that is gone is no change: many programs write by removing first.
    """

    def __init__(self, path: Path) -> None:
        """Take what is there now as known. Make it before the file is read for the first time."""
        self._path = path
        self._known = self._last = _signature(path)

    def look(self) -> bool:
        """Look once; True when there is a change. Blocks, as long as the file system does."""
        now = _signature(self._path)
        before, self._last = self._last, now
        if now is None or now != before or now == self._known:
            return False
        self._known = now
        return True

    async def run(self, threads: Threads, on_change: Callable[[], None]) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if await threads.answer(self.look):
                on_change()


def _signature(path: Path) -> Signature | None:
    """What tells one state of a file from another; symlinks are followed. None: it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
