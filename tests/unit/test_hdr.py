"""gitopperhdr as a program, in work trees that git made."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from gitopper_plugins.dulwich import DulwichPlugin
from gitopperd.hdr.errors import HeaderError
from gitopperd.hdr.main import TEXTS, main
from gitopperd.hdr.worktree import WorkTree, parse_config
from libgitopper import Hooks
from libgitopper.testing.git import Stage
from tests.support.upstream import Upstream, git

GITHUB = "git@github.com:ops/fleet.git"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A work tree on branch ``main``, with ``etc/app.conf`` in it, that was not pushed anywhere."""
    top = tmp_path / "clone"
    top.mkdir()
    git(top, "init", "--quiet", "--initial-branch=main")
    git(top, "remote", "add", "origin", GITHUB)
    (top / "etc").mkdir()
    (top / "etc/app.conf").write_text("a = 1\n")
    git(top, "add", ".")
    git(top, "commit", "--quiet", "--message=first")
    return top


def said(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    assert err.startswith("gitopperhdr: ")
    assert err.count("\n") == 1
    return err


def url(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    return said(capsys, *words).splitlines()[1].removeprefix("#").strip()


def test_two_lines_tell_where_to_edit_a_file(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, clone / "etc/app.conf") == (
        f"# {TEXTS['en']}\n#   https://github.com/ops/fleet/blob/main/etc/app.conf\n"
    )


def test_a_relative_name_will_do(
    clone: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone / "etc")
    assert url(capsys, "app.conf").endswith("/blob/main/etc/app.conf")


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_each_language_names_gitopper(
    clone: Path, capsys: pytest.CaptureFixture[str], language: str
) -> None:
    first, second = said(capsys, "-l", language, clone / "etc/app.conf").splitlines()
    assert first == f"# {TEXTS[language]}"
    assert "gitopper" in first
    assert second == "#   https://github.com/ops/fleet/blob/main/etc/app.conf"


def test_options_win_over_what_is_found(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["-p", ";;", "-b", "canary", "-f", "gitea", "-u", "https://git.example.net/ops/fleet/"]
    assert said(capsys, *options, clone / "etc/app.conf") == (
        f";; {TEXTS['en']}\n;;   https://git.example.net/ops/fleet/src/branch/canary/etc/app.conf\n"
    )


def test_a_local_branch_is_told_by_the_name_of_the_one_it_follows(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(clone, "remote", "add", "backup", "https://gitlab.example.net/ops/fleet.git")
    git(clone, "checkout", "--quiet", "-b", "mine")
    git(clone, "config", "branch.mine.remote", "backup")
    git(clone, "config", "branch.mine.merge", "refs/heads/feat/theirs")
    found = url(capsys, clone / "etc/app.conf")
    assert found == "https://gitlab.example.net/ops/fleet/-/blob/feat/theirs/etc/app.conf"
    assert url(capsys, "-r", "origin", clone / "etc/app.conf").startswith("https://github.com/")


def test_the_only_remote_is_taken_whatever_its_name(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(clone, "remote", "rename", "origin", "up.stream")
    assert url(capsys, clone / "etc/app.conf").startswith("https://github.com/ops/fleet/")


def test_of_several_remotes_one_has_to_be_chosen(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git(clone, "remote", "rename", "origin", "one")
    git(clone, "remote", "add", "two", GITHUB)
    text = refused(capsys, clone / "etc/app.conf")
    assert "one, two" in text
    assert "--remote" in text


def test_without_a_remote_the_address_has_to_be_given(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(clone, "remote", "remove", "origin")
    assert "--url" in refused(capsys, clone / "etc/app.conf")
    assert url(capsys, "-u", "https://github.com/x/y", clone / "etc/app.conf").endswith("/etc/app.conf")


def test_at_a_commit_the_branch_that_is_there_is_told(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(clone, "branch", "other")
    (clone / "etc/app.conf").write_text("a = 2\n")
    git(clone, "commit", "--quiet", "--all", "--message=second")
    git(clone, "checkout", "--quiet", "--detach", "main")
    assert "/blob/main/" in url(capsys, clone / "etc/app.conf")
    git(clone, "pack-refs", "--all")
    assert "/blob/main/" in url(capsys, clone / "etc/app.conf")


def test_at_a_commit_of_no_one_branch_the_commit_is_told(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(clone, "branch", "other")
    git(clone, "checkout", "--quiet", "--detach")
    revision = git(clone, "rev-parse", "HEAD")
    assert f"/blob/{revision}/" in url(capsys, clone / "etc/app.conf")


def test_a_branch_that_moved_after_it_was_packed_is_where_it_is_now(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(clone, "pack-refs", "--all")
    git(clone, "branch", "other")
    (clone / "etc/app.conf").write_text("a = 2\n")
    git(clone, "commit", "--quiet", "--all", "--message=second")
    git(clone, "checkout", "--quiet", "--detach", "HEAD^")
    assert "/blob/other/" in url(capsys, clone / "etc/app.conf")


def test_linked_work_trees_and_submodules_count(
    clone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(clone, "worktree", "add", "--quiet", "-b", "side", str(tmp_path / "linked"))
    assert url(capsys, tmp_path / "linked/etc/app.conf").endswith("/ops/fleet/blob/side/etc/app.conf")
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "--quiet")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(clone), "sub")
    git(outer / "sub", "remote", "set-url", "origin", "https://codeberg.org/ops/sub")
    assert (
        url(capsys, outer / "sub/etc/app.conf")
        == "https://codeberg.org/ops/sub/src/branch/main/etc/app.conf"
    )


def test_links_on_the_way_are_followed_and_one_at_the_end_is_the_file(
    clone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").symlink_to(clone / "etc")
    (clone / "etc/alias.conf").symlink_to("app.conf")
    assert url(capsys, tmp_path / "here/alias.conf").endswith("/blob/main/etc/alias.conf")


def test_a_release_of_gitopper_is_such_a_work_tree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream = Upstream.create(tmp_path / "upstreams")
    upstream.commit({"web/etc/app.conf": "1"})
    hooks = Hooks()
    plugin = DulwichPlugin()
    hooks.register(plugin, name="dulwich")
    stage = Stage(hooks=hooks, upstream=upstream, url=upstream.url, root=tmp_path)
    release = stage.checkout(stage.service("web/etc"))
    plugin.close()
    assert (release.path / ".git").is_file()
    here = release.path / "web/etc/app.conf"
    assert "--url" in refused(capsys, here)  # its upstream is a directory
    assert url(capsys, "-u", "https://github.com/a/b", here) == (
        "https://github.com/a/b/blob/main/web/etc/app.conf"
    )


def test_what_is_in_no_work_tree_is_told_where_to_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert "MOUNT/SERVICE" in refused(capsys, tmp_path / "file")


def test_a_file_that_is_not_there_and_a_directory_are_refused(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no such file" in refused(capsys, clone / "etc/nope")
    assert "is a directory" in refused(capsys, clone / "etc")


def test_a_repository_that_can_not_be_read_is_told(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (clone / ".git/config").unlink()
    assert "config can't be read" in refused(capsys, clone / "etc/app.conf")


def test_wrong_usage_ends_with_2_and_help_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    for words, code in (([], 2), (["-l", "tlh", "x"], 2), (["--nope", "x"], 2), (["--help"], 0)):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == code
    assert "usage: gitopperhdr" in capsys.readouterr().out


CONFIG = r"""
; a comment
[core] bare = false
[Remote "or\"ig\\in"]
	URL = "https://h/#a" ; behind it
	url = second
	pushurl = x\
y
[branch "Fix.1"]
	merge = refs/heads/a # c
"""


def test_the_configuration_is_read_as_git_reads_it(tmp_path: Path) -> None:
    values = parse_config(CONFIG)
    (tmp_path / "config").write_text(CONFIG)

    def asked(key: str) -> str:
        return git(tmp_path, "config", "--file=config", "--get-all", key).splitlines()[0]

    keys = ["core.bare", r'remote.or"ig\in.url', r'remote.or"ig\in.pushurl', "branch.Fix.1.merge"]
    assert {key: values[key] for key in keys} == {key: asked(key) for key in keys}
    assert values[keys[1]] == "https://h/#a"
    assert len(values) == len(keys)


def test_a_damaged_pointer_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: nowhere\n")
    with pytest.raises(HeaderError, match="can't be read"):
        WorkTree.around(tmp_path / "file")


LOADED = """
import sys
from gitopperd.hdr.main import main
code = main(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""
HEAVY = {
    "click",
    "dulwich",
    "attrs",
    "attr",
    "aiohttp",
    "asyncio",
    "pluggy",
    "libgitopper",
    "gitopper_plugins",
}


def test_it_is_quick_and_needs_no_git(clone: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", LOADED, clone / "etc/app.conf"],
        env=environment, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "github.com/ops/fleet" in done.stdout
    loaded = set(done.stderr.split())
    assert not HEAVY & loaded
    assert all(name.startswith("gitopperd.hdr") for name in loaded if name.startswith("gitopperd."))
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 0.5  # 0.03 where nothing else runs
