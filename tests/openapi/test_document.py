"""The OpenAPI document is valid, complete, and matches the routes."""

import json
import re
from typing import Any

import msgspec
import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from promptly import errors
from promptly.openapi import OPERATIONS, document, operations
from promptly.openapi.headers import OF_STATUS
from promptly.openapi.schemas import Schemas

# Blueprints whose routes are for programs; each route must be described.
DESCRIBED = {"v1", "ops"}
# Errors that no described route raises: those of unknown URLs and of pages.
ELSEWHERE = {errors.Forbidden, errors.PaymentRefused, errors.PaymentUnavailable}
RAISED = {
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type)
    and issubclass(kind, errors.PromptlyError)
    and kind not in ELSEWHERE
    and kind is not errors.Unavailable  # only its subclasses are raised
}


PROFILES = pytest.mark.parametrize("profile", ["text", "tools"])


@PROFILES
def test_it_is_valid(profile: str) -> None:
    OpenAPIV31SpecValidator(document("https://api.example.com", profile)).validate()


def test_it_describes_every_route_and_no_other(worker_app: Flask) -> None:
    routes = {
        (method.lower(), re.sub(r"<[^>]*>", "{}", rule.rule))
        for rule in worker_app.url_map.iter_rules()
        # Prometheus reads the metrics, which no customer reaches.
        if rule.endpoint.split(".")[0] in DESCRIBED and rule.endpoint != "ops.metrics"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = [(each.method, re.sub(r"{[^}]*}", "{}", each.path)) for each in OPERATIONS]
    assert len(described) == len(set(described))
    assert set(described) == routes


def test_every_parameter_of_a_path_is_described() -> None:
    for operation in OPERATIONS:
        named = {each.name for each in operation.parameters if each.place == "path"}
        assert named == set(re.findall(r"{([^}]*)}", operation.path)), operation.path


def test_names_are_unique() -> None:
    names = [each.name for each in OPERATIONS]
    assert len(names) == len(set(names))


@PROFILES
def test_every_field_of_a_body_that_is_explained_exists(profile: str) -> None:
    for operation in operations(profile):
        if operation.body is not None:
            known = set(operation.body.__struct_fields__)
            assert set(operation.notes) <= known, operation.path
            assert not set(operation.refused) & known, operation.path


def test_every_error_is_described_somewhere() -> None:
    described = {(fault.status, fault.code) for each in OPERATIONS for fault in each.faults}
    assert {(kind.status, kind.code) for kind in RAISED} <= described


def test_the_headers_of_every_error_are_described() -> None:
    for kind in RAISED:
        sent = kind("some reason").headers().keys()
        described = set(OF_STATUS.get(kind.status, ()))
        # The seconds of a 429 depend on the limit, so the class alone sends no `retry-after`.
        assert described - {"retry-after"} <= sent <= described, kind


def test_no_route_describes_an_error_twice() -> None:
    for operation in OPERATIONS:
        codes = [(fault.status, fault.code) for fault in operation.faults]
        assert len(codes) == len(set(codes)), operation.path


def test_routes_that_need_a_key_describe_the_401() -> None:
    for path, described in document("http://x")["paths"].items():
        for operation in described.values():
            assert ("401" in operation["responses"]) == bool(operation["security"])
            assert bool(operation["security"]) == path.startswith("/v1/")


def test_it_describes_the_running_profile() -> None:
    def fields(profile: str) -> dict[str, Any]:
        described = document("http://x", profile)
        content = described["paths"]["/v1/responses"]["post"]["requestBody"]["content"]
        name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
        found: dict[str, Any] = described["components"]["schemas"][name]["properties"]
        return found

    text, tools = fields("text"), fields("tools")
    assert text["tool_choice"]["enum"] == [None]
    assert "RESPONSES_PROFILE=tools" in text["tool_choice"]["description"]
    assert "anyOf" in tools["tool_choice"]
    assert text["previous_response_id"] == tools["previous_response_id"]
    assert document("http://x", "tools") == document("http://x", "tools")


def test_two_types_of_one_name_under_one_prefix_are_refused() -> None:
    schemas = Schemas()
    schemas.of(msgspec.defstruct("Part", [("field", int)]), "Room")
    with pytest.raises(ValueError, match="RoomPart"):
        schemas.of(msgspec.defstruct("Part", [("field", str)]), "Room")


def test_the_route(client: FlaskClient) -> None:
    answer = client.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    assert json.loads(answer.data)["servers"] == [{"url": "http://127.0.0.1:8503"}]
    again = client.get("/openapi.json", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == answer.headers["ETag"]
