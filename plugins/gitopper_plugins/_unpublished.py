"""The program that runs a package manager where nothing is published.

    python -I -m gitopper_plugins._unpublished [--keep PATH]... [--scratch DIRECTORY]... -- COMMAND...

A package brings files of its own for ``/etc/app``. They belong into the host's directory, which a
publication of ours covers, maybe read-only; in a release they would be drift. So COMMAND gets a mount
namespace of its own, in which every mount of a release is gone, but for those at or below a ``--keep``: the
package manager's own settings may come from a release. Where a release is shown by symlink there is
nothing below it, so each ``--scratch`` directory of releases takes what is written, and forgets it.

Nothing is mounted or unmounted on the host, and what is published there meanwhile does not arrive here.
What systemd starts for the package is not in this namespace. The exit code is that of COMMAND; or 125, or
127 where it can't be started.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gitopper_plugins import mountapi
from gitopper_plugins._mountinfo import Mount, MountTable, parse

__all__ = ["REFUSED", "REFUSED_WORDS", "command"]

REFUSED = 125
"""Exit code when there can be no such namespace; `REFUSED_WORDS` stand before the reason."""
UNSTARTABLE = 127
REFUSED_WORDS = "no view of the host without publications:"

SCRATCH_LIMIT_BYTES = 256 * 1024 * 1024


def command(argv: Sequence[str], *, keep: Sequence[Path], scratch: Sequence[Path]) -> tuple[str, ...]:
    """Return the command that runs `argv` where nothing is published."""
    options = [f"--keep={path}" for path in keep] + [f"--scratch={path}" for path in scratch]
    return (sys.executable, "-I", "-m", "gitopper_plugins._unpublished", *options, "--", *argv)


def main(words: Sequence[str]) -> int:
    """Become the command that `words` ask for; return, with an exit code, only when that can't be."""
    split = words.index("--")
    options, argv = [word.partition("=") for word in words[:split]], list(words[split + 1 :])
    keep = [Path(value) for key, _, value in options if key == "--keep"]
    try:
        mountapi.unshare(mountapi.CLONE_NEWNS)
        # Before anything is unmounted: until then this namespace is a peer of the host's.
        mountapi.make_private()
        _unpublish(keep)
        for key, _, value in options:
            if key == "--scratch":
                _give_scratch(Path(value))
    except OSError as exc:
        where = f"{exc.filename}: " if exc.filename else ""
        print(f"{REFUSED_WORDS} {where}{exc.strerror}", file=sys.stderr)  # noqa: T201 - read by who started us
        return REFUSED
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - no shell is what is wanted
    except OSError as exc:
        print(f"{argv[0]}: can't be started: {exc.strerror}", file=sys.stderr)  # noqa: T201 - as above
        return UNSTARTABLE


def _unpublish(keep: Sequence[Path]) -> None:
    """Detach the mounts of releases, also where several stand on one another."""
    mounts = parse(Path("/proc/self/mountinfo").read_bytes())
    table = MountTable(mounts)
    for mount in reversed(mounts.values()):
        point = Path(mount.point)
        kept = any(point.is_relative_to(path) for path in keep)
        if _is_release(mount) and not kept and _is_visible(mount, table):
            mountapi.detach(point)


def _is_release(mount: Mount) -> bool:
    return "/.gitopper/releases/" in mount.root


def _is_visible(mount: Mount, table: MountTable) -> bool:
    """Tell whether nothing covers the mount; else it would be that which is detached."""
    try:
        return table.of(Path(mount.point)).id == mount.id
    except OSError:
        return False


def _give_scratch(releases: Path) -> None:
    """Let what is written below `releases` go to memory, and with this namespace."""
    if not releases.is_dir():
        return
    lower = os.open(releases, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    scratch = mountapi.new_tmpfs(size_bytes=SCRATCH_LIMIT_BYTES, mode=0o755, about=releases)
    # An overlay takes only what is mounted here: so on the very place that it is for, and then over that.
    mountapi.attach(scratch, releases)
    for name in ("upper", "work"):
        os.mkdir(name, 0o755, dir_fd=scratch)
    inside = f"/proc/self/fd/{scratch}"
    overlay = mountapi.new_overlay(
        lower=f"/proc/self/fd/{lower}", upper=f"{inside}/upper", work=f"{inside}/work", about=releases
    )
    mountapi.attach(overlay, releases)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
