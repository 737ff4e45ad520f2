"""Keys that are not good for it, as ssh-keygen and gpgv have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitopper_plugins._channel import Deadline
from gitopper_plugins._signedcommit import RefusedCommit, take_apart
from gitopper_plugins._signers import check_signature
from gitopper_plugins._trust import read_trust
from gitopper_plugins.dulwich.commit import read_commit
from libgitopper import Verify
from tests.support.signing import (
    GpgHome,
    GpgKey,
    SshKey,
    raw_commit,
    signed,
    transplanted,
    write_commit,
)
from tests.support.upstream import git
from tests.support.verifying import VerifyingHost

LONG_AGO = "20200101T000000"
LONG_AGO_SECONDS = 1_577_836_800


@pytest.fixture
def host(verifying: VerifyingHost) -> VerifyingHost:
    return verifying


class TestSshKeys:
    """As ssh-keygen has it in ALLOWED SIGNERS."""

    @pytest.mark.parametrize(
        ("option", "why"),
        [
            ('valid-before="20200101Z"', "key has expired"),
            ('valid-before="20200101"', "key has expired"),
            ('valid-after="20990101"', "key is not yet valid"),
            ('namespaces="file"', 'key is not permitted for use in signature namespace "git"'),
        ],
    )
    def test_key_that_is_not_good_for_it_is_refused(
        self, host: VerifyingHost, alice: SshKey, option: str, why: str
    ) -> None:
        path = host.allow(alice.allowed(option))
        signed(host.upstream, alice, "a")
        text = host.refusal()
        assert "is signed by ED25519 key SHA256:" in text
        assert f"which is not good for it ({path}:1: {why}" in text

    def test_key_that_has_expired_is_good_for_what_was_committed_before(
        self, host: VerifyingHost, alice: SshKey
    ) -> None:
        host.allow(alice.allowed('valid-before="20200102"'))
        assert "key has expired" in self.refusal_at(host, alice, LONG_AGO_SECONDS + 2 * 86_400)
        # In UTC, whatever the time zone of the daemon.
        assert "key has expired" in self.refusal_at(host, alice, LONG_AGO_SECONDS + 86_400 + 1)
        self.commit_at(host, alice, LONG_AGO_SECONDS + 86_400 - 1)
        assert host.ask()

    def commit_at(self, host: VerifyingHost, key: SshKey, seconds: int) -> None:
        raw = raw_commit(host.upstream)
        head, message = raw.split(b"\n\n", 1)
        lines = [
            line for line in head.split(b"\n") if not line.startswith((b"committer ", b"gpgsig", b" "))
        ]
        payload = (
            b"\n".join([*lines, b"committer Test <test@example.net> %d -1100" % seconds])
            + b"\n\n"
            + message
        )
        write_commit(host.upstream, transplanted(payload, key.sign(payload).encode()))

    def refusal_at(self, host: VerifyingHost, key: SshKey, seconds: int) -> str:
        self.commit_at(host, key, seconds)
        return host.refusal()

    def test_signature_that_was_made_for_something_else_is_refused(
        self, host: VerifyingHost, alice: SshKey
    ) -> None:
        host.allow(alice.allowed())
        raw = raw_commit(host.upstream)
        write_commit(host.upstream, transplanted(raw, alice.sign(raw, namespace="file").encode()))
        assert (
            "has a signature that is not good for it (Couldn't verify signature: namespace does not match)"
            in (host.refusal())
        )

    def test_certificate_of_a_trusted_authority_is_accepted(
        self, host: VerifyingHost, alice: SshKey, mallory: SshKey, tmp_path: Path
    ) -> None:
        authority = SshKey.make(tmp_path / "authority")
        host.allow(f"*@example.net cert-authority {authority.public}\n")
        signed(host.upstream, authority.certified(tmp_path / "carol", "carol@example.net"), "a")
        assert host.ask()
        signed(host.upstream, authority.certified(tmp_path / "dave", "dave@example.com"), "b")
        assert "which is not good for it" in host.refusal()
        signed(host.upstream, mallory.certified(tmp_path / "erin", "erin@example.net"), "c")
        assert "is signed by a key that is not in" in host.refusal()

    def test_lines_that_mean_nothing_do_no_harm(self, host: VerifyingHost, alice: SshKey) -> None:
        host.allow(
            "# the team\n", "\n", "garbage\n", alice.allowed('namespaces="git"', principal="*@x,alice")
        )
        signed(host.upstream, alice, "a")
        assert host.ask()

    def test_truncated_signature_is_refused(self, host: VerifyingHost, alice: SshKey) -> None:
        host.allow(alice.allowed())
        raw = raw_commit(host.upstream)
        lines = alice.sign(raw).encode().splitlines(keepends=True)
        write_commit(host.upstream, transplanted(raw, b"".join(lines[:2] + lines[-1:])))
        assert "has a signature that is not good for it" in host.refusal()


class TestOpenPgpKeys:
    """By what gpgv states; its exit code is 0 for some of these."""

    def test_key_that_has_expired_is_refused(
        self, host: VerifyingHost, gpg: GpgHome, tmp_path: Path
    ) -> None:
        key = gpg.key("carol", expires="1y", at=LONG_AGO)
        host.trust(gpg.export(tmp_path / "keyring", key))
        signed(host.upstream, key, "a")
        assert f"is signed by a key that has expired ({key.fingerprint[-16:]})" in host.refusal()

    def test_key_that_was_revoked_is_refused(
        self, host: VerifyingHost, gpg: GpgHome, tmp_path: Path
    ) -> None:
        key = gpg.key("dave")
        host.trust(gpg.export(tmp_path / "keyring", key))
        signed(host.upstream, key, "a")
        assert host.ask()
        key.revoke()
        host.trust(gpg.export(tmp_path / "keyring2", key))
        assert f"is signed by a key that was revoked ({key.fingerprint[-16:]})" in host.refusal()

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            (["--digest-algo", "SHA1"], "has a signature over SHA-1, which can be forged"),
            (["--textmode"], "has a signature over a text, not over exactly this commit"),
        ],
    )
    def test_signature_that_leaves_something_open_is_refused(
        self, host: VerifyingHost, bob: GpgKey, tmp_path: Path, options: list[str], why: str
    ) -> None:
        host.trust(bob.home.export(tmp_path / "keyring", bob))
        raw = raw_commit(host.upstream)
        write_commit(host.upstream, transplanted(raw, bob.sign(raw, *options).encode()))
        assert why in host.refusal()

    def test_signature_that_has_expired_is_refused(
        self, host: VerifyingHost, gpg: GpgHome, tmp_path: Path
    ) -> None:
        key = gpg.key("erin", at=LONG_AGO)
        host.trust(gpg.export(tmp_path / "keyring", key))
        raw = raw_commit(host.upstream)
        signature = key.sign(raw, "--default-sig-expire", "1d")
        write_commit(host.upstream, transplanted(raw, signature.encode()))
        assert "has a signature that has expired" in host.refusal()

    def test_second_signature_beside_a_good_one_is_refused(
        self, host: VerifyingHost, bob: GpgKey, eve: GpgKey, tmp_path: Path
    ) -> None:
        host.trust(bob.home.export(tmp_path / "keyring", bob))
        raw = raw_commit(host.upstream)
        both = bob.sign(raw, "-u", eve.fingerprint)
        write_commit(host.upstream, transplanted(raw, both.encode()))
        assert "has several signatures" in host.refusal()

    def test_garbage_in_armor_is_refused(self, host: VerifyingHost, bob: GpgKey, tmp_path: Path) -> None:
        host.trust(bob.home.export(tmp_path / "keyring", bob))
        garbage = b"-----BEGIN PGP SIGNATURE-----\n\nAAAA\n=AAAA\n-----END PGP SIGNATURE-----\n"
        write_commit(host.upstream, transplanted(raw_commit(host.upstream), garbage))
        assert "has a signature that gpgv can't read" in host.refusal()


def test_commit_of_a_sha256_repository_is_judged_as_git_does(alice: SshKey, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--object-format=sha256", ".")
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(alice.allowed())
    allowed.chmod(0o644)
    for name, value in [*alice.settings, ("gpg.ssh.allowedSignersFile", str(allowed))]:
        git(tmp_path, "config", name, value)
    git(tmp_path, "commit", "--quiet", "-S", "--allow-empty", "--message", "x")
    git(tmp_path, "verify-commit", "HEAD")
    revision = git(tmp_path, "rev-parse", "HEAD")
    raw = (git(tmp_path, "cat-file", "commit", "HEAD") + "\n").encode()
    assert len(revision) == 64
    signed = take_apart(read_commit(revision, raw))
    check_signature(signed, read_trust(Verify(allowed_signers=allowed)), Deadline.after(30))
    allowed.write_text("")
    with pytest.raises(RefusedCommit, match="is signed by a key that is not in"):
        check_signature(signed, read_trust(Verify(allowed_signers=allowed)), Deadline.after(30))
