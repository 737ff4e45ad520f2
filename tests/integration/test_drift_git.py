"""Drift of a release, each kind of it: judged by stock git."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from gitopper_plugins.dulwich import DulwichPlugin
from libgitopper import CheckoutError, DriftRequest, run
from libgitopper.testing.git import Stage
from tests.support.drifting import Host, host, plugin, stage, told, tree
from tests.support.namespace import in_mount_namespace, mount_tmpfs
from tests.support.upstream import git

__all__ = ["host", "plugin", "stage"]


def test_release_as_it_was_made_has_no_drift(host: Host) -> None:
    drift = host.drift()
    assert (drift.changes, drift.patch, drift.complete) == ((), b"", True)
    assert host.drift(thorough=True).changes == ()


def test_touch_is_no_drift(host: Host) -> None:
    for path in (host.web / "a", host.web / "sub/b", host.web / "sub"):
        os.utime(path, (1, 1))
    os.utime(host.web / "link", (1, 1), follow_symlinks=False)
    shutil.copy2(host.web / "run", host.web / "copy")
    (host.web / "copy").rename(host.web / "run")
    assert host.drift().changes == ()


def replace(path: Path, make: Callable[[Path], object]) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    make(path)


def filled(path: Path) -> None:
    path.mkdir()
    (path / "x").write_text("new")


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        former = Path.cwd()
        os.chdir(path.parent)  # the name of a socket must be short
        try:
            server.bind(path.name)
        finally:
            os.chdir(former)


def edit_and_allow(web: Path) -> None:
    (web / "a").write_text("x")
    (web / "a").chmod(0o755)


def add_deep(web: Path) -> None:
    (web / "x/y").mkdir(parents=True)
    (web / "x/y/z").write_text("1")


CASES: dict[str, tuple[Callable[[Path], object], list[tuple[str, str, str]]]] = {
    "edited": (lambda web: (web / "a").write_text("1\nx\n3\n"), [("web/a", "edited", "")]),
    "edited to nothing": (lambda web: (web / "a").write_text(""), [("web/a", "edited", "")]),
    "binary edited": (lambda web: (web / "sub/b").write_bytes(b"\0other"), [("web/sub/b", "edited", "")]),
    "edited and bits": (edit_and_allow, [("web/a", "edited", "mode 0755 instead of 0644")]),
    "added": (lambda web: (web / "new").write_text("1"), [("web/new", "added", "")]),
    "added empty": (lambda web: (web / "new").touch(0o644), [("web/new", "added", "")]),
    "added program": (lambda web: (web / "new").touch(0o755), [("web/new", "added", "")]),
    "added symlink": (lambda web: (web / "new").symlink_to("/etc/passwd"), [("web/new", "added", "")]),
    "added deep": (add_deep, [("web/x/y/z", "added", "")]),
    "added empty directories": (lambda web: (web / "x/y").mkdir(parents=True), []),
    "removed": (lambda web: (web / "a").unlink(), [("web/a", "removed", "")]),
    "directory removed": (lambda web: shutil.rmtree(web / "sub"), [("web/sub/b", "removed", "")]),
    "renamed": (
        lambda web: (web / "a").rename(web / "b"),
        [("web/a", "removed", ""), ("web/b", "added", "")],
    ),
    "file to symlink": (
        lambda web: replace(web / "a", lambda path: path.symlink_to("run")),
        [("web/a", "retyped", "a symlink instead of a file")],
    ),
    "symlink to file": (
        lambda web: replace(web / "link", lambda path: path.write_text("a")),
        [("web/link", "retyped", "a file instead of a symlink")],
    ),
    "symlink elsewhere": (
        lambda web: replace(web / "link", lambda path: path.symlink_to("run")),
        [("web/link", "edited", "")],
    ),
    "symlink to directory": (
        lambda web: replace(web / "link", filled),
        [("web/link", "retyped", "a directory instead of a symlink"), ("web/link/x", "added", "")],
    ),
    "file to directory": (
        lambda web: replace(web / "a", filled),
        [("web/a", "retyped", "a directory instead of a file"), ("web/a/x", "added", "")],
    ),
    "file to empty directory": (
        lambda web: replace(web / "a", lambda path: path.mkdir()),
        [("web/a", "retyped", "a directory instead of a file")],
    ),
    "directory to file": (
        lambda web: replace(web / "sub", lambda path: path.write_text("")),
        [("web/sub", "retyped", "a file instead of a directory"), ("web/sub/b", "removed", "")],
    ),
    "directory to symlink": (
        lambda web: replace(web / "sub", lambda path: path.symlink_to("/etc")),
        [("web/sub", "retyped", "a symlink instead of a directory"), ("web/sub/b", "removed", "")],
    ),
    "bits": (lambda web: (web / "a").chmod(0o755), [("web/a", "mode", "0755 instead of 0644")]),
    "bits of a program": (
        lambda web: (web / "run").chmod(0o644),
        [("web/run", "mode", "0644 instead of 0755")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_done_is_told_and_the_patch_does_it_again(host: Host, case: str, tmp_path: Path) -> None:
    act, expected = CASES[case]
    former = os.umask(0o022)
    try:
        act(host.web)
    finally:
        os.umask(former)
    drift = host.drift()
    assert told(drift.changes) == expected
    assert told(host.drift(thorough=True).changes) == expected
    assert drift.complete
    assert drift.patch.startswith(b"diff --git") == bool(expected) or b"empty" in case.encode()
    if expected:
        assert tree(host.apply(drift.patch, tmp_path / "clean")) == tree(host.web)


def test_git_status_in_the_release_says_the_same(host: Host) -> None:
    (host.web / "a").write_text("x")
    (host.web / "sub/b").unlink()
    (host.web / "new/deep").mkdir(parents=True)
    (host.web / "new/deep/file").write_text("")
    replace(host.web / "link", lambda path: path.write_text("a"))
    (host.web / "run").chmod(0o644)
    lines = git(host.release.path, "status", "--porcelain", "--untracked-files=all").split("\n")
    letters = {"M": ("edited", "mode"), "D": ("removed",), "T": ("retyped",), "??": ("added",)}
    seen = dict(line.strip().split(" ", 1)[::-1] for line in lines)
    changes = {change.path: change.kind.value for change in host.drift().changes}
    assert seen.keys() == changes.keys()
    assert all(changes[path] in letters[letter] for path, letter in seen.items())


def test_edit_that_keeps_size_and_mtime_is_drift(host: Host) -> None:
    file = host.web / "a"
    before = file.stat()
    file.write_text("3\n2\n1\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    assert host.found() == [("web/a", "edited", "")]


@pytest.mark.parametrize(
    ("path", "bits", "detail"),
    [
        ("a", 0o600, "0600 instead of 0644"), ("a", 0o664, "0664 instead of 0644"),
        ("run", 0o4755, "4755 instead of 0755"), ("sub", 0o700, "0700 instead of 0755"),
        (".", 0o777, "0777 instead of 0755"),
    ],
)  # fmt: skip
def test_bits_that_git_does_not_know_are_told_before_the_diffs(
    host: Host, path: str, bits: int, detail: str, tmp_path: Path
) -> None:
    (host.web / path).chmod(bits)
    shown = os.path.normpath(f"web/{path}")
    drift = host.drift()
    assert told(drift.changes) == [(shown, "mode", detail)]
    assert drift.patch.decode() == f"# Not told by this patch:\n# {shown}: mode {detail}\n"
    assert drift.complete
    (host.web / "new").write_text("1")
    assert "new" in tree(host.apply(host.drift().patch, tmp_path / "clean"))


def test_special_files_are_told_and_never_opened(host: Host, tmp_path: Path) -> None:
    os.mkfifo(host.web / "fifo")
    listening(host.web / "socket")
    replace(host.web / "a", os.mkfifo)
    drift = host.drift()
    assert told(drift.changes) == [
        ("web/a", "retyped", "a fifo instead of a file"),
        ("web/fifo", "added", "a fifo"),
        ("web/socket", "added", "a socket"),
    ]
    assert drift.patch.startswith(
        b"# Not told by this patch:\n# web/a: a fifo instead of a file\n# web/fifo: a fifo\n"
        b"# web/socket: a socket\ndiff --git a/web/a b/web/a\ndeleted file"
    )
    assert tree(host.apply(drift.patch, tmp_path / "clean")) == tree(host.web)


@pytest.mark.root
def test_device_is_told(host: Host) -> None:
    os.mknod(host.web / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert host.found() == [("web/null", "added", "a character device")]


@pytest.mark.root
def test_owner_is_the_user_of_the_service_or_who_made_the_release(stage: Stage) -> None:
    ours = Host.deploy(stage, stage.service("web"))
    theirs = Host.deploy(stage, evolve(stage.service("web"), name="theirs", user="nobody"))
    assert ours.found() == theirs.found() == []
    os.chown(ours.web / "a", 65534, 65534)
    os.chown(ours.web / "run", -1, 65534)  # a group alone depends on the directories above
    os.lchown(theirs.web / "link", 0, 0)
    os.chown(theirs.web / "sub", 4_000_000_001, -1)
    assert ours.found() == [("web/a", "owner", "nobody instead of root")]
    group = (theirs.web / "a").group()
    assert theirs.found() == [
        ("web/link", "owner", f"root:root instead of nobody:{group}"),
        ("web/sub", "owner", f"4000000001:{group} instead of nobody:{group}"),
    ]
    assert (
        theirs.drift().patch.decode().split("\n")[1]
        == f"# web/link: owner root:root instead of nobody:{group}"
    )
    (ours.web / "a").write_text("x")
    assert ours.found() == [("web/a", "edited", "owner nobody instead of root")]


def test_user_that_is_gone_is_an_error(host: Host) -> None:
    host.service = evolve(host.service, user="nobody-of-that-name")
    with pytest.raises(CheckoutError, match="no user nobody-of-that-name"):
        host.drift()


def test_mapped_file_and_nested_mappings(stage: Stage) -> None:
    host = Host.deploy(stage, stage.service("web/sub", "web", files=["other"]))
    assert host.found() == []
    (host.release.path / "other").write_text("2")
    (host.release.path / "beside").write_text("not mapped")
    (host.web / "sub/b").unlink()
    assert host.found() == [("other", "edited", ""), ("web/sub/b", "removed", "")]


def test_odd_names(stage: Stage, tmp_path: Path) -> None:
    names = [b"\xff\xfe", b"sp ace\n", b'"quoted"\\', "\u00fc".encode(), b"\ttab", b" "]
    work = os.fsencode(stage.upstream.work) + b"/web/"
    for name in names[:3]:
        Path(os.fsdecode(work + name)).write_text("1\n")
    stage.upstream.commit()
    host = Host.deploy(stage, stage.service("web"))
    for name in names:
        Path(os.fsdecode(os.fsencode(host.web) + b"/" + name)).write_text("2\n")
    drift = host.drift()
    paths = {change.path: change.kind.value for change in drift.changes}
    assert paths == {
        f"web/{os.fsdecode(name)}": "edited" if name in names[:3] else "added" for name in names
    }
    assert tree(host.apply(drift.patch, tmp_path / "clean")) == tree(host.web)


def test_submodule_is_an_empty_directory(stage: Stage, tmp_path: Path) -> None:
    commit = git(stage.upstream.work, "rev-parse", "HEAD")
    git(stage.upstream.work, "update-index", "--add", "--cacheinfo", f"160000,{commit},web/module")
    git(stage.upstream.work, "commit", "--quiet", "--message=module")
    stage.upstream.push()
    host = Host.deploy(stage, stage.service("web"))
    assert host.found() == []
    (host.web / "module/x").write_text("1")
    assert host.found() == [("web/module/x", "added", "")]
    assert tree(host.apply(host.drift().patch, tmp_path / "clean")) == tree(host.web)
    shutil.rmtree(host.web / "module")
    assert host.found() == [("web/module", "removed", "")]
    assert b"-Subproject commit " + commit.encode() in host.drift().patch
    assert not (host.apply(host.drift().patch, tmp_path / "removed") / "module").exists()


def test_nothing_is_written_by_a_look(host: Host) -> None:
    (host.web / "a").write_text("x")
    git(host.release.path, "status")

    def stamps() -> dict[Path, tuple[int, int]]:
        places = [*host.release.path.rglob("*"), host.release.path, *host.admin().rglob("*"), host.admin()]
        return {path: (path.lstat().st_mtime_ns, path.lstat().st_ctime_ns) for path in places}

    before = stamps()
    host.drift()
    host.drift(thorough=True)
    assert stamps() == before


def test_a_store_of_another_plugin_is_left_alone(plugin: DulwichPlugin, host: Host) -> None:
    foreign = type("Foreign", (), {})()
    assert (
        plugin.gitopper_drift(DriftRequest(service=host.service, store=foreign, release=host.release))
        is None
    )


@in_mount_namespace
@pytest.mark.root
def test_what_is_mounted_inside_is_somebody_elses(stage: Stage, tmp_path: Path) -> None:
    host = Host.deploy(stage, stage.service("web"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/x").write_text("1")
    (host.web / "carriage\rreturn").mkdir()
    for source, point in (("elsewhere", "sub"), ("elsewhere/x", "a"), ("elsewhere", "carriage\rreturn")):
        run(["mount", "--bind", str(tmp_path / source), str(host.web / point)], timeout_seconds=10).check()
    for name in ("tmp fs", "tmp\\fs"):  # escaped in the kernel's table
        (host.web / name).mkdir()
        mount_tmpfs(host.web / name)
        (host.web / name / "x").write_text("1")
    assert host.found() == []
    (host.web / "run").unlink()
    assert host.found() == [("web/run", "removed", "")]
