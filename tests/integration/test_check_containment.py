"""Checks that misbehave: they end in time, leave nothing behind, and do not get at the release."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from gitopper_plugins import bind, mountapi
from libgitopper import CheckError, MountRequest, MountVerb, Release, run
from tests.support.checking import PATIENCE_SECONDS, Site, make_site, mounts, tree
from tests.support.namespace import fork, in_mount_namespace
from tests.support.ordinary import as_ordinary_user, without_namespaces

NEW = {"web/conf": "new\n", "web/sites/one": "new\n"}


def mapped(home: Path, publish: str = "symlink") -> tuple[Site, Release]:
    site = make_site(home / "site", publish=publish)
    site.mapped(("web", "etc"))
    (site.home / "etc").mkdir()
    return site, site.release("new", NEW)


def refused(site: Site, release: Release, *scripts: str, **more: Any) -> str:
    with pytest.raises(CheckError) as caught:
        site.check(release, *scripts, **more)
    assert not caught.value.retryable, caught.value
    return str(caught.value)


# All of these stay behind, one way or another, if nobody prevents it.
RUNAWAYS = {
    "a child in the background": "sleep 600 & echo $! >$OUT/pid",
    "a daemon, as they are made": '(setsid sh -c "sleep 600 & echo \\$! >$OUT/pid" &)',
    "one that ignores SIGTERM": '(trap "" TERM HUP; setsid sh -c "echo \\$\\$ >$OUT/pid; sleep 600" &)',
    "many": "for n in 1 2 3 4 5; do (setsid sleep 600 & setsid sleep 600 &) ; done; echo 1 >$OUT/pid",
}


class Cases:
    """Each test runs as root, as an ordinary user, and as one without a private view."""

    staged = True

    def test_a_check_that_hangs_is_ended_at_its_deadline(self, place: Path) -> None:
        site, release = mapped(place)
        started = time.monotonic()
        said = refused(site, release, "echo waiting for the lock; sleep 600", timeout_seconds=0.3)
        assert time.monotonic() - started < PATIENCE_SECONDS
        assert said.endswith("not done after 0.3 s, ended: waiting for the lock")
        site.assert_nothing_runs()

    def test_one_that_ignores_sigterm_is_ended_too(self, place: Path) -> None:
        site, release = mapped(place)
        script = 'trap "" TERM; while :; do sleep 600; done'
        assert "not done after 0.2 s" in refused(site, release, script, timeout_seconds=0.2)
        site.assert_nothing_runs()

    def test_one_that_ends_itself_on_sigterm_may_clean_up(self, place: Path) -> None:
        site, release = mapped(place)
        script = "trap 'echo cleaned up; exit 0' TERM; sleep 600 & wait"
        said = refused(site, release, script, timeout_seconds=0.3)
        assert said.endswith("not done after 0.3 s, ended: cleaned up")

    @pytest.mark.parametrize("how", RUNAWAYS)
    def test_what_it_leaves_behind_is_ended_with_it(self, place: Path, how: str) -> None:
        site, release = mapped(place)
        site.check(release, f"{RUNAWAYS[how]}; while ! [ -s $OUT/pid ]; do sleep 0.01; done")
        assert (site.out / "pid").read_text()
        site.assert_nothing_runs()
        (site.out / "pid").unlink()
        refused(site, release, f"{RUNAWAYS[how]}; sleep 600", timeout_seconds=0.5)
        assert (site.out / "pid").read_text()
        site.assert_nothing_runs()

    def test_lines_without_an_end_and_escapes_make_a_short_text(self, place: Path) -> None:
        site, release = mapped(place)
        said = refused(site, release, r"printf '\033[31mred\033[0m\r\n----\n\a'; exit 1")
        assert said.endswith("exit code 1: red")
        said = refused(site, release, "head -c 100000 /dev/zero | tr '\\0' x; exit 1")
        assert said.endswith("xxx")
        assert "exit code 1: …xxx" in said
        assert len(said) < 1000

    def test_the_daemon_is_killed(self, place: Path) -> None:
        site, release = mapped(place)
        mounted = mounts()

        def body() -> None:
            site.check(release, "(setsid sleep 600 &); sleep 600; :")

        daemon = fork(body)
        try:
            until = time.monotonic() + PATIENCE_SECONDS
            # Counted by what they are: a subshell that is about to end would pass for one of them.
            while site.running("sleep") < 2 and time.monotonic() < until:
                time.sleep(0.01)
            assert site.running("sleep") == 2
            os.kill(daemon, signal.SIGKILL)
            os.waitpid(daemon, 0)
            if self.staged:
                site.assert_nothing_runs()
            assert mounts() == mounted
        finally:
            for pid in site.processes():  # where nothing holds what got away from its parent
                os.kill(pid, signal.SIGKILL)
        site.assert_nothing_runs()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


@in_mount_namespace
class TestAsRoot(Cases):
    """With the rights of the daemon."""

    def test_a_gigabyte_of_output_is_not_kept(self, place: Path) -> None:
        site, release = mapped(place)
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        said = refused(site, release, "head -c 1G /dev/zero; echo; echo the reason >&2; exit 3")
        assert said.endswith("exit code 3: the reason")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 8 * 1024


@as_ordinary_user
class TestAsOrdinaryUser(Cases):
    """In a user namespace."""


@without_namespaces
class TestWithoutView(Cases):
    """Where the kernel allows no user namespace."""

    staged = False


# Each writes to the release, if nothing keeps it from that. $RELEASE is its path; it is at $LOCAL, and at
# $SHOWN, too; and the directory in which all of this is, is seen at $WHOLE, too. They run as root, half of
# them without a view: none may name anything else to write to, whatever goes wrong.
WRITES = {
    "at the real path": "echo x >$LOCAL/conf",
    "at the end": "echo x >>$LOCAL/sites/one",
    "a new file": "touch $LOCAL/new",
    "at its own path": "echo x >$RELEASE/web/conf",
    "remove": "rm -rf ${RELEASE:?}/web",
    "rename": "mv $RELEASE/web $RELEASE/other",
    "mode": "chmod 600 $RELEASE/web/conf",
    "hard link": "ln $RELEASE/web/conf $HERE/out/hard; echo x >$HERE/out/hard; echo x >$RELEASE/web/conf",
    "the directory that it runs in": "[ $PWD = / ] || echo x >conf",
    "the first process's directory": "cd /proc/1/cwd && [ ! . -ef / ] && echo x >conf",
    "the first process's root": "echo x >/proc/1/root/$RELEASE/web/conf",
    "remount": "mount -o remount,bind,rw $LOCAL; echo x >$LOCAL/conf",
    "remount all": "for m in $(cut -d' ' -f5 /proc/self/mountinfo); do mount -o remount,bind,rw $m; done;"
    " echo x >$RELEASE/web/conf",
    "unmount": "umount -l $LOCAL; umount -l $HERE/data; echo x >$RELEASE/web/conf",
    "a namespace": "unshare -m sh -c 'mount -o remount,bind,rw $LOCAL'; echo x >$LOCAL/conf",
    "a user namespace": "unshare -Urm sh -c 'umount -l $HERE/data; mount -o remount,bind,rw $HERE/data;"
    " mount -o remount,bind,rw $LOCAL; echo x >$LOCAL/conf; echo x >$RELEASE/web/conf;"
    " mount --bind $RELEASE $HERE/out; echo x >$HERE/out/web/conf'",
}
# These need root, at least to be set up.
ROOTS_WRITES = {
    "another's namespace": "nsenter -t 1 -m sh -c 'echo x >$RELEASE/web/conf'",
    "another root": "chroot /proc/1/root sh -c 'echo x >$RELEASE/web/conf'",
    "owner": "chown 7:7 $RELEASE/web/conf",
    "another mount of all": "echo x >$WHOLE/site/data/.gitopper/releases/app/new/web/conf",
    "another mount of the release": "echo x >$SHOWN/conf",
    "a device": "mknod $HERE/out/null c 1 3 && echo x >$RELEASE/web/conf",
    "by handle": f'{sys.executable} -S -c "$BY_HANDLE" $HERE $RELEASE/web/conf',
}

# open_by_handle_at(2): the file by its number, through another mount of its file system.
BY_HANDLE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
handle = ctypes.create_string_buffer(8 + 128)
ctypes.cast(handle, ctypes.POINTER(ctypes.c_uint))[0] = 128
assert libc.name_to_handle_at(-100, sys.argv[2].encode(), handle, ctypes.byref(ctypes.c_int()), 0) == 0
through = os.open(sys.argv[1], os.O_RDONLY)
opened = libc.open_by_handle_at(through, handle, os.O_WRONLY)
assert opened >= 0, os.strerror(ctypes.get_errno())
os.write(opened, b"x")
"""


class Writes:
    """A check can't change the release. First that there is something to find: without a view it can."""

    def prepared(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Site, Release]:
        site, release = mapped(place, "bind")
        monkeypatch.setenv("HERE", str(site.home))
        monkeypatch.setenv("LOCAL", str(site.home / "etc"))
        monkeypatch.setenv("RELEASE", str(release.path))
        return site, release

    @pytest.mark.parametrize("how", WRITES)
    def test_without_a_view_it_is_changed(
        self, place: Path, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        site, release = self.prepared(place, monkeypatch)
        (site.home / "etc").rmdir()
        (site.home / "etc").symlink_to(release.path / "web")
        self.assert_changed(site, release, WRITES[how])

    @pytest.mark.parametrize("how", WRITES)
    def test_it_stays_as_it_is(self, place: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
        site, release = self.prepared(place, monkeypatch)
        self.assert_unchanged(site, release, WRITES[how])

    def test_who_runs_the_commands_is_out_of_their_reach(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It knows more, and may more."""
        site, release = self.prepared(place, monkeypatch)
        told = site.seen(
            release, "for what in cwd root fd/0 exe; do ! readlink /proc/1/$what; done; ls /proc"
        )
        assert "/" not in told
        assert len([name for name in told.split() if name.isdigit()]) == 3, "itself, the shell, and ls"

    def assert_changed(self, site: Site, release: Release, script: str) -> None:
        before = tree(site.service.mount)
        # Process 1 is another one here: the ways through it are tried on this one.
        script = script.replace("/proc/1/", "/proc/$PPID/").replace("-t 1 ", "-t $PPID ")
        with chdir(release.path / "web"):
            run(["sh", "-c", script], timeout_seconds=PATIENCE_SECONDS)
        assert tree(site.service.mount) != before

    def assert_unchanged(self, site: Site, release: Release, script: str) -> None:
        before, mounted = tree(site.service.mount), mounts()
        with chdir(release.path / "web"):
            site.check(release, f"set +e; exec 2>/dev/null; {script}; :")
        assert tree(site.service.mount) == before
        assert mounts() == mounted
        site.assert_nothing_runs()


@in_mount_namespace
class TestWritesAsRoot(Writes):
    """With a release that is published for writing, too, as a service may ask for."""

    def prepared(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Site, Release]:
        site, release = super().prepared(place, monkeypatch)
        bind.gitopper_mount(MountRequest(service=site.service, verb=MountVerb.PUBLISH, release=release))
        for name, what in (("whole", place), ("shown", release.path / "web")):
            point = place / name
            point.mkdir()
            attached = mountapi.clone(what)
            mountapi.attach(attached, point)
            os.close(attached)
            monkeypatch.setenv(name.upper(), str(point))
        monkeypatch.setenv("BY_HANDLE", BY_HANDLE)
        return site, release

    @pytest.mark.parametrize("how", WRITES)
    def test_without_a_view_it_is_changed(
        self, place: Path, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        site, release = self.prepared(place, monkeypatch)
        self.assert_changed(site, release, WRITES[how])

    @pytest.mark.root
    @pytest.mark.parametrize("how", ROOTS_WRITES)
    def test_without_a_view_root_changes_it(
        self, place: Path, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        site, release = self.prepared(place, monkeypatch)
        self.assert_changed(site, release, ROOTS_WRITES[how])

    @pytest.mark.root
    @pytest.mark.parametrize("how", ROOTS_WRITES)
    def test_root_does_not_change_it(self, place: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
        site, release = self.prepared(place, monkeypatch)
        self.assert_unchanged(site, release, ROOTS_WRITES[how])

    def test_what_surrounds_the_release_is_read_only_for_root(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not only that nothing is changed: it is refused, by the mount and not by chance."""
        site, release = self.prepared(place, monkeypatch)
        script = "for d in $LOCAL $RELEASE $HERE/data $SHOWN $WHOLE/site/data; do ! touch $d/x 2>&1; done"
        told = site.seen(release, script)
        assert told.count("Read-only file system") == 5, told

    def test_root_keeps_only_rights_that_are_no_way_around(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site, release = self.prepared(place, monkeypatch)
        status = dict(
            line.split(":\t")
            for line in site.seen(release, "cat /proc/self/status").splitlines()
            if ":\t" in line
        )
        given_up = {
            2: "DAC_READ_SEARCH", 16: "SYS_MODULE", 17: "SYS_RAWIO", 19: "SYS_PTRACE", 21: "SYS_ADMIN",
            22: "SYS_BOOT", 27: "MKNOD",
        }  # fmt: skip
        for kind in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
            assert not [name for number, name in given_up.items() if int(status[kind], 16) >> number & 1]
        assert status["NoNewPrivs"] == "1"
        # Nor does an exec bring them back.
        told = site.seen(release, "sh -c 'exec sh -c \"grep CapPrm /proc/self/status\"'")
        assert int(told.split()[1], 16) == int(status["CapPrm"], 16)


@as_ordinary_user
class TestWritesAsOrdinaryUser(Writes):
    """Who owns the release, and could write to it anywhere else."""
