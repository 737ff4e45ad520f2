"""The builtin auth plugins keep the contract that third parties can run on theirs."""

from __future__ import annotations

import grp
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gitopper_plugins import mtls, peercred, tokenfile
from gitopper_plugins.token import TokenAuth
from libgitopper import AuthRequest, Grant, Role, TlsPeer, UnixPeer
from libgitopper.testing.auth import AuthContract, request_for_tests

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FINGERPRINT = "ab" * 32
GROUP = next(group for group in grp.getgrall() if group.gr_gid != 0)


class TestPeercred(AuthContract):
    name = "peercred"
    bad_settings = (
        {"groups": "ops"},
        {"groups": ["ops"]},
        {"groups": [{"name": "ops"}]},
        {"groups": [{"name": "ops", "role": "root"}]},
        {"groups": [{"role": "read"}]},
        {"groups": [{"name": "", "role": "read"}]},
        {"groups": [{"name": "ops", "role": "read", "services": []}]},
        {"groups": [{"name": "ops", "role": "read", "services": "web"}]},
        {"groups": [{"name": "ops", "role": "read", "servises": ["web"]}]},
        {"users": []},
    )

    @pytest.fixture
    def plugin(self) -> object:
        return peercred

    @pytest.fixture
    def settings(self) -> Mapping[str, Any]:
        return {"groups": [{"name": GROUP.gr_name, "role": "operate", "services": ["web*"]}]}

    @pytest.fixture
    def known(self) -> AuthRequest:
        return request_for_tests(peer=None, unix=UnixPeer(pid=1, uid=4_000_000_000, gid=GROUP.gr_gid))

    @pytest.fixture
    def refused(self) -> Sequence[AuthRequest]:
        return []


class TestToken(AuthContract):
    name = "token"
    bad_settings = ({"file": 5}, {"file": "tokens.toml"}, {"file": ""}, {"files": "/etc/x"})
    good, expired = tokenfile.new_token(), tokenfile.new_token()

    @pytest.fixture
    def plugin(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
        # Without settings it reads the user's own file, which is no test's.
        monkeypatch.setattr("gitopper_plugins.token.default_file", lambda: tmp_path / "missing.toml")
        return TokenAuth(now=lambda: NOW)

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Mapping[str, Any]:
        path = tmp_path / "tokens.toml"
        with tokenfile.editing(path) as tokens:
            for name, token, expires in (
                ("deploy", self.good, None),
                ("old", self.expired, NOW - timedelta(seconds=1)),
            ):
                grant, sha256 = Grant(role=Role.OPERATE), tokenfile.hash_of(token)
                tokens.append(tokenfile.Token(name=name, sha256=sha256, grant=grant, expires=expires))
        return {"file": str(path)}

    @pytest.fixture
    def known(self) -> AuthRequest:
        return request_for_tests(headers={"authorization": f"Bearer {self.good}"})

    @pytest.fixture
    def refused(self) -> Sequence[AuthRequest]:
        values = (self.expired, tokenfile.new_token(), self.good[:-1], self.good + "x", "gitopper_")
        return [request_for_tests(headers={"authorization": f"Bearer {value}"}) for value in values]


class TestMtls(AuthContract):
    name = "mtls"
    bad_settings = (
        {"clients": {"subject": "CN=x", "role": "read"}},
        {"clients": [{"subject": "web1", "role": "read"}]},
        {"clients": [{"name": "web1", "role": "read"}]},
        {"clients": [{"fingerprint": "ab:cd", "role": "read"}]},
        {"clients": [{"fingerprint": FINGERPRINT, "subject": "CN=x", "role": "read"}]},
        {"clients": [{"subject": 5, "role": "read"}]},
        {"clients": [{"subject": "CN=x"}]},
        {"ca": "/etc/ca.pem"},
    )

    @pytest.fixture
    def plugin(self) -> object:
        return mtls

    @pytest.fixture
    def settings(self) -> Mapping[str, Any]:
        return {"clients": [{"subject": "CN=web1,O=Example", "role": "operate"}]}

    @pytest.fixture
    def known(self) -> AuthRequest:
        peer = TlsPeer(subject="CN=web1,O=Example", names=(), fingerprint=FINGERPRINT)
        return request_for_tests(tls=peer)

    @pytest.fixture
    def refused(self) -> Sequence[AuthRequest]:
        return []
