"""Two programs read everything that is mapped, during 1,000 publishes: nothing missing, nothing mixed.

How it is judged. The releases are numbered, and each file holds the number of its release.

* A reader that opens the directory once, and takes all files from there, as a careful program does:
  the names are exactly those of a release, and all hold one number.
* A reader that looks up each file by its full path, as most programs do: the file is there, holds
  a number, and the number is never lower than what the same mapping showed before. What stands
  below the mount, an empty directory, or an old release that flashes up again would fail it.
* With symlinks one rename publishes all mappings: the numbers never fall across mappings either. With
  bind mounts the mappings follow one another within microseconds; there each is judged by itself.

A program that opens file after file by path may meet a publish in between, whatever we do; the
reload that follows a publish is for that.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitopper_plugins import bind, mountapi, symlink
from libgitopper import Hooks, Mapping, Service
from libgitopper.testing.mount import Stage
from tests.support.namespace import fork, in_mount_namespace, make_propagation, mount_tmpfs

SWAPS = 1_000
FILES = ("a", "b", "c", "sub/d")
READERS = 2


class Reader:
    """What one reading program does and finds."""

    def __init__(self, service: Service, *, together: bool) -> None:
        self._service = service
        self._together = together
        self._latest: dict[object, int] = {}
        self.faults: list[str] = []
        self.rounds = 0
        self.numbers: set[int] = set()

    def round(self) -> None:
        """Read everything, in both ways."""
        for mapping in self._service.mappings:
            try:
                self._by_path(mapping)
                if not mapping.file:
                    self._by_handle(mapping)
            except (OSError, ValueError) as exc:
                self.faults.append(f"round {self.rounds}: {mapping.local}: {exc!r}")
        self.rounds += 1

    def _by_handle(self, mapping: Mapping) -> None:
        opened = os.open(mapping.local, os.O_RDONLY | os.O_DIRECTORY)
        try:
            names = sorted(os.listdir(opened))  # noqa: PTH208 - by handle is the point
            if names != ["a", "b", "c", "sub"]:
                self.faults.append(f"round {self.rounds}: {mapping.local}: names {names}")
            numbers = {_number(name, opened) for name in FILES}
            if len(numbers) != 1:
                self.faults.append(f"round {self.rounds}: {mapping.local}: mixed {numbers}")
        finally:
            os.close(opened)

    def _by_path(self, mapping: Mapping) -> None:
        for name in ("",) if mapping.file else FILES:
            number = _number(os.path.join(mapping.local, name).rstrip("/"), None)  # noqa: PTH118
            key = "all" if self._together else mapping
            if number < self._latest.get(key, 0):
                self.faults.append(
                    f"round {self.rounds}: {mapping.local}: {number} after {self._latest[key]}"
                )
            self._latest[key] = number
            self.numbers.add(number)


def _number(path: str, directory: int | None) -> int:
    opened = os.open(path, os.O_RDONLY, dir_fd=directory)
    try:
        return int(os.read(opened, 100))
    finally:
        os.close(opened)


def read_until_told(reader: Reader, report: int) -> None:
    """Read on until SIGTERM; then write what was found."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    reader.round()
    os.write(report, b"\n")
    while not told:
        reader.round()
    found = {"faults": reader.faults[:5], "rounds": reader.rounds, "numbers": len(reader.numbers)}
    os.write(report, json.dumps(found).encode())


def publish_under_readers(
    stage: Stage, plugin: object, *, readonly: bool = False, swaps: int = SWAPS
) -> None:
    """Publish `swaps` releases while two programs read, and judge what they saw."""
    hooks = Hooks()
    hooks.register(plugin)
    service = stage.service(readonly=readonly)
    if stage.publish == "bind":
        for mapping in service.mappings[:2]:
            mapping.local.mkdir(parents=True)
            for name in FILES:
                (mapping.local / name).parent.mkdir(exist_ok=True)
                (mapping.local / name).write_text("what stands below the mount")
    releases = [stage.release(service, str(number), files=FILES) for number in range(swaps + 1)]
    hooks.publish(service, releases[0])
    readers = [_started(Reader(service, together=stage.publish == "symlink")) for _ in range(READERS)]
    started = time.monotonic()
    try:
        for release in releases[1:]:
            assert hooks.publish(service, release).changed
    finally:
        seconds = time.monotonic() - started
        found = [stop() for stop in readers]
    print(f"{swaps} publishes in {seconds:.2f} s; {found}")
    for told in found:
        assert told["faults"] == []
        # They were at work all the time, and met many a release.
        assert told["rounds"] > 100
        assert told["numbers"] > swaps / 20


def _started(reader: Reader) -> Callable[[], dict[str, Any]]:
    reading, report = os.pipe()

    def body() -> None:
        os.close(reading)
        read_until_told(reader, report)

    child = fork(body)
    os.close(report)
    first = os.read(reading, 1)

    def stop() -> dict[str, Any]:
        os.kill(child, signal.SIGTERM)
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read()
        os.waitpid(child, 0)
        assert first, "a reader ended before its first round was done"
        answer: dict[str, Any] = json.loads(told)
        return answer

    return stop


@pytest.mark.parametrize("readonly", [False, True])
@in_mount_namespace
def test_readers_of_bind_mounts_see_whole_releases(tmp_path: Path, readonly: bool) -> None:
    mount_tmpfs(tmp_path)
    publish_under_readers(Stage(root=tmp_path, publish="bind"), bind, readonly=readonly)


@in_mount_namespace
def test_readers_of_shared_bind_mounts_see_whole_releases(tmp_path: Path) -> None:
    """As on a host with systemd, where all mounts are shared."""
    mount_tmpfs(tmp_path)
    make_propagation(tmp_path, "shared")
    publish_under_readers(Stage(root=tmp_path, publish="bind"), bind)


@in_mount_namespace
def test_readers_see_whole_releases_on_a_kernel_without_the_flag(tmp_path: Path) -> None:
    mount_tmpfs(tmp_path)
    make_propagation(tmp_path, "shared")
    mountapi.has_beneath = lambda: False
    # Fewer, as each is slower here: a thread and a mount namespace for each mount.
    publish_under_readers(Stage(root=tmp_path, publish="bind"), bind, swaps=SWAPS // 4)


@in_mount_namespace
def test_readers_of_symlinks_see_whole_releases(tmp_path: Path) -> None:
    mount_tmpfs(tmp_path)  # in memory: it is not the disk that is on trial
    publish_under_readers(Stage(root=tmp_path, publish="symlink"), symlink)


@in_mount_namespace
def test_the_readers_would_notice(tmp_path: Path) -> None:
    """The same readers, and the publisher that this project must not have: unmount, then mount."""
    mount_tmpfs(tmp_path)
    stage = Stage(root=tmp_path, publish="bind")

    def torn(tree: int, target: str | os.PathLike[str]) -> None:
        mountapi.detach(target)
        mountapi.attach(tree, target)
        above = mountapi.clone(target, readonly=False)  # for the publisher to remove
        mountapi.attach(above, target)
        os.close(above)

    mountapi.attach_beneath = torn
    with pytest.raises(AssertionError, match="ValueError"):
        publish_under_readers(stage, bind, swaps=SWAPS // 4)
