"""The contract of `gitopper_auth` and `gitopper_auth_settings`, as tests to run on a plugin of your own.

class TestMyAuth(AuthContract):
    name = "badge"
    bad_settings = ({"directory": 5}, {"unknown": "key"})

    @pytest.fixture
    def plugin(self):
        return my_package.my_plugin

    @pytest.fixture
    def settings(self, tmp_path):
        return {"directory": str(tmp_path)}

    @pytest.fixture
    def known(self):
        return request_for_tests(headers={"x-badge": "the right one"})

    @pytest.fixture
    def refused(self):
        return [request_for_tests(headers={"x-badge": "a wrong one"})]
"""

# ruff: noqa: S101 - these are tests, though they are shipped

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from attrs import evolve

from libgitopper import AccessDenied, AuthRequest, Hooks, Identity, TlsPeer, UnixPeer

__all__ = ["HOSTILE_HEADERS", "AuthContract", "request_for_tests"]

HOSTILE_HEADERS = (
    "",
    " ",
    "Bearer",
    "Bearer ",
    "Bearer  ",
    "Bearer \udcff\udcfe",
    "bearer é\x00\x7f",
    "Basic Og==",
    "Basic " + "A" * 5000,
    "Bearer " + "A" * 5000,
    "Signature keyId=,algorithm=",
    ", ".join(["Bearer x"] * 50),
)
"""Values that anybody may send as ``Authorization``."""

STRANGER = UnixPeer(pid=1, uid=4_000_000_000, gid=4_000_000_000)
STRANGE_CERTIFICATE = TlsPeer(
    subject="CN=nobody.invalid", names=("DNS:nobody.invalid",), fingerprint="0" * 64
)


def request_for_tests(**fields: Any) -> AuthRequest:
    """Return a request over TCP; `fields` are those of `AuthRequest`."""
    defaults: dict[str, Any] = {
        "plugin": "",
        "settings": {},
        "method": "POST",
        "path": "/state/freeze/web?reason=test",
        "headers": {},
        "peer": "192.0.2.7",
    }
    return AuthRequest(**{**defaults, **fields})


class AuthContract:
    """Subclass it, name the subclass ``Test...``, and give it `name`, `bad_settings` and the fixtures."""

    name: str
    """The name that the plugin is registered by."""
    bad_settings: Sequence[Mapping[str, Any]] = ()
    """Tables that are wrong, each in a way of its own; at least one has a key that does not exist."""
    public_headers: Collection[str] = ()
    """Headers that hold no secret, as a user's name; in lower case. Of others no word may be told."""

    @pytest.fixture
    def plugin(self) -> object:
        """The plugin: a module or an object."""
        raise NotImplementedError

    @pytest.fixture
    def settings(self) -> Mapping[str, Any]:
        """A table that is right; `known` and `refused` are judged by it."""
        raise NotImplementedError

    @pytest.fixture
    def known(self) -> AuthRequest:
        """A request of somebody whom `settings` give a role."""
        raise NotImplementedError

    @pytest.fixture
    def refused(self) -> Sequence[AuthRequest]:
        """Requests with credentials of this plugin's kind that are not good. None: it never refuses."""
        raise NotImplementedError

    def anew(self, request: AuthRequest) -> AuthRequest:
        """The same request by the same person, again: override this where each can be used but once."""
        return request

    @pytest.fixture
    def hooks(self, plugin: object) -> Hooks:
        """The plugin as the daemon calls it."""
        hooks = Hooks()
        hooks.register(plugin, name=self.name)
        return hooks

    def asked(self, hooks: Hooks, request: AuthRequest, settings: Mapping[str, Any]) -> Identity | None:
        """Ask the plugin who sent `request`."""
        return hooks.identify(evolve(request, plugin=self.name, settings=settings))

    def secrets(self, request: AuthRequest, text: str) -> list[str]:
        """Return what `text` has of the secrets of `request`: no word of eight letters or fewer counts."""
        return [
            word
            for name, value in request.headers.items()
            for word in value.split()
            if name not in self.public_headers and len(word) > 8 and word in text
        ]

    def test_whom_it_knows_has_a_name_and_a_role(
        self, hooks: Hooks, known: AuthRequest, settings: Mapping[str, Any]
    ) -> None:
        """The name goes to the audit log: one line, and no secret."""
        identity = self.asked(hooks, known, settings)
        assert isinstance(identity, Identity)
        assert identity.name.isprintable()
        assert identity.grants
        assert not self.secrets(known, identity.name)

    def test_it_says_the_same_each_time_and_in_every_thread(
        self, hooks: Hooks, known: AuthRequest, settings: Mapping[str, Any]
    ) -> None:
        """It is called from several threads at once."""
        requests = [self.anew(known) for _ in range(64)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda request: self.asked(hooks, request, settings), requests))
        assert answers == [self.asked(hooks, self.anew(known), settings)] * 64

    def test_who_shows_nothing_of_its_kind_is_left_to_the_next_plugin(
        self, hooks: Hooks, settings: Mapping[str, Any]
    ) -> None:
        """None is "not mine"; to raise would lock out the users of every other plugin."""
        foreign = {"authorization": "A-Scheme-That-Nobody-Has dXNlcjpwYXNz"}
        assert self.asked(hooks, request_for_tests(), settings) is None
        assert self.asked(hooks, request_for_tests(headers=foreign), settings) is None
        assert self.asked(hooks, request_for_tests(peer=None, unix=STRANGER), settings) is None
        assert self.asked(hooks, request_for_tests(tls=STRANGE_CERTIFICATE), settings) is None

    def test_it_does_not_answer_for_another_plugin(
        self, plugin: Any, known: AuthRequest, settings: Mapping[str, Any]
    ) -> None:
        """The config may not name it at all; then nobody gets in by it."""
        other = evolve(known, plugin="a-plugin-that-nobody-wrote", settings=settings)
        assert plugin.gitopper_auth(request=other) is None

    def test_without_settings_it_lets_nobody_in_by_mistake(self, hooks: Hooks, known: AuthRequest) -> None:
        """It gets an empty table where it is named, and has none; unless it calls that a mistake."""
        if hooks.auth_problems(self.name, {}):
            return  # such a configuration is refused
        try:
            identity = self.asked(hooks, known, {})
        except AccessDenied:
            return
        assert identity is None

    def test_what_it_refuses_it_refuses_without_a_word_of_the_secret(
        self, hooks: Hooks, refused: Sequence[AuthRequest], settings: Mapping[str, Any]
    ) -> None:
        """The text goes to whoever asked: one line that quotes nothing."""
        for request in refused:
            with pytest.raises(AccessDenied) as caught:
                self.asked(hooks, request, settings)
            assert str(caught.value).isprintable()
            assert str(caught.value)
            assert not self.secrets(request, str(caught.value))

    @pytest.mark.parametrize("value", HOSTILE_HEADERS)
    def test_no_header_makes_it_fail_or_lets_anybody_in(
        self, hooks: Hooks, settings: Mapping[str, Any], value: str
    ) -> None:
        """Whatever else is raised would be a traceback in the log for each request of an attacker."""
        try:
            identity = self.asked(hooks, request_for_tests(headers={"authorization": value}), settings)
        except AccessDenied:
            return
        assert identity is None

    @pytest.mark.parametrize("value", HOSTILE_HEADERS)
    def test_no_value_of_its_own_headers_makes_it_fail_or_lets_anybody_in(
        self, hooks: Hooks, known: AuthRequest, settings: Mapping[str, Any], value: str
    ) -> None:
        """Each header of `known` in turn, with the others as they are. Who it is may be public."""
        for name in known.headers:
            try:
                identity = self.asked(hooks, self._forged(known, name, value), settings)
            except AccessDenied:
                continue
            assert identity is None or name in self.public_headers, name

    def test_a_part_of_a_secret_lets_nobody_in(
        self, hooks: Hooks, known: AuthRequest, settings: Mapping[str, Any]
    ) -> None:
        """Nor does a secret with something behind it: it is compared as a whole."""
        for name, value in known.headers.items():
            for forged in () if name in self.public_headers else (value[: len(value) // 2], value * 2):
                try:
                    identity = self.asked(hooks, self._forged(known, name, forged), settings)
                except AccessDenied:
                    continue
                assert identity is None, name

    def _forged(self, known: AuthRequest, name: str, value: str) -> AuthRequest:
        request = self.anew(known)
        return evolve(request, headers={**request.headers, name: value})

    def test_good_settings_have_no_problems(self, hooks: Hooks, settings: Mapping[str, Any]) -> None:
        """They are judged when the configuration is read."""
        assert hooks.auth_problems(self.name, settings) == ()

    def test_bad_settings_are_told_by_their_key(self, hooks: Hooks) -> None:
        """Each is ``key: what is wrong, and what to write``, or ``key: missing; what to write``."""
        assert self.bad_settings
        for settings in self.bad_settings:
            problems = hooks.auth_problems(self.name, settings)
            assert problems, settings
            for problem in problems:
                place, colon, message = problem.partition(": ")
                assert problem.isprintable()
                assert colon
                assert message
                key = place.partition("[")[0].partition(".")[0]
                assert key in settings or message.startswith("missing"), f"{problem}: which key is that?"

    def test_an_unknown_key_is_a_mistake(self, hooks: Hooks, settings: Mapping[str, Any]) -> None:
        """A key that nobody reads is a typing error that grants or refuses too much."""
        problems = hooks.auth_problems(self.name, {**settings, "no-such-key": 1})
        assert any(problem.startswith("no-such-key: ") for problem in problems)

    def test_settings_of_another_plugin_are_not_its_business(self, plugin: Any) -> None:
        """It is asked about every table."""
        assert plugin.gitopper_auth_settings(plugin="a-plugin-that-nobody-wrote", settings={"x": 1}) is None
