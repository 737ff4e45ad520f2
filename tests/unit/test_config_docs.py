"""The reference page and the reader say the same."""

import json
import re
from pathlib import Path

import pytest

from libgitopper.config import keys
from libgitopper.config.api import API_KEYS, PLUGINS, WEBHOOK_KEYS
from libgitopper.safeguards import Check, Health

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "config.md").read_text()
EXAMPLE = (ROOT / "examples" / "gitopper.toml").read_text()
ROW = re.compile(
    r"^\| `(?P<name>\w+)` \| (?P<kind>[^|]+?) \| (?P<default>[^|]+?) \| (?P<meaning>[^|]+?) \|$"
)

SHARED_SAFEGUARDS = (keys.VERIFY, keys.NO_REWIND, keys.DRIFT, keys.WINDOW)
OWN_SAFEGUARDS = (keys.CHECK, keys.HEALTH, keys.AFTER)

TABLES = {
    "`[global]` and `[[services]]`": tuple(k for k in keys.DEFAULT_KEYS if k not in SHARED_SAFEGUARDS),
    "`[global]` only": (keys.FETCH_USER,),
    "`[[services]]` only": tuple(k for k in keys.OWN_KEYS if k not in OWN_SAFEGUARDS),
    "An entry of `dirs`": keys.DIR_KEYS,
    "`verify`, `no_rewind`, `drift` and `window`": SHARED_SAFEGUARDS,
    "`check`, `health` and `after`": OWN_SAFEGUARDS,
    "A table for `check`": keys.INNER[keys.CHECK],
    "The table for `health`": keys.INNER[keys.HEALTH],
    "The table for `verify`": keys.INNER[keys.VERIFY],
    "`[api]`": API_KEYS,
    "`[auth]`": (PLUGINS,),
    "`[[webhooks]]`": WEBHOOK_KEYS,
}


def rows(heading: str) -> dict[str, re.Match[str]]:
    """Return the rows of the table below a heading, by key."""
    section = PAGE.split(f"\n### {heading}\n")[1].split("\n#")[0]
    return {row["name"]: row for line in section.splitlines() if (row := ROW.match(line))}


@pytest.mark.parametrize("heading", TABLES)
def test_the_page_has_every_key_and_no_other(heading: str) -> None:
    assert list(rows(heading)) == [key.name for key in TABLES[heading]]


@pytest.mark.parametrize("heading", TABLES)
def test_the_page_has_type_and_default_of_every_key(heading: str) -> None:
    for key in TABLES[heading]:
        row = rows(heading)[key.name]
        assert row["kind"] == key.kind
        if key.default is not None:
            assert row["default"] == f"`{json.dumps(key.default)}`"
        else:
            assert (row["default"] == "required") == bool(key.example)


def test_the_example_shows_every_key() -> None:
    own = {key for heading, table in TABLES.items() if "auth" not in heading for key in table}
    shown = set(re.findall(r"\b(\w+) *=", EXAMPLE))
    assert {key.name for key in own - set(WEBHOOK_KEYS)} <= shown


def test_every_default_can_be_read() -> None:
    for key in (key for table in TABLES.values() for key in table):
        if key.default is not None:
            assert key.default_value is not None


def test_the_page_names_every_type() -> None:
    kinds = {key.kind for table in TABLES.values() for key in table}
    described = set(re.findall(r"^\*\*(.+?)\*\*", PAGE, re.MULTILINE))
    assert kinds <= described


def test_every_action_of_systemd_is_on_the_page() -> None:
    assert all(f"`{action}`" in PAGE for action in keys.SYSTEMD_ACTIONS)


def test_a_table_without_its_optional_keys_means_what_the_model_says() -> None:
    """The page has the defaults of the keys; a value that is made without them has the same."""
    check = keys.CHECK.parse({"command": ["true"]})
    assert check == Check(commands=(("true",),)) == keys.CHECK.parse(["true"])
    assert keys.HEALTH.parse({"unit": True}) == Health(unit=True)
