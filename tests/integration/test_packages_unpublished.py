"""Where a package manager runs: on the host as it is, but for what is published. With real mounts."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from gitopper_plugins import _unpublished, bind, mountapi
from gitopper_plugins._mountinfo import MountTable
from gitopper_plugins._packages import Session
from gitopper_plugins.apt import Apt
from libgitopper import (
    Content,
    Hooks,
    InstallError,
    Mapping,
    Release,
    Service,
    Source,
    TreeEntry,
)
from tests.support.namespace import fork, in_mount_namespace, make_propagation, mount_tmpfs

PR_CAPBSET_DROP, CAP_SYS_ADMIN = 24, 21


class Site:
    """A service whose release is published read-only over a directory with files of its own."""

    def __init__(self, root: Path, *, publish: str = "bind", readonly: bool = True) -> None:
        # As a host that systemd booted: what is mounted here reaches every other namespace.
        mount_tmpfs(root)
        make_propagation(root, "shared")
        self.local = root / "etc-app"
        self.service = Service(
            name="app",
            source=Source(upstream="https://git.example.net/x", branch="main"),
            mappings=(Mapping(link="etc", local=self.local),),
            mount=root / "gitopper",
            package="app",
            publish=publish,
            readonly=readonly,
        )
        content = Content(revision="a" * 40, entries=(TreeEntry(link="etc", id="b" * 40, mode=0o040000),))
        self.release = self._make(content)

    def _make(self, content: Content) -> Release:
        id_ = content.release_id(self.service)
        path = self.service.releases / id_
        (path / "etc").mkdir(parents=True)
        (path / "etc/app.conf").write_text("published\n")
        return Release(service="app", id=id_, path=path, content=content)

    def publish_over(self, local: Path) -> None:
        local.mkdir()
        (local / "app.conf").write_text("the host's\n")
        hooks = Hooks()
        hooks.register(bind)
        hooks.publish(self.service, self.release)
        assert (local / "app.conf").read_text() == "published\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def run(
    *argv: str | Path, keep: Sequence[Path] = (), scratch: Sequence[Path] = ()
) -> subprocess.CompletedProcess[str]:
    command = _unpublished.command([str(word) for word in argv], keep=keep, scratch=scratch)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def shell(script: str, *argv: str | Path, **options: Sequence[Path]) -> str:
    done = run("sh", "-euc", script, "sh", *argv, **options)
    assert done.returncode == 0, done
    return done.stdout


@in_mount_namespace
class TestMounted:
    def test_the_hosts_own_directory_is_there_and_can_be_written(self, root: Path) -> None:
        site = Site(root)
        site.publish_over(site.local)
        before = Path("/proc/self/mountinfo").read_bytes()
        assert shell('cat "$1/app.conf"; echo new > "$1/packaged"', site.local) == "the host's\n"
        assert Path("/proc/self/mountinfo").read_bytes() == before
        assert {path.name for path in site.local.iterdir()} == {"app.conf"}
        assert (site.local / "app.conf").read_text() == "published\n"
        mountapi.detach(site.local)
        assert (site.local / "packaged").read_text() == "new\n"

    def test_all_that_stand_on_one_another_are_gone(self, root: Path) -> None:
        site = Site(root)
        site.publish_over(site.local)
        for _ in range(2):  # as on a kernel that can't put a mount under another
            tree = mountapi.clone(site.release.path / "etc", readonly=True)
            mountapi.attach(tree, site.local)
            os.close(tree)
        assert len(MountTable.read().stack(site.local)) == 3
        assert shell('cat "$1/app.conf"', site.local) == "the host's\n"

    def test_one_whose_release_was_deleted_is_gone_too(self, root: Path) -> None:
        site = Site(root)
        site.publish_over(site.local)
        (site.release.path / "etc/app.conf").unlink()
        (site.release.path / "etc").rmdir()
        assert shell('cat "$1/app.conf"', site.local) == "the host's\n"

    def test_other_mounts_stay(self, root: Path) -> None:
        site = Site(root)
        (root / "data").mkdir()
        mount_tmpfs(root / "data")
        (root / "data/file").write_text("data\n")
        site.publish_over(site.local)
        assert shell('cat "$1/file"', root / "data") == "data\n"

    def test_what_somebody_mounted_over_a_release_is_not_taken_away(self, root: Path) -> None:
        site = Site(root)
        site.publish_over(site.local)
        mount_tmpfs(site.local)
        (site.local / "file").write_text("theirs\n")
        assert shell('cat "$1/file"', site.local) == "theirs\n"

    def test_the_managers_own_settings_may_come_from_a_release(self, root: Path) -> None:
        site = Site(root)
        site.publish_over(site.local)
        for keep in (site.local, site.local.parent):
            assert shell('cat "$1/app.conf"', site.local, keep=[keep]) == "published\n"
        other = site.local.with_name("etc-ap")
        assert shell('cat "$1/app.conf"', site.local, keep=[other]) == "the host's\n"

    def test_what_is_published_meanwhile_does_not_arrive(self, root: Path) -> None:
        site = Site(root)
        fifo = root / "go"
        os.mkfifo(fifo)
        site.local.mkdir()
        script = 'echo ready > "$2"; read x < "$2"; echo packaged > "$1/app.conf"'

        def install() -> None:
            shell(script, site.local, fifo)

        child = fork(install)
        assert fifo.read_text() == "ready\n"
        hooks = Hooks()
        hooks.register(bind)
        hooks.publish(site.service, site.release)
        fifo.write_text("go\n")
        assert os.waitpid(child, 0)[1] == 0
        assert (site.local / "app.conf").read_text() == "published\n"
        mountapi.detach(site.local)
        assert (site.local / "app.conf").read_text() == "packaged\n"

    def test_what_is_written_through_a_symlink_is_forgotten(self, root: Path) -> None:
        site = Site(root, publish="symlink")
        site.local.symlink_to(site.release.path / "etc")
        script = 'cat "$1/app.conf"; echo x > "$1/new"; echo y > "$1/app.conf"; cat "$1/new" "$1/app.conf"'
        told = shell(script, site.local, scratch=[site.service.releases.parent])
        assert told == "published\nx\ny\n"
        assert {path.name for path in site.local.iterdir()} == {"app.conf"}
        assert (site.local / "app.conf").read_text() == "published\n"

    def test_a_scratch_for_releases_that_are_not_there_yet_is_none(self, root: Path) -> None:
        assert shell("echo done", scratch=[root / "missing"]) == "done\n"


def inside(
    *argv: str | Path, keep: Sequence[Path] = (), scratch: Sequence[Path] = ()
) -> subprocess.CompletedProcess[str]:
    """Do as `run`, but in a child of this very process, where it can be seen which way it goes."""
    words = _unpublished.command([str(word) for word in argv], keep=keep, scratch=scratch)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:

        def child() -> None:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - pytest would keep it
            code = _unpublished.main(words[words.index("gitopper_plugins._unpublished") + 1 :])
            sys.stderr.flush()
            os._exit(code)

        code = os.waitstatus_to_exitcode(os.waitpid(fork(child), 0)[1])
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(argv, code, out.read().decode(), err.read().decode())


@in_mount_namespace
class TestInside:
    """The ways through the program: what it unmounts, keeps, covers, and refuses."""

    def test_of_all_mounts_only_those_of_releases_are_gone(self, root: Path) -> None:
        site = Site(root)
        site.publish_over(site.local)
        (root / "data").mkdir()
        mount_tmpfs(root / "data")
        (root / "data/file").write_text("data\n")
        assert inside("cat", site.local / "app.conf", root / "data/file").stdout == "the host's\ndata\n"

    def test_one_that_is_kept_stays(self, root: Path) -> None:
        site = Site(root)
        site.publish_over(site.local)
        assert inside("cat", site.local / "app.conf", keep=[site.local]).stdout == "published\n"

    def test_what_covers_one_stays(self, root: Path) -> None:
        site = Site(root)
        site.publish_over(site.local)
        mount_tmpfs(site.local)
        (site.local / "file").write_text("theirs\n")
        assert inside("cat", site.local / "file").stdout == "theirs\n"

    def test_one_that_nobody_can_reach_any_more_is_left_alone(self, root: Path) -> None:
        site = Site(root)
        site.publish_over(site.local)
        mount_tmpfs(root)  # its place is out of sight, and is not even there to the eye
        assert inside("ls", root).stdout == ""

    def test_a_scratch_takes_what_is_written_and_one_that_is_missing_is_none(self, root: Path) -> None:
        site = Site(root, publish="symlink")
        conf = site.release.path / "etc/app.conf"
        releases = site.service.releases.parent
        done = inside(
            "sh", "-c", 'echo x > "$1"; cat "$1"', "sh", conf, scratch=[root / "missing", releases]
        )
        assert done.stdout == "x\n", done.stderr
        assert conf.read_text() == "published\n"

    def test_a_command_that_is_missing_is_told(self, root: Path) -> None:
        done = inside("no-such-program")
        assert (done.returncode, done.stdout) == (127, "")
        assert done.stderr == "no-such-program: can't be started: No such file or directory\n"

    @pytest.mark.parametrize(
        ("filename", "words"), [("/the/place", "/the/place: No space left"), (None, "No space left")]
    )
    def test_what_the_kernel_refuses_is_told_with_its_place(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, filename: str | None, words: str
    ) -> None:
        """The refusal is simulated; `test_who_may_have_no_namespace_is_told_so` meets a real one."""

        def refuse(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), filename)

        monkeypatch.setattr(mountapi, "make_private", refuse)
        done = inside("true")
        assert done.returncode == _unpublished.REFUSED
        assert done.stderr.startswith(f"{_unpublished.REFUSED_WORDS} {words}")


@in_mount_namespace
def test_the_exit_code_is_that_of_the_command() -> None:
    assert run("sh", "-c", "exit 7").returncode == 7
    done = run("no-such-program")
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr == "no-such-program: can't be started: No such file or directory\n"


def test_who_may_have_no_namespace_is_told_so(tmp_path: Path) -> None:
    source = Source(upstream="https://git.example.net/x", branch="main")
    service = Service(name="app", source=source, mappings=(), mount=tmp_path, package="app")
    with pytest.raises(InstallError, match="without publications: /: Operation not permitted") as caught:
        without_rights(lambda: Session(Apt(), service, 20.0).change("true"))
    assert not caught.value.retryable


def without_rights(body: Callable[[], object]) -> None:
    """Call `body` in another process, whose programs may not mount, and raise what it raises."""
    reading, writing = os.pipe()

    def child() -> None:
        if os.geteuid() == 0:
            assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) == 0
        try:
            body()
        except InstallError as exc:
            os.write(writing, f"{exc.retryable:d}{exc}".encode())

    process = fork(child)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    assert os.waitpid(process, 0)[1] == 0
    if told:
        raise InstallError(told[1:], retryable=told[0] == "1")
