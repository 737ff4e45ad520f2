"""What makes a configuration unfit for this daemon although the file itself has no mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gitopperd.listener.listen import Address, ExposedError, check_exposure
from libgitopper import Config, ConfigError, ConfigProblem, Hooks

__all__ = ["judged", "require_plugins"]


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


def require_plugins(config: Config, origin: Path, hooks: Hooks) -> None:
    """Refuse with `ConfigError` services whose `publish` or `reload` names no plugin that is installed.

    Only for those who ask beforehand: the daemon starts without such a plugin, shows the service as BROKEN,
    and goes on with the others.
    """
    problems = []
    for service in config.services:
        for setting, hook in (("publish", "gitopper_mount"), ("reload", "gitopper_reload")):
            named = getattr(service, setting)
            if named not in hooks.doing(hook):
                message = f"{setting} = {named!r}: no such plugin; installed: {hooks.tell_doing(hook)}"
                problems.append(ConfigProblem(path=f"service {service.name}", message=message))
    if problems:
        raise ConfigError(str(origin), tuple(problems))
