"""The reference page and the reader say the same."""

import json
import re
from pathlib import Path

import pytest

from libgitopper.config import keys
from libgitopper.config.api import API_KEYS, PLUGINS, WEBHOOK_KEYS

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "config.md").read_text()
ROW = re.compile(
    r"^\| `(?P<name>\w+)` \| (?P<kind>[^|]+?) \| (?P<default>[^|]+?) \| (?P<meaning>[^|]+?) \|$"
)

TABLES = {
    "`[global]` and `[[services]]`": keys.DEFAULT_KEYS,
    "`[[services]]` only": (keys.MACHINE, keys.SERVICE, keys.PACKAGE, keys.DIRS),
    "An entry of `dirs`": keys.DIR_KEYS,
    "`[api]`": API_KEYS,
    "`[auth]`": (PLUGINS,),
    "`[[webhooks]]`": WEBHOOK_KEYS,
}


def rows(heading: str) -> dict[str, re.Match[str]]:
    """Return the rows of the table below a heading, by key."""
    section = PAGE.split(f"\n### {heading}\n")[1].split("\n#")[0]
    return {row["name"]: row for line in section.splitlines() if (row := ROW.match(line))}


@pytest.mark.parametrize("heading", TABLES)
def test_the_page_has_every_key_and_no_other(heading):
    assert list(rows(heading)) == [key.name for key in TABLES[heading]]


@pytest.mark.parametrize("heading", TABLES)
def test_the_page_has_type_and_default_of_every_key(heading):
    for key in TABLES[heading]:
        row = rows(heading)[key.name]
        assert row["kind"] == key.kind
        if key.default is not None:
            assert row["default"] == f"`{json.dumps(key.default)}`"
        else:
            assert (row["default"] == "required") == bool(key.example)


def test_every_default_can_be_read():
    for key in keys.SERVICE_KEYS + keys.DIR_KEYS:
        if key.default is not None:
            assert key.default_value is not None


def test_the_page_names_every_type():
    kinds = {key.kind for table in TABLES.values() for key in table}
    described = set(re.findall(r"^\*\*(.+?)\*\*", PAGE, re.MULTILINE))
    assert kinds <= described


def test_every_action_of_systemd_is_on_the_page():
    assert all(f"`{action}`" in PAGE for action in keys.SYSTEMD_ACTIONS)
