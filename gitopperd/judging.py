"""What makes a configuration unfit for this daemon although the file itself has no mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from attrs import evolve

from gitopperd.listen import Address, ExposedError, check_exposure
from gitopperd.tls import TlsError, TlsFiles, load
from libgitopper import Config, ConfigError, ConfigProblem

__all__ = ["Judge", "Place", "judge_with", "judged"]

Place: TypeAlias = Callable[[Path], Path]
"""Where to find, while a configuration is judged, a file that it names."""
Judge: TypeAlias = Callable[[Config, Place], tuple[ConfigProblem, ...]]


def judge_with(address_of: Callable[[Config], Address]) -> Judge:
    """Return what finds the problems that the next start of the daemon would fail on.

    A running daemon that took such a configuration would work on until it is started again, and be
    gone then.
    """

    def judge(config: Config, place: Place) -> tuple[ConfigProblem, ...]:
        return tuple(_problems(config, address_of(config), place))

    return judge


def judged(read: Callable[[Path], Config], judge: Judge) -> Callable[[Path], Config]:
    """Return `read`, made to refuse with `ConfigError` what `judge` finds a problem with, too."""

    def read_and_judge(path: Path) -> Config:
        config = read(path)
        if problems := judge(config, lambda named: named):
            raise ConfigError(str(path), problems)
        return config

    return read_and_judge


def _problems(config: Config, address: Address, place: Place) -> Iterator[ConfigProblem]:
    try:
        check_exposure(address, config.api)
    except ExposedError as exc:
        yield ConfigProblem(path="api.listen", message=str(exc))
    try:
        if files := TlsFiles.of(config.api):
            authorities = place(files.client_ca) if files.client_ca else None
            load(
                evolve(
                    files,
                    certificate=place(files.certificate),
                    key=place(files.key),
                    client_ca=authorities,
                )
            )
    except TlsError as exc:
        yield ConfigProblem(path="api.certificate", message=str(exc))
