"""The program on the page about the library runs as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import libgitopper
from tests.support.upstream import Upstream

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "library.md"


def test_the_program_works_as_it_is_written(tmp_path: Path) -> None:
    upstream = Upstream.create(tmp_path / "upstreams")
    first = upstream.commit({"motd/etc/message": "one\n"})
    second = upstream.commit({"motd/etc/message": "two\n"})
    [program] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    url = "https://git.example.net/fleet.git"
    assert url in program
    done = subprocess.run(
        [sys.executable, "-c", program.replace(url, upstream.url)],
        env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"deployed {second[:12]} - first deploy" in done.stdout
    assert f"rolled back to {first[:12]}" in done.stdout
    assert "-one\n+two\n" in done.stdout
    assert "behind by 1" in done.stdout
    assert (tmp_path / "library-example/etc/motd/message").read_text() == "one\n"


def test_what_it_names_is_exported() -> None:
    names = re.findall(r"^\| `(\w+)\(", PAGE.read_text(), re.MULTILINE)
    assert len(names) > 5
    assert set(names) <= set(libgitopper.__all__)
