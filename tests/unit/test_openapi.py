"""The description has every route, and nothing that is none."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema_rs
import pytest
from aiohttp import web

from gitopperd.api.openapi import DESCRIBED, describe
from gitopperd.api.rest import EVERY_ROUTE
from gitopperd.api.routes import Open, Route
from gitopperd.api.schemas import SCHEMAS
from libgitopper import Role

DOCUMENT = json.loads(json.dumps(describe(EVERY_ROUTE)))
OPERATIONS = {
    (method.upper(), path): operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "rest.md").read_text()


def references(value: object) -> Iterator[str]:
    """Every reference below `value`."""
    if isinstance(value, dict):
        yield from [value["$ref"]] if "$ref" in value else []
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from references(item)


def test_every_route_is_in_the_description_and_has_something_to_say() -> None:
    routes = {(route.method, route.path) for route in EVERY_ROUTE}
    assert set(OPERATIONS) == routes
    assert routes <= set(DESCRIBED), "write what they answer in gitopperd/api/openapi.py"


def test_nothing_is_described_that_is_no_route() -> None:
    assert set(DESCRIBED) == set(OPERATIONS)


def test_what_a_route_takes_is_what_is_described() -> None:
    for route in EVERY_ROUTE:
        described = DESCRIBED[route.method, route.path].query
        assert sorted(described) == sorted(route.query or ()), route.path


def test_every_route_is_on_the_reference_page() -> None:
    on_the_page = re.findall(r"^\| `(GET|POST) (/[^`?]*)", PAGE, re.MULTILINE)
    assert sorted(on_the_page) == sorted(OPERATIONS)


async def unwritten(request: web.Request) -> web.StreamResponse:
    raise NotImplementedError


def test_a_route_that_nobody_described_is_in_the_document_with_its_errors() -> None:
    route = Route(method="GET", path="/new/{x}", handler=unwritten, access=Role.ADMIN, summary="New.")
    operation = describe([route])["paths"]["/new/{x}"]["get"]
    assert set(operation["responses"]) == {"400", "401", "403", "404", "408", "413", "431", "503"}
    assert [parameter["name"] for parameter in operation["parameters"]] == ["x"]


@pytest.mark.parametrize("key", OPERATIONS, ids=" ".join)
def test_every_operation_tells_its_role_its_parameters_and_its_answers(key: tuple[str, str]) -> None:
    operation = OPERATIONS[key]
    assert operation["summary"].endswith(".")
    assert operation["x-gitopper-role"] in ("read", "operate", "admin", "public", "signed")
    in_path = [one["name"] for one in operation["parameters"] if one["in"] == "path"]
    assert in_path == re.findall(r"{(\w+)}", key[1])
    assert any(status.startswith("2") for status in operation["responses"])
    assert all(answer["description"] and answer["content"] for answer in operation["responses"].values())


@pytest.mark.parametrize("route", EVERY_ROUTE, ids=lambda route: f"{route.method} {route.path}")
def test_who_may_is_told_as_the_route_declares_it(route: Route) -> None:
    operation = OPERATIONS[route.method, route.path]
    schemes = [name for requirement in operation["security"] for name in requirement]
    if isinstance(route.access, Open):
        assert (operation["security"], operation["x-gitopper-role"]) == ([], route.access.value)
        assert "403" not in operation["responses"]
        return
    assert schemes == ["bearer", "mtls"]
    assert set(schemes) == set(DOCUMENT["components"]["securitySchemes"])
    assert ({} in operation["security"]) == (route.access is Role.READ)
    assert {"401", "403"} <= set(operation["responses"])


def test_operations_can_be_told_apart_by_their_names() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    used = {reference.removeprefix("#/components/schemas/") for reference in references(DOCUMENT)}
    assert used == set(SCHEMAS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_a_schema(name: str) -> None:
    jsonschema_rs.meta.validate(dict(SCHEMAS[name]))


def test_an_error_needs_its_code_and_its_message() -> None:
    error = jsonschema_rs.validator_for(dict(SCHEMAS["Error"]))
    assert error.is_valid({"error": {"code": "not-found", "message": "no", "problems": ["a"]}, "more": 1})
    for wrong in ({}, {"error": "no"}, {"error": {"code": "x"}}, {"error": {"code": "No", "message": "x"}}):
        assert not error.is_valid(wrong)


def test_the_document_can_be_printed_without_a_daemon() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "gitopperd.api.openapi"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == DOCUMENT
    assert done.stderr == ""
