"""A simple instance of a JSON schema, for structured answers and tool arguments."""

from typing import Any

MAX_DEPTH = 8


def instance(schema: Any, root: Any = None, depth: int = 0) -> Any:
    """Return a value that satisfies the common subset of JSON Schema, always the same one.

    Supports const, enum, default, anyOf, oneOf, allOf, local references and the types with their
    minimum, minLength and minItems. Includes all properties, down to eight levels.
    """
    root = schema if root is None else root
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return None
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if schema.get("enum"):
        return schema["enum"][0]
    if "$ref" in schema:
        return instance(_resolve(schema["$ref"], root), root, depth + 1)
    for name in ("anyOf", "oneOf", "allOf"):
        if schema.get(name):
            return instance(schema[name][0], root, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: instance(value, root, depth + 1) for name, value in properties.items()}
    if kind == "array":
        length = max(1, schema.get("minItems", 1))
        return [instance(schema.get("items", {}), root, depth + 1) for _ in range(length)]
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    return "Paris".ljust(schema.get("minLength", 0), "s")


def _resolve(reference: str, root: Any) -> Any:
    target = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part:
            target = target.get(part, {}) if isinstance(target, dict) else {}
    return target
