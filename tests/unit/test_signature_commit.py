"""What of a commit is signed: as git takes it apart, and stricter than git where a commit is odd."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitopper_plugins._signedcommit import Kind, RefusedCommit, take_apart
from gitopper_plugins.dulwich.commit import read_commit
from libgitopper import Commit
from tests.support.upstream import ENVIRONMENT, git

SIGNATURE = b"-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----"
ARMOR = SIGNATURE.replace(b"\n", b"\n ")
TREE = b"tree " + b"a" * 40 + b"\n"
PARENT = b"parent " + b"b" * 40 + b"\n"
AUTHOR = b"author A <a@example.net> 1700000000 +0000\n"
COMMITTER = b"committer C <c@example.net> 1700000001 +0100\n"
SIGNED = b"gpgsig " + ARMOR + b"\n"
HEAD = TREE + AUTHOR + COMMITTER
MESSAGE = b"\nsubject\n"
GOOD = TREE + PARENT + AUTHOR + COMMITTER + SIGNED + MESSAGE


def labelled(label: bytes) -> bytes:
    return ARMOR.replace(b"SSH SIGNATURE", label)


def committed(old: bytes, new: bytes) -> bytes:
    return TREE + AUTHOR + COMMITTER.replace(old, new) + SIGNED + MESSAGE


def commit_of(raw: bytes, revision: str = "") -> Commit:
    name = hashlib.sha1(b"commit %d\0" % len(raw) + raw).hexdigest()
    return read_commit(revision or name, raw)


def refusal(raw: bytes, revision: str = "") -> str:
    with pytest.raises(RefusedCommit) as refused:
        take_apart(commit_of(raw, revision))
    return str(refused.value)


def test_commit_is_taken_apart() -> None:
    signed = take_apart(commit_of(GOOD))
    assert signed.kind is Kind.SSH
    assert signed.payload == TREE + PARENT + AUTHOR + COMMITTER + MESSAGE
    assert signed.signature == SIGNATURE + b"\n"
    assert signed.seconds == 1_700_000_001


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + SIGNED + MESSAGE,
        TREE + PARENT + PARENT + AUTHOR + COMMITTER + SIGNED + MESSAGE,
        HEAD + SIGNED + b"\n",
        HEAD + SIGNED + b"\nno end of line",
        HEAD + SIGNED + b"\nwith\r\nWindows\r\n\0",
        HEAD + b"encoding latin1\n" + SIGNED + MESSAGE,
        HEAD + SIGNED + b"mergetag object x\n tag v1\n \n words\r\n" + MESSAGE,
        HEAD + b"gpgsig " + ARMOR + b"\n \n" + MESSAGE,
        HEAD + SIGNED + b"gpgsig-sha256 other\n words\n" + MESSAGE,
        HEAD + SIGNED + b"\ngpgsig " + ARMOR + b"\n",
    ],
)
def test_what_git_writes_is_taken_apart_as_git_does(raw: bytes) -> None:
    signed = take_apart(commit_of(raw))
    assert (signed.payload, signed.signature.strip()) == as_git(raw)
    assert b"gpgsig" not in signed.payload.partition(b"\n\n")[0]


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (HEAD + MESSAGE, "is not signed"),
        (HEAD + b"\n" + SIGNED + MESSAGE, "is not signed"),
        (HEAD + b"gpgsig-sha256 " + ARMOR + b"\n" + MESSAGE, "is not signed"),
        (HEAD + SIGNED + SIGNED + MESSAGE, "several signatures"),
        (HEAD + SIGNED + b"gpgsig-sha512 x\n" + MESSAGE, "several signatures"),
        (HEAD + b"gpgsig " + ARMOR + b"\n " + ARMOR + b"\n" + MESSAGE, "several signatures"),
        (HEAD + b"gpgsig\n" + MESSAGE, "unknown kind"),
        (HEAD + b"gpgsig " + ARMOR[:-1] + b"\n" + MESSAGE, "unknown kind"),
        (HEAD + b"gpgsig x\n " + ARMOR + b"\n" + MESSAGE, "unknown kind"),
        (
            HEAD + b"gpgsig " + labelled(b"PGP MESSAGE") + b"\n" + MESSAGE,
            "unknown kind",
        ),
        (
            HEAD + b"gpgsig " + labelled(b"SIGNED MESSAGE") + b"\n" + MESSAGE,
            "X.509, which is not supported",
        ),
        (b"", "headers have no end"),
        (HEAD + SIGNED, "headers have no end"),
        (HEAD + SIGNED + b"x \0y\n" + MESSAGE, "zero bytes"),
        (GOOD.replace(b"\n", b"\r\n"), "headers have no end"),
        (TREE.replace(b"\n", b"\r\n") + AUTHOR + COMMITTER + SIGNED + MESSAGE, "is no hash"),
        (TREE[:-3] + b"\n" + AUTHOR + COMMITTER + SIGNED + MESSAGE, "is no hash"),
        (TREE + PARENT[:-2] + b"X\n" + AUTHOR + COMMITTER + SIGNED + MESSAGE, "is no hash"),
        (committed(b"\n", b"\r\n"), "when it was committed"),
        (committed(b"1700000001", b"-1"), "when it was committed"),
        (committed(b"1700000001", b"9" * 12), "when it was committed"),
        (committed(b"<", b"> 5 +0000 <"), "when it was committed"),
        (AUTHOR + COMMITTER + SIGNED + MESSAGE, "a header is missing"),
        (b"\n" + GOOD, "a header is missing"),
        (SIGNED + HEAD + MESSAGE, "out of order"),
        (AUTHOR + TREE + COMMITTER + SIGNED + MESSAGE, "out of order"),
        (TREE + COMMITTER + AUTHOR + SIGNED + MESSAGE, "out of order"),
        (TREE + AUTHOR + PARENT + COMMITTER + SIGNED + MESSAGE, "out of order"),
        (TREE + HEAD + SIGNED + MESSAGE, "there twice"),
        (HEAD + SIGNED + TREE + MESSAGE, "there twice"),
        (HEAD + SIGNED + PARENT + MESSAGE, "there twice"),
        (HEAD + COMMITTER + SIGNED + MESSAGE, "there twice"),
        (b" " + HEAD + SIGNED + MESSAGE, "has no name"),
        (b"object " + b"a" * 40 + b"\ntype commit\ntag v1\n" + SIGNED + MESSAGE, "a header is missing"),
    ],
)  # fmt: skip
def test_what_nobody_means_well_with_is_refused(raw: bytes, why: str) -> None:
    assert why in refusal(raw)


def test_content_that_is_not_what_the_hash_names_is_refused() -> None:
    assert "is not what its hash names" in refusal(GOOD, commit_of(GOOD + b"x").revision)
    assert "neither SHA-1 nor SHA-256" in refusal(GOOD, "abc")


@given(
    at=st.integers(0, len(GOOD)),
    gone=st.integers(0, 30),
    new=st.one_of(
        st.binary(max_size=8),
        st.sampled_from([TREE, PARENT, AUTHOR, COMMITTER, SIGNED]),
        st.sampled_from([b"\n", b"\n ", b"\n\n", b"gpgsig ", b"\r", b"\0"]),
    ),
)  # fmt: skip
def test_no_change_makes_it_see_another_payload_than_git(at: int, gone: int, new: bytes) -> None:
    raw = GOOD[:at] + new + GOOD[at + gone :]
    try:
        signed = take_apart(commit_of(raw))
    except RefusedCommit:
        return
    payload, signature = as_git(raw)
    assert (signed.payload, signed.signature.strip()) == (payload, signature)


def as_git(raw: bytes) -> tuple[bytes, bytes]:
    """Payload and signature as `parse_buffer_signed_by_header` of git 2.39 finds them, line by line."""
    payload, signature, header = b"", b"", ""
    lines = re.findall(rb"[^\n]*\n|[^\n]+\Z", raw)
    for at, line in enumerate(lines):
        if line == b"\n":
            return payload + b"".join(lines[at:]), signature.strip()
        if not line.startswith(b" "):
            header = (
                "ours" if line.startswith(b"gpgsig ") else "other" if line.startswith(b"gpgsig") else ""
            )
        if header == "ours":
            signature += line.removeprefix(b"gpgsig")[1:]
        elif not header:
            payload += line
    return payload, signature.strip()


RECORDER = """#!/bin/sh
for signature; do [ -f "$signature" ] && cat "$signature" > {out}/signature; done
cat > {out}/payload
"""


@pytest.fixture(params=["sha1", "sha256"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "repository"
    path.mkdir()
    git(path, "init", "--quiet", f"--object-format={request.param}")
    recorder = tmp_path / "gpg"
    recorder.write_text(RECORDER.format(out=tmp_path))
    recorder.chmod(0o755)
    git(path, "config", "gpg.program", str(recorder))
    return path


@pytest.mark.parametrize(
    ("message", "encoding"), [("plain", ""), ("ä\n\nbody\r\n", ""), ("latin", "latin1"), ("", "")]
)
def test_payload_and_signature_are_what_git_hands_to_gpg(
    repository: Path, tmp_path: Path, message: str, encoding: str
) -> None:
    raw, revision = written(repository, message, encoding)
    subprocess.run(
        ["git", "verify-commit", revision],
        cwd=repository,
        env=ENVIRONMENT,
        check=False,
        capture_output=True,
    )
    signed = take_apart(read_commit(revision, raw))
    assert signed.kind is Kind.OPENPGP
    assert signed.payload == (tmp_path / "payload").read_bytes()
    assert signed.signature.strip() == (tmp_path / "signature").read_bytes().strip()


def written(repository: Path, message: str, encoding: str) -> tuple[bytes, str]:
    """A commit by git, with a signature header of the right name for its hash put in by hand."""
    git(repository, "-c", f"i18n.commitEncoding={encoding or 'utf-8'}", "commit", "-q", "--allow-empty",
        "--allow-empty-message", "--cleanup=verbatim", "-m", message)  # fmt: skip
    argv = ["git", "cat-file", "commit", "HEAD"]
    raw = subprocess.run(argv, cwd=repository, env=ENVIRONMENT, capture_output=True, check=True).stdout
    head, _, body = raw.partition(b"\n\n")
    name = b"gpgsig-sha256" if len(git(repository, "rev-parse", "HEAD")) == 64 else b"gpgsig"
    armor = labelled(b"PGP SIGNATURE")
    raw = head + b"\n" + name + b" " + armor + b"\n\n" + body
    return raw, git(repository, "hash-object", "-t", "commit", "-w", "--stdin", stdin=raw)
