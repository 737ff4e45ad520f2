"""Asking ssh-keygen and gpgv whether a signature is good, and by a key that is trusted."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import gmtime, strftime

from attrs import frozen

from gitopper_plugins._channel import Deadline
from gitopper_plugins._signedcommit import Kind, RefusedCommit, SignedCommit
from gitopper_plugins._trust import Trust
from libgitopper import CommandError, Completed, VerifyError, run

__all__ = ["check_signature"]

_WORDS = {Kind.SSH: "ssh", Kind.OPENPGP: "OpenPGP"}
_PACKAGES = {"ssh-keygen": "openssh-client (Debian) or openssh", "gpgv": "gpgv (Debian) or gnupg"}
_NAMESPACE = "git"
_NO_HOME = "/nonexistent"
"""As users without a home have it: no settings, and no keys but those that are named."""

# Of the status lines of gpgv, those that pronounce a judgement. See doc/DETAILS of GnuPG.
_JUDGEMENTS = ("GOODSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "BADSIG", "ERRSIG")
_WHY = {
    "EXPSIG": "has a signature that has expired",
    "EXPKEYSIG": "is signed by a key that has expired",
    "REVKEYSIG": "is signed by a key that was revoked",
    "BADSIG": "has a signature that is not its own: it was altered, or the signature is of something else",
    "ERRSIG": "has a signature that gpgv can't judge",
}
_WEAK_HASHES = {"1": "MD5", "2": "SHA-1", "3": "RIPEMD-160"}
_NO_PUBLIC_KEY = "9"
_BINARY = "00"
"""The class of a signature over exactly these bytes; one over a text leaves line ends open."""


def check_signature(signed: SignedCommit, trust: Trust, deadline: Deadline) -> None:
    """Return if the signature is good, and by a key that is trusted.

    Raises:
        RefusedCommit: it is not; the text tells why.
        VerifyError: it can't be judged now.
        TimeoutError: the time is over.
        CommandError: likewise, or a program can't be run.
    """
    keys = trust.files.get(signed.kind)
    if keys is None:
        (has,) = trust.files
        raise RefusedCommit(
            f"is signed with {_WORDS[signed.kind]}, and there are keys for {_WORDS[has]} only"
        )
    with _in_memory(signed.payload) as payload, _in_memory(signed.signature) as signature:
        work = _Work(signed=signed, payload=payload, signature=signature, keys=keys, deadline=deadline)
        _CHECKS[signed.kind](work)


@contextlib.contextmanager
def _in_memory(data: bytes) -> Iterator[Path]:
    """Give `data` a path while the block runs, without a file that a killed daemon would leave behind."""
    descriptor = os.memfd_create("gitopper-verify")
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        # Whoever opens it has a position of its own in it, the beginning.
        yield Path(f"/proc/{os.getpid()}/fd/{descriptor}")


@frozen(kw_only=True)
class _Work:
    """One signature to be judged."""

    signed: SignedCommit
    payload: Path
    signature: Path
    keys: Path
    deadline: Deadline

    def run(self, program: str, *arguments: str) -> Completed:
        """Run `program` with the payload as its input.

        Raises:
            VerifyError: it is not installed.
            CommandError: it can't be run, or the time is over.
        """
        try:
            with self.payload.open("rb") as payload:
                done = run(
                    [program, *arguments],
                    timeout_seconds=self.deadline.remaining(),
                    env=self._environment,
                    stdin=payload,
                )
        except CommandError as exc:
            if isinstance(exc.__cause__, FileNotFoundError):
                raise VerifyError(
                    f"no commit can be verified: {program} is not installed; install {_PACKAGES[program]}",
                    retryable=True,
                ) from exc
            raise
        return done.check() if done.code < 0 else done  # one that was killed has judged nothing

    @property
    def _environment(self) -> Mapping[str, str]:
        """Nobody's own configuration has a say; and times are UTC, in and out."""
        path = os.environ.get("PATH", os.defpath)
        return {"PATH": path, "HOME": _NO_HOME, "TZ": "UTC", "LC_ALL": "C"}


def _check_ssh(work: _Work) -> None:
    """As git does: whose key is it, and is the signature good for one of those principals."""
    at = f"-Overify-time={strftime('%Y%m%d%H%M%S', gmtime(work.signed.seconds))}"
    given = ("-f", str(work.keys), "-s", str(work.signature), at)
    found = work.run("ssh-keygen", "-Y", "find-principals", *given)
    told = found.output
    for principal in _principals(found, work.keys):
        verified = work.run("ssh-keygen", "-Y", "verify", "-n", _NAMESPACE, "-I", principal, *given)
        if verified.code == 0:
            return
        told = verified.output
    raise RefusedCommit(_why_not_ssh(work, told, at))


def _principals(found: Completed, keys: Path) -> Sequence[str]:
    if found.code != 0:
        return []
    # What it says of lines that it can't read comes with the same stream. To take one for a principal
    # would be harmless, though: no principal makes a key trusted.
    said = f"{keys}:"
    return [line for line in found.output.splitlines() if line and not line.startswith(said)]


def _why_not_ssh(work: _Work, told: str, at: str) -> str:
    signature = str(work.signature)
    itself = work.run("ssh-keygen", "-Y", "check-novalidate", "-n", _NAMESPACE, "-s", signature, at)
    if itself.code != 0:
        return f"has a signature that is not good for it ({_first_line(itself.output)})"
    key = itself.output.strip().rpartition(" with ")[2]
    said = [line for line in told.splitlines() if line.startswith(f"{work.keys}:")]
    if said:
        return f"is signed by {key}, which is not good for it ({said[-1]})"
    return f"is signed by a key that is not in {work.keys} ({key})"


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")


def _check_openpgp(work: _Work) -> None:
    """By what gpgv states, never by its exit code alone: that is 0 for a key that was revoked, too."""
    files = str(work.signature), str(work.payload)
    judged = work.run(
        "gpgv", "--homedir", _NO_HOME, "--keyring", str(work.keys), "--status-fd", "1", *files
    )
    status = [line.split(" ")[1:] for line in judged.output.splitlines() if line.startswith("[GNUPG:] ")]
    if why := _why_not_openpgp(status, judged, work.keys):
        raise RefusedCommit(why)


def _why_not_openpgp(status: Sequence[Sequence[str]], judged: Completed, keys: Path) -> str:
    """Empty when the signature is good."""
    judgements = [words for words in status if words[0] in _JUDGEMENTS]
    if len(judgements) != 1:
        some = "several signatures" if judgements else "a signature that gpgv can't read"
        return f"has {some} ({_first_line(judged.output)})"
    judgement = judgements[0]
    if judgement[0] == "ERRSIG" and judgement[6:7] == [_NO_PUBLIC_KEY]:
        return f"is signed by a key that is not in {keys} ({judgement[-1]})"
    if judgement[0] != "GOODSIG":
        return f"{_WHY[judgement[0]]} ({judgement[1]})"
    return _why_not_valid([words for words in status if words[0] == "VALIDSIG"], judged)


def _why_not_valid(valid: Sequence[Sequence[str]], judged: Completed) -> str:
    if judged.code != 0 or len(valid) != 1 or len(valid[0]) < 10:
        return f"{_WHY['ERRSIG']} ({_first_line(judged.output)})"
    hash_used, kind = valid[0][8:10]
    if hash_used in _WEAK_HASHES:
        return f"has a signature over {_WEAK_HASHES[hash_used]}, which can be forged"
    if kind != _BINARY:
        return "has a signature over a text, not over exactly this commit; sign without --textmode"
    return ""


_CHECKS: Mapping[Kind, Callable[[_Work], None]] = {
    Kind.SSH: _check_ssh,
    Kind.OPENPGP: _check_openpgp,
}
