"""Texts of configurations, and what is said of their mistakes."""

import pytest

from libgitopper import ConfigError, Overrides
from libgitopper.config import parse_config
from libgitopper.model import Service

__all__ = ["GLOBAL", "READY", "entry", "mapped", "problems", "service", "services", "the_service"]

GLOBAL = '[global]\nupstream = "https://git.example.net/config.git"\n'
READY = "http://127.0.0.1:9090/-/ready"
NO_OVERRIDES = Overrides()
DIRS = 'dirs = [{ local = "/etc/nginx", link = "nginx" }]'


def problems(
    text: str, *, hosts: frozenset[str] = frozenset({"web1"}), overrides: Overrides = NO_OVERRIDES
) -> list[tuple[str, str]]:
    """Return path and message of each mistake in `text`."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, origin="gitopper.toml", hosts=hosts, root=True, environ={}, overrides=overrides)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def service(*lines: str, dirs: str = DIRS, name: str = "nginx", machine: str = "web1") -> str:
    """An entry of a service; `dirs` is its last line."""
    head = f'[[services]]\nmachine = "{machine}"\nservice = "{name}"\n'
    return head + "\n".join((*lines, dirs)) + "\n"


def mapped(*locals_: str) -> str:
    """The line that maps each of `locals_`."""
    return "dirs = [" + ", ".join(f'{{ local = "{path}", link = "x" }}' for path in locals_) + "]"


def entry(*lines: str, name: str = "nginx", machine: str = '"web1"') -> str:
    """An entry of a service that has its own directory."""
    more = "\n".join(lines)
    return (
        f'[[services]]\nmachine = {machine}\nservice = "{name}"\n{more}\n'
        f'dirs = [{{ local = "/etc/{name}", link = "{name}" }}]\n'
    )


def services(text: str) -> tuple[Service, ...]:
    """What is configured for this host."""
    return parse_config(text, origin="x", hosts={"web1"}, root=True, environ={}).services


def the_service(*lines: str, defaults: str = "") -> Service:
    """The only service, whose entry has `lines`."""
    (service,) = services(GLOBAL + defaults + "\n" + entry(*lines))
    return service
