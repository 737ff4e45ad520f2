"""Keys, made on the spot by ssh-keygen and gpg, and commits that git signs with them."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from attrs import frozen

from tests.support.upstream import ENVIRONMENT, Upstream, git

__all__ = [
    "GpgHome", "GpgKey", "Signer", "SshKey", "gpg_home", "raw_commit", "signature_of", "signed",
    "signed_by", "transplanted", "write_commit",
]  # fmt: skip


class Signer(Protocol):
    """A key that git can sign with."""

    @property
    def settings(self) -> Sequence[tuple[str, str]]:
        """Git's configuration to sign with it."""


@frozen
class SshKey:
    """An ssh key without a passphrase."""

    private: Path

    @classmethod
    def make(cls, directory: Path, name: str = "key") -> SshKey:
        """Make the key ``<directory>/<name>``."""
        directory.mkdir(parents=True, exist_ok=True)
        key = cls(directory / name)
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key.private))
        return key

    @property
    def public(self) -> str:
        """Kind and key, as they stand in files."""
        return " ".join(self.private.with_suffix(".pub").read_text().split()[:2])

    @property
    def settings(self) -> Sequence[tuple[str, str]]:
        """See `Signer`."""
        return [("gpg.format", "ssh"), ("user.signingkey", str(self.private))]

    def allowed(self, *options: str, principal: str = "dev@example.net") -> str:
        """A line for allowed_signers."""
        return " ".join([principal, *([",".join(options)] if options else []), self.public]) + "\n"

    def certified(self, directory: Path, principal: str) -> SshKey:
        """Make another key, with a certificate for `principal` by this one."""
        key = SshKey.make(directory)
        argv = ["ssh-keygen", "-q", "-s", str(self.private), "-I", principal, "-n", principal]
        _run(*argv, str(key.private.with_suffix(".pub")))
        # Git is told the certificate; ssh-keygen finds the key beside it.
        return SshKey(directory / "key-cert.pub")

    def sign(self, data: bytes, *, namespace: str = "git") -> str:
        """A signature over `data`, armored."""
        argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(self.private)]
        return subprocess.run(argv, input=data, capture_output=True, check=True).stdout.decode()


@frozen
class GpgKey:
    """An OpenPGP key without a passphrase, in the home of its gpg."""

    home: GpgHome
    fingerprint: str
    at: str = ""
    """When it signs, as ``20200101T000000``; empty for now."""

    @property
    def settings(self) -> Sequence[tuple[str, str]]:
        """See `Signer`."""
        return [
            ("gpg.format", "openpgp"),
            ("gpg.program", str(self._program())),
            ("user.signingkey", self.fingerprint),
        ]

    def _program(self) -> Path:
        program = self.home.path / f"gpg-{self.at or 'now'}"
        program.write_text(f'#!/bin/sh\nexec {" ".join(self.home.argv(self.at))} "$@"\n')
        program.chmod(0o755)
        return program

    def sign(self, data: bytes, *options: str) -> str:
        """A detached signature over `data`, armored."""
        argv = [*self.home.argv(self.at), "-u", self.fingerprint, *options, "-bsa"]
        return subprocess.run(argv, input=data, capture_output=True, check=True).stdout.decode()

    def revoke(self) -> None:
        """Revoke it, for good."""
        certificate = (self.home.path / "openpgp-revocs.d" / f"{self.fingerprint}.rev").read_text()
        _run(*self.home.argv(), "--import", stdin=certificate.replace(":-----", "-----").encode())


@frozen
class GpgHome:
    """A directory of keys, with a gpg-agent that lasts as long."""

    path: Path

    def argv(self, at: str = "") -> list[str]:
        """The gpg of this home, at some time."""
        faked = ["--faked-system-time", at] if at else []
        return ["gpg", "--homedir", str(self.path), "--batch", "--quiet", "--passphrase", "", *faked]

    def key(self, name: str, *, expires: str = "never", at: str = "") -> GpgKey:
        """Make a key, `at` some time; `expires` as ``1y`` from then."""
        argv = self.argv(at)
        _run(*argv, "--quick-generate-key", f"{name} <{name}@example.net>", "ed25519", "sign", expires)
        listed = _run(*argv, "--with-colons", "--list-keys", f"{name}@example.net")
        return GpgKey(
            self, next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr")), at
        )

    def export(self, path: Path, *keys: GpgKey, armored: bool = False) -> Path:
        """Write a keyring with the public parts of `keys`."""
        argv = [
            *self.argv(),
            *(["--armor"] if armored else []),
            "--export",
            *(key.fingerprint for key in keys),
        ]
        path.write_bytes(subprocess.run(argv, capture_output=True, check=True).stdout)
        return path


@contextlib.contextmanager
def gpg_home() -> Iterator[GpgHome]:
    """Make a home for gpg; on leaving the block its agent is ended, and it is removed."""
    # Not below a directory with a long name: the agent's socket would not fit.
    path = Path(tempfile.mkdtemp(prefix="gpg-"))
    try:
        yield GpgHome(path)
    finally:
        _run("gpgconf", "--homedir", str(path), "--kill", "all")
        # The agent removes its sockets while we do.
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def signed_by(upstream: Upstream, signer: Signer) -> Iterator[None]:
    """Within the block, what is committed and merged in the work tree of `upstream` is signed."""
    for name, value in [*signer.settings, ("commit.gpgsign", "true"), ("tag.gpgsign", "true")]:
        git(upstream.work, "config", name, value)
    try:
        yield
    finally:
        git(upstream.work, "config", "commit.gpgsign", "false")
        git(upstream.work, "config", "tag.gpgsign", "false")


def signed(upstream: Upstream, signer: Signer, *names: str, branch: str = "main") -> list[str]:
    """Commit a file of each of these names, signed; return the hashes."""
    with signed_by(upstream, signer):
        return [upstream.commit({f"web/{name}": name}, branch=branch) for name in names]


def raw_commit(upstream: Upstream, revision: str = "main") -> bytes:
    """A commit object, as git hashes it."""
    argv = ["git", "cat-file", "commit", revision]
    return subprocess.run(argv, cwd=upstream.work, env=ENVIRONMENT, capture_output=True, check=True).stdout


def write_commit(upstream: Upstream, raw: bytes, *, branch: str = "main") -> str:
    """Make `raw`, whatever it holds, the tip of `branch` upstream; return its hash."""
    write = ["hash-object", "-t", "commit", "-w", "--stdin", "--literally"]
    revision = git(upstream.path, *write, stdin=raw)
    # By hand, since git would look at the commit first.
    (upstream.path / "refs/heads" / branch).write_text(f"{revision}\n")
    return revision


def signature_of(raw: bytes) -> bytes:
    """The signature in a commit object whose last header it is."""
    lines = raw.partition(b"\n\n")[0].split(b"\n")
    start = next(at for at, line in enumerate(lines) if line.startswith(b"gpgsig "))
    return b"".join(line.removeprefix(b"gpgsig").removeprefix(b" ") + b"\n" for line in lines[start:])


def transplanted(raw: bytes, signature: bytes) -> bytes:
    """A commit object with a signature added."""
    head, _, message = raw.partition(b"\n\n")
    return head + b"\ngpgsig " + signature.strip().replace(b"\n", b"\n ") + b"\n\n" + message


def _run(*argv: str, stdin: bytes = b"") -> str:
    done = subprocess.run(argv, input=stdin, env=ENVIRONMENT, capture_output=True, check=False)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout.decode()
