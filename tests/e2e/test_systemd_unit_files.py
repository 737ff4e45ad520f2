"""The systemd reload plugin, where what is deployed are unit files."""

from __future__ import annotations

from pathlib import Path

import pytest

from libgitopper import Mapping, Reloaded
from tests.support.systemdbox import SystemdBox
from tests.support.units import RELOADABLE, RESTARTABLE, Reload, daemon_reloads, reload

__all__ = ["reload"]  # fixtures

pytestmark = pytest.mark.systemd


def mapped(local: str) -> tuple[Mapping, ...]:
    return (Mapping(link="units", local=Path(local)),)


def test_the_first_drop_in_of_a_unit_takes_effect(systemd_box: SystemdBox, reload: Reload) -> None:
    systemd_box.add_unit("dropped.service", RESTARTABLE, start=True)
    directory = "/etc/systemd/system/dropped.service.d"
    systemd_box.write(f"{directory}/level.conf", "[Service]\nEnvironment=LEVEL=debug\n")
    before = daemon_reloads(systemd_box)
    reloaded = reload("dropped", action="restart", mappings=mapped(directory))
    assert reloaded.did == "systemctl daemon-reload; systemctl restart dropped.service"
    assert daemon_reloads(systemd_box) == before + 1
    assert systemd_box.property("dropped", "Environment") == "LEVEL=debug"


def test_systemds_own_notice_of_a_changed_unit_file_brings_a_daemon_reload(
    systemd_box: SystemdBox, reload: Reload
) -> None:
    systemd_box.add_unit("edited.service", RESTARTABLE, start=True)
    systemd_box.write("/etc/systemd/system/edited.service", RESTARTABLE + "Environment=LEVEL=debug\n")
    systemd_box.run(["touch", "-d", "+2 seconds", "/etc/systemd/system/edited.service"], check=True)
    assert reload("edited", action="restart").did.startswith("systemctl daemon-reload; ")
    assert reload("edited", action="restart").did == "systemctl restart edited.service"
    assert systemd_box.property("edited", "Environment") == "LEVEL=debug"


@pytest.mark.parametrize(
    "local", ["/etc/systemd/system/new.service", "/etc/systemd/system", "/etc/systemd"]
)
def test_a_new_unit_file_is_read_before_its_start(
    systemd_box: SystemdBox, reload: Reload, local: str
) -> None:
    systemd_box.write("/etc/systemd/system/new.service", RESTARTABLE)
    try:
        reloaded = reload("new", first=True, mappings=mapped(local))
        assert reloaded.did == "systemctl daemon-reload; systemctl start new.service"
        assert systemd_box.property("new", "ActiveState") == "active"
    finally:
        systemd_box.systemctl("stop", "new")
        systemd_box.run(["rm", "/etc/systemd/system/new.service"], check=True)
        systemd_box.systemctl("daemon-reload")


def test_without_an_action_a_mapped_unit_file_is_read_all_the_same(
    systemd_box: SystemdBox, reload: Reload
) -> None:
    before = daemon_reloads(systemd_box)
    reloaded = reload("whatever", action="", mappings=mapped("/etc/systemd/system/whatever.service.d"))
    assert reloaded == Reloaded(did="systemctl daemon-reload")
    assert daemon_reloads(systemd_box) == before + 1


def test_an_instance_of_a_template_is_enabled_and_started(systemd_box: SystemdBox, reload: Reload) -> None:
    systemd_box.add_unit("app@.service", RELOADABLE)
    reloaded = reload("app@blue", first=True)
    assert reloaded == Reloaded(did="systemctl enable app@blue.service; systemctl start app@blue.service")
    assert systemd_box.property("app@blue", "UnitFileState") == "enabled"
    assert systemd_box.property("app@blue", "ActiveState") == "active"
    assert systemd_box.property("app@green", "UnitFileState") == "disabled"
    assert reload("app@blue", first=True).did == "systemctl reload app@blue.service"


def test_an_instance_that_an_operator_disabled_stays_so(systemd_box: SystemdBox, reload: Reload) -> None:
    systemd_box.add_unit("own@.service", RELOADABLE)
    reload("own@x", first=True)
    systemd_box.systemctl("disable", "own@x")
    reload("own@x")
    assert systemd_box.property("own@x", "UnitFileState") == "disabled"


def test_an_instance_that_can_not_be_enabled_is_started_and_told(
    systemd_box: SystemdBox, reload: Reload
) -> None:
    systemd_box.add_unit("stuck@.service", RELOADABLE.replace("multi-user.target", "stuck.target"))
    # Something of somebody else's stands where the link has to go.
    systemd_box.write("/etc/systemd/system/stuck.target.wants", "")
    reloaded = reload("stuck@x", first=True)
    assert reloaded.did == "systemctl start stuck@x.service"
    assert "stuck@x.service is not enabled" in reloaded.note
    assert systemd_box.property("stuck@x", "ActiveState") == "active"


def test_with_the_whole_unit_directory_mapped_nothing_is_written_into_it(
    systemd_box: SystemdBox, reload: Reload
) -> None:
    systemd_box.add_unit("inrepo@.service", RELOADABLE)
    reloaded = reload("inrepo@x", first=True, mappings=mapped("/etc/systemd/system"))
    assert "belongs into the repository" in reloaded.note
    assert systemd_box.property("inrepo@x", "UnitFileState") == "disabled"
    assert systemd_box.property("inrepo@x", "ActiveState") == "active"
