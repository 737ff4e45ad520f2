"""What lies between two commits, judged by git on histories of any shape, with clocks that are wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest
from attrs import frozen
from dulwich.objects import ObjectID
from hypothesis import given, settings
from hypothesis import strategies as st

from gitopper_plugins.dulwich import ancestry
from gitopper_plugins.dulwich.ancestry import commits, is_ancestor
from gitopper_plugins.dulwich.commit import read_commit
from gitopper_plugins.dulwich.objects import Objects
from libgitopper import CheckoutError
from tests.support.upstream import Upstream, git, import_history

START_SECONDS = 1_700_000_000
LONG = 20_000


@frozen
class Vertex:
    """A commit to make; its parents are earlier in the list."""

    parents: tuple[int, ...]
    at: int


@st.composite
def histories(draw: st.DrawFn, *, skew: bool) -> list[Vertex]:
    vertices: list[Vertex] = []
    for number in range(draw(st.integers(1, ancestry.SLOP))):
        parents = (
            draw(st.lists(st.integers(max(0, number - 5), number - 1), max_size=3, unique=True))
            if number
            else []
        )
        at = (
            draw(st.integers(0, 30))
            if skew
            else max((vertices[p].at for p in parents), default=0) + draw(st.integers(0, 2))
        )
        vertices.append(Vertex(tuple(parents), at))
    return vertices


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ancestry")
    git(path, "init", "--quiet", "--bare")
    return path


def made(repository: Path, vertices: Sequence[Vertex]) -> list[str]:
    """The hashes of `vertices`, which are made for this."""
    stream = []
    for number, vertex in enumerate(vertices, 1):
        stream.append(
            f"commit refs/heads/x\nmark :{number}\n"
            f"committer Test <test@example.net> {START_SECONDS + vertex.at} +0000\n"
            f"data <<END\nchange {number}\nEND\n"
        )
        # Without "from" it would go on from the commit before.
        stream.append("" if vertex.parents else "deleteall\n")
        stream += [f"{'merge' if at else 'from'} :{p + 1}\n" for at, p in enumerate(vertex.parents)]
        if not vertex.parents:
            stream[-2] = "reset refs/heads/x\n" + stream[-2]
    stream += [f"get-mark :{number}\n" for number in range(1, len(vertices) + 1)]
    return git(repository, "fast-import", "--quiet", "--force", stdin="".join(stream).encode()).split()


def reachable(repository: Path, revisions: Sequence[str]) -> set[str]:
    """All that is reachable, with no short cut that a wrong clock could mislead."""
    return set(git(repository, "rev-list", *revisions).split()) if revisions else set()


def listed(repository: Path, revision: str, exclude: Sequence[str], limit: int = 1000) -> list[str]:
    objects = Objects(repository)
    try:
        return [commit.revision for commit in commits(objects, revision, exclude=exclude, limit=limit)]
    finally:
        objects.close()


def assert_children_first(repository: Path, found: Sequence[str]) -> None:
    place = {revision: at for at, revision in enumerate(found)}
    for line in git(repository, "rev-list", "--no-walk=unsorted", "--parents", *found).splitlines():
        child, *parents = line.split()
        assert all(place[child] < place[parent] for parent in parents if parent in place)


@settings(max_examples=40)
@given(data=st.data(), skew=st.booleans())
def test_range_is_what_git_tells(repository: Path, data: st.DataObject, skew: bool) -> None:
    hashes = made(repository, data.draw(histories(skew=skew)))
    revision = data.draw(st.sampled_from(hashes))
    exclude = data.draw(st.lists(st.sampled_from(hashes), max_size=3))
    found = listed(repository, revision, exclude)
    assert len(found) == len(set(found))
    assert set(found) == reachable(repository, [revision]) - reachable(repository, exclude)
    if found:
        assert found[0] == revision
        assert_children_first(repository, found)
    if not skew:
        excluded = [f"^{old}" for old in exclude]
        assert set(found) == set(git(repository, "rev-list", revision, *excluded).split())


@settings(max_examples=25)
@given(data=st.data())
def test_range_that_is_cut_short_has_as_many_commits_as_asked_for(
    repository: Path, data: st.DataObject
) -> None:
    """So who asks for one more than it wants sees that there is more."""
    hashes = made(repository, data.draw(histories(skew=True)))
    revision, old = data.draw(st.sampled_from(hashes)), data.draw(st.sampled_from(hashes))
    whole = reachable(repository, [revision]) - reachable(repository, [old])
    for limit in (1, 2, max(1, len(whole) - 1), len(whole) + 1):
        found = listed(repository, revision, [old], limit)
        assert len(found) == min(limit, len(whole))
        assert set(found) <= whole


@settings(max_examples=25)
@given(data=st.data())
def test_no_commit_is_left_out_however_wrong_the_clocks(repository: Path, data: st.DataObject) -> None:
    hashes = made(repository, data.draw(histories(skew=True)))
    revision, old = data.draw(st.sampled_from(hashes)), data.draw(st.sampled_from(hashes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ancestry, "SLOP", 1)
        found = set(listed(repository, revision, [old]))
    assert found >= reachable(repository, [revision]) - reachable(repository, [old])


@settings(max_examples=25)
@given(data=st.data())
def test_ancestry_is_exact_however_wrong_the_clocks(repository: Path, data: st.DataObject) -> None:
    hashes = made(repository, data.draw(histories(skew=True)))
    revision = data.draw(st.sampled_from(hashes))
    objects = Objects(repository)
    before = {old for old in hashes if is_ancestor(objects, old, revision)}
    objects.close()
    assert before == reachable(repository, [revision])


def test_history_with_a_hole_is_an_error_and_no_shorter_history(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--bare")
    root, middle, tip = made(tmp_path, [Vertex((), 0), Vertex((0,), 1), Vertex((1,), 2)])
    git(tmp_path, "unpack-objects", "-q", stdin=pack_without(tmp_path, middle))
    with pytest.raises(
        CheckoutError, match=f"commit {middle[:12]}, which {tip[:12]} descends from, is not in"
    ):
        listed(tmp_path, tip, [])
    with pytest.raises(CheckoutError, match=middle[:12]):
        listed(tmp_path, tip, [root])
    assert listed(tmp_path, tip, [middle]) == [tip]


def pack_without(repository: Path, gone: str) -> bytes:
    """Take the packs of `repository` away; return all of their objects but one as a pack."""
    names = git(repository, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
    argv = ["git", "pack-objects", "--stdout", "-q"]
    stdin = "\n".join(name for name in names if name != gone).encode()
    pack = subprocess.run(argv, cwd=repository, input=stdin, capture_output=True, check=True).stdout
    shutil.rmtree(repository / "objects")
    (repository / "objects/pack").mkdir(parents=True)
    return pack


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    upstream = Upstream.create(tmp_path_factory.mktemp("long"))
    return upstream.path, import_history(upstream, LONG)


class Counting(Objects):
    """Counts what is read."""

    reads = 0

    def find(self, oid: ObjectID, kind: int, limit: int | None = None) -> bytes | None:
        self.reads += 1
        return super().find(oid, kind, limit)


def test_small_range_of_a_long_history_reads_a_small_part_of_it(long: tuple[Path, list[str]]) -> None:
    repository, hashes = long
    objects = Counting(repository)
    assert [c.revision for c in commits(objects, hashes[-1], exclude=[hashes[-6]], limit=1000)] == hashes[
        :-6:-1
    ]
    assert is_ancestor(objects, hashes[-6], hashes[-1])
    assert not is_ancestor(objects, hashes[-1], hashes[-6])
    assert len(commits(objects, hashes[-1], exclude=[], limit=50)) == 50
    assert objects.reads < 200
    assert is_ancestor(objects, hashes[0], hashes[-1])
    objects.close()


READER = """
import resource, sys
from pathlib import Path
from gitopper_plugins.dulwich.ancestry import commits, is_ancestor
from gitopper_plugins.dulwich.objects import Objects

objects = Objects(Path(sys.argv[1]))
commits(objects, sys.argv[2], exclude=[sys.argv[2]], limit=10)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
commits(objects, sys.argv[2], exclude=[sys.argv[3]], limit=1000)
is_ancestor(objects, sys.argv[3], sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
objects.close()
"""


def test_small_range_of_a_long_history_takes_little_memory(long: tuple[Path, list[str]]) -> None:
    repository, hashes = long
    argv = [sys.executable, "-c", textwrap.dedent(READER), str(repository), hashes[-1], hashes[-10]]
    grown_kib = int(subprocess.run(argv, capture_output=True, check=True).stdout)
    assert grown_kib < 2048


@pytest.mark.parametrize(
    ("raw", "author", "subject", "seconds"),
    [
        (b"", "", "", 0),
        (b"\n\n\n\n  only words  ", "", "only words", 0),
        (b"tree x\nauthor A <a@x> 1 +0000\ncommitter C <c@x> 2 +0000\n\n\nhello\nmore\n", "A", "hello", 2),
        (b"author <only@mail> 1 +0000\n\nx", "only@mail", "x", 0),
        (b"author \xff\xfe <a@x>\ncommitter C <c@x> -5 +0000\n\n\xff", "\ufffd\ufffd", "\ufffd", 0),
        (b"committer C <c@x> 9999999999999999999 +0000\n\nx", "", "x", 253402214400),
        (b"committer C c@x> 5 +0000\n\nx", "", "x", 0),
        (b"committer " + b"<" * 10_000 + b"\n\nx", "", "x", 0),
    ],
)  # fmt: skip
def test_commit_is_read_whatever_it_holds(raw: bytes, author: str, subject: str, seconds: int) -> None:
    commit = read_commit("1" * 40, raw)
    assert (commit.author, commit.subject, commit.at.timestamp()) == (author, subject, seconds)
    assert commit.raw == raw


def test_line_like_a_parent_further_down_is_none() -> None:
    parent = b"parent " + b"a" * 40
    raw = b"tree " + b"b" * 40 + b"\n" + parent + b"\nauthor A <a> 1 +0000\n" + parent + b"\n\n" + parent
    assert read_commit("1" * 40, raw).parents == ("a" * 40,)


@given(st.binary())
def test_no_commit_makes_the_reader_fail(raw: bytes) -> None:
    for prefix in (b"", b"committer ", b"tree x\nauthor "):
        read_commit("1" * 40, prefix + raw)
