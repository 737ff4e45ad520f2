"""Publishing by bind mount: services in namespaces of their own, and several at the same time."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from attrs import evolve

from gitopper_plugins import mountapi
from libgitopper import Hooks, Service
from libgitopper.testing.mount import Stage
from tests.support.binding import depths, hooks, stage, texts
from tests.support.namespace import (
    enter_mount_namespace,
    fork,
    in_mount_namespace,
    make_propagation,
    mount_tmpfs,
)

__all__ = ["hooks", "stage"]  # fixtures


@pytest.mark.root
@in_mount_namespace
def test_services_in_namespaces_of_their_own_follow(hooks: Hooks, stage: Stage) -> None:
    """As under systemd with PrivateTmp and the like: a slave of the host's shared mounts."""
    mount_tmpfs(stage.root)
    make_propagation(stage.root, "shared")
    service = stage.service()
    hooks.publish(service, stage.release(service, "one"))
    ask, asked = os.pipe()
    answer, answered = os.pipe()

    def follower() -> None:
        os.close(asked)
        enter_mount_namespace("slave")
        while os.read(ask, 1):
            try:
                told = [*texts(service), *map(str, depths(service))]
            except FileNotFoundError:
                told = ["no files", *map(str, depths(service))]
            os.write(answered, ",".join(told).encode())

    child = fork(follower)
    os.close(ask)
    os.close(answered)

    def told() -> str:
        os.write(asked, b"?")
        return os.read(answer, 1000).decode()

    assert told() == "one,one,one,1,1,1"
    for number in range(5):
        hooks.publish(service, stage.release(service, str(number)))
        assert told() == ",".join([str(number)] * 3 + ["1"] * 3)
    last = stage.release(service, "last")
    hooks.publish(service, last)
    hooks.publish(evolve(service, readonly=True), last)
    assert told() == "last,last,last,1,1,1"
    hooks.withdraw(service)
    assert told() == "no files,0,0,0"
    os.close(asked)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.root
@pytest.mark.parametrize("flag", [True, False])
@in_mount_namespace
def test_services_are_published_at_the_same_time(hooks: Hooks, stage: Stage, flag: bool) -> None:
    """From several threads, as the daemon does; with the kernel's flag, and by propagation."""
    mount_tmpfs(stage.root)
    make_propagation(stage.root, "shared")
    if not flag:
        mountapi.has_beneath = lambda: False
    services = [stage.service(f"web{number}") for number in range(4)]

    def publish_all(service: Service) -> None:
        for number in range(25):
            release = stage.release(service, str(number))
            assert hooks.publish(service, release).release == release.id
            assert texts(service) == [str(number)] * 3

    with ThreadPoolExecutor(len(services)) as threads:
        list(threads.map(publish_all, services))
    for service in services:
        assert texts(service) == ["24"] * 3
        assert depths(service) == [1, 1, 1]
