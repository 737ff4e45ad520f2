"""The example of an auth plugin keeps the contract, and so do right ones of kinds that no builtin is."""

from __future__ import annotations

import base64
import hmac
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from libgitopper import AccessDenied, AuthRequest, Grant, Identity, Role, hookimpl
from libgitopper.testing.auth import AuthContract, request_for_tests
from tests.support.examples import EXAMPLES

ALICE = "alice@example.net"
HOST = "127.0.0.1:8000"


class TestExample(AuthContract):
    name = "sshsig"
    public_headers = ("x-gitopper-principal",)
    bad_settings = (
        {"signers": [{"principal": ALICE, "role": "read"}]},
        {"allowed_signers": "/nowhere", "signers": [{"principal": ALICE, "role": "read"}]},
        {"allowed_signers": "/dev/null"},
        {"allowed_signers": "/dev/null", "signers": "alice"},
        {"allowed_signers": "/dev/null", "signers": [{"principal": ALICE, "role": "root"}]},
        {
            "allowed_signers": "/dev/null",
            "signers": [{"principal": ALICE, "role": "read", "services": "web*"}],
        },
        {
            "allowed_signers": "/dev/null",
            "signers": [{"principal": ALICE, "role": "read"}],
            "sigers": [],
        },
    )

    @pytest.fixture(autouse=True)
    def example(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.syspath_prepend(EXAMPLES / "auth-plugin/src")
        self.key = tmp_path / "alice"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)

    @pytest.fixture
    def plugin(self) -> object:
        from gitopper_sshsig.plugin import SshSig

        return SshSig()

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Mapping[str, Any]:
        public = self.key.with_suffix(".pub").read_text()
        (tmp_path / "allowed").write_text(f'{ALICE} namespaces="gitopper-request" {public}')
        signers = [{"principal": "*@example.net", "role": "operate", "services": ["web*"]}]
        return {"allowed_signers": str(tmp_path / "allowed"), "signers": signers}

    @pytest.fixture
    def known(self) -> AuthRequest:
        return self.anew(request_for_tests())

    @pytest.fixture
    def refused(self, known: AuthRequest) -> Sequence[AuthRequest]:
        wrong = {"x-gitopper-signature": "QQ==", "x-gitopper-time": "0", "x-gitopper-principal": "-"}
        requests = [evolve(known, headers={**known.headers, name: value}) for name, value in wrong.items()]
        return [*requests, evolve(known, path="/do/pull/web")]

    def anew(self, request: AuthRequest) -> AuthRequest:
        from gitopper_sshsig.client import sign

        url = f"http://{HOST}{request.path}"
        signed = sign(key=str(self.key), principal=ALICE, method=request.method, url=url)
        return evolve(request, headers={"host": HOST, **signed})


class Basic:
    """Passwords by HTTP's own scheme, of which the builtin plugins know nothing."""

    name = "basic"

    @hookimpl
    def gitopper_auth(self, request: AuthRequest) -> Identity | None:
        scheme, _, word = request.headers.get("authorization", "").partition(" ")
        if request.plugin != self.name or scheme.lower() != "basic":
            return None
        try:
            user, _, password = base64.b64decode(word, validate=True).decode().partition(":")
        except ValueError:
            raise AccessDenied("that is no name and password") from None
        if (
            not hmac.compare_digest(request.settings.get("users", {}).get(user, ""), password)
            or not password
        ):
            raise AccessDenied("name or password are not right")
        return Identity(name=f"basic:{user}", grants=(Grant(role=Role.READ),))

    @hookimpl
    def gitopper_auth_settings(self, plugin: str, settings: Mapping[str, Any]) -> Sequence[str] | None:
        if plugin != self.name:
            return None
        unknown = [f"{key}: unknown key; remove it" for key in settings if key != "users"]
        return unknown if "users" in settings else [*unknown, "users: missing; write { alice = … }"]


class TestBasic(AuthContract):
    name = "basic"
    bad_settings = ({}, {"user": {}})

    @pytest.fixture
    def plugin(self) -> object:
        return Basic()

    @pytest.fixture
    def settings(self) -> Mapping[str, Any]:
        return {"users": {"alice": "correct horse"}}

    @pytest.fixture
    def known(self) -> AuthRequest:
        return self.request("alice:correct horse")

    @pytest.fixture
    def refused(self) -> Sequence[AuthRequest]:
        return [self.request("alice:wrong horse"), self.request("mallory:"), self.request("")]

    @staticmethod
    def request(said: str) -> AuthRequest:
        word = base64.b64encode(said.encode()).decode()
        return request_for_tests(headers={"authorization": f"Basic {word}"})


class Proxy:
    """Who stands before the daemon has asked already, and names who it was."""

    name = "proxy"

    @hookimpl
    def gitopper_auth(self, request: AuthRequest) -> Identity | None:
        user = request.headers.get("x-remote-user")
        if request.plugin != self.name or user is None or request.peer not in request.settings["proxies"]:
            return None
        if not user or not user.isprintable():
            raise AccessDenied("the proxy names nobody")
        return Identity(name=f"proxy:{user}", grants=(Grant(role=Role.OPERATE),))

    @hookimpl
    def gitopper_auth_settings(self, plugin: str, settings: Mapping[str, Any]) -> Sequence[str] | None:
        if plugin != self.name:
            return None
        unknown = [f"{key}: unknown key; remove it" for key in settings if key != "proxies"]
        return unknown if "proxies" in settings else [*unknown, 'proxies: missing; write ["192.0.2.7"]']


class TestProxy(AuthContract):
    name = "proxy"
    public_headers = ("x-remote-user",)
    bad_settings = ({}, {"proxy": []})

    @pytest.fixture
    def plugin(self) -> object:
        return Proxy()

    @pytest.fixture
    def settings(self) -> Mapping[str, Any]:
        return {"proxies": ["192.0.2.7"]}

    @pytest.fixture
    def known(self) -> AuthRequest:
        return request_for_tests(headers={"x-remote-user": ALICE})

    @pytest.fixture
    def refused(self) -> Sequence[AuthRequest]:
        return []
