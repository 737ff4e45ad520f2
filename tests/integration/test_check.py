"""The check plugin with real programs: how it asks, how it judges, as whom it runs, and what it costs."""

from __future__ import annotations

import errno
import grp
import json
import os
import pwd
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from attrs import evolve

from gitopper_plugins import check as plugin
from gitopper_plugins import mountapi
from gitopper_plugins._task import Report, receive
from libgitopper import CheckError, CheckRequest, Release
from tests.support.checking import Site, hooks, make_site
from tests.support.namespace import enter_mount_namespace, in_child, in_mount_namespace, mount_tmpfs
from tests.support.ordinary import NOBODY, as_ordinary_user, become_nobody, without_namespaces

NEW = {"web/conf": "new\n"}
TIMES_AN_INTERPRETER = 4.0
"""What a check may cost at most, beside starting Python with what it loads of the standard library."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


def mapped(home: Path) -> tuple[Site, Release]:
    site = make_site(home / "site")
    site.mapped(("web", "etc"))
    (site.home / "etc").mkdir()
    return site, site.release("new", NEW)


def ask(request: CheckRequest) -> str:
    (accepted,) = hooks().check(request)
    return accepted.note


def refusal(request: CheckRequest) -> CheckError:
    with pytest.raises(CheckError) as refused:
        hooks().check(request)
    assert "\n" not in str(refused.value)
    return refused.value


ENVIRONMENT = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"


class Cases:
    """Each test runs as root, as an ordinary user, and as one without a private view."""

    staged = True

    def note(self, note: str) -> bool:
        """Tell whether `note` is as it should be."""
        return note == ""

    def test_commands_get_what_they_run_for(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
        monkeypatch.setenv("TZ", "UTC")
        site, release = mapped(place)
        told = site.out / "told"
        assert self.note(ask(site.request(release, (sys.executable, "-S", "-c", ENVIRONMENT, str(told)))))
        seen = json.loads(told.read_text())
        assert seen["GITOPPER_SERVICE"] == "app"
        assert seen["GITOPPER_REVISION"] == release.content.revision
        assert seen["GITOPPER_RELEASE"] == str(release.path)
        assert seen["GITOPPER_STAGED"] == ("1" if self.staged else "0")
        assert seen["TZ"] == "UTC"
        assert "NOTIFY_SOCKET" not in seen

    def test_commands_run_in_their_order_as_who_runs_the_daemon(self, place: Path) -> None:
        site, release = mapped(place)
        script = "id -u >>$OUT/log; id -g >>$OUT/log; readlink /proc/self/fd/0 >>$OUT/log; pwd >>$OUT/log"
        site.check(
            release, "echo one >>$OUT/log", script, "ps -o sid= -p $$ >/dev/null; echo three >>$OUT/log"
        )
        lines = ["one", str(os.geteuid()), str(os.getegid()), "/dev/null", "/", "three"]
        assert (site.out / "log").read_text().split("\n")[:-1] == lines

    def test_the_first_that_fails_is_told_and_none_is_run_after_it(self, place: Path) -> None:
        site, release = mapped(place)
        error = refusal(
            site.request(
                release,
                ("echo", "said by the first"),
                ("sh", "-c", "echo this; echo; echo '  that ' >&2; exit 7"),
                ("touch", str(site.out / "third")),
            )
        )
        assert str(error).endswith("exit code 7: this | that")
        assert str(error).startswith("sh -c ")
        assert not error.retryable
        assert not (site.out / "third").exists()

    def test_one_that_a_signal_ended_refuses(self, place: Path) -> None:
        site, release = mapped(place)
        error = refusal(site.request(release, ("sh", "-c", "kill -SEGV $$")))
        assert str(error).endswith("ended by signal 11")
        assert not error.retryable

    def test_one_that_was_killed_has_not_judged(self, place: Path) -> None:
        site, release = mapped(place)
        error = refusal(site.request(release, ("sh", "-c", "echo looking; kill -KILL $$")))
        assert str(error).endswith("ended by signal 9: looking")
        assert error.retryable

    def test_they_have_one_deadline_together(self, place: Path) -> None:
        site, release = mapped(place)
        request = site.request(release, ("sleep", "0.3"), ("sleep", "0.6"), timeout_seconds=0.6)
        error = refusal(request)
        assert str(error) == "sleep 0.6: not done after 0.6 s, ended"
        assert not error.retryable

    def test_a_program_that_can_not_be_started_is_asked_again(self, place: Path) -> None:
        site, release = mapped(place)
        error = refusal(site.request(release, ("true",), ("no-such-program", "-t")))
        assert str(error).startswith(
            "no-such-program -t: can't be started: No such file or directory; install it"
        )
        assert error.retryable
        script = site.out / "script"
        script.write_text("no program")
        error = refusal(site.request(release, (str(script),)))
        assert "Permission denied" in str(error)
        assert error.retryable

    def test_a_program_that_comes_with_the_release_is_found_where_it_will_be(self, place: Path) -> None:
        site, release = mapped(place)
        (release.path / "web/judge").write_text("#!/bin/sh\necho judged >$OUT/judged\n")
        (release.path / "web/judge").chmod(0o755)
        if self.staged:
            site.check(release, "$HERE/etc/judge")
        else:
            site.check(release, "$GITOPPER_RELEASE/web/judge")
        assert (site.out / "judged").read_text() == "judged\n"

    def test_programs_die_of_a_broken_pipe_as_they_should(self, place: Path) -> None:
        site, release = mapped(place)
        site.check(release, "yes | head -n 1 >/dev/null", timeout_seconds=5.0)

    def test_paths_that_are_no_text_are_paths(self, place: Path) -> None:
        site = make_site(place / os.fsdecode(b"s\xff te"))
        site.mapped(("web", os.fsdecode(b"not there/\xe9tc")))
        release = site.release("new", NEW)
        if self.staged:
            assert site.seen(release, 'cat "$HERE"/not*/*/conf').endswith("new\n")
        else:
            site.check(release, 'cat "$GITOPPER_RELEASE"/web/conf')

    def test_it_costs_little_more_than_the_interpreter_that_it_starts(self, place: Path) -> None:
        """Side by side, the least of five runs each: other work on the machine can only add to it."""
        site, release = mapped(place)
        checking = partial(ask, site.request(release, ("true",)))
        loading = partial(subprocess.run, (sys.executable, "-I", "-c", STARTING), check=True)
        turns = [(cpu_seconds(checking), cpu_seconds(loading)) for _ in range(5)]
        ours, needed = (min(costs) for costs in zip(*turns, strict=True))
        assert ours <= TIMES_AN_INTERPRETER * needed


STARTING = "import ctypes, json, pathlib, signal"


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return what `work` costs in this process and in those that it starts."""

    def so_far() -> float:
        uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(use.ru_utime + use.ru_stime for use in uses)

    before = so_far()
    work()
    return so_far() - before


def in_group(user: str) -> set[int]:
    entry = pwd.getpwnam(user)
    return {entry.pw_gid, *(group.gr_gid for group in grp.getgrall() if user in group.gr_mem)}


@in_mount_namespace
class TestAsRoot(Cases):
    """With the rights of the daemon."""

    @pytest.mark.root
    @pytest.mark.parametrize("user", ["nobody", "games", "www-data"])
    def test_the_commands_run_as_the_user_that_is_asked_for(self, place: Path, user: str) -> None:
        mount_tmpfs(Path("/mnt"))
        Path("/mnt").chmod(0o755)  # the directories of tests are root's own
        site, release = mapped(Path("/mnt"))
        script = "id -u; id -g; id -G; echo $HOME $USER $LOGNAME; cat $HERE/etc/conf"
        script += "; grep CapEff /proc/$$/status; echo it can open >/dev/stderr"
        told = site.seen(release, script, user=user)
        uid, gid, groups, home, conf, capabilities = told.splitlines()
        entry = pwd.getpwnam(user)
        assert (int(uid), int(gid), set(map(int, groups.split()))) == (
            entry.pw_uid,
            entry.pw_gid,
            in_group(user),
        )
        assert home == f"{entry.pw_dir} {user} {user}"
        assert conf == "new"
        assert int(capabilities.split()[1], 16) == 0

    @pytest.mark.root
    def test_root_by_name_is_who_runs_it_anyway(self, place: Path) -> None:
        site, release = mapped(place)
        assert site.seen(release, "id -u", user="root") == "0\n"

    def test_a_user_that_does_not_exist_is_asked_for_again(self, place: Path) -> None:
        site, release = mapped(place)
        error = refusal(site.request(release, ("true",), user="no-such-user"))
        assert str(error).startswith("check: user 'no-such-user' does not exist on this host")
        assert error.retryable

    def test_a_candidate_that_can_not_be_found_is_no_verdict(self, place: Path) -> None:
        site, release = mapped(place)
        site.mapped(("gone", "etc"))
        error = refusal(site.request(release, ("true",)))
        assert (
            str(error)
            == f"no private view can be made for the check: {release.path}/gone: No such file or directory"
        )
        assert error.retryable


@as_ordinary_user
class TestAsOrdinaryUser(Cases):
    """In a user namespace."""

    def test_another_user_needs_root(self, place: Path) -> None:
        site, release = mapped(place)
        error = refusal(site.request(release, ("true",), user="games"))
        assert str(error) == "check: only root can run commands as 'games'; remove \"user\" from it"
        assert error.retryable

    def test_who_runs_it_anyway_may_be_named(self, place: Path) -> None:
        site, release = mapped(place)
        me = pwd.getpwuid(os.geteuid())
        assert site.seen(release, "id -u", user=me.pw_name) == f"{me.pw_uid}\n"


def in_a_sandbox() -> None:
    """Become an ordinary user for whom a part of procfs is hidden, as by ProtectKernelTunables=."""
    enter_mount_namespace()
    tunables = mountapi.clone("/proc/sys", readonly=True)
    mountapi.attach(tunables, "/proc/sys")
    os.close(tunables)
    become_nobody()


@pytest.mark.root
@partial(in_child, prepare=in_a_sandbox)
def test_a_sandbox_that_hides_parts_of_procfs_is_no_hindrance() -> None:
    """There the kernel refuses a fresh one; the old one shows others, and they are out of reach."""
    site, release = mapped(Path("/mnt"))
    outside = os.getpid()
    script = "id -u; cat $HERE/etc/conf; ls -d $OTHER; ! readlink $OTHER/root; ! kill -0 ${OTHER##*/} 2>&1"
    told = site.seen(release, f"OTHER=/proc/{outside}; {script}")
    assert told.startswith(f"{NOBODY}\nnew\n/proc/{outside}\n"), told
    assert "No such process" in told
    site.assert_nothing_runs()


@without_namespaces
class TestWithoutView(Cases):
    """Where the kernel allows no user namespace."""

    staged = False

    def note(self, note: str) -> bool:
        assert note == (
            "checked without a private view (No space left on device): the release was not at its real"
            " paths, only where GITOPPER_RELEASE says"
        )
        return True


def test_root_has_a_private_view_or_no_check(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report(how=Report.REFUSED, reason="Operation not permitted")
    monkeypatch.setattr(plugin, "_carry_out", lambda *_, private: (report, "") if private else None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    site, release = mapped(place)
    error = refusal(site.request(release, ("true",)))
    assert "Operation not permitted" in str(error)
    assert "RestrictNamespaces=mnt pid" in str(error)
    assert error.retryable


def test_a_service_without_a_check_is_not_looked_at(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(plugin, "_carry_out")
    site, release = mapped(place)
    request = evolve(site.request(release), service=site.service)
    assert plugin.gitopper_check(request) is None


@pytest.mark.parametrize("what", ["memfd_create", "getpid"])
def test_what_the_system_refuses_for_now_is_told_and_is_no_verdict(
    place: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    site, release = mapped(place)

    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as scarce:
        scarce.setattr(os, what, refuse)
        error = refusal(site.request(release, ("true",)))
    assert str(error) == "the check can't be carried out: Too many open files"
    assert error.retryable
    ask(site.request(release, ("true",)))


@pytest.mark.parametrize("left", [b"", b'{"Report": {"ho'])
def test_a_report_for_which_there_was_no_room_is_no_report(left: bytes) -> None:
    file = os.memfd_create("report")
    try:
        os.write(file, left)
        assert receive(file, Report) == {}
    finally:
        os.close(file)


def test_the_program_imports_little() -> None:
    """It starts for each check."""
    code = "import sys, gitopper_plugins._stage; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"libgitopper", "attrs", "subprocess", "dataclasses", "threading", "socket"} & set(modules)


def test_a_program_that_dies_without_a_word_is_no_verdict(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, release = mapped(place)
    monkeypatch.setattr(plugin, "PROGRAM", (sys.executable, "-c", "raise SystemExit('out of luck')"))
    error = refusal(site.request(release, ("true",)))
    assert str(error).startswith("the check can't be carried out: ")
    assert str(error).endswith("exit code 1: out of luck")
    assert error.retryable
    monkeypatch.setattr(plugin, "PROGRAM", ("/no/such/python",))
    error = refusal(site.request(release, ("true",)))
    assert "/no/such/python: can't be started" in str(error)
    assert error.retryable


def test_a_program_that_hangs_is_ended_some_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, release = mapped(place)
    monkeypatch.setattr(plugin, "PROGRAM", ("sleep", "600"))
    monkeypatch.setattr(plugin, "MARGIN_SECONDS", 0.1)
    error = refusal(site.request(release, ("true",), timeout_seconds=0.1))
    assert "not done after 0.2 s" in str(error)
    assert error.retryable
