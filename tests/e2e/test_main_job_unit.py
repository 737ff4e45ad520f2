"""gitopperd as a unit of systemd: ready when it says so, watched, and gone soon after it is told to go."""

from __future__ import annotations

import re
import time
from functools import partial
from subprocess import PIPE

import pytest

from tests.support.host import CONFIG, GitServer, Host

pytestmark = [pytest.mark.systemd, pytest.mark.root]

SERVICE = """
[[services]]
machine = "box"
service = "steady"
dirs = [{ local = "/etc/steady", link = "steady/etc" }, { local = "/srv/steady", link = "steady/data" }]
"""
OURSELVES = """
[[services]]
machine = "box"
service = "gitopperd"
dirs = [{ local = "/etc/gitopper", link = "gitopper" }]
"""
FOLLOWING = """
[[services]]
machine = "box"
service = "following"
dirs = [{ local = "/etc/following", link = "following" }]
[[services]]
machine = "box"
service = "job"
action = "restart"
dirs = [{ local = "/etc/job", link = "following" }]
"""
# A reload takes as long as /run/slow says. It counts itself: systemd tells of two in a row as of one.
STEADY = """\
[Service]
ExecStart=/bin/sleep inf
ExecReload=/bin/sh -c 'echo >> /run/reloads; test ! -e /run/slow || sleep $(cat /run/slow)'
"""
DIRECTORIES = ("/etc/steady", "/srv/steady")
CLEAN_STOP_SECONDS = 4.0
GRACE_SECONDS = 5.0
READY_SECONDS = 10.0
WATCHDOG = "[Service]\nWatchdogSec=2s\nRestartSec=100ms\n"
AT_ONCE = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=0\n"
KILLS = 16


def files(text: str) -> dict[str, str | None]:
    """A commit of files that hold one text."""
    return {f"steady/{file}": f"{text}\n" for file in ("etc/a", "etc/b", "data/c", "data/sub/d")}


@pytest.fixture(scope="module")
def server(host: Host) -> GitServer:
    host.box.add_unit("steady.service", STEADY)
    server = host.git_server("fleet")
    first = server.commit(files("first"))
    host.configure(server.url, SERVICE, timeout="60s")
    host.daemon("start")
    host.wait_for("steady", "OK", first)
    return server


def stop(host: Host) -> float:
    """Stop the daemon; return how many seconds that took. It must end as it should."""
    started = time.monotonic()
    host.daemon("stop")
    seconds = time.monotonic() - started
    ended = {name: host.box.property("gitopperd", name) for name in ("Result", "ExecMainStatus")}
    assert ended == {"Result": "success", "ExecMainStatus": "0"}, host.box.journal("gitopperd")
    assert not re.search("Traceback|Exception ignored", host.box.journal("gitopperd"))
    return seconds


def drop_in(host: Host, text: str) -> None:
    """Start the daemon anew with `text` added to its unit."""
    host.box.write("/etc/systemd/system/gitopperd.service.d/test.conf", text)
    host.box.systemctl("daemon-reload")
    host.daemon("restart")


def test_after_a_boot_without_upstream_the_files_are_back_before_it_is_ready(
    host: Host, server: GitServer
) -> None:
    here = host.service("steady")["hash"]
    stop(host)
    with server.stopped():
        host.box.run(["umount", *DIRECTORIES], check=True)  # no mount outlives a boot
        assert host.mounts() == {}
        host.box.write("/run/slow", "1.5")
        before = len(host.changes())
        host.box.systemctl("start", "--no-block", "gitopperd")
        # It answers from the start, and is ready once the service has its files and took them.
        host.wait_for("steady", "DIFF", here, info="not looked at yet")
        assert host.box.property("gitopperd", "ActiveState") == "activating"
        host.daemon("start")
        for directory in DIRECTORIES:
            assert directory in host.mounts()
        assert host.box.read("/etc/steady/a") == "first\n"
        assert host.changes()[before:] == ["Reloaded steady.service", "Started gitopperd.service"]
        host.wait_for("steady", "DIFF", here, info="Connection refused")
        host.box.run(["rm", "/run/slow"], check=True)
    host.wait_for("steady", "OK", here)
    assert host.changes()[before:] == ["Reloaded steady.service", "Started gitopperd.service"]


@pytest.mark.parametrize(
    "more",
    ["oops = 1\n", '[api]\nlisten = "192.0.2.1:8000"\ninsecure = true\n'],
    ids=["mistake", "address"],
)
def test_after_a_boot_services_have_their_files_though_the_daemon_can_not_start(
    host: Host, server: GitServer, more: str
) -> None:
    good, here = host.box.read(CONFIG), host.service("steady")["hash"]
    stop(host)
    host.box.run(["umount", *DIRECTORIES], check=True)  # no mount outlives a boot
    host.box.write(CONFIG, f"{good}{more}")
    assert host.box.run(["systemctl", "start", "gitopperd"]).returncode != 0
    assert host.box.read("/etc/steady/a") == "first\n"
    host.box.write(CONFIG, good)
    before = len(host.changes())
    host.daemon("restart")
    host.wait_for("steady", "OK", here)
    if "oops" in more:
        assert "Reloaded steady.service" in host.changes()[before:]


def test_a_daemon_that_hangs_is_started_again_and_services_keep_their_files(
    host: Host, server: GitServer
) -> None:
    assert host.box.property("gitopperd", "WatchdogUSec") == "30s"
    drop_in(host, WATCHDOG)
    host.wait_for("steady", "OK")
    main, mounts = host.box.property("gitopperd", "MainPID"), host.mounts()
    time.sleep(3)  # longer than the watchdog waits
    assert host.box.property("gitopperd", "MainPID") == main
    readers = host.readers(*DIRECTORIES)
    host.box.run(["kill", "-STOP", main], check=True)
    host.wait_until(
        lambda: host.box.property("gitopperd", "NRestarts") == "1", lambda: "the watchdog did not bark"
    )
    host.wait_for("steady", "OK")
    for found in readers.stop():
        assert found.faults == ()
    assert host.box.property("gitopperd", "MainPID") not in {main, "0"}
    assert "watchdog" in host.box.journal("gitopperd").lower()
    assert host.mounts() == mounts
    drop_in(host, "")


def test_a_stop_is_clean_and_quick_while_upstream_hangs(host: Host, server: GitServer) -> None:
    host.wait_for("steady", "OK")
    mounts, readers = host.mounts(), host.readers(*DIRECTORIES)
    with server.hanging():
        assert stop(host) < CLEAN_STOP_SECONDS
        assert host.mounts() == mounts
        # A start does not wait for it either, and the service can be steered.
        started = time.monotonic()
        host.daemon("start")
        assert time.monotonic() - started < CLEAN_STOP_SECONDS
        assert host.ctl("state", "freeze", "@localhost", "steady").returncode == 0
        assert stop(host) < CLEAN_STOP_SECONDS
    for found in readers.stop():
        assert found.faults == ()
        assert found.rounds > 50
    assert host.mounts() == mounts
    host.daemon("start")
    host.wait_for("steady", "FREEZE")
    assert host.ctl("state", "unfreeze", "@localhost", "steady").returncode == 0
    host.wait_for("steady", "OK")


def test_a_stop_during_a_reload_waits_a_little_and_the_next_start_reloads_again(
    host: Host, server: GitServer
) -> None:
    host.wait_for("steady", "OK")
    host.box.write("/run/reloads", "")
    host.box.write("/run/slow", "7")
    commit = server.commit(files("second"))
    host.wait_until(
        lambda: host.box.property("steady", "ActiveState") == "reloading", lambda: "no reload came"
    )
    host.box.run(["rm", "/run/slow"], check=True)
    assert GRACE_SECONDS - 1 < stop(host) < GRACE_SECONDS + CLEAN_STOP_SECONDS
    assert host.box.read("/etc/steady/a") == "second\n"
    host.daemon("start")
    host.wait_for("steady", "OK", commit)
    # What the first daemon asked for came to its end, and the second could not know: it asked again.
    assert len(host.box.read("/run/reloads").splitlines()) == 2
    assert "; an earlier deploy was not finished" in host.box.journal("gitopperd")


def test_kills_at_any_moment_of_a_deploy_leave_whole_releases_and_are_made_good(
    host: Host, server: GitServer
) -> None:
    def another_than(pid: str) -> bool:
        return host.box.property("gitopperd", "MainPID") not in {pid, "0"}

    drop_in(host, AT_ONCE)
    readers, commit = host.readers(*DIRECTORIES), ""
    for number in range(KILLS):
        host.wait_until(lambda: bool(host.ask("GET", "/healthz")), lambda: "it does not answer")
        pid = host.box.property("gitopperd", "MainPID")
        # It stands ready: to start a program takes longer than a whole deploy.
        with host.box.popen(
            ["sh", "-c", f"read go; kill -KILL {pid}; echo done"], stdin=PIPE, stdout=PIPE
        ) as killer:
            commit = server.commit(files(f"kill {number}"))
            host.ask("POST", "/do/pull/steady")
            time.sleep(number * 0.005)
            assert killer.communicate(b"go\n")[0] == b"done\n"
        host.wait_until(partial(another_than, pid), lambda: "systemd does not start it again")
    host.wait_for("steady", "OK", commit)
    for found in readers.stop():
        assert found.faults == ()
    assert host.box.read("/etc/steady/a") == host.box.read("/srv/steady/sub/d") == f"kill {KILLS - 1}\n"
    assert sorted(host.mounts()) == sorted(DIRECTORIES)  # `mounts` has none twice
    live = host.box.run(["git", "-C", "/var/lib/gitopper/steady", "status", "--porcelain"], check=True)
    assert live.stdout == ""
    drop_in(host, "")


def test_the_daemons_own_files_come_like_those_of_others_and_it_neither_ends_nor_waits_for_itself(
    host: Host, server: GitServer
) -> None:
    """As its tokens and certificates, from the repository."""
    commit = server.commit({"gitopper/tokens.toml": "# none\n"})
    host.configure(server.url, SERVICE + OURSELVES, timeout="60s")
    host.daemon("reload")
    host.wait_for("gitopperd", "OK", commit)
    stop(host)
    host.box.run(["umount", "/etc/gitopper"], check=True)  # no mount outlives a boot
    started = time.monotonic()
    host.daemon("start")
    assert time.monotonic() - started < READY_SECONDS
    host.wait_for("gitopperd", "OK", commit)
    assert host.box.read("/etc/gitopper/tokens.toml") == "# none\n"

    pid = host.box.property("gitopperd", "MainPID")
    host.configure(server.url, SERVICE + OURSELVES + 'action = "restart"\n', timeout="60s")
    host.daemon("reload")
    commit = server.commit({"gitopper/tokens.toml": "# still none\n"})
    host.wait_for("gitopperd", "BROKEN", commit, info="gitopperd.service is this daemon: a restart")
    host.wait_for("steady", "OK", commit)
    assert host.box.property("gitopperd", "MainPID") == pid
    host.configure(server.url, SERVICE, timeout="60s")
    host.daemon("reload")


def test_the_daemon_does_not_wait_for_units_that_wait_for_it(host: Host, server: GitServer) -> None:
    """One that runs, and a job that runs at each boot, both ordered after the daemon."""
    after = "[Unit]\nAfter=gitopperd.service\n"
    host.box.add_unit(
        "following.service",
        f"{after}[Service]\nExecStart=/bin/sleep inf\nExecReload=/bin/sh -c 'echo >> /run/followed'\n",
        start=True,
    )
    host.box.add_unit(
        "job.service", f"{after}[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo >> /run/ran'\n"
    )
    commit = server.commit({"following/file": "here\n"})
    host.configure(server.url, SERVICE + FOLLOWING, timeout="60s")
    host.daemon("reload")
    for name in ("following", "job"):
        host.wait_for(name, "OK", commit)
    stop(host)
    host.box.run(["umount", "/etc/following", "/etc/job"], check=True)
    host.box.run(["rm", "/run/followed", "/run/ran"], check=True)
    started = time.monotonic()
    host.daemon("start")
    assert time.monotonic() - started < READY_SECONDS
    for name in ("following", "job"):
        host.wait_for(name, "OK", commit)
    assert host.box.read("/run/followed") == host.box.read("/run/ran") == "\n"
    host.configure(server.url, SERVICE, timeout="60s")
    host.daemon("reload")
