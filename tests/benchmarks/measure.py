"""Instruments: what a process and all that it started take, as the kernel counts it.

CPU is read from the CPU clock of each living process, which counts nanoseconds, and from what their
ended and awaited children took, which the kernel shows in ticks of 10 ms.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from attrs import define, field, frozen

__all__ = [
    "Peak", "Spent", "cpu_seconds", "descriptors", "disk_bytes", "family", "peak", "pss_bytes", "rss_bytes",
    "run_and_measure", "settle",
]  # fmt: skip

TICKS = os.sysconf("SC_CLK_TCK")
CPUCLOCK_SCHED = 2
"""The kind of CPU clock in the kernel's encoding of a process's clock: see clock_getcpuclockid(3)."""
BLOCK_BYTES = 512
"""What st_blocks counts in, whatever the file system."""


@frozen(kw_only=True)
class Spent:
    """What a command took, with all the processes that it started and waited for."""

    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int
    """The most that its processes held at a time, shared pages divided among who shares them."""


def family(pid: int) -> list[int]:
    """Return `pid` and its living descendants."""
    children = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            children[int(stat[1])].append(int(entry.name))
    found = [pid]
    for one in found:
        found += children[one]
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU time, user and system, of `pid` and everything that it ever started."""
    return sum(_own_seconds(one) + _reaped_seconds(one) for one in family(pid))


def _own_seconds(pid: int) -> float:
    with contextlib.suppress(OSError):
        return time.clock_gettime_ns((~pid << 3) | CPUCLOCK_SCHED) / 1e9
    return 0.0


def _reaped_seconds(pid: int) -> float:
    stat = _stat(pid)
    return (int(stat[13]) + int(stat[14])) / TICKS if stat else 0.0


def _stat(pid: int) -> list[str]:
    """Return /proc/PID/stat from the third member (the state) on; empty when the process is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def settle(pid: int, *, quiet_seconds: float = 0.3, within_seconds: float = 60) -> float:
    """Wait until `pid` and its descendants do nothing, and return the CPU seconds that they had by then.

    A daemon never does nothing at all: less than a hundredth of a core counts as quiet.
    """
    end = time.monotonic() + within_seconds
    before = cpu_seconds(pid)
    while time.monotonic() < end:
        time.sleep(quiet_seconds)
        now = cpu_seconds(pid)
        if now - before < quiet_seconds / 100:
            return now
        before = now
    raise TimeoutError(f"process {pid} is still busy after {within_seconds} s")


def pss_bytes(pid: int) -> int:
    """Return what `pid` and its living descendants hold; of what is shared, their share."""
    return sum(_rollup_bytes(one) for one in family(pid))


def rss_bytes(pid: int) -> int:
    """Return the same, where what is shared counts in full for each."""
    return sum(_rollup_bytes(one, "Rss:") for one in family(pid))


def descriptors(pid: int) -> int:
    """Return how many file descriptors `pid` and its living descendants have open."""
    return sum(len(list(Path(f"/proc/{one}/fd").iterdir())) for one in family(pid))


def _rollup_bytes(pid: int, what: str = "Pss:") -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(what):
                return int(line.split()[1]) * 1024
    return 0


@define
class Peak:
    """The most memory that was seen so far."""

    bytes: int = 0
    _ended: threading.Event = field(factory=threading.Event)

    def watch(self, pid: int) -> None:
        """Look again and again until told to end."""
        while not self._ended.wait(0.1):
            self.bytes = max(self.bytes, pss_bytes(pid))

    def end(self) -> None:
        """End the watch."""
        self._ended.set()


@contextlib.contextmanager
def peak(pid: int) -> Iterator[Peak]:
    """Watch the memory of `pid` and its descendants, ten times a second, while the block runs."""
    seen = Peak()
    thread = threading.Thread(target=seen.watch, args=(pid,))
    thread.start()
    try:
        yield seen
    finally:
        seen.end()
        thread.join()


def run_and_measure(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: str = "",
    watch_memory: bool = False,
) -> Spent:
    """Run a command to its end.

    Raises:
        subprocess.CalledProcessError: its exit code is not 0.
    """
    begun = time.monotonic()
    process = subprocess.Popen(
        argv, env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stdin is not None
    with peak(process.pid) if watch_memory else contextlib.nullcontext(Peak()) as seen:
        process.stdin.write(stdin)
        process.stdin.close()
        # wait4 and not wait: it brings the usage of just this child and all that it awaited.
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - begun
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(argv))
    held = max(seen.bytes, usage.ru_maxrss * 1024) if watch_memory else 0
    return Spent(cpu_seconds=usage.ru_utime + usage.ru_stime, wall_seconds=wall, peak_bytes=held)


def disk_bytes(directory: Path) -> int:
    """Return what the files and directories below `directory` take on the disk; each file counts once."""
    seen = {}
    for path in (directory, *directory.rglob("*")):
        stat = path.lstat()
        seen[stat.st_dev, stat.st_ino] = stat.st_blocks * BLOCK_BYTES
    return sum(seen.values())
