"""What verification needs and costs: the files with keys, the programs, time, and how often it is done."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from gitopper_plugins import rewind, signature
from gitopper_plugins.signature import GOOD_SECONDS, Signatures
from libgitopper import Hooks, PluginError, Verify, VerifyError
from tests.support.signing import GpgKey, SshKey, signed
from tests.support.verifying import VerifyingHost

RUNS_FOR_A_COMMIT = 2
"""Whose key is it, and is the signature good."""


@pytest.fixture
def host(verifying: VerifyingHost, alice: SshKey) -> VerifyingHost:
    """It trusts the key with which main is signed."""
    verifying.allow(alice.allowed())
    signed(verifying.upstream, alice, "a")
    return verifying


@frozen
class Program:
    """Takes the place of a program, counts its runs, and may do something first."""

    path: Path
    log: Path

    @classmethod
    def install(
        cls, directory: Path, name: str, monkeypatch: pytest.MonkeyPatch, first: str = ""
    ) -> Program:
        real = shutil.which(name)
        assert real
        program = cls(directory / "bin" / name, directory / f"{name}.log")
        program.path.parent.mkdir(exist_ok=True)
        program.path.write_text(f'#!/bin/sh\necho "$@" >> "{program.log}"\n{first}\nexec {real} "$@"\n')
        program.path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.path.parent}:{os.environ['PATH']}")
        return program

    @property
    def runs(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


def judge_of(host: VerifyingHost) -> Signatures:
    return next(p for p in host.stage.hooks.manager.get_plugins() if isinstance(p, Signatures))


def retryable(host: VerifyingHost, **more: Any) -> str:
    with pytest.raises(VerifyError) as refused:
        host.ask(**more)
    assert refused.value.retryable
    assert "\n" not in str(refused.value)
    return str(refused.value)


def unlinked(path: Path) -> None:
    path.unlink()


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (unlinked, "No such file or directory; put the trusted keys there"),
        (a_directory, "not a file"),
        (a_pipe, "not a file"),
        (lambda path: path.chmod(0o664), "mode 0664 lets others add keys; chmod go-w it"),
        (lambda path: path.chmod(0o646), "mode 0646 lets others add keys; chmod go-w it"),
        pytest.param(lambda path: os.chown(path, 12345, 0), "belongs to uid 12345", marks=pytest.mark.root),
    ],
)  # fmt: skip
def test_file_of_keys_that_can_not_be_used_is_named_and_can_be_mended(
    host: VerifyingHost, alice: SshKey, spoil: Callable[[Path], None], why: str
) -> None:
    path = host.allow(alice.allowed())
    spoil(path)
    assert f"no commit can be verified: allowed_signers {path}: {why}" in retryable(host)
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    host.allow(alice.allowed())
    assert host.ask()


def test_file_that_the_daemon_may_not_read_is_named(
    host: VerifyingHost, alice: SshKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = host.allow(alice.allowed())
    if os.geteuid() == 0:  # whom no mode keeps out
        monkeypatch.setattr("os.open", forbidding(path, os.open))
    path.chmod(0)
    assert f"allowed_signers {path}: Permission denied; put the trusted keys there" in retryable(host)


def forbidding(path: Path, really: Callable[..., int]) -> Callable[..., int]:
    def opened(what: object, *args: int, **kwargs: int) -> int:
        if what == path:
            raise PermissionError(13, "Permission denied", str(path))
        return really(what, *args, **kwargs)

    return opened


def test_armored_keyring_is_told_what_to_do_with(host: VerifyingHost, bob: GpgKey, tmp_path: Path) -> None:
    armored = bob.home.export(tmp_path / "keyring", bob, armored=True)
    host.trust(armored)
    assert f"keyring {armored}: it is armored, which gpgv can't read; gpg --dearmor < " in retryable(host)


def test_rollback_needs_no_file_of_keys(host: VerifyingHost) -> None:
    tip = host.stage.fetch().tips["main"]
    host.verify = Verify(allowed_signers=host.stage.root / "absent")
    assert host.ask(tip, accepted=tip)


def test_verify_without_any_keys_trusts_nobody(host: VerifyingHost) -> None:
    host.verify = Verify()
    assert "name allowed_signers or a keyring" in host.refusal()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("ssh", "ssh-keygen is not installed; install openssh-client"),
        ("openpgp", "gpgv is not installed; install gpgv"),
    ],
)
def test_program_that_is_missing_is_named_with_its_package(
    host: VerifyingHost, bob: GpgKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, words: str
) -> None:
    if kind == "openpgp":
        host.trust(bob.home.export(tmp_path / "keyring", bob))
        signed(host.upstream, bob, "b")
    store = host.stage.fetch()
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path / "nothing"))
        assert words in retryable(host, store=store)
    assert host.ask(store=store)


def test_program_that_is_killed_has_judged_nothing(
    host: VerifyingHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Program.install(tmp_path, "ssh-keygen", monkeypatch, "kill -KILL $$")
    assert "ended by signal 9" in retryable(host)


@pytest.mark.parametrize(
    "says",
    [
        "[GNUPG:] GOODSIG 0123456789ABCDEF Bob",
        "[GNUPG:] VALIDSIG 0123",
        "gpgv: Good signature [GNUPG:] GOODSIG 0123456789ABCDEF Bob",
        "",
    ],
)
def test_half_of_what_gpgv_has_to_state_is_not_enough(
    host: VerifyingHost, bob: GpgKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    host.trust(bob.home.export(tmp_path / "keyring", bob))
    signed(host.upstream, bob, "b")
    Program.install(tmp_path, "gpgv", monkeypatch, f"echo '{says}'; exit 0")
    assert "has a signature that gpgv can't" in host.refusal()


def test_program_that_hangs_costs_no_more_than_the_timeout_and_the_next_try_goes_on(
    host: VerifyingHost, alice: SshKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = host.stage.fetch().tips["main"]
    signed(host.upstream, alice, "b", "c", "d")
    at_the_third = (
        f'[ "$(wc -l < "{tmp_path}/ssh-keygen.log")" = {2 * RUNS_FOR_A_COMMIT + 1} ] && exec sleep 60'
    )
    program = Program.install(tmp_path, "ssh-keygen", monkeypatch, at_the_third)
    text = retryable(host, accepted=accepted, timeout_seconds=2.0)
    assert text.startswith("2 of 3 new commits are verified, then: ssh-keygen -Y find-principals")
    assert "not done after " in text
    assert "it goes on from there at the next try" in text
    before = program.runs
    assert host.ask(accepted=accepted)
    assert program.runs == before + RUNS_FOR_A_COMMIT


def test_commit_that_was_good_is_not_asked_about_again_until_the_keys_change(
    host: VerifyingHost, alice: SshKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program.install(tmp_path, "ssh-keygen", monkeypatch)
    for name in ("web", "grafana", "prometheus"):
        assert host.ask(name=name)
    assert program.runs == RUNS_FOR_A_COMMIT
    host.allow("# nobody\n")
    assert "is signed by a key that is not in" in host.refusal()


def test_services_that_come_at_once_with_the_same_commits_ask_once(
    host: VerifyingHost, alice: SshKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = host.stage.fetch().tips["main"]
    signed(host.upstream, alice, "b", "c", "d")
    store = host.stage.fetch()
    program = Program.install(tmp_path, "ssh-keygen", monkeypatch)
    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(lambda _: host.ask(store=store, accepted=accepted), range(64)))
    assert program.runs == 3 * RUNS_FOR_A_COMMIT


def test_who_waits_for_another_waits_no_longer_than_its_own_timeout(
    host: VerifyingHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    program = Program.install(
        tmp_path, "ssh-keygen", monkeypatch, f'while [ ! -e "{go}" ]; do sleep 0.05; done'
    )
    store = host.stage.fetch()
    slow = threading.Thread(target=host.ask, kwargs={"store": store})
    slow.start()
    while not program.runs:
        time.sleep(0.01)
    assert "0 of 1 new commits are verified, then: not done within 0.2 s" in retryable(
        host, store=store, timeout_seconds=0.2
    )
    go.touch()
    slow.join()
    assert host.ask(store=store)


def test_verdict_is_good_for_an_hour(
    host: VerifyingHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    judge = Signatures(clock=lambda: now[0])
    store = host.stage.fetch()
    host.stage.hooks.manager.unregister(judge_of(host))
    host.stage.hooks.register(judge)
    program = Program.install(tmp_path, "ssh-keygen", monkeypatch)
    for now[0], runs in [(0.0, 1), (GOOD_SECONDS - 1, 1), (GOOD_SECONDS, 2), (GOOD_SECONDS + 1, 2)]:
        host.ask(store=store)
        assert program.runs == runs * RUNS_FOR_A_COMMIT


def test_memory_is_bounded(host: VerifyingHost, alice: SshKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature, "MAX_REMEMBERED", 2)
    for name in "bcd":
        signed(host.upstream, alice, name)
        host.ask()
    assert len(judge_of(host)._good) == 2


def test_more_commits_than_can_be_verified_are_refused_with_a_way_out(
    host: VerifyingHost, alice: SshKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = host.stage.fetch().tips["main"]
    monkeypatch.setattr(signature, "MAX_COMMITS", 2)
    signed(host.upstream, alice, "b", "c")
    assert host.ask(accepted=accepted)
    signed(host.upstream, alice, "d")
    text = host.refusal(accepted=accepted)
    assert f"has more than 2 commits that {accepted[:12]} has not" in text
    assert "take `verify` from the config" in text


def test_what_the_programs_read_is_never_on_a_disk(
    host: VerifyingHost, bob: GpgKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.trust(bob.home.export(tmp_path / "keyring", bob))
    accepted = host.stage.fetch().tips["main"]
    signed(host.upstream, bob, "b")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    seen = tmp_path / "seen"
    look = f'ls -A "{scratch}" >> "{seen}"'
    for name in ("ssh-keygen", "gpgv"):
        Program.install(tmp_path, name, monkeypatch, look)
    assert host.ask(accepted=accepted)
    assert host.ask()
    assert seen.read_text() == ""
    assert not list(scratch.iterdir())


def test_names_of_files_are_nobodys_commands(host: VerifyingHost, alice: SshKey, tmp_path: Path) -> None:
    odd = tmp_path / "a b;$(touch x) -f %s"
    odd.mkdir()
    path = host.allow(alice.allowed()).rename(odd / "--keys")
    host.verify = Verify(allowed_signers=path)
    assert host.ask()


def test_verify_without_the_plugin_is_an_error_also_with_no_rewind(host: VerifyingHost) -> None:
    hooks = Hooks()
    for plugin in host.stage.hooks.manager.get_plugins():
        if not isinstance(plugin, Signatures):
            hooks.register(plugin)
    object.__setattr__(host.stage, "hooks", hooks)
    with pytest.raises(PluginError, match="gitopper_verify"):
        host.ask(no_rewind=True)


@pytest.mark.parametrize(("name", "plugin"), [("signature", signature.plugin), ("rewind", rewind)])
def test_entry_points_name_the_plugins(name: str, plugin: object) -> None:
    (point,) = entry_points(group="gitopper", name=name)
    assert point.load() is plugin


def test_service_that_asks_for_neither_pays_for_neither(
    host: VerifyingHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program.install(tmp_path, "ssh-keygen", monkeypatch)
    assert host.ask(verify=None) == ()
    assert program.runs == 0
