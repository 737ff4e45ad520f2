"""How the program is loaded: what it leaves behind for as long as it runs, and what not."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gitopperd.start import ARENAS

STARTED = """\
import ctypes, gc, json, linecache, os, ssl, sys, threading, zlib
import gitopperd.start
sys.argv = ["gitopperd", "--version"]
try:
    gitopperd.start.main()
except SystemExit as end:
    code = end.code
import aiohttp.connector
barrier = threading.Barrier(8)
def allocate():
    barrier.wait()
    kept = bytearray(50_000)  # too large for Python's own allocator, too small for a mapping of its own
    barrier.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(sys.argv_path.encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
with open(sys.argv_path) as told:
    arenas = told.read().count("<heap ")
print(json.dumps({
    "code": code,
    "client": aiohttp.connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509_ca"],
    "later": ssl.create_default_context().cert_store_stats()["x509_ca"],
    "variable": os.environ.get("SSL_CERT_FILE"),
    "collecting": gc.isenabled(),
    "settled": gc.get_freeze_count(),
    "generated": sum(name.startswith("<attrs generated") for name in linecache.cache),
    "arenas": arenas,
}))
"""


def start(tmp_path: Path, **environ: str) -> Any:
    told = f"import sys; sys.argv_path = {str(tmp_path / 'malloc')!r}\n"
    kept = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    done = subprocess.run(
        [sys.executable, "-c", told + STARTED],
        env=kept | environ, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    version, facts = done.stdout.splitlines()
    assert version.startswith("gitopperd")
    return json.loads(facts)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return start(tmp_path_factory.mktemp("start"))


def test_the_command_line_is_run(started: Any) -> None:
    assert started["code"] == 0


def test_no_authorities_are_kept_for_a_client_that_nobody_uses(started: Any) -> None:
    assert started["client"] == 0


def test_connections_that_are_made_later_know_the_hosts_authorities(started: Any) -> None:
    assert started["later"] == ssl.create_default_context().cert_store_stats()["x509_ca"]
    assert started["variable"] is None


def test_authorities_that_the_operator_names_are_taken(tmp_path: Path) -> None:
    named = tmp_path / "authorities.pem"
    named.write_text("")

    assert start(tmp_path, SSL_CERT_FILE=str(named))["variable"] == str(named)


def test_what_is_loaded_is_collected_no_more_but_what_comes_later_is(started: Any) -> None:
    assert started["collecting"]
    assert started["settled"] > 50_000


def test_the_source_of_generated_methods_is_not_kept(started: Any) -> None:
    assert started["generated"] == 0


def test_threads_share_a_few_arenas(started: Any) -> None:
    assert started["arenas"] == ARENAS
