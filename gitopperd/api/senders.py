"""The senders of push notifications: how each proves who it is, and how it tells what was pushed.

A sender is believed for one thing only: that it is worth a look at an upstream now. What is there to
see is asked of the upstream itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any
from urllib.parse import parse_qs

from attrs import field, frozen

from gitopperd.api.repositories import repository
from gitopperd.api.secretfile import SecretError
from libgitopper import GitopperError

__all__ = ["SENDERS", "Delivery", "News", "RefusedDelivery", "Sender"]

STALE_SECONDS = 300
"""How far a sender's clock, and a delivery's way, may be off."""
BRANCHES = "refs/heads/"


class RefusedDelivery(GitopperError):  # noqa: N818 - it reads as what it is at the raise
    """A delivery that is not obeyed. The text helps who set it up, and tells nothing to others."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@frozen(kw_only=True)
class Delivery:
    """One request to a webhook, as it came; nothing of it is believed."""

    headers: Mapping[str, str] = field(repr=False)
    """Looked up without regard to case."""
    body: bytes = field(repr=False)
    time_seconds: float
    """When it came, as Unix time."""

    def header(self, name: str) -> str:
        """Return a header; empty where it is missing."""
        return self.headers.get(name, "")


@frozen(kw_only=True)
class News:
    """What a delivery says was pushed."""

    repositories: frozenset[str] | None = frozenset()
    """As `repository` names them: one repository by all of its URLs. None: any."""
    branch: str | None = None
    """None: any."""
    note: str = ""
    """Why it is no news of a branch, as ``a ping``; empty where it is."""

    def concerns(self, upstream: str, branches: Set[str]) -> bool:
        """Tell whether a look at `upstream` may find something new on one of `branches`."""
        if self.note or not (self.branch is None or self.branch in branches):
            return False
        return self.repositories is None or repository(upstream) in self.repositories


@frozen(kw_only=True)
class Sender:
    """One kind of sender."""

    verify: Callable[[Delivery, bytes], str]
    """From a delivery and the secret to what marks this very delivery, as far as the sender vouches for
    it: the same mark twice is a replay. Raises RefusedDelivery."""
    read: Callable[[Delivery], News]
    """What a verified delivery says. Raises RefusedDelivery when it can't be understood."""


def _refuse(proof: str) -> RefusedDelivery:
    # One text whatever is wrong: which part did not fit is nobody's business.
    message = f"{proof} is missing, or does not fit this body and the secret of this webhook"
    return RefusedDelivery(401, "bad-signature", message)


def _same(given: str, expected: bytes) -> bool:
    """Compare in a time that tells nothing of where they differ."""
    return hmac.compare_digest(given.encode(errors="surrogateescape"), expected)


def _hex(secret: bytes, *parts: bytes) -> bytes:
    return hmac.new(secret, b"".join(parts), hashlib.sha256).hexdigest().encode()


def _check_time(delivery: Delivery, seconds: str) -> None:
    # Only after the signature: before, the time is anybody's.
    if not (seconds.isascii() and seconds.isdecimal() and len(seconds) <= 12) or (
        abs(delivery.time_seconds - int(seconds)) > STALE_SECONDS
    ):
        what = f"signed at {seconds[:20]}, more than {STALE_SECONDS} s from the time of this host"
        raise RefusedDelivery(401, "stale-delivery", f"{what}; compare the clocks")


def _verify_github(delivery: Delivery, secret: bytes) -> str:
    """See docs.github.com, "Validating webhook deliveries". The delivery's id is not signed: no mark."""
    expected = b"sha256=" + _hex(secret, delivery.body)
    if not _same(delivery.header("X-Hub-Signature-256"), expected):
        raise _refuse("the X-Hub-Signature-256 header")
    return expected.decode()


def _verify_gitea(delivery: Delivery, secret: bytes) -> str:
    """See docs.gitea.com, "Webhooks"; Forgejo sends the same value under both names."""
    expected = _hex(secret, delivery.body)
    given = delivery.header("X-Forgejo-Signature") or delivery.header("X-Gitea-Signature")
    if not _same(given, expected):
        raise _refuse("the X-Gitea-Signature or X-Forgejo-Signature header")
    return expected.decode()


def _verify_gitlab(delivery: Delivery, secret: bytes) -> str:
    """See docs.gitlab.com, "Webhooks". The secret decides, so nobody talks us into the weaker way."""
    if secret.startswith(b"whsec_"):
        return _verify_standard(delivery, secret)
    if not _same(delivery.header("X-Gitlab-Token"), secret):
        raise _refuse("the X-Gitlab-Token header")
    # A push of several branches sends several bodies under one event; a retry sends one body again.
    name = delivery.header("Idempotency-Key") or delivery.header("X-Gitlab-Event-UUID")
    return f"{name} {hashlib.sha256(delivery.body).hexdigest()}"


def _verify_standard(delivery: Delivery, secret: bytes) -> str:
    """See www.standardwebhooks.com: several signatures may be sent, while a secret is being changed."""
    try:
        key = base64.b64decode(secret.removeprefix(b"whsec_"), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise SecretError("the secret begins with whsec_, and no base64 follows; copy it from GitLab again")
    name, seconds = delivery.header("webhook-id"), delivery.header("webhook-timestamp")
    signed = f"{name}.{seconds}.".encode(errors="surrogateescape") + delivery.body
    expected = b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
    given = delivery.header("webhook-signature").split()
    if not any([_same(one, expected) for one in given]):  # noqa: C419 - all of them, whichever fits
        raise _refuse("the webhook-signature header")
    _check_time(delivery, seconds)
    return name or expected.decode()


def _verify_hmac(delivery: Delivery, secret: bytes) -> str:
    """``X-Signature: t=<Unix time>,v1=<hex HMAC-SHA256 of "t.body">``."""
    fields = dict(part.strip().partition("=")[::2] for part in delivery.header("X-Signature").split(","))
    seconds = fields.get("t", "")
    expected = _hex(secret, seconds.encode(errors="surrogateescape"), b".", delivery.body)
    if not _same(fields.get("v1", ""), expected):
        raise _refuse("the X-Signature header, as t=<Unix time>,v1=<hex HMAC-SHA256 of time.body>,")
    _check_time(delivery, seconds)
    return expected.decode()


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RefusedDelivery(400, "bad-request", "the body is not a JSON object")
    return value


def _payload(delivery: Delivery) -> Mapping[str, Any]:
    """Return what GitHub and Gitea send, by either of the content types that they offer."""
    if delivery.header("Content-Type").startswith("application/x-www-form-urlencoded"):
        return _object(parse_qs(delivery.body).get(b"payload", [b""])[0])
    return _object(delivery.body)


def _push(ref: object, urls: Iterable[object]) -> News:
    if not isinstance(ref, str) or not ref.startswith(BRANCHES):
        return News(note="not a push to a branch")
    return News(repositories=_named(urls), branch=ref.removeprefix(BRANCHES))


def _named(urls: Iterable[object]) -> frozenset[str]:
    names = (repository(url) for url in urls if isinstance(url, str))
    return frozenset(name for name in names if name)


def _members(of: object, *names: str) -> list[object]:
    return [of.get(name) for name in names] if isinstance(of, dict) else []


def _read_like_github(delivery: Delivery) -> News:
    """Read what GitHub sends, and Gitea and Forgejo after its model.

    Only the body is looked at: X-GitHub-Event is not signed, so it could be exchanged on the way.
    """
    payload = _payload(delivery)
    if "zen" in payload:
        return News(note="a ping")
    urls = _members(payload.get("repository"), "clone_url", "ssh_url", "html_url", "git_url")
    return _push(payload.get("ref"), urls)


def _read_gitlab(delivery: Delivery) -> News:
    payload = _object(delivery.body)
    # System hooks have the event's name only. As above, the header is not looked at.
    if "push" not in _members(payload, "object_kind", "event_name"):
        return News(note="not a push")
    urls = _members(payload.get("project"), "git_http_url", "git_ssh_url", "web_url")
    urls += _members(payload.get("repository"), "git_http_url", "git_ssh_url", "homepage")
    return _push(payload.get("ref"), urls)


def _read_hmac(delivery: Delivery) -> News:
    """Read ``{"upstream": URL, "branch": name}``, both optional; an empty body concerns everything."""
    payload = _object(delivery.body) if delivery.body.strip() else {}
    upstream, branch = payload.get("upstream"), payload.get("branch")
    if not isinstance(upstream, str | None) or not isinstance(branch, str | None):
        raise RefusedDelivery(400, "bad-request", "upstream and branch are strings")
    named = None if upstream is None else _named([upstream])
    return News(repositories=named, branch=branch and branch.removeprefix(BRANCHES))


SENDERS: Mapping[str, Sender] = {
    "github": Sender(verify=_verify_github, read=_read_like_github),
    "gitlab": Sender(verify=_verify_gitlab, read=_read_gitlab),
    "gitea": Sender(verify=_verify_gitea, read=_read_like_github),
    "forgejo": Sender(verify=_verify_gitea, read=_read_like_github),
    "hmac": Sender(verify=_verify_hmac, read=_read_hmac),
}
