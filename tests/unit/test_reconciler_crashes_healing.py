"""A crash at any step of healing ends with good files, and the patch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from libgitopper import Check, Health, Service
from tests.support.drifted import HEAL, drifted
from tests.support.simulated import Crash
from tests.support.simulatedhost import SimulatedHost

FLOWS: list[Callable[[SimulatedHost], Service]] = []


def flow(make: Callable[[SimulatedHost], Service]) -> Callable[[SimulatedHost], Service]:
    FLOWS.append(make)
    return make


@flow
def plain(host: SimulatedHost) -> Service:
    return drifted(host, drift=HEAL)


@flow
def watched(host: SimulatedHost) -> Service:
    return drifted(
        host, drift=HEAL, check=Check(commands=(("x",),)), health=Health(unit=True, within_seconds=1.0)
    )


@flow
def with_a_commit_elsewhere(host: SimulatedHost) -> Service:
    web = drifted(host, drift=HEAL)
    host.upstream.commit({"elsewhere": "2"})
    return web


@flow
def frozen(host: SimulatedHost) -> Service:
    web = drifted(host, drift=HEAL)
    host.freeze(web)
    return web


@pytest.mark.parametrize("make", FLOWS)
def test_a_crash_at_any_step_of_healing_ends_with_good_files_and_the_patch(
    make: Callable[[SimulatedHost], Service], tmp_path: Any
) -> None:
    for number in range(60):
        host = SimulatedHost(tmp_path / str(number))
        host.upstream.commit({"web/conf": "1", "webapp/conf": "1"})
        web = make(host)
        host.restart()
        host.script.crash_at = number
        try:
            host.pass_(web)
        except Crash as crash:
            where = str(crash)
        else:
            host.close()
            assert number > 10
            return
        host.restart()
        assert host.pass_(web).error is None, where
        assert host.read(web) == "1", where
        host.assert_in_line(web, host.tip)
        (record,) = host.state.drifts("web")
        assert (record.patch, record.healed) == (b"web/conf: edited", True), where
        host.restart()
        host.pass_(web)
        assert set(host.script.log) <= {"fetch", "observe web", "checkout web", "discard web"}, where
        host.close()
    raise AssertionError("healing has no end")
