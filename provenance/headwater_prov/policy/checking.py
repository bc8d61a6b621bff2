# SPDX-License-Identifier: Apache-2.0
"""One document against its schema: every problem, and the value with its defaults.

Why: the API server does this for a cluster; local mode has to reach the same verdict, with a line
and a column. Called by `loading`; next, `building` makes policies and tenants of the values.

It walks as the API server does: fields, types, bounds and lists first, and the rules only where all
of that is right below. A field without a value counts as absent.
"""

from typing import Any, Final

from headwater_prov.policy.problems import Place, PolicyProblem, child_field, shown
from headwater_prov.policy.remedies import unknown_field, unknown_value
from headwater_prov.policy.schema import ANYTHING, INT_OR_STRING, Rule, Schema
from headwater_prov.policy.yaml_source import Entry, Mapping, Node, Scalar, Sequence

_SCALAR_TYPES: Final = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    INT_OR_STRING: (int, str),
}
_METADATA_NAME: Final = "metadata.name "


class _Invalid:
    """Stands for a value of the wrong shape; the rules above it are not evaluated."""


_INVALID: Final = _Invalid()


def check(document: Node, schema: Schema, problems: list[PolicyProblem]) -> dict[str, Any] | None:
    """Hold a document against the schema of its kind.

    Args:
        document: the document's root.
        schema: of the whole document.
        problems: what is wrong is appended here.

    Returns:
        The document as plain values with all defaults, or None where there was a problem.
    """
    before = len(problems)
    value = _Check(problems).value(document, schema, "")
    return value if isinstance(value, dict) and len(problems) == before else None


class _Check:
    def __init__(self, problems: list[PolicyProblem]) -> None:
        self._problems = problems

    def _problem(self, place: Place, field: str, message: str) -> _Invalid:
        self._problems.append(PolicyProblem(place, field, message))
        return _INVALID

    def value(self, node: Node, schema: Schema, field: str) -> Any:
        value: Any
        if schema.type == ANYTHING:
            return None
        if schema.type == "object" and isinstance(node, Mapping):
            value = self._object(node, schema, field)
        elif schema.type == "array" and isinstance(node, Sequence):
            value = self._array(node, schema, field)
        elif isinstance(node, Scalar) and type(node.value) in _SCALAR_TYPES.get(schema.type, ()):
            value = self._scalar(node, schema, field)
        else:
            return self._problem(node.place, field, _wrong_type(node, schema))
        if not isinstance(value, _Invalid):
            for rule in schema.rules:
                if not rule.holds(value):
                    self._broken(rule, node, field)
        return value

    def _broken(self, rule: Rule, node: Node, field: str) -> None:
        if not field and rule.message.startswith(_METADATA_NAME) and isinstance(node, Mapping):
            # No rule of a definition may point into metadata, so its message names the field.
            name = _at(node, ("metadata", "name"))
            message = rule.message.removeprefix(_METADATA_NAME)
            self._problem(name.place, _METADATA_NAME.strip(), f"{_value_shown(name)}{message}")
            return
        below = tuple(rule.below.split(".")[1:])
        if below and isinstance(node, Mapping):
            node = _at(node, below)
            field = f"{field}{rule.below}"
        self._problem(node.place, field, f"{_value_shown(node)}{rule.message}")

    def _object(self, node: Mapping, schema: Schema, field: str) -> Any:
        values: dict[str, Any] = {}
        is_valid = True
        seen: dict[str, Place] = {}
        for entry in node.entries:
            below = child_field(field, entry.key)
            if entry.key in seen:
                first = seen[entry.key].line
                self._problem(
                    entry.place, below, f"is written twice, first in line {first}; keep one of them"
                )
                is_valid = False
                continue
            seen[entry.key] = entry.place
            is_valid &= self._entry(entry, schema, below, values)
        for name, property_ in schema.properties.items():
            if name not in values and property_.has_default:
                values[name] = property_.fresh_default()
        for name in schema.required:
            if name not in values and not _is_given(node, name):
                meaning = schema.properties[name].description
                sentence = meaning.partition(". ")[0].rstrip(".")
                self._problem(
                    node.place,
                    child_field(field, name),
                    f"is missing; write it: {sentence[:1].lower()}{sentence[1:]}",
                )
                is_valid = False
        if schema.max_properties is not None and len(seen) > schema.max_properties:
            self._problem(
                node.place, field, f"has {len(seen)} keys; write at most {schema.max_properties}"
            )
            is_valid = False
        return values if is_valid else _INVALID

    def _entry(self, entry: Entry, schema: Schema, field: str, values: dict[str, Any]) -> bool:
        """Check one field and keep its value; says whether it is sound."""
        below = schema.properties.get(entry.key) or schema.additional
        if below is None:
            message = unknown_field(field, entry.key, list(schema.properties))
            if not field.startswith(("spec.", "metadata.")) and entry.key == "status":
                return True  # the operator's; nothing to read here
            self._problem(entry.place, field, message)
            return False
        if isinstance(entry.value, Scalar) and entry.value.value is None:
            if entry.key in schema.properties:
                return True
            self._problem(entry.value.place, field, 'has no value; write "" for an empty one')
            return False
        value = self.value(entry.value, below, field)
        if isinstance(value, _Invalid):
            return False
        values[entry.key] = value
        return True

    def _array(self, node: Sequence, schema: Schema, field: str) -> Any:
        assert schema.items is not None
        values = []
        keys: list[dict[str, Any]] = []
        is_valid = True
        for index, item in enumerate(node.items):
            below = child_field(field, index)
            value = self.value(item, schema.items, below)
            if isinstance(value, _Invalid):
                is_valid = False
            elif schema.is_set and value in values:
                self._problem(item.place, below, f"{shown(value)} is listed twice; remove one")
                is_valid = False
            elif schema.map_keys:
                key = {name: value.get(name) for name in schema.map_keys}
                if key in keys:
                    said = shown(", ".join(map(str, key.values())))
                    message = f"{said} is listed twice; remove one, or give it another name"
                    self._problem(item.place, child_field(below, schema.map_keys[0]), message)
                    is_valid = False
                keys.append(key)
            values.append(value)
        if schema.max_items is not None and len(values) > schema.max_items:
            self._problem(
                node.place, field, f"has {len(values)} items; write at most {schema.max_items}"
            )
            is_valid = False
        if schema.min_items is not None and len(values) < schema.min_items:
            self._problem(
                node.place, field, f"has {len(values)} items; write at least {schema.min_items}"
            )
            is_valid = False
        return values if is_valid else _INVALID

    def _scalar(self, node: Scalar, schema: Schema, field: str) -> Any:
        value = node.value
        if isinstance(value, int) and not isinstance(value, bool):
            return self._number(node, value, schema, field)
        if not isinstance(value, str):
            return value
        if schema.max_length is not None and len(value) > schema.max_length:
            return self._problem(
                node.place,
                field,
                f"{shown(value)} has {len(value)} characters; write at most {schema.max_length}",
            )
        if schema.min_length is not None and len(value) < schema.min_length:
            return self._problem(
                node.place, field, f"is shorter than {schema.min_length} characters; write more"
            )
        if schema.enum and value not in schema.enum:
            what = schema.description.removesuffix(".").partition("Name of ")[2]
            return self._problem(node.place, field, unknown_value(value, schema.enum, what))
        return value

    def _number(self, node: Scalar, value: int, schema: Schema, field: str) -> Any:
        if schema.minimum is not None and value < schema.minimum:
            return self._problem(
                node.place, field, f"{shown(value)} is too small; write at least {schema.minimum}"
            )
        if schema.maximum is not None and value > schema.maximum:
            return self._problem(
                node.place, field, f"{shown(value)} is too large; write at most {schema.maximum}"
            )
        return value


def _is_given(node: Mapping, name: str) -> bool:
    """Whether a field is in the file with some value, sound or not."""
    given = node.get(name)
    return given is not None and not (isinstance(given, Scalar) and given.value is None)


def _at(node: Mapping, path: tuple[str, ...]) -> Node:
    """The deepest node that the file has on a path."""
    found: Node = node
    for key in path:
        below = found.get(key) if isinstance(found, Mapping) else None
        if below is None:
            break
        found = below
    return found


def _value_shown(node: Node) -> str:
    return f"{shown(node.value)} " if isinstance(node, Scalar) else ""


def _wrong_type(node: Node, schema: Schema) -> str:
    """Which type was found and what to write instead."""
    text = node.text if isinstance(node, Scalar) and node.value is not None else ""
    match schema.type:
        case "object":
            remedy = "write fields, one per line and indented, or {}"
        case "array":
            remedy = f"write a list: [{shown(text)[1:-1]}]" if text else "write a list, or []"
        case "boolean":
            remedy = "write true or false, without quotes"
        case "string":
            remedy = f"write it in quotes: {shown(text)}" if text else "write one text"
        case "integer":
            remedy = "write a whole number, without quotes"
        case _:
            remedy = "write a whole number, or a number with the suffix Ki, Mi, Gi or Ti"
    return f"{_found(node)}; {remedy}"


def _found(node: Node) -> str:
    if isinstance(node, Mapping):
        return "is a mapping"
    if isinstance(node, Sequence):
        return "is a list"
    match node.value:
        case None:
            return "is empty"
        case str():
            return f"{shown(node.value)} is text"
        case bool():
            return f"{shown(node.text)[1:-1]} is a truth value"
        case _:
            return f"{shown(node.text)[1:-1]} is a number"
