"""Whatever stands at a key, the answer is a configuration or a ConfigError, never another exception."""

from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from libgitopper.config import keys
from libgitopper.config.reading import Key
from tests.support.configvalues import VALUES, parse, toml, well_said


def names(table: Iterable[Key[Any]]) -> st.SearchStrategy[str]:
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


@settings(max_examples=250, deadline=None)
@given(DOCUMENT, st.booleans())
def test_any_document_is_a_configuration_or_a_config_error(document: dict[str, object], root: bool) -> None:
    text = "\n".join(f"{toml(name)} = {toml(value)}" for name, value in document.items())
    answer = parse(text, root=root)
    assert well_said(answer)
    assert "not valid TOML" not in str(answer), "the test wrote bad TOML, and judged nothing"


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(keys.SERVICE_KEYS), VALUES, st.sampled_from(["global", "services"]))
def test_any_value_at_any_key_is_a_configuration_or_a_config_error(
    key: Key[Any], value: object, table: str
) -> None:
    service: dict[str, object] = {
        "machine": "*",
        "service": "nginx",
        "dirs": [{"local": "/etc/nginx", "link": "nginx"}],
    }
    defaults: dict[str, object] = {"upstream": "https://git.example.net/x"}
    (service if table == "services" else defaults)[key.name] = value
    answer = parse(f"global = {toml(defaults)}\nservices = [{toml(service)}]")
    assert well_said(answer)
    assert "not valid TOML" not in str(answer)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    assert well_said(parse(text))
