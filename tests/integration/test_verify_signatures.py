"""Signed history, with real keys, repositories and the real fetch: what is refused, in what words."""

from __future__ import annotations

from pathlib import Path

import pytest

from libgitopper import IntentKind, SourceError
from tests.support.signing import (
    GpgKey,
    Signer,
    SshKey,
    raw_commit,
    signature_of,
    signed,
    signed_by,
    transplanted,
    write_commit,
)
from tests.support.upstream import Upstream, git
from tests.support.verifying import VerifyingHost

LONG_AGO = "20200101T000000"
LONG_AGO_SECONDS = 1_577_836_800


@pytest.fixture
def host(verifying: VerifyingHost) -> VerifyingHost:
    return verifying


@pytest.fixture(params=["ssh", "openpgp"])
def trusted(request: pytest.FixtureRequest, host: VerifyingHost, tmp_path: Path) -> Signer:
    """A key that the host trusts, of each kind."""
    if request.param == "ssh":
        alice: SshKey = request.getfixturevalue("alice")
        host.allow(alice.allowed())
        return alice
    bob: GpgKey = request.getfixturevalue("bob")
    host.trust(bob.home.export(tmp_path / "keyring", bob))
    return bob


@pytest.fixture
def stranger(trusted: Signer, mallory: SshKey, eve: GpgKey) -> Signer:
    """A key of the same kind that the host does not trust."""
    return mallory if isinstance(trusted, SshKey) else eve


def short(*revisions: str) -> tuple[str, ...]:
    return tuple(revision[:12] for revision in revisions)


def test_signed_commits_are_accepted(host: VerifyingHost, trusted: Signer) -> None:
    first, *_ = signed(host.upstream, trusted, "a", "b", "c")
    assert host.ask(accepted=first)
    assert host.ask(accepted=host.upstream.push() and first)


def test_first_deploy_needs_the_signature_of_its_own_commit_alone(
    host: VerifyingHost, trusted: Signer
) -> None:
    unsigned = host.refusal()
    (tip,) = signed(host.upstream, trusted, "a")
    assert "by Test is not signed; the first commit that is deployed must be signed by a key in" in unsigned
    assert host.ask(tip)


def test_unsigned_commit_in_the_middle_is_refused_by_name(host: VerifyingHost, trusted: Signer) -> None:
    (first,) = signed(host.upstream, trusted, "a")
    middle = host.upstream.commit({"elsewhere": "1"})
    (tip,) = signed(host.upstream, trusted, "b")
    text = host.refusal(accepted=first)
    a, b, c = short(first, middle, tip)
    assert text.startswith(
        f"commit {b} by Test is not signed; every commit after {a} up to {c} must be signed by a key in /"
    )


def test_key_of_a_stranger_is_refused(host: VerifyingHost, trusted: Signer, stranger: Signer) -> None:
    (first,) = signed(host.upstream, trusted, "a")
    (tip,) = signed(host.upstream, stranger, "b")
    text = host.refusal(accepted=first)
    assert f"commit {tip[:12]} by Test is signed by a key that is not in {host.stage.root}" in text
    assert (stranger.fingerprint if isinstance(stranger, GpgKey) else "ED25519 key SHA256:") in text


def test_merge_of_an_unsigned_branch_is_refused_though_the_merge_is_signed(
    host: VerifyingHost, trusted: Signer
) -> None:
    (first,) = signed(host.upstream, trusted, "a")
    smuggled = host.upstream.commit({"web/smuggled": "1"}, branch="topic")
    merge(host.upstream, trusted, "topic")
    assert host.refusal(accepted=first).startswith(f"commit {smuggled[:12]} by Test is not signed")


def test_merge_that_is_not_signed_itself_is_refused(host: VerifyingHost, trusted: Signer) -> None:
    (first,) = signed(host.upstream, trusted, "a")
    signed(host.upstream, trusted, "b", branch="topic")
    tip = merge(host.upstream, None, "topic")
    assert host.refusal(accepted=first).startswith(f"commit {tip[:12]} by Test is not signed")


def test_merge_of_a_signed_branch_is_accepted(host: VerifyingHost, trusted: Signer) -> None:
    (first,) = signed(host.upstream, trusted, "a")
    signed(host.upstream, trusted, "b", branch="topic")
    merge(host.upstream, trusted, "topic")
    assert host.ask(accepted=first)


def test_merge_of_a_signed_tag_keeps_what_it_says_of_it_in_the_payload(
    host: VerifyingHost, trusted: Signer
) -> None:
    (first,) = signed(host.upstream, trusted, "a")
    signed(host.upstream, trusted, "b", branch="topic")
    with signed_by(host.upstream, trusted):
        git(host.upstream.work, "tag", "-s", "-m", "the topic", "v1")
    tip = merge(host.upstream, trusted, "v1")
    assert b"\nmergetag object" in raw_commit(host.upstream, tip)
    assert host.ask(accepted=first)


def merge(upstream: Upstream, signer: Signer | None, what: str) -> str:
    upstream.switch("main")
    sign = ["-S"] if signer else ["--no-gpg-sign"]
    for name, value in signer.settings if signer else []:
        git(upstream.work, "config", name, value)
    git(upstream.work, "merge", "--no-ff", *sign, "-m", "merge", what)
    return upstream.push()


def test_signature_of_another_commit_is_refused(host: VerifyingHost, trusted: Signer) -> None:
    (first,) = signed(host.upstream, trusted, "a")
    host.upstream.commit({"web/evil": "1"})
    tip = write_commit(
        host.upstream,
        transplanted(raw_commit(host.upstream), signature_of(raw_commit(host.upstream, first))),
    )
    text = host.refusal(accepted=first)
    assert text.startswith(f"commit {tip[:12]} by Test has a signature that is not ")


def test_signature_of_a_tag_is_refused_in_a_commit(host: VerifyingHost, trusted: Signer) -> None:
    (first,) = signed(host.upstream, trusted, "a")
    with signed_by(host.upstream, trusted):
        git(host.upstream.work, "tag", "-s", "-m", "release", "v1")
    tag = git(host.upstream.work, "cat-file", "tag", "v1")
    signature = tag[tag.index("-----BEGIN") :].encode() + b"\n"
    host.upstream.commit({"web/evil": "1"})
    write_commit(host.upstream, transplanted(raw_commit(host.upstream), signature))
    assert "has a signature that is not " in host.refusal(accepted=first)


def test_commit_that_was_altered_after_it_was_signed_is_refused(
    host: VerifyingHost, trusted: Signer
) -> None:
    first, *_ = signed(host.upstream, trusted, "a", "b")
    raw = raw_commit(host.upstream)
    tip = write_commit(host.upstream, raw.replace(b"change\n", b"other\n"))
    assert host.refusal(accepted=first).startswith(
        f"commit {tip[:12]} by Test has a signature that is not "
    )


def test_branch_that_names_a_tag_is_refused_by_the_fetch_and_changes_nothing(
    host: VerifyingHost, trusted: Signer
) -> None:
    (first,) = signed(host.upstream, trusted, "a")
    store = host.stage.fetch()
    with signed_by(host.upstream, trusted):
        git(host.upstream.work, "tag", "-s", "-m", "release", "v1")
    git(host.upstream.work, "push", "--quiet", "origin", "v1")
    (host.upstream.path / "refs/heads/main").write_text(git(host.upstream.path, "rev-parse", "v1") + "\n")
    with pytest.raises(SourceError, match="branch main names a tag, and not a commit"):
        host.stage.fetch()
    assert dict(host.stage.fetch(offline=True).tips) == {"main": first}
    assert not list((store.path / "worktrees").iterdir())


def test_tag_instead_of_a_commit_is_no_revision_either(host: VerifyingHost, trusted: Signer) -> None:
    (first,) = signed(host.upstream, trusted, "a")
    with signed_by(host.upstream, trusted):
        git(host.upstream.work, "tag", "-s", "-m", "release", "v1")
    store = host.stage.fetch()
    tag = git(host.upstream.work, "rev-parse", "v1")
    assert f"commit {tag[:12]} is not in the store" in host.refusal(tag, accepted=first, store=store)


def test_operators_rollback_needs_no_new_signature(host: VerifyingHost, trusted: Signer) -> None:
    old = host.upstream.commit({"web/index": "2"})
    (tip,) = signed(host.upstream, trusted, "a")
    assert host.ask(old, accepted=tip, intent=IntentKind.ROLLBACK)


def test_all_that_is_reachable_needs_a_signature_where_the_accepted_commit_is_gone(
    host: VerifyingHost, trusted: Signer
) -> None:
    (tip,) = signed(host.upstream, trusted, "a")
    root = git(host.upstream.work, "rev-parse", "main~1")
    assert host.ask(tip)
    assert host.refusal(tip, accepted="1" * 40).startswith(f"commit {root[:12]} by Test is not signed")


def test_rewritten_history_is_verified_from_where_it_parts(host: VerifyingHost, trusted: Signer) -> None:
    _, accepted = signed(host.upstream, trusted, "a", "b")
    host.stage.fetch()
    host.upstream.rewind(1)
    host.upstream.commit({"web/rewritten": "1"})
    (tip,) = signed(host.upstream, trusted, "c")
    assert "is not signed" in host.refusal(tip, accepted=accepted)
    host.upstream.rewind(2)
    signed(host.upstream, trusted, "d")
    assert host.ask(accepted=accepted)


class TestNoRewind:
    """With and without signatures: history goes forward only."""

    def test_rewound_branch_is_refused(self, host: VerifyingHost, trusted: Signer) -> None:
        old, accepted = signed(host.upstream, trusted, "a", "b")
        host.stage.fetch()
        host.upstream.rewind(1)
        for verify in (host.verify, None):
            text = host.refusal(accepted=accepted, no_rewind=True, verify=verify)
            assert text.startswith(f"{old[:12]} does not descend from {accepted[:12]}, which was accepted")
            assert "roll the service back to that commit, or take no_rewind from its config" in text
        assert host.ask(accepted=accepted)

    def test_rewritten_branch_is_refused(self, host: VerifyingHost, trusted: Signer) -> None:
        _, accepted = signed(host.upstream, trusted, "a", "b")
        host.stage.fetch()
        host.upstream.rewind(1)
        (tip,) = signed(host.upstream, trusted, "c")
        assert f"{tip[:12]} does not descend from" in host.refusal(accepted=accepted, no_rewind=True)

    def test_accepted_commit_that_is_gone_is_behind_nothing(self, host: VerifyingHost) -> None:
        assert "does not descend" in host.refusal(accepted="1" * 40, no_rewind=True)

    def test_forward_first_and_the_same_again_are_fine(self, host: VerifyingHost) -> None:
        accepted = host.stage.fetch().tips["main"]
        assert host.ask(accepted=None, no_rewind=True)
        assert host.ask(accepted=accepted, no_rewind=True)
        host.upstream.commit({"web/index": "2"})
        assert host.ask(accepted=accepted, no_rewind=True)

    @pytest.mark.parametrize("intent", [IntentKind.ROLLBACK, IntentKind.FREEZE])
    def test_operator_may_be_behind(self, host: VerifyingHost, intent: IntentKind) -> None:
        old = host.stage.fetch().tips["main"]
        accepted = host.upstream.commit({"web/index": "2"})
        assert host.ask(old, accepted=accepted, no_rewind=True, intent=intent)

    def test_it_does_not_stand_in_for_signatures(self, host: VerifyingHost, trusted: Signer) -> None:
        (tip,) = signed(host.upstream, trusted, "a")
        judged = {setting for answer in host.ask(tip, no_rewind=True) for setting in answer.judged}
        assert judged == {"verify", "no_rewind"}


def test_each_kind_is_judged_by_its_own_keys(
    host: VerifyingHost, alice: SshKey, bob: GpgKey, mallory: SshKey, tmp_path: Path
) -> None:
    host.allow(alice.allowed())
    (first,) = signed(host.upstream, alice, "a")
    signed(host.upstream, bob, "b")
    assert "is signed with OpenPGP, and there are keys for ssh only" in host.refusal(accepted=first)
    host.trust(bob.home.export(tmp_path / "keyring", bob))
    assert host.ask(accepted=first)
    signed(host.upstream, mallory, "c")
    text = host.refusal(accepted=first)
    assert f"not in {tmp_path}/allowed_signers" in text
    assert f"by a key in {tmp_path}/allowed_signers or {tmp_path}/keyring" in text


def test_verification_writes_nothing(host: VerifyingHost, alice: SshKey) -> None:
    host.allow(alice.allowed())
    signed(host.upstream, alice, "a")
    store = host.stage.fetch()
    before = {str(path): path.lstat().st_mtime_ns for path in host.stage.root.rglob("*")}
    host.ask(store=store)
    assert {str(path): path.lstat().st_mtime_ns for path in host.stage.root.rglob("*")} == before


def test_author_can_not_write_the_line_that_an_operator_reads(host: VerifyingHost, alice: SshKey) -> None:
    host.allow(alice.allowed())
    raw = raw_commit(host.upstream).replace(
        b"author Test", b"author \x1b[2J\xe2\x80\xaeTe\rst" + b"x" * 999
    )
    write_commit(host.upstream, raw)
    text = host.refusal()
    assert f" by [2JTest{'x' * 53} is not signed; " in text
