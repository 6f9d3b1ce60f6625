"""Checks of a running gateway's answers against its OpenAPI document."""

import copy
import json
from typing import Any

from jsonschema import Draft202012Validator

from tests.blueprints.v1.client import Answer

Json = dict[str, Any]
REF = "#/components/schemas/"


class Contract:
    """Check answers against the document, more strictly than it requires: see `closed`."""

    def __init__(self, document: Json) -> None:
        self.document = closed(document)

    def check(self, method: str, path: str, answer: Answer) -> None:
        """Fail unless the operation documents this answer.

        `path` is the document's path template, with parameter names.
        """
        operation = self.document["paths"][path][method.lower()]
        where = f"{method} {path} {answer.status}"
        assert str(answer.status) in operation["responses"], (where, answer.body[:500])
        documented = operation["responses"][str(answer.status)]
        for name, reference in documented.get("headers", {}).items():
            self._check_header(name, reference, answer, where)
        media_type = answer.headers["content-type"].partition(";")[0]
        assert media_type in documented["content"], where
        schema = documented["content"][media_type]["schema"]
        if media_type == "application/json":
            self.validate(answer.json, schema, where)
        elif media_type == "text/event-stream":
            self.check_events(answer.parts, schema, where)
        else:
            self.validate(answer.body.decode(), schema, where)

    def check_events(self, parts: list[str], schema: Json, where: str) -> None:
        """Fail unless every event, and the JSON in its data, matches the document."""
        for part in parts:
            if part.startswith(":"):
                continue
            event = dict(line.split(": ", 1) for line in part.split("\n"))
            self.validate(event, schema, where)
            kinds = [kind["properties"]["data"] for kind in schema.get("anyOf", [schema])]
            if event["data"] in [kind.get("const") for kind in kinds]:
                continue
            [content] = [kind["contentSchema"] for kind in kinds if "contentSchema" in kind]
            self.validate(json.loads(event["data"]), content, where)

    def validate(self, value: Any, schema: Json, where: str) -> None:
        """Fail unless the value is valid under a schema of the document."""
        root = {"allOf": [schema], "components": self.document["components"]}
        validator = Draft202012Validator(root, format_checker=Draft202012Validator.FORMAT_CHECKER)
        problems = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
        assert not problems, (where, problems[:5], value)

    def _check_header(self, name: str, reference: Json, answer: Answer, where: str) -> None:
        header = self.document["components"]["headers"][reference["$ref"].rpartition("/")[2]]
        text = answer.headers.get(name)
        if text is None:
            assert not header.get("required"), (where, f"no header {name}")
            return
        value = int(text) if header["schema"]["type"] == "integer" else text
        self.validate(value, header["schema"], f"{where} {name}")


def closed(document: Json) -> Json:
    """Return a copy of the document that allows no undeclared field in an answer.

    The document itself allows more fields, because later versions may add some; the tests must not
    let an undeclared field of upstream's slip through.
    """
    copied = copy.deepcopy(document)
    schemas = copied["components"]["schemas"]
    waiting = [
        name
        for operations in copied["paths"].values()
        for operation in operations.values()
        for name in _named(operation["responses"])
    ]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            schema = schemas[name]
            waiting += _named(schema)
            if "properties" in schema:
                schema.setdefault("additionalProperties", False)
    return copied


def _named(value: Any) -> list[str]:
    """Return the names of all schemas that a part of the document refers to."""
    if isinstance(value, dict):
        return [name for item in value.values() for name in _named(item)]
    if isinstance(value, list):
        return [name for item in value for name in _named(item)]
    if isinstance(value, str) and value.startswith(REF):
        return [value.removeprefix(REF)]
    return []
