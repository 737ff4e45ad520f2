"""The rule of tests/conftest.py: what needs root says so when it is skipped, and in CI nothing is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"


def outcome(directory: Path, source: str, ci: str) -> str:
    """Run a test file under the rule; return what pytest printed."""
    (directory / "conftest.py").write_text(CONFTEST.read_text())
    (directory / "pytest.ini").write_text("[pytest]\nmarkers = root\n")
    (directory / "test_it.py").write_text(f"import os, pytest\nos.geteuid = lambda: 1000\n{source}\n")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "--rootdir", str(directory), "."],
        cwd=directory, env=os.environ | {"CI": ci}, check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return run.stdout


ROOT = "@pytest.mark.root\ndef test_x(): pass"
SKIP = "def test_x(): pytest.skip('no such tool')"
MODULE = "pytest.skip('no such tool', allow_module_level=True)"
KNOWN = "@pytest.mark.xfail(strict=True)\ndef test_x(): assert False"
FINE = "def test_x(): pass"


@pytest.mark.parametrize(
    ("source", "ci", "expected"),
    [
        (ROOT, "", ("1 skipped", "needs root")),
        (ROOT, "0", ("1 skipped", "needs root")),
        (ROOT, "true", ("1 error", "in CI nothing may be", "needs root")),
        (SKIP, "", ("1 skipped", "no such tool")),
        (SKIP, "true", ("1 failed", "in CI nothing may be", "no such tool")),
        (MODULE, "", ("1 skipped", "no such tool")),
        (MODULE, "true", ("1 error", "in CI nothing may be", "no such tool")),
        (KNOWN, "true", ("1 xfailed",)),
        (FINE, "true", ("1 passed",)),
    ],
)
def test_a_skip_is_seen_and_fails_in_ci(
    tmp_path: Path, source: str, ci: str, expected: tuple[str, ...]
) -> None:
    printed = outcome(tmp_path, source, ci)
    for text in expected:
        assert text in printed
