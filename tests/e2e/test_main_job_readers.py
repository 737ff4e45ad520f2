"""Two programs read every file that is mapped while 1,000 commits are deployed, each by a whole pass.

The pipeline is the real one: a poll, a checkout, a bind mount and a reload for each commit, and all of it
recorded. `tests/support/reader.py` tells what the readers look for.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from libgitopper import Mapping, Reconciler, Service, Source, StateStore, load_plugins, watches
from libgitopper.planner import Verb
from tests.support.host import Reading, reading_of
from tests.support.namespace import in_mount_namespace, make_propagation, mount_tmpfs
from tests.support.systemdbox import REPOSITORY
from tests.support.upstream import git

pytestmark = pytest.mark.root

DEPLOYS = 1_000
READERS = 2
FILES = ("etc/a", "etc/b", "etc/c", "etc/sub/d", "data/e", "data/f")


def commits(upstream: Path, count: int) -> list[str]:
    """Make a repository with `count` commits, first to last; all files hold the commit's number."""
    upstream.mkdir()
    git(upstream, "init", "--quiet", "--bare", "--initial-branch=main")
    stream = []
    for number in range(1, count + 1):
        stream.append(
            f"commit refs/heads/all\nmark :{number}\ncommitter T <t@example.net> {number} +0000\n"
        )
        stream.append("data 0\n")
        stream += [f"from :{number - 1}\n"] if number > 1 else []
        text = f"{number}\n"
        stream += [f"M 100644 inline web/{name}\ndata {len(text)}\n{text}" for name in FILES]
    git(upstream, "fast-import", "--quiet", stdin="".join(stream).encode())
    return git(upstream, "rev-list", "--reverse", "all").split()


@contextmanager
def reading(*directories: Path) -> Iterator[list[Reading]]:
    """Let programs read during the block; what they found is in the list after it."""
    command = [sys.executable, "-m", "tests.support.reader", *map(str, directories)]
    readers = [
        subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(READERS)
    ]
    found: list[Reading] = []
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"reading\n"
        yield found
    finally:
        found += [reading_of(reader) for reader in readers]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda a: a.write_text("2\n"), "mixed"),
        (lambda a: a.unlink(), "FileNotFoundError"),
        (lambda a: a.rename(a.with_name("z")), "FileNotFoundError"),
    ],
    ids=["written in place", "removed", "renamed"],
)
def test_the_readers_notice_what_they_are_there_for(
    tmp_path: Path, change: Callable[[Path], object], fault: str
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("1\n")
    with reading(tmp_path) as found:
        change(tmp_path / "a")
        time.sleep(0.05)
    for told in found:
        assert fault in str(told.faults)


def test_the_readers_notice_a_release_that_comes_back(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1\n")
    with reading(tmp_path) as found:
        for text in ("2\n", "1\n"):
            (tmp_path / "new").write_text(text)
            (tmp_path / "new").replace(tmp_path / "a")
            time.sleep(0.05)
    for told in found:
        assert "came back" in str(told.faults)


@in_mount_namespace
def test_readers_see_whole_commits_only_during_a_thousand_deploys(tmp_path: Path) -> None:
    mount_tmpfs(tmp_path)
    make_propagation(tmp_path, "shared")  # as on a host with systemd
    upstream, reloads = tmp_path / "fleet.git", tmp_path / "reloads"
    etc, data = tmp_path / "etc/web", tmp_path / "srv/web"
    service = Service(
        name="web",
        source=Source(upstream=f"file://{upstream}", branch="main"),
        mappings=(Mapping(link="web/etc", local=etc), Mapping(link="web/data", local=data)),
        mount=tmp_path / "gitopper",
        publish="bind",
        reload="command",
        command=("/bin/sh", "-c", f"cat {etc}/a >> {reloads}"),
    )
    (watch,) = watches([service], stores=tmp_path / "gitopper/.gitopper/stores")
    revisions = commits(upstream, DEPLOYS + 1)
    with StateStore(tmp_path / "state.db") as state:
        reconciler = Reconciler(hooks=load_plugins(), state=state)

        def deploy(revision: str) -> None:
            (upstream / "refs/heads/main").write_text(f"{revision}\n")
            outcome = reconciler.reconcile(service, reconciler.poll(watch))
            assert outcome.error is None, outcome.error
            assert outcome.plan is not None
            assert outcome.plan.verb is Verb.DEPLOY
            assert outcome.deployed is not None
            assert outcome.deployed.revision == revision

        deploy(revisions[0])
        started = time.monotonic()
        with reading(etc, data) as found:
            for revision in revisions[1:]:
                deploy(revision)
        seconds = time.monotonic() - started
    print(f"{DEPLOYS} deploys in {seconds:.1f} s; {found}")
    for told in found:
        assert told.faults == ()
        assert told.rounds > DEPLOYS
        assert told.texts > DEPLOYS / 2
    # The service read each commit at its reload, in order: none was left out, none came twice.
    assert reloads.read_text().split() == [str(number) for number in range(1, DEPLOYS + 2)]
    kept = list(service.releases.iterdir())
    assert len([path for path in kept if path.name[0] != "."]) == service.keep, kept
