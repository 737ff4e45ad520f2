"""The builtin plugins for health and holds keep the contracts that third parties can run on theirs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from gitopper_plugins import health, window
from libgitopper import Health, Service, parse_window
from libgitopper.testing.health import HealthContract, service_for_tests
from libgitopper.testing.hold import HoldContract


class TestCommand(HealthContract):
    words = "replication is behind"

    @pytest.fixture
    def plugin(self) -> object:
        return health

    @pytest.fixture
    def healthy(self) -> Service:
        return service_for_tests("db", health=Health(command=("true",)))

    @pytest.fixture
    def unhealthy(self) -> Service:
        command = ("sh", "-c", f"echo; echo {self.words}; exit 1")
        return service_for_tests("db", health=Health(command=command))

    @pytest.fixture
    def slow(self) -> Service:
        return service_for_tests("db", health=Health(command=("sleep", "60")))


class TestServer(HealthContract):
    words = "Connection refused"

    @pytest.fixture
    def plugin(self) -> object:
        return health

    @pytest.fixture
    def port(self) -> Iterator[int]:
        """One that takes connections, and never answers."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield server.getsockname()[1]

    @pytest.fixture
    def healthy(self, port: int) -> Service:
        return service_for_tests("web", health=Health(tcp=f"127.0.0.1:{port}"))

    @pytest.fixture
    def unhealthy(self) -> Service:
        with socket.create_server(("127.0.0.1", 0)) as server:
            unused = server.getsockname()[1]
        return service_for_tests("web", health=Health(http=f"http://127.0.0.1:{unused}/"))

    @pytest.fixture
    def slow(self, port: int) -> Service:
        return service_for_tests("web", health=Health(http=f"http://127.0.0.1:{port}/"))


class TestWindow(HoldContract):
    @pytest.fixture
    def plugin(self) -> object:
        return window

    @pytest.fixture
    def now(self) -> datetime:
        return datetime(2026, 11, 22, 12, 0, tzinfo=UTC)  # a Sunday

    @pytest.fixture
    def held(self) -> Service:
        return service_for_tests("web", windows=(parse_window("Mon 09:00-17:00 Europe/Amsterdam"),))

    @pytest.fixture
    def free(self) -> Service:
        return service_for_tests("web", windows=(parse_window("Sun 09:00-17:00 Europe/Amsterdam"),))
