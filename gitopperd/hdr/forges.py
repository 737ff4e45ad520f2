"""From the URL of a remote to the page of a file: what each kind of forge calls it."""

from __future__ import annotations

import os
import re
from urllib.parse import quote, urlsplit

from gitopperd.hdr.errors import HeaderError

__all__ = ["FORGES", "file_url", "forge_of", "web_address"]

FORGES = {
    "github": "{base}/blob/{ref}/{path}",
    "gitlab": "{base}/-/blob/{ref}/{path}",
    "gitea": "{base}/src/{kind}/{ref}/{path}",
    "bitbucket": "{base}/src/{ref}/{path}",
    "sourcehut": "{base}/tree/{ref}/item/{path}",
}
"""The page of a file, by the kind of forge. `kind` is ``branch`` or ``commit``. Forgejo is a Gitea."""

# What the name of a host says of it. Else it is taken for a GitLab: most of those have names of their own.
_HOSTS = (
    ("github", "github"), ("gitlab", "gitlab"), ("gitea", "gitea"), ("forgejo", "gitea"),
    ("codeberg.org", "gitea"), ("bitbucket.org", "bitbucket"), ("git.sr.ht", "sourcehut"),
)  # fmt: skip

# ssh over port 443, for those behind a firewall.
_ALIASES = {
    "ssh.github.com": "github.com",
    "altssh.gitlab.com": "gitlab.com",
    "altssh.bitbucket.org": "bitbucket.org",
}

_OVER_SSH = frozenset({"ssh", "git+ssh", "ssh+git", "git"})
# No slash up to the first colon, or it is a path; no second colon, or it names a helper (git-clone(1)).
_SCP = re.compile(r"(?:[^@/\[]+@)?(?:\[([^\]]+)\]|([^:/\[]+)):(?!//|:)(.*)", re.DOTALL)


def web_address(remote: str) -> str:
    """Return where a browser finds the repository that git finds at `remote`; never with credentials.

    Raises:
        HeaderError: `remote` is a path, or nothing that has a web address.
    """
    try:
        base, path = _split(remote)
    except ValueError:
        base = path = ""
    path = path.strip("/").removesuffix(".git").strip("/")
    if not base or not path:
        raise HeaderError(
            f"the remote {_without_userinfo(remote)} has no web address; give that of the repository: --url"
        )
    return f"{base}/{quote(os.fsencode(path), safe='/~%')}"


def forge_of(address: str) -> str:
    """Return which kind of forge answers at `address`, by its name."""
    host = urlsplit(address).hostname or ""
    return next((forge for word, forge in _HOSTS if word in host), "gitlab")


def file_url(base: str, forge: str, path: str, *, branch: str | None, revision: str) -> str:
    """Return the page of `path` on a branch, or, without one, at a revision."""
    return FORGES[forge].format(
        base=base.rstrip("/"),
        kind="branch" if branch else "commit",
        # Bitbucket takes what follows a slash for the path.
        ref=quote(os.fsencode(branch or revision), safe="" if forge == "bitbucket" else "/"),
        path=quote(os.fsencode(path)),
    )


def _split(remote: str) -> tuple[str, str]:
    """Return scheme and host for a browser, and the path; empty, the former, where there is no host."""
    if "://" in remote:
        parts = urlsplit(remote)
        host, port = parts.hostname or "", parts.port
        scheme = parts.scheme.lower()
        if scheme in ("http", "https") and host:
            return f"{scheme}://{_shown(host)}{f':{port}' if port else ''}", parts.path
        # The port is that of ssh; where the web server listens can't be told.
        return (f"https://{_shown(host)}" if scheme in _OVER_SSH and host else ""), parts.path
    match = _SCP.fullmatch(remote)
    if match is None:
        return "", ""
    host = match[2] or match[1].rpartition("@")[2]
    if host.count(":") == 1:  # as [git@host:2222]:path
        host = host.partition(":")[0]
    return f"https://{_shown(host)}", match[3]


def _shown(host: str) -> str:
    host = _ALIASES.get(host.lower(), host)
    return f"[{host}]" if ":" in host else host


def _without_userinfo(remote: str) -> str:
    return re.sub(r"(?<=://)[^/]*@", "", remote)
