"""Every route of the API with every kind of identity, on a real daemon with a real plugin."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gitopperd.api.rest import EVERY_ROUTE
from gitopperd.api.routes import Open
from libgitopper import Role
from tests.support.site import Site
from tests.support.site import site as make_site
from tests.support.tester import install_tester

NARROWED, WHOLE, ONE, PUBLIC, SIGNED = "narrowed", "whole", "one service", "public", "signed"
"""What a route concerns: the services that one may see, all of them, one of them; or who needs no role."""

EXPECTED: dict[str, tuple[str, Role | None]] = {
    "GET /list/machines": (NARROWED, Role.READ),
    "GET /list/services": (NARROWED, Role.READ),
    "GET /list/service/{service}": (ONE, Role.READ),
    "GET /history/{service}": (ONE, Role.READ),
    "GET /explain/{service}": (ONE, Role.READ),
    "GET /diff/{service}": (ONE, Role.OPERATE),
    "GET /events": (NARROWED, Role.READ),
    "GET /metrics": (WHOLE, Role.READ),
    "POST /state/freeze/{service}": (ONE, Role.OPERATE),
    "POST /state/unfreeze/{service}": (ONE, Role.OPERATE),
    "POST /state/rollback/{service}/{hash}": (ONE, Role.OPERATE),
    "POST /do/pull/{service}": (ONE, Role.OPERATE),
    "POST /do/retry/{service}": (ONE, Role.OPERATE),
    "POST /do/reload-config": (WHOLE, Role.ADMIN),
    "GET /audit": (WHOLE, Role.ADMIN),
    "POST /hook/{name}": (SIGNED, None),
    "GET /healthz": (PUBLIC, None),
    "GET /readyz": (PUBLIC, None),
    "GET /openapi.json": (PUBLIC, None),
}

UNKNOWN: dict[str, dict[str, str]] = {
    "nobody": {"Host": "evil.example"},
    "from a proxy": {"X-Forwarded-For": "192.0.2.1"},
    "refused": {"X-Tester": "refused"},
    "refused, with a good one after it": {"X-Tester": "refused, admin"},
    "raising": {"X-Tester": "raising"},
    "exiting": {"X-Tester": "exiting"},
    "odd": {"X-Tester": "odd"},
    "no such role": {"X-Tester": "root"},
    "bad token": {"Authorization": "Bearer gitopper_no-such-token"},
}
ROLES = {"read": Role.READ, "operate": Role.OPERATE, "admin": Role.ADMIN}
LIMITS = {"": True, " web": True, " w*": True, " db": False, " we": False, " WEB": False, " [!w]*": False}
"""What an identity is limited to, and whether that holds for the service ``web``."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("matrix")
    with pytest.MonkeyPatch.context() as patch, make_site(home) as made:
        patch.setenv("PYTHONPATH", str(install_tester(home / "plugins")))
        made.upstream.commit({"web/etc/conf": "1", "db/etc/conf": "1"})
        made.configure("web", "db", interval="1h")
        secret = home / "secret"
        secret.write_text("a-webhook-secret-of-enough-length\n")
        secret.chmod(0o600)
        with made.daemon.config.open("a") as config:
            config.write(
                '[auth]\nplugins = ["peercred", "tester", "token"]\n'
                f'[auth.token]\nfile = "{home}/tokens.toml"\n'
                f'[[webhooks]]\nname = "github"\nkind = "github"\nsecret = "{secret}"\n'
            )
        with made.daemon as daemon:
            daemon.wait_for("web", "OK")
            daemon.wait_for("db", "OK")
            yield made


def ask(site: Site, route: str, headers: dict[str, str], *, unix: bool = False) -> tuple[int, Any]:
    """Return status and body; the body of a stream is not waited for."""
    method, _, path = route.partition(" ")
    path = path.replace("{service}", "web").replace("{hash}", "0" * 40).replace("{name}", "github")
    connection = http.client.HTTPConnection("127.0.0.1", site.daemon.port, timeout=20)
    with contextlib.closing(connection):
        if unix:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(20)
            connection.sock.connect(str(site.home / "gitopperd.sock"))
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        if response.getheader("Content-Type", "").startswith("text/event-stream"):
            response.close()
            return response.status, None
        body = response.read()
        is_json = response.getheader("Content-Type", "").startswith("application/json")
        return response.status, json.loads(body) if is_json and body else body


def ask_all(
    site: Site, kinds: dict[str, dict[str, str]], *, unix: bool = False
) -> dict[tuple[str, str], tuple[int, Any]]:
    """Ask every route as every kind of identity, many at once: refusals are held back for a while."""
    questions = [(route, kind) for route in EXPECTED for kind in kinds]
    with ThreadPoolExecutor(12) as pool:
        answers = pool.map(lambda q: ask(site, q[0], kinds[q[1]], unix=unix), questions)
        return dict(zip(questions, answers, strict=True))


def verdict(status: int, body: Any) -> str:
    """Return what the guard said: "unknown", "forbidden" or "in", whatever the handler made of it."""
    code = body["error"]["code"] if isinstance(body, dict) and "error" in body else ""
    if code == "unknown-identity":
        assert status == 401
        return "unknown"
    if code == "forbidden":
        assert status == 403
        return "forbidden"
    assert status < 500 or code == "waiting", body
    return "in"


def wanted(route: str, kind: str) -> str:
    """Return what is right for an identity that is known."""
    concern, role = EXPECTED[route]
    if role is None:
        return "in"
    name, _, _ = kind.partition(" ")
    limit = kind.removeprefix(name)
    has_role = ROLES[name] >= role
    holds = {NARROWED: True, WHOLE: limit == "", ONE: LIMITS[limit]}[concern]
    return "in" if has_role and holds else "forbidden"


def test_every_route_is_in_this_matrix_and_in_the_description(site: Site) -> None:
    served = {f"{route.method} {route.path}": route for route in EVERY_ROUTE}
    assert set(EXPECTED) == set(served)
    status, described = ask(site, "GET /openapi.json", {})
    assert status == 200
    operations = {
        f"{method.upper()} {path}" for path, methods in described["paths"].items() for method in methods
    }
    assert operations == set(EXPECTED)
    for name, route in served.items():
        concern, role = EXPECTED[name]
        assert route.access is (role or {PUBLIC: Open.PUBLIC, SIGNED: Open.SIGNED}[concern])
        assert route.narrowed == (concern == NARROWED)
        assert ("{service}" in route.path) == (concern == ONE)


def test_who_is_not_known_may_use_what_is_public_alone(site: Site) -> None:
    for (route, kind), (status, body) in ask_all(site, UNKNOWN).items():
        expected = "in" if EXPECTED[route][1] is None else "unknown"
        assert verdict(status, body) == expected, (route, kind, body)


def test_anonymous_may_read_and_nothing_more(site: Site) -> None:
    for (route, _), (status, body) in ask_all(site, {"anonymous": {}}).items():
        expected = "unknown" if EXPECTED[route][1] in (Role.OPERATE, Role.ADMIN) else "in"
        assert verdict(status, body) == expected, route


def test_who_is_known_may_do_what_their_role_says_for_their_services(site: Site) -> None:
    kinds = {f"{role}{limit}": {"X-Tester": f"{role}{limit}"} for role in ROLES for limit in LIMITS}
    for (route, kind), (status, body) in ask_all(site, kinds).items():
        assert verdict(status, body) == wanted(route, kind), (route, kind, body)


def test_the_daemons_own_user_may_do_all_over_the_socket(site: Site) -> None:
    kinds = {"own": {}, "own, badly dressed": {"X-Tester": "refused", "Host": "evil.example"}}
    for (route, kind), (status, body) in ask_all(site, kinds, unix=True).items():
        assert verdict(status, body) == "in", (route, kind, body)


def test_a_page_of_another_site_gets_nothing_that_needs_a_role(site: Site) -> None:
    page = {"Origin": "https://evil.example", "X-Tester": "admin"}
    for (route, _), (status, body) in ask_all(site, {"page": page}).items():
        expected = "in" if EXPECTED[route][1] is None else "forbidden"
        assert verdict(status, body) == expected, route


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_no_other_method_of_any_route_does_anything(site: Site, method: str) -> None:
    paths = {route.partition(" ")[2] for route in EXPECTED}
    for path in paths:
        if f"{method} {path}" not in EXPECTED:
            status, _ = ask(site, f"{method} {path}", {"X-Tester": "admin"})
            assert status == 405, (method, path)


def test_what_is_shown_is_narrowed_to_what_one_may_see(site: Site) -> None:
    def names(who: str) -> list[str]:
        _, body = ask(site, "GET /list/services", {"X-Tester": who})
        return sorted(service["service"] for service in body["services"])

    assert names("read") == ["db", "web"]
    assert names("read web") == ["web"]
    assert names("admin d*") == ["db"]
    assert names("read other") == []


def test_a_refusal_tells_nothing_of_what_runs_here(site: Site) -> None:
    limited = {"X-Tester": "operate web*"}
    there = ask(site, "GET /list/service/db", limited)
    not_there = ask(site, "GET /list/service/nothing", limited)
    assert there[0] == not_there[0] == 403
    assert there[1]["error"]["message"].replace("db", "nothing") == not_there[1]["error"]["message"]
    status, body = ask(site, "GET /list/service/web-of-lies", limited)
    assert status == 404
    assert body["error"]["message"].endswith("it runs: web")
