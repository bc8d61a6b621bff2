# SPDX-License-Identifier: Apache-2.0
"""The custom resource definitions in crds/, from their sources in setup/definitions/.

Why: two kinds share the whole configuration of a policy and all share selectors and conditions, but
a definition has no references, so each must be written out. Here every part is written once and
put in where it is named. `make lint` runs it with --check: what is committed is what this writes.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any, Final

import yaml

CRDS: Final = Path(__file__).resolve().parent.parent / "crds"
SOURCES: Final = Path(__file__).with_suffix("")

GROUP: Final = "headwater.dev"
VERSION: Final = "v1alpha1"

_WIDTH: Final = 100
_FOLDED_FROM: Final = 70
"""Texts from this length on are written over several lines."""


def definition(source: Mapping[str, Any], fragments: Mapping[str, Any]) -> dict[str, Any]:
    """The definition that a source describes."""
    source = expanded(source, fragments)
    kind = source["kind"]
    schema: dict[str, Any] = {
        "type": "object",
        "description": source["description"],
        "required": source["required"],
        "properties": {
            "apiVersion": expanded({"include": "apiVersion"}, fragments),
            "kind": expanded({"include": "kind", "with": {"kind": kind}}, fragments),
            # Kubernetes does not allow a description here; explained in docs/policies.md.
            "metadata": {"type": "object"},
            "spec": source["spec"],
            "status": source["status"],
        },
    }
    if "rules" in source:
        schema["x-kubernetes-validations"] = source["rules"]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{source['plural']}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": source["scope"],
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": source["plural"],
                "singular": kind.lower(),
                "shortNames": source["shortNames"],
                "categories": ["headwater"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": source["columns"],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def expanded(value: Any, fragments: Mapping[str, Any]) -> Any:
    """A value with every `include` replaced by its fragment, and what stands beside it added."""
    if isinstance(value, list):
        return [expanded(one, fragments) for one in value]
    if not isinstance(value, dict):
        return value
    own = {key: below for key, below in value.items() if key not in ("include", "with")}
    own = {key: expanded(below, fragments) for key, below in own.items()}
    if "include" not in value:
        return own
    fragment = filled_in(fragments[value["include"]], value.get("with", {}))
    fragment = expanded(fragment, fragments)
    if not isinstance(fragment, dict):
        return fragment
    both = {**fragment, **own}
    first = [key for key in ("type", "format", "description") if key in both]
    return {key: both[key] for key in [*first, *(key for key in both if key not in first)]}


def filled_in(value: Any, texts: Mapping[str, str]) -> Any:
    """A value with the names in its texts replaced."""
    match value:
        case dict():
            return {key: filled_in(below, texts) for key, below in value.items()}
        case list():
            return [filled_in(one, texts) for one in value]
        case str() if "${" in value:
            return Template(value).safe_substitute(texts)
        case _:
            return value


class _Dumper(yaml.SafeDumper):
    """Writes as a person does: lists of names in brackets, long texts over several lines."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = ">" if len(text) >= _FOLDED_FROM and "\n" not in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _list(dumper: _Dumper, items: list[Any]) -> yaml.SequenceNode:
    is_flat = not any(isinstance(item, dict | list) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=is_flat)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)


def written(source: Path, fragments: Mapping[str, Any]) -> str:
    """The text of the definition that a source file describes."""
    described = yaml.safe_load(source.read_text("utf-8"))
    content = definition(described, fragments)
    body = yaml.dump(
        content,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=False,
        width=_WIDTH,
        allow_unicode=True,
    )
    if "${" in body:
        raise ValueError(f"{source}: a name in ${{...}} was not filled in")
    return (
        "# SPDX-License-Identifier: Apache-2.0\n"
        f"# {described['comment']}\n"
        f"# Made from setup/definitions/{source.name} by `make definitions`: edit that, not this.\n"
        f"{body}"
    )


def main() -> int:
    """Write the definitions, or with --check say which are not what would be written."""
    is_check = sys.argv[1:] == ["--check"]
    fragments = yaml.safe_load((SOURCES / "fragments.yaml").read_text("utf-8"))
    status = 0
    for source in sorted(SOURCES.glob("*.yaml")):
        if source.name == "fragments.yaml":
            continue
        target = CRDS / source.name
        text = written(source, fragments)
        if target.exists() and target.read_text("utf-8") == text:
            continue
        if is_check:
            print(
                f"crds/{source.name}:1: is not what its source says; run make definitions",
                file=sys.stderr,
            )
            status = 1
        else:
            target.write_text(text, "utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
