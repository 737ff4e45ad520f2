"""No text of a repository reaches a terminal or a log raw, the whole way, with a real daemon and client.

Names, subjects, authors and contents of files hold escape sequences, C1 controls and marks that turn the
direction of writing; programs print them, and somebody puts files with such names on the host.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import rawpack as raw
from tests.support.simulateddaemon import ROOT, command, environment
from tests.support.site import Site
from tests.support.site import site as make_site
from tests.support.upstream import git

TRICKS = "\x1b[2J\x1b]0;owned\x07\x9b31m\x85\u202egpj.\u2066\u2028\x7f\x08 \U000e0041"
TRICK = TRICKS.encode()
NAME = b"x" + TRICK + b"\r\n<3>all is lost\xff\xc3"
JUDGE = 'check = ["sh", "-c", "cd $GITOPPER_RELEASE/unfit/etc; ! grep -h . conf x* >&2 || ! test -e bad"]'
SHOWN = frozenset("\n\t")


def is_plain(text: bytes, also: str = "") -> bool:
    """True when a terminal shows all of it as itself."""
    return all(char.isprintable() or char in SHOWN or char in also for char in text.decode())


class Terminal:
    """gitopperctl on a terminal of 200 columns."""

    def __init__(self, *words: str) -> None:
        self.shown = bytearray()
        self._screen, theirs = pty.openpty()
        # Colours are escape sequences of our own: without them, none is left.
        env = environment(NO_COLOR="1", TERM="xterm", COLUMNS="200", LINES="50")
        self.process = subprocess.Popen(
            command(*words),
            cwd=ROOT,
            env=env,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def read(self, seconds: float) -> bytes:
        """All that is shown until it ends, or for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and select.select([self._screen], [], [], left)[0]:
            try:
                self.shown += os.read(self._screen, 65536)
            except OSError:  # it has ended
                break
        return bytes(self.shown)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        os.close(self._screen)


def on_terminal(*words: str) -> bytes:
    with contextlib.closing(Terminal(*words)) as terminal:
        return terminal.read(20)


def in_pipe(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command(*words), cwd=ROOT, env=environment(), capture_output=True, check=False)


class Forge:
    """Writes commits that git itself would not write."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository

    def write(self, kind: str, data: bytes) -> str:
        return git(self.repository, "hash-object", "-t", kind, "-w", "--literally", "--stdin", stdin=data)

    def tree(self, *entries: tuple[str, bytes, str]) -> str:
        return self.write("tree", raw.tree(*sorted(entries, key=lambda entry: entry[1])))

    def push(self, **services: list[tuple[str, bytes, str]]) -> str:
        """Commit the directories ``<service>/etc``, with a subject and an author of the worst kind."""
        directories = [
            ("40000", name.encode(), self.tree(("40000", b"etc", self.tree(*entries))))
            for name, entries in services.items()
        ]
        parent = git(self.repository, "rev-parse", "main")
        made = raw.commit(
            self.tree(*directories), parent, subject=b"s" + TRICK + b"s", author=b"a" + TRICK + b"a"
        )
        commit = self.write("commit", made)
        git(self.repository, "update-ref", "refs/heads/main", commit)
        return commit


class Story:
    """A host to which all of it has happened."""

    def __init__(self, site: Site) -> None:
        self.site, self.at = site, f"@unix:{site.home}/gitopperd.sock"
        self.forge = Forge(site.upstream.path)
        self.events = b""

    def happen(self) -> None:
        """Deploy, refuse by the checkout, refuse by a check, and change files on the host."""
        daemon, forge = self.site.daemon, self.forge
        conf, plain = forge.write("blob", TRICK + b"\nconf\n"), forge.write("blob", b"plain\n")
        good = [
            ("100644", b"conf", conf),
            ("100755", NAME, conf),
            ("120000", b"l" + TRICK, forge.write("blob", NAME)),
        ]
        first = forge.push(web=[("100644", b"conf", plain)], unfit=[("100644", b"conf", plain)])
        self._see("web", first)
        self.deployed = forge.push(web=good, unfit=[("100644", b"conf", plain)])
        self._see("web", self.deployed)
        self._see("unfit", self.deployed)
        out = forge.write("blob", b"/etc/" + TRICK)
        bad = [("100644", b"bad", plain), ("100644", b"conf", conf), ("100644", NAME, conf)]
        self.refused = forge.push(web=[*good, ("120000", b"out" + TRICK, out)], unfit=bad)
        daemon.post("/do/pull/web")
        daemon.wait_for("web", "DIFF", self.deployed, "is refused")
        daemon.wait_for("unfit", "BROKEN", self.deployed)
        (Path(os.fsdecode(os.fsencode(self.site.live("web")) + b"/web/etc/new" + NAME))).write_bytes(TRICK)
        (self.site.live("web") / "web/etc/conf").write_bytes(b"changed" + TRICK)
        daemon.post("/do/pull/web")
        daemon.wait_for("web", "DIFF", self.deployed)

    def _see(self, service: str, commit: str) -> None:
        self.site.daemon.post(f"/do/pull/{service}")
        self.site.daemon.wait_for(service, "OK", commit)

    def raw(self, path: str) -> bytes:
        """The body of an answer, as it is on the wire."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(f"{self.site.home}/gitopperd.sock")
            client.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
            answer = b""
            while piece := client.recv(65536):
                answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 200"), answer
        return body


@contextlib.contextmanager
def a_story(home: Path, *arguments: str) -> Iterator[Story]:
    with make_site(home) as site:
        site.upstream.commit({"web/etc/conf": "1", "unfit/etc/conf": "1"})
        site.configure("web", f"unfit: {JUDGE}", interval="1h")
        site.daemon.arguments = arguments
        with site.daemon as daemon:
            daemon.wait_for("web", "OK")
            story = Story(site)
            with contextlib.closing(Terminal("watch", story.at)) as watch:
                watch.read(1.5)
                story.happen()
                story.events = watch.read(1.5)
            yield story


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with a_story(tmp_path_factory.mktemp("texts")) as story:
        yield story


def test_log_is_plain_and_tells_what_happened(story: Story) -> None:
    log = story.site.daemon.log.read_bytes()
    assert is_plain(log)
    assert b"is refused" in log
    assert rb"out\x1b[2J" in log
    assert not any(line.startswith(b"<3>") for line in log.splitlines())


def test_log_in_json_is_plain_and_means_what_it_says(tmp_path: Path) -> None:
    with a_story(tmp_path, "--log-json") as story:
        log = story.site.daemon.log.read_bytes()
    assert is_plain(log)
    entries = [json.loads(line) for line in log.splitlines()]
    assert any(entry.get("event") == "rejected" for entry in entries)


def test_events_are_plain_as_they_happen(story: Story) -> None:
    assert is_plain(story.events, also="\r")
    assert b"rejected" in story.events
    assert b"is refused" in story.events


QUERIES = (
    "/list/services", "/list/service/web", "/list/service/unfit", "/history/web", "/history/unfit",
    "/explain/web", "/explain/web?commit={deployed}", "/explain/web?commit={refused}", "/explain/unfit",
    "/diff/web?kind=drift", "/diff/unfit?kind=upstream", "/diff/web?from={deployed}~&to={deployed}",
    "/metrics", "/openapi.json",
)  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_answers_are_plain_on_the_wire(story: Story, query: str) -> None:
    before = git(story.site.upstream.path, "rev-parse", f"{story.deployed}~")
    path = query.replace("{deployed}~", before).format(deployed=story.deployed, refused=story.refused)
    body = story.raw(path)
    assert is_plain(body)
    if path.startswith("/diff"):
        # The patch is what it is: only its way is safe.
        assert TRICKS in json.loads(body)["patch"]


WORDS = (
    ("list", "services"), ("list", "service", "web"), ("list", "service", "unfit"), ("history", "web"),
    ("history", "unfit"), ("explain", "web"), ("explain", "web", "{refused}"), ("explain", "unfit"),
    ("diff", "web"), ("diff", "unfit", "--upstream"), ("audit",),
)  # fmt: skip


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_client_is_plain_on_a_terminal(story: Story, words: tuple[str, ...]) -> None:
    first, *others = (word.format(refused=story.refused) for word in words)
    asked = (first, story.at, *others) if first != "list" else (first, others[0], story.at, *others[1:])
    shown = on_terminal(*asked)
    assert len(shown.splitlines()) > 1
    assert is_plain(shown, also="\r")
    assert in_pipe("-m", *asked).stdout.isascii()


def test_patch_is_exact_in_a_pipe_and_plain_on_a_terminal(story: Story) -> None:
    done = in_pipe("diff", story.at, "web")
    assert TRICK in done.stdout
    assert is_plain(done.stderr)
    shown = on_terminal("diff", story.at, "web")
    assert rb"\x1b[2J" in shown


def test_explanation_names_subject_and_author_in_a_readable_way(story: Story) -> None:
    answer: dict[str, Any] = json.loads(story.raw(f"/explain/web?commit={story.deployed}"))
    assert answer["commit"]["subject"].startswith("s\x1b")
    shown = on_terminal("explain", story.at, "web", story.deployed)
    assert rb"s\x1b[2J" in shown
    assert rb"a\x1b[2J" in shown
