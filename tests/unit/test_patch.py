"""Comparing two contents, and the patch between them: judged by stock git."""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from attrs import frozen
from dulwich.objects import ObjectID
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gitopper_plugins.dulwich import compare, patch, tree
from gitopper_plugins.dulwich.objects import Entry, Objects
from gitopper_plugins.dulwich.store import SharedStore, View
from gitopper_plugins.dulwich.ways import transport_for
from libgitopper import (
    ChangeKind,
    CheckoutError,
    Content,
    FileChange,
    Service,
    Source,
    TreeEntry,
)
from libgitopper import (
    Mapping as PathMapping,
)
from tests.support.upstream import git

FILE, EXECUTABLE, SYMLINK, SUBMODULE, DIRECTORY = 0o100644, 0o100755, 0o120000, 0o160000, 0o040000

# What a tree has: a name to a file as (mode, content), or to another tree.
Leaf = tuple[int, bytes]
Tree = Mapping[bytes, "Leaf | Tree"]


@frozen
class Repository:
    """A repository with a work tree, whose objects are made here."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> Repository:
        path.mkdir()
        git(path, "init", "--quiet")
        git(path, "config", "core.safecrlf", "false")
        git(path, "config", "core.fsync", "none")
        return cls(path)

    def write(self, kind: str, data: bytes) -> str:
        whole = f"{kind} {len(data)}\0".encode() + data
        name = hashlib.sha1(whole).hexdigest()
        path = self.path / ".git/objects" / name[:2] / name[2:]
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(zlib.compress(whole, 1))
        return name

    def tree(self, tree: Tree) -> str:
        lines = []
        for name, value in tree.items():
            if not isinstance(value, tuple):
                mode, oid = DIRECTORY, self.tree(value)
            elif value[0] == SUBMODULE:
                mode, oid = SUBMODULE, hashlib.sha1(value[1]).hexdigest()
            else:
                mode, oid = value[0], self.write("blob", value[1])
            # Git sorts a directory as if its name ended with a slash.
            order = name + b"/" if mode == DIRECTORY else name
            lines.append((order, f"{mode:o} ".encode() + name + b"\0" + bytes.fromhex(oid)))
        return self.write("tree", b"".join(line for _, line in sorted(lines)))

    def content(self, **links: str) -> Content:
        entries = [TreeEntry(link=link, id=oid, mode=DIRECTORY) for link, oid in links.items()]
        return Content(revision="0" * 40, entries=tuple(entries))

    def view(self) -> Iterator[View]:
        transport = transport_for(f"file://{self.path}")
        assert transport
        shared = SharedStore(
            path=self.path / ".git",
            upstream="here",
            transport=transport,
            objects=Objects(self.path / ".git"),
        )
        yield View(shared=shared, tips={}, moved=False)
        shared.close()

    def apply(self, before: str, text: bytes, *options: str) -> str:
        """Have git apply `text` to `before`, in files and index; return the tree that comes of it."""
        git(self.path, "read-tree", "--reset", "-u", before)
        if text:
            git(self.path, "apply", "--index", "--whitespace=nowarn", *options, stdin=text)
        return git(self.path, "write-tree")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository.create(tmp_path_factory.mktemp("patch") / "repository")


@pytest.fixture(scope="module")
def view(repository: Repository) -> Iterator[View]:
    yield from repository.view()


SERVICE = Service(
    name="web",
    source=Source(upstream="file:///nowhere", branch="main"),
    mappings=(PathMapping(link="web", local=Path("/etc/web")),),
    mount=Path("/nowhere"),
)

NAMES = st.one_of(
    st.sampled_from(
        [b"a", b"b", b"a b", b" x", b"\t", b"a\nb", b'"', b"\\", b"\xff", "\u00fc".encode(), b"-"]
    ),
    st.binary(min_size=1, max_size=6).filter(lambda name: not set(name) & set(b"/\0")),
).filter(tree.names_a_file)
LINES = st.lists(
    st.sampled_from(
        [
            b"",
            b"x",
            b"y",
            b" ",
            b"-- ",
            b"+",
            b"@@ -1 +1 @@",
            b"\r",
            b"\\ No",
            b"\xff\x01",
            b"diff --git a/a b/a",
        ]
    ),
    max_size=30,
)
TEXTS = st.builds(lambda lines, end: b"\n".join(lines) + end, LINES, st.sampled_from([b"", b"\n"]))
FILES = st.tuples(st.sampled_from([FILE, EXECUTABLE]), st.one_of(TEXTS, st.binary(max_size=120)))
LINKS = st.tuples(
    st.just(SYMLINK), st.binary(min_size=1, max_size=20).filter(lambda target: b"\0" not in target)
)
LEAVES = st.one_of(FILES, FILES, LINKS)
TREES = st.recursive(
    st.dictionaries(NAMES, LEAVES, min_size=1, max_size=4),
    lambda below: st.dictionaries(NAMES, st.one_of(LEAVES, below), min_size=1, max_size=4),
    max_leaves=8,
)


def related(before: Tree) -> st.SearchStrategy[Tree]:
    """Trees that share something with `before`."""
    return st.builds(
        lambda more, gone: {n: v for n, v in {**before, **more}.items() if n not in gone} or more,
        TREES,
        st.sets(st.sampled_from(sorted(before))),
    )


PAIRS = TREES.flatmap(lambda before: st.tuples(st.just(before), st.one_of(related(before), TREES)))


@settings(max_examples=40)
@given(PAIRS)
@example(({b"x": {b"y": (FILE, b"1")}}, {b"x": (SYMLINK, b"y")}))
@example(({b"x": (SYMLINK, b"z"), b"z": {b"q": (FILE, b"")}}, {b"x": {b"y": (FILE, b"1")}}))
@example(({b"a": (FILE, b"1\n" * 50)}, {b"a": (FILE, b"2\n" + b"1\n" * 50 + b"2")}))
def test_git_makes_the_one_tree_of_the_other_and_back(
    repository: Repository, view: View, pair: tuple[Tree, Tree]
) -> None:
    web = [repository.tree(tree) for tree in pair]
    roots = [repository.tree({b"web": tree}) for tree in pair]
    before, after = (repository.content(web=oid) for oid in web)
    text = view.patch(before, after, SERVICE)
    assert repository.apply(roots[0], text) == roots[1]
    assert repository.apply(roots[1], text, "--reverse") == roots[0]
    assert seen(view.changes(before, after)) == seen_by_git(repository, *roots)


def seen(changes: object) -> dict[bytes, str]:
    letters = {
        ChangeKind.ADDED: "A", ChangeKind.REMOVED: "D", ChangeKind.EDITED: "M", ChangeKind.MODE: "M",
        ChangeKind.RETYPED: "T",
    }  # fmt: skip
    assert isinstance(changes, list)
    found = {}
    for change in changes:
        assert isinstance(change, FileChange)
        letter = letters[change.kind]
        if change.detail.startswith("a directory instead"):
            letter = "D"
        elif change.detail.endswith("instead of a directory"):
            letter = "A"
        found[os.fsencode(change.path)] = letter
    return found


def seen_by_git(repository: Repository, before: str, after: str) -> dict[bytes, str]:
    words = git(repository.path, "diff-tree", "-r", "-z", "--no-renames", "--name-status", before, after)
    fields = words.rstrip("\0").split("\0")
    return {os.fsencode(name): letter for letter, name in zip(fields[::2], fields[1::2], strict=False)}


def test_patch_reads_as_gits_own(repository: Repository, view: View) -> None:
    common = b"".join(b"line %d\n" % n for n in range(40))
    before = {
        b"edited": (FILE, common), b"mode": (FILE, b"x\n"), b"gone": (EXECUTABLE, b"bye"),
        b"type": (FILE, b"was a file\n"), b"sp ace": (FILE, b"1\n"), "\u00fc\t".encode(): (FILE, b"1\n"),
        b"module": (SUBMODULE, b"1"), b"empty": (FILE, b""),
    }  # fmt: skip
    after = {
        b"edited": (FILE, common.replace(b"line 5\n", b"").replace(b"line 30\n", b"x\ny\n")),
        b"mode": (EXECUTABLE, b"x\n"), b"type": (SYMLINK, b"edited"), b"sp ace": (EXECUTABLE, b"2\n"),
        "\u00fc\t".encode(): (FILE, b"2"), b"module": (SUBMODULE, b"2"), b"new empty": (FILE, b""),
    }  # fmt: skip
    ours, theirs = [], []
    for name in {**before, **after}:
        pair = [{name: tree[name]} if name in tree else {} for tree in (before, after)]
        web = [repository.tree(tree) for tree in pair]
        roots = [repository.tree({b"web": tree}) for tree in pair]
        one, other = (repository.content(web=oid) for oid in web)
        ours.append(view.patch(one, other, SERVICE).strip())
        shown = git(
            repository.path,
            "diff-tree",
            "-p",
            "--full-index",
            "--binary",
            "--no-renames",
            "--no-color",
            *roots,
        )
        # After @@ git repeats a line above as a help for the eye.
        theirs.append(b"\n".join(heading(line) for line in os.fsencode(shown).split(b"\n")))
    assert ours == theirs


def heading(line: bytes) -> bytes:
    return line[: line.index(b" @@") + 3] if line.startswith(b"@@ ") else line


def test_first_content_is_all_added(repository: Repository, view: View) -> None:
    tree: Tree = {b"a": (FILE, b"1\n"), b"sub": {b"b": (EXECUTABLE, b"\0")}}
    content = repository.content(web=repository.tree(tree))
    assert view.changes(None, content) == [
        FileChange(path="web/a", kind=ChangeKind.ADDED),
        FileChange(path="web/sub/b", kind=ChangeKind.ADDED),
    ]
    empty = repository.tree({})
    text = view.patch(None, content, SERVICE)
    assert repository.apply(empty, text) == repository.tree({b"web": tree})


def test_kinds_and_details(repository: Repository, view: View) -> None:
    before: Tree = {
        b"a": (FILE, b"1"), b"b": (FILE, b"1"), b"c": (FILE, b"1"), b"d": {b"x": (FILE, b"")},
        b"e": (FILE, b"1"), b"f": (FILE, b""),
    }  # fmt: skip
    after: Tree = {
        b"a": (FILE, b"2"), b"b": (EXECUTABLE, b"1"), b"c": (EXECUTABLE, b"2"), b"d": (FILE, b""),
        b"e": (SYMLINK, b"a"), b"\xff": (FILE, b""), b"f": (FILE, b""),
    }  # fmt: skip
    found = view.changes(*(repository.content(web=repository.tree(tree)) for tree in (before, after)))
    assert [(change.path, change.kind, change.detail) for change in found] == [
        ("web/a", ChangeKind.EDITED, ""),
        ("web/b", ChangeKind.MODE, "0755 instead of 0644"),
        ("web/c", ChangeKind.EDITED, "mode 0755 instead of 0644"),
        ("web/d", ChangeKind.RETYPED, "a file instead of a directory"),
        ("web/d/x", ChangeKind.REMOVED, ""),
        ("web/e", ChangeKind.RETYPED, "a symlink instead of a file"),
        ("web/\udcff", ChangeKind.ADDED, ""),
    ]


def test_mappings_are_matched_by_their_path_also_where_one_is_inside_of_another(
    repository: Repository, view: View
) -> None:
    sub = repository.tree({b"x": (FILE, b"1")})
    web = repository.tree({b"sub": {b"x": (FILE, b"1")}, b"y": (FILE, b"1")})
    other = repository.tree({b"z": (FILE, b"1")})
    before = repository.content(**{"web/sub": sub, "gone": other, "same": other})
    after = repository.content(**{"same": other, "web": web, "web/sub": sub, "fresh": other})
    assert {(change.path, change.kind.value) for change in view.changes(before, after)} == {
        ("gone/z", "removed"), ("fresh/z", "added"), ("web/y", "added"),
    }  # fmt: skip


def test_equal_subtrees_are_not_looked_into(
    repository: Repository, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable = {b"same": (FILE, b"1")}
    trees = [repository.tree({b"big": unreadable, b"a": (FILE, data)}) for data in (b"1", b"2")]
    read: list[ObjectID] = []
    entries = Objects.entries

    def noted(self: Objects, oid: ObjectID) -> list[Entry]:
        read.append(oid)
        return entries(self, oid)

    monkeypatch.setattr(Objects, "entries", noted)
    assert len(view.changes(*(repository.content(web=oid) for oid in trees))) == 1
    assert read == [oid.encode() for oid in trees]


@pytest.mark.parametrize("name", [b"..", b".git", b".GIT"])
def test_names_that_a_checkout_refuses_are_refused(repository: Repository, view: View, name: bytes) -> None:
    oid = repository.tree({name: (FILE, b"1")})
    with pytest.raises(CheckoutError, match="is refused"):
        view.changes(None, repository.content(web=oid))


def test_tree_that_unfolds_without_end_is_refused(
    repository: Repository, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "MAX_ITEMS", 1000)
    oid = repository.tree({b"x": (FILE, b"")})
    for _ in range(12):
        names = [b"40000 %c\0" % (97 + n) + bytes.fromhex(oid) for n in range(10)]
        oid = repository.write("tree", b"".join(names))
    with pytest.raises(CheckoutError, match="more than 1000"):
        view.changes(None, repository.content(web=oid))


def test_patch_that_is_too_long_is_refused_with_what_to_do(
    repository: Repository, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patch, "LIMIT_BYTES", 1000)
    oid = repository.tree({b"x": (FILE, b"line\n" * 300)})
    with pytest.raises(CheckoutError, match=r"longer than 1000 bytes; use `git diff` in /nowhere/web"):
        view.patch(None, repository.content(web=oid), SERVICE)


def numbered(count: int, *, changed: range = range(0)) -> bytes:
    return b"".join(b"%s %d\n" % (b"new" if n in changed else b"old", n) for n in range(count))


LARGE = 400_000
HARD = {
    "one edit": lambda: (numbered(LARGE), numbered(LARGE, changed=range(LARGE // 2, LARGE // 2 + 1))),
    "both ends": lambda: (numbered(LARGE), b"x\n" + numbered(LARGE) + b"x\n"),
    "edits everywhere": lambda: (numbered(LARGE), numbered(LARGE, changed=range(0, LARGE, 7))),
    "nothing in common": lambda: (numbered(LARGE), numbered(LARGE, changed=range(LARGE))),
    "equal lines": lambda: (b"x\n" * 2_500_000, b"y\n" + b"x\n" * 2_499_000 + b"y\n" + b"x\n" * 500),
    "equal lines, nearly too many": lambda: (
        b"x\n" * 499_000,
        b"y\n" + b"x\n" * 250_000 + b"z\n" * 300 + b"x\n" * 248_000 + b"y\n",
    ),
    "one long line": lambda: (b"x" * 5_000_000, b"x" * 5_000_000 + b"y"),
    "random bytes": lambda: (os.urandom(5_000_000), os.urandom(5_000_000)),
}


@pytest.mark.parametrize("case", HARD)
def test_file_of_five_megabytes_holds_up_no_pass(repository: Repository, view: View, case: str) -> None:
    contents = HARD[case]()
    trees = [repository.tree({b"x": (FILE, data)}) for data in contents]
    before, after = (repository.content(web=oid) for oid in trees)
    started = time.process_time()
    text = view.patch(before, after, SERVICE)
    seconds = time.process_time() - started
    roots = [repository.tree({b"web": {b"x": (FILE, data)}}) for data in contents]
    assert repository.apply(roots[0], text) == roots[1]
    assert seconds < 3.0  # half a second on an idle machine


def test_content_before_that_can_not_be_had_leaves_a_patch_that_applies(
    repository: Repository, view: View
) -> None:
    old, new = (
        ObjectID(repository.write("blob", b"1\n").encode()),
        ObjectID(repository.write("blob", b"2\n").encode()),
    )
    unknown = patch.Side(FILE, old)
    text = patch.file_patch(b"web/a", unknown, patch.Side(FILE, new, b"2\n"))
    text += patch.file_patch(b"web/b", unknown, None)
    before = repository.tree({b"web": {b"a": (FILE, b"1\n"), b"b": (FILE, b"1\n")}})
    assert repository.apply(before, text) == repository.tree({b"web": {b"a": (FILE, b"2\n")}})


def test_comments_before_the_first_diff_are_skipped(repository: Repository) -> None:
    new = ObjectID(repository.write("blob", b"2\n").encode())
    text = patch.comment(b"diff --git a/x b/x\n--- a/x\n@@ -1 +1 @@\nindex 1..2") + patch.file_patch(
        b"a", None, patch.Side(FILE, new, b"2\n")
    )
    assert repository.apply(repository.tree({}), text) == repository.tree({b"a": (FILE, b"2\n")})
