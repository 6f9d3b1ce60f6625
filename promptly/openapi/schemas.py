"""JSON schemas of msgspec types, collected under their names in the document."""

import copy
from typing import Any

import msgspec

Schema = dict[str, Any]

REF = "#/components/schemas/"


class Schemas:
    """The schemas of `components/schemas`, each created once.

    The names of an API's types get a prefix of their own: `TextPart` with the prefix `Chat` becomes
    `ChatTextPart`, so that a type of the same name in another API changes no names.
    """

    def __init__(self) -> None:
        self.found: dict[str, Schema] = {}
        # As msgspec builds them, before an operation amends those in `found`.
        self._built: dict[str, Schema] = {}
        self._made: dict[tuple[Any, str], Schema] = {}

    def of(self, kind: Any, prefix: str) -> Schema:
        """Return the schema of a type, a reference if the type has a name.

        Raises ValueError if two types with this prefix have the same name.
        """
        if (kind, prefix) in self._made:
            return self._made[kind, prefix]
        (schema,), parts = msgspec.json.schema_components((kind,), ref_template=REF + "{name}")
        names = {name: name if name.startswith(prefix) else prefix + name for name in parts}
        for name, part in parts.items():
            renamed = _renamed(part, names)
            if self._built.setdefault(names[name], renamed) != renamed:
                raise ValueError(f"two types are called {names[name]}")
            self.found.setdefault(names[name], copy.deepcopy(renamed))
        made: Schema = _renamed(schema, names)
        self._made[kind, prefix] = made
        return made

    def resolve(self, schema: Schema) -> Schema:
        """Return the schema that a reference points to, or the schema itself."""
        reference = schema.get("$ref")
        return schema if reference is None else self.found[reference.removeprefix(REF)]


def allow_other_parts(content: Schema, texts: tuple[str, ...]) -> None:
    """Allow parts whose type is not one of `texts` in the schema of a tool result's content.

    Doing it again has no effect: routes share types.
    """
    parts = next(kind for kind in content["anyOf"] if kind.get("type") == "array")
    known = [kind for kind in parts["items"].get("anyOf", [parts["items"]]) if "$ref" in kind]
    other = {
        "type": "object",
        "properties": {"type": {"type": "string", "not": {"enum": [*texts]}}},
        "required": ["type"],
        "description": "A part other than text, for which the model sees a short text.",
    }
    # Without a discriminator, which would list all types.
    parts["items"] = {"anyOf": [*known, other]}


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """Return the value with every reference renamed."""
    if isinstance(value, dict):
        return {key: _renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if isinstance(value, str) and value.startswith(REF):
        return REF + names[value.removeprefix(REF)]
    return value
