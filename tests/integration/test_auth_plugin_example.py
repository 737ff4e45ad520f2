"""The example of an auth plugin: built as a wheel, installed in a fresh environment, used for real."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, wait_until
from tests.support.examples import EXAMPLES, install
from tests.support.site import Site

ROOT = Path(__file__).parents[2]
EXAMPLE = EXAMPLES / "auth-plugin"
PAGE = ROOT / "docs" / "howto" / "auth-plugin.md"
ALICE = "alice@example.net"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the example's wheel; what it depends on shows through from this one."""
    return install("auth-plugin", tmp_path_factory.mktemp("environment"))


@pytest.fixture
def signing(site: Site, environment: Path) -> Iterator[Daemon]:
    """A daemon that runs in that environment, and knows Alice's key."""
    for who in ("alice", "mallory"):
        key = site.home / who
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = (site.home / "alice.pub").read_text()
    (site.home / "allowed").write_text(f'{ALICE} namespaces="gitopper-request" {public}')
    site.commit()
    site.configure("web", interval="1h")
    with site.daemon.config.open("a") as config:
        config.write(f"""
[auth]
plugins = ["peercred", "sshsig"]
[auth.sshsig]
allowed_signers = "{site.home}/allowed"
signers = [{{ principal = "*@example.net", role = "operate", services = ["w*"] }}]
""")
    site.daemon.python = environment / "bin" / "python"
    with site.daemon as daemon:
        daemon.wait_for("web", "OK")
        yield daemon


def curl(daemon: Daemon, key: str, method: str, path: str) -> tuple[int, object]:
    """Sign and send, as the example's README tells."""
    return send(signed(daemon, key, method, path), method)


def signed(daemon: Daemon, key: str, method: str, path: str) -> list[str]:
    program = daemon.python.parent / "gitopper-sign"
    url = f"http://127.0.0.1:{daemon.port}{path}"
    command = [str(program), "-k", str(daemon.home / key), "-I", ALICE, method, url]
    return shlex.split(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def send(arguments: list[str], method: str) -> tuple[int, object]:
    command = ["curl", "-s", "-X", method, "-w", "\n%{http_code}", *arguments]
    body, _, status = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"no_proxy": "*"}
    ).stdout.rpartition("\n")
    return int(status), json.loads(body)


def test_a_signed_request_does_what_its_signer_may(signing: Daemon) -> None:
    status, answer = curl(signing, "alice", "POST", "/state/freeze/web")
    assert status == 200, answer
    wait_until(lambda: signing.service("web")["state"] == "FREEZE", "not frozen")
    status, answer = curl(signing, "alice", "POST", "/state/freeze/db")
    assert status == 403, answer
    assert "ssh:alice@example.net" in str(answer)


def test_a_signature_holds_once_for_one_request_by_its_own_key(signing: Daemon) -> None:
    status, answer = curl(signing, "mallory", "POST", "/state/freeze/web")
    assert (status, "not good" in str(answer)) == (401, True)
    once = signed(signing, "alice", "POST", "/do/pull/web")
    assert send(once, "POST")[0] == 202
    status, answer = send(once, "POST")
    assert (status, "already used" in str(answer)) == (401, True)
    other = [*signed(signing, "alice", "POST", "/do/pull/web")[:-1]]
    other.append(f"http://127.0.0.1:{signing.port}/state/freeze/web")
    assert send(other, "POST")[0] == 401
    assert signing.service("web")["state"] == "OK"


def test_a_key_that_is_taken_out_is_out_at_once(signing: Daemon) -> None:
    assert curl(signing, "alice", "POST", "/do/pull/web")[0] == 202
    (signing.home / "allowed").write_text("")
    assert curl(signing, "alice", "POST", "/do/pull/web")[0] == 401


def test_a_mistake_in_its_settings_refuses_the_configuration(site: Site, environment: Path) -> None:
    site.configure("web")
    with site.daemon.config.open("a") as config:
        config.write('[auth.sshsig]\nallowed_signers = "/nowhere"\nsigner = []\n')
    check = [str(environment / "bin/python"), "-m", "gitopperd", "check", "-c", str(site.daemon.config)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "auth.sshsig.signer: unknown key" in done.stderr
    assert "auth.sshsig.allowed_signers: '/nowhere' is no file" in done.stderr
    assert "auth.sshsig.signers: missing" in done.stderr


def test_the_page_names_every_field_that_the_example_uses() -> None:
    page = PAGE.read_text()
    tree = ast.parse((EXAMPLE / "src/gitopper_sshsig/plugin.py").read_text())
    fields = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "request"
    }
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "libgitopper"
        for alias in node.names
    }
    assert {"plugin", "settings", "method", "path", "headers"} <= fields
    assert "AuthRequest" in imported
    for name in fields | imported:
        assert re.search(rf"\b{name}\b", page), name
