"""Answers of upstream that are spoilt on their way, over http, git:// and ssh.

Each is given up in time, told in plain words, and leaves nothing behind; the next fetch, over the same
way, brings everything.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from unittest import mock

from attrs import frozen

from gitopper_plugins.dulwich import DulwichPlugin
from libgitopper import Credentials, FetchRequest, SourceError, Store
from tests.proof.mischief import Mischief, Relay, relay
from tests.proof.table import Row
from tests.support.gitserver import git_daemon, http_server, ssh_server
from tests.support.upstream import Upstream

__all__ = [
    "LATEST_SECONDS",
    "SPOILT",
    "TIMEOUT_SECONDS",
    "Spoilt",
    "Way",
    "broken_by",
    "fetch",
    "sweep",
    "ways",
]

TIMEOUT_SECONDS = 0.5
LATEST_SECONDS = 4.5
"""When a fetch with that timeout must be over: ssh gets two seconds to end by itself."""
PLACES = {"http": (0, 300, 900), "git": (0, 100, 400), "ssh": (0, 500, 2500)}
"""Where an answer is spoilt: at once, in what the server says of itself, in the pack. For ssh in the
greeting, in the exchange of keys, and in what is encrypted."""
MAX_WORDS = 1000


@frozen
class Spoilt:
    """What is done to an answer."""

    way: str
    mischief: Mischief
    place: int
    """After how many bytes."""

    def __str__(self) -> str:
        return f"{self.way}, {self.mischief.value} after {self.place} bytes"


SPOILT = tuple(
    Spoilt(way, mischief, place)
    for way, places in PLACES.items()
    for mischief, place in product([m for m in Mischief if m is not Mischief.NONE], places)
)


@frozen(kw_only=True)
class Way:
    """A way to an upstream, by a relay."""

    relay: Relay
    url: str
    key: Path | None = None


@contextlib.contextmanager
def ways(root: Path) -> Iterator[Mapping[str, Way]]:
    """Serve an upstream, made in the empty directory `root`, by each way."""
    upstream = Upstream.create(root / "upstreams")
    upstream.commit({"web/index": os.urandom(50_000), "web/other": "1"})
    with contextlib.ExitStack() as stack:
        http = stack.enter_context(relay(stack.enter_context(http_server(upstream.path.parent)).port))
        git = stack.enter_context(relay(stack.enter_context(git_daemon(upstream.path.parent))))
        sshd = stack.enter_context(ssh_server(root / "sshd"))
        ssh = stack.enter_context(relay(sshd.port))
        command = f"{sshd.command} -o HostKeyAlias=[127.0.0.1]:{sshd.port}"
        stack.enter_context(mock.patch.dict(os.environ, GIT_SSH_COMMAND=command))
        by_ssh = f"ssh://{sshd.user}@127.0.0.1:{ssh.port}{upstream.path}"
        yield {
            "http": Way(relay=http, url=f"http://127.0.0.1:{http.port}/fleet.git"),
            "git": Way(relay=git, url=f"git://127.0.0.1:{git.port}/fleet.git"),
            "ssh": Way(relay=ssh, url=by_ssh, key=sshd.key),
        }


def fetch(plugin: DulwichPlugin, way: Way, stores: Path, timeout_seconds: float = 20.0) -> Store:
    """Fetch by `way`.

    Raises:
        SourceError: it can't be done.
    """
    request = FetchRequest(
        upstream=way.url, credentials=Credentials(ssh_key=way.key), branches=frozenset({"main"}),
        stores=stores, timeout_seconds=timeout_seconds,
    )  # fmt: skip
    store = plugin.gitopper_fetch(request)
    assert store is not None
    return store


def broken_by(spoilt: Spoilt, way: Way, stores: Path) -> list[str]:
    """Fetch by `way` into the directory `stores`, spoilt and then well; return which promises broke."""
    plugin = DulwichPlugin()
    way.relay.mischief, way.relay.after_bytes = spoilt.mischief, spoilt.place
    began, told, tips = time.monotonic(), "", {}
    try:
        tips = dict(fetch(plugin, way, stores, TIMEOUT_SECONDS).tips)
    except SourceError as exc:
        told = str(exc)
    finally:
        way.relay.mischief = Mischief.NONE
    took_seconds = time.monotonic() - began
    with contextlib.closing(plugin):
        whole = dict(fetch(plugin, way, stores).tips)
    left = [p.name for p in stores.rglob("*") if p.name.startswith(("scratch-", ".new-"))]
    promises = {
        f"it took {took_seconds:.1f} s": took_seconds < LATEST_SECONDS,
        # What comes behind a complete answer harms nobody; nor does a kept connection that is lost.
        "no reason was told": told
        or (tips == whole and spoilt.place)
        # That nothing more comes, said without end, is also the answer of a server without a branch.
        or (tips in (whole, {}) and spoilt.mischief is Mischief.ENDLESS),
        f"the reason is not fit to be shown: {told!r}": told.isprintable() and len(told) < MAX_WORDS,
        "the next fetch brought nothing": bool(whole),
        f"left: {left}": not left,
    }
    return [f"{spoilt}: {what}" for what, kept in promises.items() if not kept]


def sweep(every: Iterable[Spoilt]) -> list[Row]:
    """Try `every` one of them; return a row for each way."""
    failures: dict[str, list[str]] = {}
    points: dict[str, int] = {}
    with (
        tempfile.TemporaryDirectory(prefix="gitopper-proof-") as directory,
        ways(Path(directory) / "ways") as known,
    ):
        for number, spoilt in enumerate(every):
            stores = Path(directory) / f"stores{number}"
            try:
                broken = broken_by(spoilt, known[spoilt.way], stores)
            except Exception as exc:  # noqa: BLE001 - it is told in the table
                broken = [f"{spoilt}: {exc!r}"]
            failures.setdefault(spoilt.way, []).extend(broken)
            points[spoilt.way] = points.get(spoilt.way, 0) + 1
    return [
        Row(part="failing", case=f"answers by {way}", points=n, promises=5 * n, failures=failures[way])
        for way, n in points.items()
    ]
