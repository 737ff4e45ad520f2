"""A restart of the daemon, in any state of its services, touches nothing and forgets nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import frozen

from tests.support.host import GitServer, Host

pytestmark = [pytest.mark.systemd, pytest.mark.root]

SERVICE = """
[[services]]
machine = "box"
service = "{name}"
dirs = [{{ local = "/etc/{name}", link = "{name}" }}]
"""
NAMES = ("steady", "frozen", "pinned", "refusing", "apart")
STATES = {"steady": "OK", "frozen": "FREEZE", "pinned": "FREEZE", "refusing": "BROKEN", "apart": "DIFF"}

# The file that makes it refuse comes by a commit; the readers want one text in all files.
RELOADABLE = """\
[Service]
ExecStart=/bin/sleep inf
ExecReload=/bin/sh -c 'test ! -e /etc/%p/refuse || { echo I refuse this; exit 1; }'
"""


def files(name: str, text: str) -> dict[str, str | None]:
    """A commit of four files that hold one text."""
    return {f"{name}/{file}": f"{text}\n" for file in ("a", "b", "c", "sub/d")}


@frozen(kw_only=True)
class Site:
    """The host with a service in every state, and what brought them there."""

    host: Host
    main: GitServer
    away: GitServer
    """The upstream of `apart`; it is stopped."""
    first: str
    second: str

    @property
    def directories(self) -> list[str]:
        """What is mapped."""
        return [f"/etc/{name}" for name in NAMES]

    def all_as_expected(self) -> None:
        """Wait until each service is in its state."""
        for name, state in STATES.items():
            self.host.wait_for(name, state)
        self.host.wait_for("pinned", "FREEZE", self.first, info=f"ROLLBACK: {self.first}")
        self.host.wait_for("refusing", "BROKEN", info="I refuse this")
        self.host.wait_for("apart", "DIFF", info="Connection refused")


@pytest.fixture(scope="module")
def site(host: Host) -> Site:
    main, away = host.git_server("main"), host.git_server("away")
    for name in NAMES:
        host.box.add_unit(f"{name}.service", RELOADABLE)
    first = main.commit({k: v for name in NAMES for k, v in files(name, "first").items()})
    away.commit(files("apart", "first"))
    services = "".join(SERVICE.format(name=name) for name in NAMES)
    host.configure(main.url, f'{services}upstream = "{away.url}"\n')
    host.daemon("start")
    for name in NAMES:
        host.wait_for(name, "OK")
    away.stop()
    assert host.ctl("state", "freeze", "@localhost", "frozen").returncode == 0
    second = main.commit({k: v for name in NAMES for k, v in files(name, "second").items()})
    host.wait_for("pinned", "OK", second)
    assert host.ctl("state", "rollback", "@localhost", "pinned", first[:10]).returncode == 0
    host.wait_for("pinned", "FREEZE", first)
    main.commit({"refusing/refuse": "second\n"})
    site = Site(host=host, main=main, away=away, first=first, second=second)
    site.all_as_expected()
    return site


def restart(host: Host) -> None:
    """What an operator does."""
    host.daemon("restart")


def kill(host: Host) -> None:
    """A crash, at any moment; systemd starts the daemon again."""
    before = host.box.property("gitopperd", "MainPID")
    host.box.run(["kill", "-KILL", before], check=True)
    host.wait_until(
        lambda: (
            host.box.property("gitopperd", "ActiveState") == "active"
            and host.box.property("gitopperd", "MainPID") not in {before, "0"}
        ),
        lambda: "systemd does not start it again",
    )


@pytest.mark.parametrize("how", [restart, kill])
def test_a_restart_in_every_state_changes_nothing(site: Site, how: Callable[[Host], None]) -> None:
    host = site.host
    site.all_as_expected()
    shown, mounts, before = host.listed(), host.mounts(), len(host.changes())
    readers = host.readers(*site.directories)
    how(host)
    site.all_as_expected()
    for found in readers.stop():
        assert found.faults == ()
        assert found.rounds > 50
    assert host.listed() == shown
    assert host.mounts() == mounts
    # Who refused a release is asked again, as at every poll; all others are left alone.
    changes = {change for change in host.changes()[before:] if "refusing" not in change}
    assert changes <= {"Stopped gitopperd.service", "Started gitopperd.service"}


def test_after_the_restarts_every_service_goes_on_from_where_it_was(site: Site) -> None:
    host = site.host
    site.all_as_expected()
    assert host.box.read("/etc/frozen/a") == "first\n"
    assert host.box.read("/etc/pinned/a") == "first\n"
    assert host.box.read("/etc/refusing/a") == "second\n"
    for name in ("frozen", "pinned"):
        assert host.ctl("state", "unfreeze", "@localhost", name).returncode == 0
    fixed = site.main.commit({"refusing/refuse": None})
    site.away.start()
    for name in ("steady", "frozen", "pinned", "refusing"):
        host.wait_for(name, "OK", fixed)
        assert host.box.read(f"/etc/{name}/a") == "second\n"
    host.wait_for("apart", "OK")
    third = site.away.commit(files("apart", "third"))
    host.wait_for("apart", "OK", third)
    assert host.box.read("/etc/apart/sub/d") == "third\n"
