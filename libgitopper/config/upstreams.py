"""Upstreams: which are accepted, how they are written in one way, and how secrets leave the URL."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

from attrs import field, frozen

from libgitopper.config.problems import BadValueError, redacted, shown
from libgitopper.config.values import absolute_path, string

__all__ = ["Upstream", "upstream"]

DEFAULT_PORTS = {"http": 80, "https": 443, "ssh": 22, "git": 9418}
EXAMPLE = (
    '"https://git.example.net/config.git", "ssh://git@git.example.net/config.git" or "/srv/git/config.git"'
)

# Neither a host nor a user may begin with "-": ssh would take it for an option.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\]")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+~%-]*")
_SCP = re.compile(rf"(?P<user>{_USER.pattern})@(?P<host>{_HOST.pattern}):(?P<path>.+)")
_SERVER = re.compile(rf"(?P<host>{_HOST.pattern})(?::[0-9]*)?")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@frozen(kw_only=True)
class Upstream:
    """A remote repository, its secrets apart."""

    url: str
    """Safe to show; one spelling for each repository as far as the URL alone can tell."""
    scheme: str
    """``http``, ``https``, ``ssh``, ``git`` or ``file``."""
    server: str = ""
    """Host, and port where it is not the scheme's own; empty for a repository on this host."""
    userinfo: str | None = field(default=None, repr=False)
    """``user:password``, or a token alone, percent-encoded."""

    def same_server(self, other: Upstream) -> bool:
        """Tell whether what one of them is given goes to where the other's goes."""
        return (self.scheme, self.server) == (other.scheme, other.server)


def upstream(value: object) -> Upstream:
    """Return an upstream: an http, https, ssh, git or file URL, ``user@host:path``, or an absolute path."""
    text = string(value, EXAMPLE)
    # Before anything is taken apart: urlsplit would drop tabs and newlines without a word.
    if not text or not text.isprintable() or " " in text:
        raise _bad(text, "is empty, or has white space or control characters in it")
    if _URL.match(text):
        return _from_url(text)
    if match := _SCP.fullmatch(text):
        if match["path"].startswith("-"):  # the far end would take it for an option
            raise _bad(text, 'has a path that begins with "-"')
        return Upstream(url=text, scheme="ssh", server=match["host"].lower())
    if text.startswith("/"):
        return Upstream(url=str(absolute_path(text)), scheme="file")
    raise _bad(text, "is neither a URL nor an absolute path")


def _from_url(text: str) -> Upstream:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _bad(text, "has a host or port that can't be read") from None
    if parts.scheme not in (*DEFAULT_PORTS, "file"):
        raise _bad(
            text, f"has the scheme {shown(parts.scheme)}, which is not one of http, https, ssh, git, file"
        )
    if "?" in text or "#" in text:
        raise _bad(
            text, "has a query or a fragment, which no repository needs (in a password, write %3F, %23)"
        )
    if "@" in parts.path and parts.scheme != "file":
        # Perhaps a password with a slash in it, which would be shown as a part of the path.
        raise _bad(text, "has an @ after its first / (in a path write %40, and in a password %2F for /)")
    path = parts.path.rstrip("/")
    if not path:
        raise _bad(text, "names no repository")
    if parts.scheme == "file":
        return _local(text, parts, path)
    user, server = _userinfo(text, parts), _server(text, parts, port)
    if parts.scheme in ("http", "https"):
        url = f"{parts.scheme}://{server}{path}"
        return Upstream(url=url, scheme=parts.scheme, server=server, userinfo=user)
    # The user of an ssh upstream is no secret, and another user may be another repository.
    url = f"{parts.scheme}://{f'{user}@' if user else ''}{server}{path}"
    return Upstream(url=url, scheme=parts.scheme, server=server)


def _local(text: str, parts: SplitResult, path: str) -> Upstream:
    if parts.netloc not in ("", "localhost"):
        raise _bad(
            text, "is a file URL with a host; files are on this host", '"file:///srv/git/config.git"'
        )
    return Upstream(url=f"file://{absolute_path(path)}", scheme="file")


def _server(text: str, parts: SplitResult, port: int | None) -> str:
    match = _SERVER.fullmatch(parts.netloc.rpartition("@")[2])
    if not match:
        raise _bad(text, "has no host, or one that is not in ASCII (a name as xn--… is)")
    suffix = f":{port}" if port not in (None, DEFAULT_PORTS[parts.scheme]) else ""
    return match["host"].lower() + suffix


def _userinfo(text: str, parts: SplitResult) -> str | None:
    """Return user and password as the URL has them, percent-encoded in one way."""
    userinfo, at, _ = parts.netloc.rpartition("@")
    if not at:
        return None
    user, colon, password = userinfo.partition(":")
    if parts.scheme == "git":
        raise _bad(text, "has a user; the git protocol knows none", '"git://git.example.net/config.git"')
    if parts.scheme == "ssh":
        if colon:
            example = '"ssh://git@git.example.net/config.git" and ssh_key = "/etc/gitopper/id_ed25519"'
            raise _bad(text, "has a password; ssh takes none from a URL", example)
        if not _USER.fullmatch(user):
            raise _bad(text, "has a user that no ssh server would have")
        return user
    if not user and not password:
        raise _bad(text, "has an @ without a user before it")
    user, password = (quote(unquote_to_bytes(part), safe="") for part in (user, password))
    return f"{user}:{password}" if colon else user


def _bad(text: str, what: str, example: str = EXAMPLE) -> BadValueError:
    hidden = redacted(text)
    # Without a scheme, what stands before the @ may still be a token.
    if hidden == text and "@" in text and not _SCP.fullmatch(text):
        hidden = "…@" + text.rpartition("@")[2]
    return BadValueError(f"{shown(hidden)} {what}; write {example}")
