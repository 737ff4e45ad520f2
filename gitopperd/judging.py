"""What makes a configuration unfit for this daemon although the file itself has no mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from gitopperd.listen import Address, ExposedError, check_exposure
from gitopperd.tls import TlsError, TlsFiles, load
from libgitopper import Api, Config, ConfigError, ConfigProblem

__all__ = ["judged"]


def judged(
    read: Callable[[Path], Config], address_of: Callable[[Config], Address]
) -> Callable[[Path], Config]:
    """Return `read`, made to refuse a configuration that the next start of the daemon would fail on.

    It raises `ConfigError` for these, too. A running daemon that took such a one would work on until
    it is started again, and be gone then.
    """

    def read_and_judge(path: Path) -> Config:
        config = read(path)
        if problems := tuple(_problems(address_of(config), config.api)):
            raise ConfigError(str(path), problems)
        return config

    return read_and_judge


def _problems(address: Address, api: Api) -> Iterator[ConfigProblem]:
    try:
        check_exposure(address, api)
    except ExposedError as exc:
        yield ConfigProblem(path="api.listen", message=str(exc))
    try:
        if files := TlsFiles.of(api):
            load(files)
    except TlsError as exc:
        yield ConfigProblem(path="api.certificate", message=str(exc))
