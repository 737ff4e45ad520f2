"""Values of every kind that a configuration may hold, or not, and how it is written down and read."""

import datetime
import json

from hypothesis import strategies as st

from libgitopper import Config, ConfigError
from libgitopper.config import parse_config

__all__ = ["VALUES", "parse", "toml", "well_said"]

SCALARS = (
    st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63 - 1)
    | st.floats()
    | st.text(max_size=30)
    | st.datetimes(min_value=datetime.datetime(1000, 1, 1))
    | st.dates(min_value=datetime.date(1000, 1, 1))
    | st.sampled_from(
        ["https://a:b@h/x", "/etc/x", "git@h:x", "1h", "main", "", "bind", "command", "nginx"]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def toml(value: object) -> str:
    """Write a value as inline TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(name)} = {toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, datetime.date):
        return value.isoformat()
    return str(value)


def parse(text: str, *, root: bool = True) -> Config | ConfigError:
    """Read a configuration; return what is wrong with it where something is."""
    try:
        return parse_config(text, origin="x", hosts={"web1"}, root=root, environ={"HOME": "/h"})
    except ConfigError as exc:
        return exc


def well_said(answer: Config | ConfigError) -> bool:
    """Tell whether there is a configuration, or at least one problem, each of one printable line."""
    if isinstance(answer, Config):
        return True
    return bool(answer.problems) and all(str(problem).isprintable() for problem in answer.problems)
