"""The OpenAPI document, assembled from the operations that describe the routes.

https://spec.openapis.org/oas/v3.1.1.html
"""

from itertools import groupby
from typing import Any

from promptly import __version__
from promptly.openapi import (
    account,
    chat,
    completions,
    embeddings,
    health,
    key,
    messages,
    models,
    queue,
    responses,
)
from promptly.openapi.errors import Fault
from promptly.openapi.headers import HEADERS, OF_METERED, OF_STATUS, STANDING, references
from promptly.openapi.operation import Operation
from promptly.openapi.schemas import Schema, Schemas


def operations(responses_profile: str = "text") -> tuple[Operation, ...]:
    """Return all operations of a gateway with this RESPONSES_PROFILE."""
    return (
        *chat.OPERATIONS,
        *completions.OPERATIONS,
        *embeddings.OPERATIONS,
        *responses.operations(responses_profile),
        *messages.OPERATIONS,
        *models.OPERATIONS,
        *account.OPERATIONS,
        *key.OPERATIONS,
        *queue.OPERATIONS,
        *health.OPERATIONS,
    )


OPERATIONS = operations()

DESCRIPTION = """\
An authenticated, metered, prepaid gateway for LLM inference. Any OpenAI client works: set its base
URL and key. Anthropic's clients work too, with `/v1/messages`.

Any other path below `/v1` returns 404 `unknown_url`, and a wrong method 405 `method_not_allowed`;
neither needs a key. Pages of other origins may call every route, unless the operator restricts it.
The request's `Content-Type` is ignored: bodies are JSON, `null` means absent.
JSON is parsed strictly: duplicate keys, `NaN`, invalid UTF-8, more than 512 levels and too many
values return 400. A `Content-Encoding` of gzip, deflate or zstd is decoded.
Rules that concern two fields at once are in the fields' descriptions; violating one returns 400
as well.
"""

SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "`Authorization: Bearer sk-…`",
    },
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "`x-api-key: sk-…`",
    },
}

_JSON = "application/json"
_EVENTS = "text/event-stream"


def document(base_url: str, responses_profile: str = "text") -> dict[str, Any]:
    """Return the whole document for a gateway at this URL with this RESPONSES_PROFILE."""
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    described = operations(responses_profile)
    for operation in described:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "promptly", "version": __version__, "description": DESCRIPTION},
        "servers": [{"url": base_url}],
        "tags": [{"name": tag} for tag in dict.fromkeys(each.tag for each in described)],
        "paths": paths,
        "components": {
            "schemas": schemas.found,
            "headers": HEADERS,
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def _operation(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "parameters": [
            {
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.place == "path",
                "description": parameter.description,
                "schema": dict(parameter.schema),
            }
            for parameter in operation.parameters
        ],
        "responses": _answers(operation, schemas),
        "security": [{name: []} for name in SECURITY_SCHEMES] if operation.needs_key else [],
    }
    if operation.body is not None:
        content: dict[str, Any] = {"schema": _body(operation, schemas)}
        if operation.example is not None:
            content["example"] = dict(operation.example)
        described["requestBody"] = {"required": True, "content": {_JSON: content}}
    return {name: value for name, value in described.items() if value not in ("", {})}


def _body(operation: Operation, schemas: Schemas) -> Schema:
    """Return the body's schema, with the notes and refused fields as descriptions."""
    schema = schemas.of(operation.body, operation.schema_prefix)
    fields = schemas.resolve(schema)["properties"]
    for name, note in operation.notes.items():
        fields[name]["description"] = note
    for name, advice in operation.refused.items():
        fields[name] = {"enum": [*operation.empty], "description": f"Not supported: {advice}."}
    if operation.amend is not None:
        operation.amend(schemas.found)
    return schema


def _answers(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {}
    standing = STANDING if operation.needs_key else ()
    if operation.text:
        text = {"text/plain": {"schema": {"type": "string"}}}
        for status in (200, *operation.also):
            found[str(status)] = {"description": operation.text, "content": text}
        return found
    content = {_JSON: {"schema": schemas.of(operation.answer, operation.schema_prefix)}}
    if operation.event is not None:
        content[_EVENTS] = {"schema": _event(operation, schemas)}
    found["200"] = {
        "description": operation.answer_text,
        "headers": references((*standing, *(OF_METERED if operation.metered else ()))),
        "content": content,
    }
    ordered = sorted(operation.faults, key=lambda fault: fault.status)
    for status, faults in groupby(ordered, key=lambda fault: fault.status):
        found[str(status)] = _refusal(operation, schemas, tuple(faults))
    return found


def _refusal(operation: Operation, schemas: Schemas, faults: tuple[Fault, ...]) -> dict[str, Any]:
    """Describe the response with one error status: its codes and what they mean."""
    named = [(f"`{fault.code}`" if fault.code else "no code", fault.meaning) for fault in faults]
    return {
        "description": "\n".join(f"- {code}: {meaning}" for code, meaning in named),
        "headers": references((*STANDING, *OF_STATUS.get(faults[0].status, ()))),
        "content": {_JSON: {"schema": operation.error.of(faults, schemas)}},
    }


def _event(operation: Operation, schemas: Schemas) -> Schema:
    """Describe one event of a stream as an object with its lines as fields; `data` is JSON."""
    kinds = [schemas.of(operation.event, operation.schema_prefix)]
    if operation.error_in_stream:
        kinds.append(schemas.of(operation.error.event, operation.error.prefix))
    data = {"type": "string", "contentMediaType": _JSON, "contentSchema": {"anyOf": kinds}}
    parts: dict[str, Schema] = {"data": data}
    if operation.named_events:
        parts["event"] = {"type": "string", "description": "The `type` of the data."}
    event: Schema = {
        "description": "One event; its `data` is JSON.",
        "type": "object",
        "properties": parts,
        "required": list(parts),
    }
    if not operation.ends_with_done:
        return event
    done = {
        "description": "The end of a successful stream.",
        "type": "object",
        "properties": {"data": {"const": "[DONE]"}},
        "required": ["data"],
    }
    return {"anyOf": [event, done]}
