"""Requests for file contents that are made at the same time become one; nobody fails for another one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from dulwich.objects import ObjectID

from gitopper_plugins.dulwich.gathering import Gathering
from libgitopper import SourceError


def oid(number: int) -> ObjectID:
    return ObjectID(b"%040x" % number)


class Upstream:
    """Answers once it is let; refuses every request for what is `bad`."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.asked: list[set[ObjectID]] = []
        self.bad: set[ObjectID] = set()

    def bring(self, wants: Collection[ObjectID]) -> None:
        self.asked.append(set(wants))
        assert self.open.wait(10)
        if self.bad & set(wants):
            raise SourceError("refused")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def gathered(gathering: Gathering, upstream: Upstream, pool: ThreadPoolExecutor) -> list[Future[None]]:
    """One request under way, and three that wait for it."""

    def ask(number: int, alike: str = "all") -> Future[None]:
        return pool.submit(gathering.bring, [oid(number)], upstream.bring, alike=alike, timeout_seconds=30)

    first = ask(0)
    wait_for(lambda: len(upstream.asked) == 1)
    waiting = [ask(number) for number in (1, 2, 3)]
    wait_for(lambda: "all" in gathering._next and gathering._next["all"].askers == 3)
    return [first, *waiting]


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


def test_what_is_wanted_while_a_request_is_under_way_is_one_request(upstream: Upstream) -> None:
    with ThreadPoolExecutor(4) as pool:
        asked = gathered(Gathering(), upstream, pool)
        upstream.open.set()
        for future in asked:
            future.result(10)
    assert upstream.asked == [{oid(0)}, {oid(1), oid(2), oid(3)}]


def test_nobody_fails_for_what_another_one_wants(upstream: Upstream) -> None:
    upstream.bad = {oid(2)}
    with ThreadPoolExecutor(4) as pool:
        zero, one, two, three = gathered(Gathering(), upstream, pool)
        upstream.open.set()
        for future in (zero, one, three):
            future.result(10)
        with pytest.raises(SourceError, match="refused"):
            two.result(10)


def test_who_has_other_credentials_asks_alone_and_does_not_wait(upstream: Upstream) -> None:
    gathering = Gathering()
    with ThreadPoolExecutor(5) as pool:
        asked = gathered(gathering, upstream, pool)
        other = pool.submit(gathering.bring, [oid(9)], upstream.bring, alike="another", timeout_seconds=30)
        wait_for(lambda: {oid(9)} in upstream.asked)
        upstream.open.set()
        for future in (*asked, other):
            future.result(10)


def test_who_has_waited_long_enough_asks_although_the_former_request_hangs(upstream: Upstream) -> None:
    gathering = Gathering()
    with ThreadPoolExecutor(2) as pool:
        hangs = pool.submit(gathering.bring, [oid(1)], upstream.bring, alike=1, timeout_seconds=30)
        wait_for(lambda: len(upstream.asked) == 1)
        impatient = pool.submit(gathering.bring, [oid(2)], upstream.bring, alike=1, timeout_seconds=0.05)
        wait_for(lambda: len(upstream.asked) == 2)
        upstream.open.set()
        hangs.result(10)
        impatient.result(10)


def test_one_after_the_other_each_makes_its_own(upstream: Upstream) -> None:
    gathering = Gathering()
    upstream.open.set()
    for number in (1, 2):
        gathering.bring([oid(number)], upstream.bring, alike=1, timeout_seconds=30)
    assert upstream.asked == [{oid(1)}, {oid(2)}]
    upstream.bad = {oid(3)}
    with pytest.raises(SourceError, match="refused"):
        gathering.bring([oid(3)], upstream.bring, alike=1, timeout_seconds=30)
    gathering.bring([oid(4)], upstream.bring, alike=1, timeout_seconds=30)
