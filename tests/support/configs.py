"""Texts of configurations, and what is said of their mistakes."""

import pytest

from libgitopper import ConfigError
from libgitopper.config import parse_config

__all__ = ["GLOBAL", "mapped", "problems", "service"]

GLOBAL = '[global]\nupstream = "https://git.example.net/config.git"\n'
DIRS = 'dirs = [{ local = "/etc/nginx", link = "nginx" }]'


def problems(text: str, *, hosts: frozenset[str] = frozenset({"web1"}), **more) -> list[tuple[str, str]]:
    """Return path and message of each mistake in `text`."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, origin="gitopper.toml", hosts=hosts, root=True, environ={}, **more)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def service(*lines: str, dirs: str = DIRS, name: str = "nginx", machine: str = "web1") -> str:
    """An entry of a service; `dirs` is its last line."""
    head = f'[[services]]\nmachine = "{machine}"\nservice = "{name}"\n'
    return head + "\n".join((*lines, dirs)) + "\n"


def mapped(*locals_: str) -> str:
    """The line that maps each of `locals_`."""
    return "dirs = [" + ", ".join(f'{{ local = "{path}", link = "x" }}' for path in locals_) + "]"
