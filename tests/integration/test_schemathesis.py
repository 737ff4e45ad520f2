"""What a real daemon answers is what its description says, whatever it is asked."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from gitopper_plugins import tokenfile
from gitopperd.api.openapi import DESCRIBED
from gitopperd.api.rest import EVERY_ROUTE
from libgitopper import Role
from tests.support.daemon import Daemon
from tests.support.pushes import SECRET, payload, signed
from tests.support.site import site

TOKEN, HASH = "gitopper_" + "s" * 43, tokenfile.hash_of("gitopper_" + "s" * 43)
CONFIG = """
[auth.token]
file = "{home}/tokens.toml"

[[webhooks]]
name   = "github"
kind   = "github"
secret = "{home}/webhook.secret"
"""
SETTINGS = """\
# A stream has no end: it is asked for by the test above.
[[operations]]
include-path = "/events"
enabled = false

# What a duration is can't be said in full by a schema.
[[operations]]
include-path = "/state/freeze/{service}"
[operations.checks.positive_data_acceptance]
enabled = false

# Neither can which parameters go together.
[[operations]]
include-path = "/diff/{service}"
[operations.checks.positive_data_acceptance]
enabled = false
[operations.checks.negative_data_rejection]
enabled = false

# A parameter that is empty counts as none.
[[operations]]
include-path = ["/history/{service}", "/explain/{service}"]
[operations.checks.negative_data_rejection]
enabled = false
"""


class Api:
    """A daemon that runs, and knows one token, of an admin."""

    def __init__(self, daemon: Daemon, tip: str) -> None:
        self.daemon = daemon
        self.tip = tip
        self.document = daemon.get("/openapi.json")

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str, bytes]:
        """Return status, content type and body; of a stream its first line."""
        with contextlib.closing(HTTPConnection("127.0.0.1", self.daemon.port, timeout=10)) as connection:
            connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}"} | headers)
            response = connection.getresponse()
            kind = response.headers.get_content_type()
            read = response.readline if kind == "text/event-stream" else response.read
            return response.status, kind, read()

    def judge(self, method: str, path: str, status: int, kind: str, body: bytes) -> None:
        """Fail unless the description knows this answer of the route at `path`."""
        content = self.document["paths"][path][method.lower()]["responses"][str(status)]["content"]
        assert kind in content
        if kind == "application/json":
            schema = content[kind]["schema"] | {"components": self.document["components"]}
            jsonschema_rs.validate(schema, json.loads(body), validate_formats=True)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    home = tmp_path_factory.mktemp("api")
    with site(home) as made:
        tip = made.commit()
        made.configure("web", interval="1h")
        with made.daemon.config.open("a") as config:
            config.write(CONFIG.format(home=home))
        write_secret(home / "tokens.toml", f'[[tokens]]\nname = "t"\nsha256 = "{HASH}"\nrole = "admin"\n')
        write_secret(home / "webhook.secret", SECRET)
        with made.daemon as daemon:
            daemon.wait_for("web", "OK", tip)
            yield Api(daemon, tip)


def write_secret(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


PUSH = payload("github-push")
ASKED: dict[tuple[str, str], list[tuple[str, int]]] = {
    ("GET", "/list/machines"): [("/list/machines", 200)],
    ("GET", "/list/services"): [("/list/services", 200)],
    ("GET", "/list/service/{service}"): [("/list/service/web", 200), ("/list/service/nope", 404)],
    ("POST", "/state/freeze/{service}"): [
        ("/state/freeze/web?reason=because&for=2h", 200),
        ("/state/freeze/web?for=soon", 400),
        ("/state/freeze/nope", 404),
    ],
    ("POST", "/state/unfreeze/{service}"): [("/state/unfreeze/web", 200), ("/state/unfreeze/nope", 404)],
    ("POST", "/state/rollback/{service}/{hash}"): [
        ("/state/rollback/web/{tip}", 202),
        ("/state/rollback/web/0000", 404),
    ],
    ("POST", "/do/pull/{service}"): [("/do/pull/web", 202)],
    ("POST", "/do/retry/{service}"): [("/do/retry/web", 202), ("/do/retry/nope", 404)],
    ("GET", "/history/{service}"): [
        ("/history/web", 200),
        ("/history/web?limit=1", 200),
        ("/history/web?limit=201", 400),
        ("/history/nope", 404),
    ],
    ("GET", "/explain/{service}"): [
        ("/explain/web", 200),
        ("/explain/web?commit={tip}", 200),
        ("/explain/web?commit=0000", 404),
        ("/explain/web?commit=HEAD", 400),
        ("/explain/nope", 404),
    ],
    ("GET", "/diff/{service}"): [
        ("/diff/web", 200),
        ("/diff/web?kind=drift", 200),
        ("/diff/web?kind=kept-drift&number=3", 200),
        ("/diff/web?kind=upstream", 200),
        ("/diff/web?from={tip}&to={tip}", 200),
        ("/diff/web?kind=all", 400),
        ("/diff/web?number=2", 400),
        ("/diff/web?kind=drift&from={tip}", 400),
        ("/diff/web?from=0000", 404),
    ],
    ("POST", "/do/reload-config"): [("/do/reload-config", 200)],
    ("POST", "/hook/{name}"): [("/hook/github", 202), ("/hook/nope", 404)],
    ("GET", "/audit"): [("/audit", 200), ("/audit?limit=1&service=web", 200), ("/audit?limit=0", 400)],
    ("GET", "/events"): [("/events", 200)],
    ("GET", "/metrics"): [("/metrics", 200)],
    ("GET", "/healthz"): [("/healthz", 200)],
    ("GET", "/readyz"): [("/readyz", 200)],
    ("GET", "/openapi.json"): [("/openapi.json", 200)],
}


@pytest.mark.parametrize("route", DESCRIBED, ids=" ".join)
def test_each_route_answers_as_described(api: Api, route: tuple[str, str]) -> None:
    method, path = route
    for asked, status in ASKED[route]:
        headers = signed("github", PUSH) if path.startswith("/hook") else {}
        body = PUSH if headers else b""
        answer = api.ask(method, asked.format(tip=api.tip), body, **headers)
        assert answer[0] == status, answer
        api.judge(method, path, *answer)


GUARDED = [(route.method, route.path) for route in EVERY_ROUTE if isinstance(route.access, Role)]


@pytest.mark.parametrize("route", GUARDED, ids=" ".join)
def test_each_route_refuses_an_unknown_token_as_described(api: Api, route: tuple[str, str]) -> None:
    method, path = route
    answer = api.ask(method, ASKED[route][0][0].format(tip=api.tip), Authorization="Bearer gitopper_x")
    assert answer[0] == 401, answer
    api.judge(method, path, *answer)


# A refusal takes its time, so whoever is refused asks less. One worker: more than one trips over a
# fault of Python 3.11's parser, which is not safe to use in several threads.
@pytest.mark.parametrize(
    ("header", "phases", "examples"),
    [
        pytest.param(f"Authorization: Bearer {TOKEN}", "examples,coverage,fuzzing", 40, id="admin"),
        pytest.param("X-Nobody: knows me", "fuzzing", 5, id="anonymous"),
    ],
)
def test_no_request_gets_a_5xx_or_an_answer_outside_the_description(
    api: Api, tmp_path: Path, header: str, phases: str, examples: int
) -> None:
    description = tmp_path / "openapi.json"
    meaningful = {"service": "web", "hash": api.tip, "name": "github", "for": "2h"}
    description.write_text(json.dumps(with_examples(api.document, meaningful)))
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", str(description),
        "--url", f"http://127.0.0.1:{api.daemon.port}", "-H", header, "--workers", "1",
        "--phases", phases, "--max-examples", str(examples), "--generation-deterministic", "--no-shrink",
         "--suppress-health-check", "all", "--no-color", "--warnings", "off",
    ]  # fmt: skip
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "no_proxy": "*"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Tested: {len(EVERY_ROUTE) - 1}\n" in done.stdout
    assert api.daemon.get("/healthz") == {"status": "alive"}
    assert "Traceback" not in api.daemon.text()
    assert TOKEN not in api.daemon.text()


def with_examples(document: dict[str, Any], examples: dict[str, str]) -> dict[str, Any]:
    """Return a copy in which parameters have examples that mean something to this daemon."""
    copy: dict[str, Any] = json.loads(json.dumps(document))
    for operations in copy["paths"].values():
        for operation in operations.values():
            for parameter in operation["parameters"]:
                if parameter["name"] in examples:
                    parameter["schema"]["examples"] = [examples[parameter["name"]]]
    return copy
