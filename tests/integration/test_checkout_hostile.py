"""Trees that somebody made to do harm, as raw objects, since git itself would not make most of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gitopper_plugins.dulwich import DulwichPlugin
from libgitopper import CheckoutError, Hooks
from libgitopper.testing.git import Stage
from tests.support.upstream import Upstream, git

BLOB, LINK, TREE = "100644", "120000", "40000"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    plugin = DulwichPlugin()
    hooks = Hooks()
    hooks.register(plugin, name="dulwich")
    upstream = Upstream.create(tmp_path / "upstreams")
    yield Stage(hooks=hooks, upstream=upstream, url=upstream.url, root=tmp_path)
    plugin.close()


def blob(stage: Stage, data: bytes = b"harmless") -> str:
    return git(stage.upstream.path, "hash-object", "-w", "--stdin", stdin=data)


def tree(stage: Stage, *entries: tuple[str, bytes, str]) -> str:
    raw = b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries)
    return git(stage.upstream.path, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)


def publish(stage: Stage, web: str) -> None:
    """Make a commit whose directory ``web`` is the tree `web`."""
    root = tree(stage, (TREE, b"web", web))
    commit = git(stage.upstream.path, "commit-tree", root, "-m", "hostile")
    git(stage.upstream.path, "update-ref", "refs/heads/main", commit)


def refused(stage: Stage, named: str) -> None:
    """The release is refused with `named` in the text, for good, and nothing of it is left."""
    service = stage.service("web")
    with pytest.raises(CheckoutError) as error:
        stage.checkout(service)
    assert named in str(error.value)
    assert not error.value.retryable
    assert not service.releases.exists() or not list(service.releases.iterdir())
    assert {path.name for path in stage.root.iterdir()} <= {
        "upstreams",
        "upstreams-fleet-work",
        "stores",
        "mount",
    }


@pytest.mark.parametrize(
    "name",
    [
        b".", b"..", b"...", b".git", b".GIT", b".gIt", b"git~1", b"GIT~1", b".git ", b".git.",
        b".git::$INDEX_ALLOCATION", ".g\u200cit".encode(),
        "\ufeff.git".encode(), b"a/b", b"../../../escaped", b"/etc/escaped", b".git\\x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", [BLOB, TREE])
def test_name_that_is_no_plain_name(stage: Stage, name: bytes, mode: str) -> None:
    oid = blob(stage) if mode == BLOB else tree(stage, (BLOB, b"x", blob(stage)))
    publish(stage, tree(stage, (mode, name, oid)))
    refused(stage, "web is refused: the name")


@pytest.mark.parametrize(
    "name", [b"git~2", b".gitignore", b".gitmodules", b"a...", b"~", b"aux", b"a\\b", b"-rf"]
)
def test_name_that_only_looks_odd_is_taken(stage: Stage, name: bytes) -> None:
    publish(stage, tree(stage, (BLOB, name, blob(stage))))
    release = stage.checkout(stage.service("web"))
    assert (release.path / "web" / name.decode()).read_text() == "harmless"


def test_two_entries_of_one_name(stage: Stage) -> None:
    publish(stage, tree(stage, (BLOB, b"a", blob(stage)), (BLOB, b"a", blob(stage, b"other"))))
    refused(stage, "web/a is refused: it is there twice")


def test_symlink_and_directory_of_one_name_do_not_write_through_the_link(stage: Stage) -> None:
    outside = stage.root / "mount" / "outside"
    outside.mkdir(parents=True)
    link = blob(stage, str(outside).encode())
    below = tree(stage, (BLOB, b"file", blob(stage)))
    publish(stage, tree(stage, (LINK, b"a", link), (TREE, b"a", below)))
    refused(stage, "web/a is refused")
    assert not list(outside.iterdir())


@pytest.mark.parametrize(
    ("target", "inside"),
    [
        ("a", True), ("./a", True), ("sub/b", True), ("sub//b", True), (".", True), ("missing", True),
        ("...", True), ("..", False), ("../web/a", False), ("/etc/passwd", False), ("//etc", False),
        ("sub/../a", False),
        ("sub/../../a", False), ("./../a", False), ("", False), ("a" * 5000, False), ("a\0b", False),
    ],
)  # fmt: skip
def test_symlink_at_the_top_of_a_mapping(stage: Stage, target: str, inside: bool) -> None:
    sub = tree(stage, (BLOB, b"b", blob(stage)))
    entries = (BLOB, b"a", blob(stage)), (LINK, b"link", blob(stage, target.encode())), (TREE, b"sub", sub)
    publish(stage, tree(stage, *entries))
    if inside:
        assert str((stage.checkout(stage.service("web")).path / "web/link").readlink()) == str(Path(target))
    else:
        refused(stage, "web/link is refused")


@pytest.mark.parametrize(
    ("target", "inside"), [("../a", True), ("..", True), ("../../a", False), (".././../a", False)]
)
def test_symlink_one_directory_below_a_mapping(stage: Stage, target: str, inside: bool) -> None:
    sub = tree(stage, (LINK, b"link", blob(stage, target.encode())))
    publish(stage, tree(stage, (BLOB, b"a", blob(stage)), (TREE, b"sub", sub)))
    if inside:
        assert (stage.checkout(stage.service("web")).path / "web/sub/link").exists()
    else:
        refused(stage, "web/sub/link is refused")


def test_chain_of_symlinks_that_would_climb_out_together(stage: Stage) -> None:
    # sub/up -> .. is fine; deep -> sub/up/.. would be the mapping's parent.
    sub = tree(stage, (LINK, b"up", blob(stage, b"..")))
    publish(stage, tree(stage, (LINK, b"deep", blob(stage, b"sub/up/..")), (TREE, b"sub", sub)))
    refused(stage, "web/deep is refused")


def test_symlink_is_held_to_the_innermost_mapping_that_it_is_in(stage: Stage) -> None:
    sub = tree(stage, (LINK, b"link", blob(stage, b"../a")))
    publish(stage, tree(stage, (BLOB, b"a", blob(stage)), (TREE, b"sub", sub)))
    with pytest.raises(CheckoutError, match="web/sub/link is refused"):
        stage.checkout(stage.service("web", "web/sub"))


def test_symlink_as_a_file_mapping(stage: Stage) -> None:
    publish(stage, tree(stage, (LINK, b"link", blob(stage, b"a"))))
    with pytest.raises(CheckoutError, match="web/link is a symlink"):
        stage.checkout(stage.service(files=["web/link"]))


def test_tree_that_is_too_deep(stage: Stage) -> None:
    oid = tree(stage, (BLOB, b"x", blob(stage)))
    for _ in range(3000):
        oid = tree_in_bulk(stage, oid)
    publish(stage, oid)
    refused(stage, "directories deep")


def tree_in_bulk(stage: Stage, below: str) -> str:
    """One more level, without starting git each time."""
    from dulwich.object_store import DiskObjectStore
    from dulwich.objects import ObjectID, Tree

    level = Tree()
    level.add(b"d", 0o040000, ObjectID(below.encode()))
    store = DiskObjectStore(stage.upstream.path / "objects")
    store.add_object(level)
    store.close()
    return level.id.decode()


def test_tree_that_multiplies(stage: Stage) -> None:
    oid = tree(stage, (BLOB, b"x", blob(stage)))
    for _ in range(7):
        oid = tree(stage, *((TREE, b"%d" % number, oid) for number in range(10)))
    publish(stage, oid)
    refused(stage, "more than 200000 files")


@pytest.mark.parametrize("mode", ["0", "10644", "60000", "777777"])
def test_mode_that_git_does_not_know(stage: Stage, mode: str) -> None:
    publish(stage, tree(stage, (mode, b"a", blob(stage))))
    refused(stage, "web/a is refused: its mode")


def test_old_and_special_modes_give_no_special_files(stage: Stage) -> None:
    entries = [("100664", b"group"), ("104755", b"setuid"), ("100600", b"own")]
    publish(
        stage,
        tree(stage, *((mode, name, blob(stage)) for mode, name in sorted(entries, key=lambda e: e[1]))),
    )
    release = stage.checkout(stage.service("web"))
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (release.path / "web").iterdir()}
    assert modes == {"group": 0o644, "setuid": 0o755, "own": 0o644}


def test_malformed_tree(stage: Stage) -> None:
    raw = b"100644 name-without-an-id"
    oid = git(stage.upstream.path, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)
    root = tree(stage, (TREE, b"web", oid))
    commit = git(stage.upstream.path, "commit-tree", root, "-m", "hostile")
    git(stage.upstream.path, "update-ref", "refs/heads/main", commit)
    with pytest.raises(Exception) as error:
        stage.checkout(stage.service("web"))
    assert type(error.value).__module__ == "libgitopper.errors"


def test_hostile_names_outside_of_the_mapping_harm_nothing(stage: Stage) -> None:
    web = tree(stage, (BLOB, b"a", blob(stage)))
    bad = tree(stage, (BLOB, b"..", blob(stage)))
    root = tree(stage, (TREE, b"bad", bad), (TREE, b"web", web))
    commit = git(stage.upstream.path, "commit-tree", root, "-m", "hostile elsewhere")
    git(stage.upstream.path, "update-ref", "refs/heads/main", commit)
    release = stage.checkout(stage.service("web"))
    assert git(release.path, "status", "--porcelain") == ""
