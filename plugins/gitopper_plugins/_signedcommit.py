"""What of a commit is signed, and by which signature: taken apart as git does it, and more strictly.

See gitformat-signature(5). Git takes the commit object without its signature headers for the signed
payload; so does this. What git passes over in silence (two signatures in one commit, headers out of
order) is refused: nobody who means well makes such a commit.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Iterator, Sequence

from attrs import field, frozen

from libgitopper import Commit

__all__ = ["Kind", "RefusedCommit", "SignedCommit", "take_apart"]


class RefusedCommit(Exception):  # noqa: N818 - it reads as what it is at each raise
    """A commit is not trusted; the text goes on from ``commit X by Y``."""


class Kind(enum.Enum):
    """How a commit is signed; the value is what its signature is labelled with."""

    SSH = b"SSH SIGNATURE"
    OPENPGP = b"PGP SIGNATURE"


@frozen(kw_only=True)
class SignedCommit:
    """A commit, taken apart."""

    kind: Kind
    payload: bytes = field(repr=False)
    """What the signature has to be over."""
    signature: bytes = field(repr=False)
    """Armored, as ssh-keygen and gpgv read it."""
    seconds: int
    """When it was committed, by the committer's word, since 1970; signed with the rest."""


_FORMATS = {40: ("sha1", b"gpgsig"), 64: ("sha256", b"gpgsig-sha256")}
"""Digits of a commit's hash to the name of the hash, and to the header with the signature."""
_FIRST = (b"tree", b"parent", b"author", b"committer")
_ORDER = re.compile(
    rb"tree\n(?:parent\n)*author\ncommitter\n(?:(?!(?:%s)?\n)[^\n]*\n)*" % b"|".join(_FIRST)
)
_OID = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_COMMITTER = re.compile(rb"[^<>\n]*<[^<>\n]*> ([0-9]{1,11}) [+-][0-9]{4}")
_X509 = b"-----BEGIN SIGNED MESSAGE-----"


def take_apart(commit: Commit) -> SignedCommit:
    """Take `commit` apart.

    Raises:
        RefusedCommit: it is not signed, in no way that is known here, or no sound commit at all.
    """
    hash_name, header = _FORMATS.get(len(commit.revision), ("", b""))
    _check_hash(commit, hash_name)
    head, end, message = commit.raw.partition(b"\n\n")
    if not end or b"\0" in head:
        raise RefusedCommit("is malformed: its headers have no end, or zero bytes")
    headers = list(_headers(head))
    _check_order(headers)
    signature = _signature(headers, header)
    kept = [lines for name, _, lines in headers if not name.startswith(b"gpgsig")]
    return SignedCommit(
        kind=_kind(signature),
        payload=b"".join(kept) + b"\n" + message,
        signature=signature + b"\n",
        seconds=_committed(headers),
    )


_Header = tuple[bytes, bytes, bytes]
"""Name, value with its lines joined, and the lines as they are."""


def _headers(head: bytes) -> Iterator[_Header]:
    for lines in re.findall(rb"[^\n]*\n(?: [^\n]*\n)*", head + b"\n"):
        name, _, value = lines[:-1].partition(b" ")
        yield name, value.replace(b"\n ", b"\n"), lines


def _check_hash(commit: Commit, name: str) -> None:
    """The signature is over the content, while a service follows hashes: so they must belong together."""
    if not name:
        raise RefusedCommit("is malformed: its hash is neither SHA-1 nor SHA-256")
    digest = hashlib.new(name, b"commit %d\0" % len(commit.raw), usedforsecurity=False)
    digest.update(commit.raw)
    if digest.hexdigest() != commit.revision:
        raise RefusedCommit("is not what its hash names: the store is damaged, or was tampered with")


def _check_order(headers: Sequence[_Header]) -> None:
    names = b"".join(name + b"\n" for name, _, _ in headers)
    if not _ORDER.fullmatch(names):
        raise RefusedCommit("is malformed: a header is missing, out of order, there twice, or has no name")
    if not all(_OID.fullmatch(value) for name, value, _ in headers if name in _FIRST[:2]):
        raise RefusedCommit("is malformed: its tree or a parent is no hash")


def _committed(headers: Sequence[_Header]) -> int:
    value = next(value for name, value, _ in headers if name == b"committer")
    found = _COMMITTER.fullmatch(value)
    if not found:
        raise RefusedCommit("is malformed: it does not tell when it was committed")
    return int(found[1])


def _signature(headers: Sequence[_Header], wanted: bytes) -> bytes:
    names = [name for name, _, _ in headers if name.startswith(b"gpgsig")]
    # The one for the other kind of hash may stand beside it, and is no part of the payload either.
    if len(set(names)) != len(names) or not set(names) <= {known for _, known in _FORMATS.values()}:
        raise RefusedCommit("is malformed: it has several signatures, or one of unknown name")
    if wanted not in names:
        raise RefusedCommit("is not signed")
    return next(value for name, value, _ in headers if name == wanted).strip(b" \n")


def _kind(signature: bytes) -> Kind:
    if signature.startswith(_X509):
        raise RefusedCommit("is signed with X.509, which is not supported: sign with ssh or OpenPGP")
    for kind in Kind:
        begin, end = (b"-----%s %s-----" % (word, kind.value) for word in (b"BEGIN", b"END"))
        if signature.startswith(begin + b"\n") and signature.endswith(b"\n" + end):
            if signature.count(b"-----BEGIN ") > 1:
                raise RefusedCommit("is malformed: it has several signatures")
            return kind
    raise RefusedCommit("has a signature of unknown kind: sign with ssh or OpenPGP")
