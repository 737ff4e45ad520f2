"""Whatever stands at a key, the answer is a configuration or a ConfigError, never another exception."""

import datetime
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from libgitopper import Config, ConfigError
from libgitopper.config import keys, parse_config

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


def names(table) -> st.SearchStrategy[str]:
    return st.sampled_from([key.name for key in table]) | st.text(max_size=8)


DIR = st.dictionaries(names(keys.DIR_KEYS), VALUES, max_size=4)
SERVICE = st.fixed_dictionaries(
    {},
    optional={key.name: VALUES for key in keys.SERVICE_KEYS}
    | {"dirs": st.lists(DIR | VALUES, max_size=3) | VALUES, "service": st.just("nginx") | VALUES},
)
DOCUMENT = st.fixed_dictionaries(
    {},
    optional={
        "global": st.dictionaries(names(keys.DEFAULT_KEYS), VALUES, max_size=5) | VALUES,
        "services": st.lists(SERVICE, max_size=3) | VALUES,
        "other": VALUES,
    },
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
    try:
        return parse_config(text, origin="x", hosts={"web1"}, root=root, environ={"HOME": "/h"})
    except ConfigError as exc:
        return exc


def well_said(answer: Config | ConfigError) -> bool:
    """Tell whether there is a configuration, or at least one problem, each of one printable line."""
    if isinstance(answer, Config):
        return True
    return bool(answer.problems) and all(str(problem).isprintable() for problem in answer.problems)


@settings(max_examples=250, deadline=None)
@given(DOCUMENT, st.booleans())
def test_any_document_is_a_configuration_or_a_config_error(document, root):
    text = "\n".join(f"{toml(name)} = {toml(value)}" for name, value in document.items())
    answer = parse(text, root=root)
    assert well_said(answer)
    assert "not valid TOML" not in str(answer), "the test wrote bad TOML, and judged nothing"


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(keys.SERVICE_KEYS), VALUES, st.sampled_from(["global", "services"]))
def test_any_value_at_any_key_is_a_configuration_or_a_config_error(key, value, table):
    service = {"machine": "*", "service": "nginx", "dirs": [{"local": "/etc/nginx", "link": "nginx"}]}
    defaults = {"upstream": "https://git.example.net/x"}
    (service if table == "services" else defaults)[key.name] = value
    answer = parse(f"global = {toml(defaults)}\nservices = [{toml(service)}]")
    assert well_said(answer)
    assert "not valid TOML" not in str(answer)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_configuration_or_a_config_error(text):
    assert well_said(parse(text))
