"""Indexing packs: the first look into what an upstream sent, so nothing about it is trusted.

What would take much memory or time is indexed by another process, which has a limit of both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dulwich.object_format import DEFAULT_OBJECT_FORMAT
from dulwich.pack import PackData, UnresolvedDeltas, write_pack_index_v2

from gitopper_plugins.dulwich.failures import GarbledError
from gitopper_plugins.dulwich.packentry import DamagedError, weight
from gitopper_plugins.dulwich.pkt import readable
from gitopper_plugins.dulwich.transport import git_environment

if TYPE_CHECKING:
    from libgitopper import Limits

__all__ = [
    "FILES_IN_MEMORY", "INDEX_MEMORY_BYTES", "UNPACKED_BYTES", "by_git", "index", "index_pack", "is_light",
    "memory_of", "run_indexer", "too_little", "too_slow", "write_index",
]  # fmt: skip

# Above this, indexing is left to git, or to a process of its own: it would hold up our threads.
LARGE_BYTES = 512 * 1024
UNPACKED_BYTES = 8 * 1024 * 1024
"""The same, for what a pack stands for when it is unpacked."""
INDEX_MEMORY_BYTES = 256 * 1024 * 1024
"""What indexing may take beside the files of a pack: git needs less than 100 bytes for each object."""
FILES_IN_MEMORY = 4
"""A delta, its base, and what they make; and one to spare."""
# Larger files are hashed without being held in memory, unless they are deltas.
# No reverse index, by a setting: before 2.31 git had none, and does not know the option against it.
_GIT_SETTINGS = (
    "core.bigFileThreshold=16m", "core.deltaBaseCacheLimit=32m", "pack.threads=2",
    "pack.writeReverseIndex=false",
)  # fmt: skip


def index(pack: Path, limits: Limits, timeout_seconds: float) -> None:
    """See `exchange.Reader`."""
    with pack.open("rb") as file:
        light = is_light(file)
    if light:
        index_pack(pack)
    else:
        argv = [sys.executable, "-I", "-m", "gitopper_plugins.dulwich.indexing", str(pack)]
        argv = by_git(str(pack), str(pack.with_suffix(".idx"))) or argv
        run_indexer(argv, memory_of(limits), timeout_seconds)


def memory_of(limits: Limits) -> int:
    """How much memory the indexing of a pack may take, in bytes."""
    return INDEX_MEMORY_BYTES + FILES_IN_MEMORY * limits.file_bytes


def is_light(file: BinaryIO) -> bool:
    """True when indexing takes so little that it needs no process of its own.

    Raises:
        GarbledError: it is no sound pack.
    """
    if os.fstat(file.fileno()).st_size > LARGE_BYTES:
        return False
    try:
        return weight(file.read(), UNPACKED_BYTES) <= UNPACKED_BYTES
    except DamagedError as exc:
        raise GarbledError(f"the pack is damaged: {exc}") from exc


def index_pack(pack: Path | str, index: Path | str | None = None) -> None:
    """Check `pack` and write its index beside it, or to `index`.

    Raises:
        GarbledError: it is damaged, or needs objects that it does not have.
    """
    try:
        with PackData(pack, DEFAULT_OBJECT_FORMAT) as data:
            data.check()
            rows = data.sorted_entries()
            target = Path(index) if index else Path(pack).with_suffix(".idx")
            write_index(target, rows, data.get_stored_checksum())
    except (AssertionError, ValueError, BufferError, zlib.error, UnresolvedDeltas) as exc:
        raise GarbledError(f"the pack is damaged: {type(exc).__name__}: {exc}") from exc
    except Exception as exc:
        if type(exc).__module__.partition(".")[0] != "dulwich":
            raise
        raise GarbledError(f"the pack is damaged: {type(exc).__name__}: {exc}") from exc


def by_git(pack: str, index: str) -> list[str]:
    """The command that writes the index of `pack` to `index`; empty where there is no git."""
    if git := shutil.which("git"):
        settings = [part for setting in _GIT_SETTINGS for part in ("-c", setting)]
        return [git, *settings, "index-pack", "-o", index, pack]
    return []


def run_indexer(
    argv: Sequence[str],
    memory_bytes: int,
    timeout_seconds: float,
    stdin: BinaryIO | None = None,
    *,
    limited: bool = False,
) -> None:
    """Run a command that indexes a pack; `limited`: this process has the limit of its memory already.

    Raises:
        GarbledError: the pack is damaged, needs objects that it does not have, or takes too much.
    """
    from libgitopper import CommandError, run  # megabytes, for the fetcher

    # In no repository: what it would find above the pack is not for it.
    environment = {**git_environment(), "GIT_DIR": "/dev/null"}
    try:
        done = run(
            argv,
            timeout_seconds=timeout_seconds,
            env=environment,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            memory_bytes=None if limited else memory_bytes,
        )
    except CommandError as exc:
        why = str(exc) if exc.__cause__ else too_slow(timeout_seconds)
        raise GarbledError(f"the pack can't be indexed: {why}") from exc
    if done.code:
        words = done.output.strip().rpartition("\n")[2]
        why = too_little(memory_bytes) if "emory" in words else readable(words)
        raise GarbledError(f"the pack can't be indexed: {why or f'exit code {done.code}'}")


def too_slow(seconds: float) -> str:
    """Say that the time was over."""
    return f"{seconds:g} s are not enough for it; see `timeout`"


def too_little(memory_bytes: int) -> str:
    """Say that the memory was used up."""
    return f"{memory_bytes >> 20} MiB of memory are not enough for it"


def write_index(index: Path, rows: Sequence[tuple[bytes, int, int | None]], checksum: bytes) -> None:
    """Write the index of a pack, and bring it to the disk."""
    with index.open("wb") as file:
        write_pack_index_v2(file, rows, checksum)
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    index_pack(sys.argv[1])
