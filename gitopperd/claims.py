"""The directories that this daemon alone works in. Two that share one would undo each other's work."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from gitopper_plugins._place import open_to
from libgitopper import Config, ConfigError, ConfigProblem, StateError, make_directory

__all__ = ["Claims", "lock"]

log = logging.getLogger(__name__)

_NAME = "lock"


class Claims:
    """Holds a lock in each directory, from when it is claimed until the end of the ``with`` block.

    The kernel lets go of a lock when the process ends, however it does, so none is ever stale.
    """

    def __init__(self) -> None:
        self._held = contextlib.ExitStack()
        self._mounts: set[Path] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def claim_state(self, directory: Path) -> None:
        """Make and claim the state directory.

        Raises:
            StateError: another daemon has it, or it can't be made or written.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._held.callback(os.close, lock(directory / _NAME))
        except BlockingIOError:
            raise StateError(
                f"{directory}: another gitopperd uses it; stop that one, or name another --state-dir"
            ) from None
        except OSError as exc:
            raise StateError(f"{directory}: {exc.strerror or exc}; name another --state-dir") from exc

    def claim_mounts(self, config: Config) -> Config:
        """Claim each `mount` of `config`, and return it. One that is in use no more stays claimed.

        Where a lock can't be made, as on a disk that is full, that is logged and nothing else: what the
        services have there must not depend on it.

        Raises:
            ConfigError: another daemon has one of them; no other was claimed.
        """
        mounts = _mounts(config) - self._mounts
        with contextlib.ExitStack() as claimed:
            for mount in sorted(mounts):
                self._claim_mount(claimed, mount, config.origin)
            self._held.push(claimed.pop_all())
        self._mounts |= mounts
        return config

    def _claim_mount(self, claimed: contextlib.ExitStack, mount: Path, origin: Path) -> None:
        ours = mount / ".gitopper"
        try:
            make_directory(ours)
            claimed.callback(os.close, lock(ours / _NAME))
            if trouble := open_to(ours):
                log.warning(
                    "%s, and so put other files in the place of those that services get from %s; let nobody"
                    " else write there", trouble, mount,
                )  # fmt: skip
        except BlockingIOError:
            message = f"{mount}: another gitopperd keeps its releases there; stop that one, or name another"
            raise ConfigError(str(origin), (ConfigProblem(path="mount", message=message),)) from None
        except OSError as exc:
            log.warning("%s: %s; nothing keeps another gitopperd from it", ours / _NAME, exc.strerror)


def _mounts(config: Config) -> set[Path]:
    """Return every `mount` that something of `config` is kept below; none where it has no services."""
    followed = [service for service in config.services if service is not config.own]
    stores = {config.mount} if followed else set()
    return stores | {service.mount for service in config.services}


def lock(path: Path) -> int:
    """Return a descriptor of the file at `path`, made if need be, that holds its lock.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it can't be made.
    """
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(held)
        raise
    return held
