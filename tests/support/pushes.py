"""Push notifications, signed as each kind of sender signs them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
import uuid
from pathlib import Path

from tests.support.secrets import secret

__all__ = ["SECRET", "payload", "signed"]

DATA = Path(__file__).parents[1] / "data" / "webhooks"
SECRET = secret("a-secret-of-the-webhook-tests")


def payload(name: str) -> bytes:
    """Return a payload as its sender wrote it, byte for byte."""
    return (DATA / f"{name}.json").read_bytes()


def signed(kind: str, body: bytes, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    """Return the headers of a delivery; `at` is its Unix time, where the sender tells one."""
    seconds, name = str(int(time.time() if at is None else at)), str(uuid.uuid4())
    headers = {"Content-Type": "application/json"}
    if kind == "github":
        headers |= {
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": name,
            "X-Hub-Signature-256": f"sha256={_hex(secret, body)}",
        }
    elif kind == "gitlab":
        headers |= {
            "X-Gitlab-Event": "Push Hook",
            "X-Gitlab-Event-UUID": name,
            "Idempotency-Key": name,
            "X-Gitlab-Token": secret,
        }
    elif kind == "gitlab-signed":
        key = base64.b64decode(secret.removeprefix("whsec_"))
        digest = hmac.digest(key, f"{name}.{seconds}.".encode() + body, hashlib.sha256)
        headers |= {
            "X-Gitlab-Event": "Push Hook",
            "webhook-id": name,
            "webhook-timestamp": seconds,
            "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        }
    elif kind in ("gitea", "forgejo"):
        brand = kind.title()
        headers |= {
            f"X-{brand}-Delivery": name,
            f"X-{brand}-Event": "push",
            f"X-{brand}-Signature": _hex(secret, body),
        }
    else:
        headers["X-Signature"] = f"t={seconds},v1={_hex(secret, seconds.encode() + b'.' + body)}"
    return headers


def _hex(secret: str, signed: bytes) -> str:
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
