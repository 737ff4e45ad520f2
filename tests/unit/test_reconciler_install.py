"""Packages: installed before the files are made, and asked for once in the life of a process."""

from __future__ import annotations

import pytest

from libgitopper import InstallError, PluginError, ReloadError, Result, Service, State, Verb
from tests.support.simulatedhost import SimulatedHost


def packaged(host: SimulatedHost) -> Service:
    return host.service(package="nginx")


def test_a_package_is_installed_before_the_release_is_made(host: SimulatedHost) -> None:
    web = packaged(host)
    there: list[bool] = []
    host.script.on("install web", lambda: there.append(web.releases.exists()))
    assert host.pass_(web).error is None
    assert there == [False]
    assert host.script.log.index("install web") < host.script.log.index("checkout web")
    event = host.observer.events[-2]
    assert event.kind == "installed"
    assert event.details == {"package": "nginx", "did": "simulated install nginx"}
    host.assert_in_line(web, host.tip)


def test_a_package_is_asked_for_once_in_the_life_of_a_process(host: SimulatedHost) -> None:
    web = packaged(host)
    for text in "234":
        host.pass_(web)
        host.pass_(web)
        host.upstream.commit({"web/conf": text})
    assert host.script.count("install web") == 1
    host.restart()
    host.pass_(web)
    host.pass_(web)
    assert host.script.count("install web") == 1


def test_a_package_that_was_there_is_no_event(host: SimulatedHost) -> None:
    host.guards.installed.add("nginx")
    host.pass_(packaged(host))
    assert "installed" not in host.observer.kinds()


def test_a_package_that_is_gone_when_the_process_starts_is_installed_although_nothing_else_is_to_be_done(
    host: SimulatedHost,
) -> None:
    web = packaged(host)
    host.deploy(web)
    host.guards.installed.clear()
    host.restart()
    outcome = host.pass_(web)
    assert outcome.plan is not None
    assert outcome.plan.verb is Verb.KEEP
    assert host.guards.installed == {"nginx"}
    assert host.script.count("publish web") == 0


def test_a_package_that_the_config_names_later_is_installed(host: SimulatedHost) -> None:
    host.deploy(host.service())
    host.pass_(packaged(host))
    assert host.guards.installed == {"nginx"}


@pytest.mark.parametrize("first", [True, False])
def test_a_package_that_can_not_be_installed_is_told_and_tried_in_each_pass(
    host: SimulatedHost, first: bool
) -> None:
    web = packaged(host)
    good = None
    if not first:
        good = host.deploy(host.service())
        host.upstream.commit({"web/conf": "2"})
    host.script.on("install web", InstallError("E: Unable to locate package nginx"))
    for number in (1, 2, 3):
        outcome = host.pass_(web)
        assert host.told(outcome) == (State.BROKEN, "E: Unable to locate package nginx")
        assert host.script.count("install web") == number
    assert host.script.count("checkout web") == host.script.count("publish web") == 0
    if good:
        host.assert_in_line(web, good)
    entry = host.state.deploys("web")[0]
    assert (entry.result, entry.tries, list(entry.seconds)) == (Result.FAILED, 3, ["verify", "install"])
    host.script.clear()
    assert host.pass_(web).error is None
    host.assert_in_line(web, host.tip)


def test_a_package_that_can_not_be_installed_leaves_a_service_in_line_alone(host: SimulatedHost) -> None:
    web = packaged(host)
    host.deploy(web)
    host.restart()
    host.script.on("install web", InstallError("dpkg was interrupted"))
    outcome = host.pass_(web)
    assert host.told(outcome) == (State.BROKEN, "dpkg was interrupted")
    host.assert_in_line(web, host.tip)
    host.script.clear()
    assert host.told(host.pass_(web)) == (State.OK, "")


def test_a_package_that_no_plugin_installs_is_told(host: SimulatedHost) -> None:
    host.hooks.manager.unregister(host.guards)
    assert isinstance(host.pass_(packaged(host)).error, PluginError)
    assert host.mounts.shown == {}


def test_a_deploy_that_is_tried_again_does_not_ask_for_its_package_again(host: SimulatedHost) -> None:
    web = packaged(host)
    host.script.on("reload web", ReloadError("refused"))
    host.pass_(web)
    host.pass_(web)
    assert host.script.count("install web") == 1


def test_two_services_with_one_package_are_asked_for_it_each(host: SimulatedHost) -> None:
    host.pass_(packaged(host))
    host.pass_(host.service("other", links={"/srv/other": "webapp"}, package="nginx"))
    assert (host.script.count("install web"), host.script.count("install other")) == (1, 1)
