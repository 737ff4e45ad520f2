"""Releases that are too many are removed, also by the process after the one that was to do it."""

from __future__ import annotations

from libgitopper import Check, CheckError, Service
from tests.support.simulated import Crash
from tests.support.simulatedhost import SimulatedHost


def releases(service: Service) -> int:
    return len(list(service.releases.iterdir()))


def ended_before_removing(host: SimulatedHost, service: Service, second: str = "2") -> None:
    """A process deployed two commits, and was ended before it removed what one of them left."""
    host.deploy(service)
    host.upstream.commit({"web/conf": second})
    host.script.on("discard web", Crash())
    try:
        host.pass_(service)
    except Crash:
        host.restart()
    assert releases(service) == 2


def test_the_next_process_removes_what_an_ended_one_left(host: SimulatedHost) -> None:
    web = host.service(keep=1)
    ended_before_removing(host, web)
    host.pass_(web)
    assert releases(web) == 1
    host.assert_in_line(web, host.tip)


def test_it_does_so_once(host: SimulatedHost) -> None:
    web = host.service(keep=1)
    ended_before_removing(host, web)
    for _ in range(3):
        host.pass_(web)
    assert host.script.count("discard web") == 1


def test_it_does_so_also_where_upstream_has_what_is_not_fit(host: SimulatedHost) -> None:
    web = host.service(keep=1, check=Check(commands=(("check",),)))
    ended_before_removing(host, web, second="unfit")
    assert isinstance(host.pass_(web).error, CheckError)
    assert releases(web) == 1


def test_what_is_shown_is_never_removed_though_nothing_is_remembered_of_it(host: SimulatedHost) -> None:
    web = host.service(check=Check(commands=(("check",),)))
    host.deploy(web)
    shown = host.shown(web)
    host.close()
    (host.directory / "state" / "state.db").unlink()
    host.upstream.commit({"web/conf": "unfit"})
    host.start()
    assert isinstance(host.pass_(web).error, CheckError)
    assert host.shown(web) == shown
    assert host.read(web) == "1"


def test_where_nobody_can_tell_what_is_shown_nothing_is_removed(host: SimulatedHost) -> None:
    web = host.service(links={"/etc/web": "web", "/etc/more": "web"}, check=Check(commands=(("check",),)))
    host.deploy(web)
    host.close()
    (host.directory / "state" / "state.db").unlink()
    del host.mounts.shown[web.mappings[0].local]
    host.upstream.commit({"web/conf": "unfit"})
    host.start()
    host.pass_(web)
    assert releases(web) == 2
