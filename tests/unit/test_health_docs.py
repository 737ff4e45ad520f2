"""What the pages on health and windows tell to write can be written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from libgitopper import load_config

PAGES = Path(__file__).parents[2] / "docs" / "howto"
GLOBAL = '[global]\nupstream = "https://git.example.net/fleet.git"\nmount = "/var/lib/gitopper"\n'
BLOCKS = [
    (page, block)
    for page in ("health.md", "windows.md")
    for block in re.findall(r"```toml\n(.*?)```", (PAGES / page).read_text(), re.DOTALL)
]


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_each_configuration_of_the_pages_can_be_used(tmp_path: Path, page: str, block: str) -> None:
    file = tmp_path / "gitopper.toml"
    file.write_text(GLOBAL + block)
    hosts = set(re.findall(r'machine = "(.*)"', block))
    (service,) = load_config(file, hosts=hosts, root=True, environ={}).services
    assert service.health or service.windows


def test_there_are_such_configurations_on_both_pages() -> None:
    assert {page for page, _ in BLOCKS} == {"health.md", "windows.md"}
