"""curl, as an operator uses it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

__all__ = ["curl", "header_file"]


def curl(*arguments: str, **process: Any) -> tuple[int, dict[str, str], Any]:
    """Run it; return status, headers (names in lower case), and the body, read where it is JSON.

    `process` are arguments of `subprocess.run`, as ``user``.
    """
    if shutil.which("curl") is None:
        pytest.skip("needs curl: install it to include this test")
    command = ["curl", "--silent", "--show-error", "--include", "--max-time", "20", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(command, capture_output=True, env=environment, check=False, **process)
    assert done.returncode == 0, done.stderr.decode()
    head, _, body = done.stdout.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}
    is_json = headers.get("content-type", "").startswith("application/json")
    return int(first.split()[1]), headers, json.loads(body) if is_json else body


def header_file(path: Path, token: str) -> str:
    """Return what gives curl a token that no other user sees in its command line."""
    path.write_text(f"Authorization: Bearer {token}\n")
    path.chmod(0o600)
    return f"@{path}"
