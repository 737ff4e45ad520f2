"""What makes a configuration unfit for this daemon although the file itself has no mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gitopperd.listener.listen import Address, ExposedError, check_exposure
from libgitopper import Config, ConfigError, ConfigProblem

__all__ = ["judged"]


def judged(
    read: Callable[[Path], Config], address_of: Callable[[Config], Address]
) -> Callable[[Path], Config]:
    """Return `read`, made to refuse with `ConfigError` what the next start of the daemon would refuse.

    A running daemon that took it would work on until it is started again, and be gone then. A certificate
    that can't be used is no such thing: the daemon starts without it, and takes it once it is good.
    """

    def read_and_judge(path: Path) -> Config:
        config = read(path)
        try:
            check_exposure(address_of(config), config.api)
        except ExposedError as exc:
            problem = ConfigProblem(path="api.listen", message=str(exc))
            raise ConfigError(str(path), (problem,)) from exc
        return config

    return read_and_judge
