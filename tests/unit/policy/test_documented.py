# SPDX-License-Identifier: Apache-2.0
"""The page and the examples say what the program does: every YAML block in them is loaded."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from headwater_prov.policy import (
    PolicyErrors,
    check_files,
    compile_policy,
    load_directory,
    load_file,
)
from headwater_prov.policy.schema import Schema, resource_kinds
from headwater_prov.vocabulary import Relation, VertexType

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "policies.md").read_text("utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
EXAMPLES = ROOT / "examples" / "policies"


WRITTEN_BY_PEOPLE = (
    "ProvenancePolicy",
    "ClusterProvenancePolicy",
    "ProvenanceTenant",
    "ProvenanceAuditor",
)


def later_fields(schema: Schema, path: str = "spec") -> Iterator[tuple[str, str]]:
    """Fields that this version refuses, or values of them: what they mean, and what rules say."""
    for name, below in schema.properties.items():
        own = [rule for rule in below.rules if not rule.below]
        for rule in (*own, *(one for one in schema.rules if one.below == f".{name}")):
            if "is not available in this version" in rule.message:
                remedy = rule.message.partition("; ")[2]
                # The table has no room for more than what it is; kubectl explain has the rest.
                yield (
                    f"{path}.{name}",
                    f"{below.description.partition('. ')[0].rstrip('.')} | {remedy}",
                )
        yield from later_fields(below, f"{path}.{name}")


LATER = {
    path: remedy
    for kind in WRITTEN_BY_PEOPLE
    for path, remedy in later_fields(resource_kinds()[kind].schema.properties["spec"])
}


def usable_fields(schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    """Fields of which a document may say something, as path and name."""
    for name, below in schema.properties.items():
        if f"{path}.{name}" in LATER and not below.has_default:
            continue
        usable = list(usable_fields(below, f"{path}.{name}"))
        if usable or not below.properties:
            yield f"{path}.{name}", name
        yield from usable
    if schema.items is not None:
        yield from usable_fields(schema.items, f"{path}[]")


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.findall(r"name: (\S+)", block)[0])
def test_yaml_block_of_the_page_is_accepted(block: str, tmp_path: Path) -> None:
    file = tmp_path / "block.yaml"
    file.write_text(block, "utf-8")
    checked = check_files([file])
    assert checked.problems == ()
    assert checked.documents == 1
    if "Cluster" not in block and "Auditor" not in block and "namespaceSelector" not in block:
        loaded = load_file(file)
        assert loaded.policies or loaded.tenants


@pytest.mark.parametrize("kind", WRITTEN_BY_PEOPLE)
def test_page_has_an_example_of_every_field(kind: str) -> None:
    # A policy of the platform has the fields of a tenant's policy, explained there.
    kinds = {kind, "ProvenancePolicy"} if kind == "ClusterProvenancePolicy" else {kind}
    examples = [block for block in BLOCKS if any(f"kind: {one}\n" in block for one in kinds)]
    selector = r"\.(podSelector|namespaceSelector|nodeSelector)\."
    for path, name in usable_fields(resource_kinds()[kind].schema.properties["spec"], "spec"):
        of = BLOCKS if re.search(selector, path) else examples
        assert any(re.search(rf"\b{name}:", block) for block in of), path


def test_page_lists_what_this_version_refuses() -> None:
    section = PAGE.partition("## Not in this version")[2]
    assert dict(re.findall(r"^\| `(\S+)` \| (.* \| .*) \|$", section, re.MULTILINE)) == LATER


def test_tables_have_the_defaults_of_the_definitions() -> None:
    def written(value: Any) -> str:
        if isinstance(value, list):
            return f"[{', '.join(value)}]"
        return str(value).lower() if isinstance(value, bool) else str(value)

    for heading, kind, path in (
        ("## spec.filters", "ProvenancePolicy", "filters"),
        ("## spec.compression", "ProvenancePolicy", "compression"),
        ("## Policies of the platform", "ClusterProvenancePolicy", ""),
        ("## Tenants", "ProvenanceTenant", ""),
        ("## Auditors", "ProvenanceAuditor", ""),
    ):
        section = PAGE.partition(f"{heading}\n")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| `(\S+)` \| (.*?) \|", section, re.MULTILINE)
        assert rows, heading
        for field, said in rows:
            spec = resource_kinds()[kind].schema.properties["spec"]
            schema, parent = spec, spec
            for name in filter(None, [*path.split("."), *field.removeprefix("spec.").split(".")]):
                schema, parent = schema.properties[name], schema
            if said.startswith("`"):
                assert schema.has_default, field
                assert said == f"`{written(schema.default)}`", field
            elif said == "required":
                assert name in parent.required, field


def test_page_lists_every_name() -> None:
    for name in (*Relation, *VertexType):
        assert f"`{name.camflow}`" in PAGE


def test_page_shows_the_messages_as_they_are(tmp_path: Path) -> None:
    (shown,) = re.findall(r"^```text\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    file = tmp_path / "shop.yaml"
    file.write_text(
        "apiVersion: headwater.dev/v1alpha1\n"
        "kind: ProvenancePolicy\n"
        "metadata:\n"
        "  name: all\n"
        "  namespace: shop\n"
        "spec:\n"
        "  podSelector: {}\n"
        "  filters:\n"
        "    relations:\n"
        "      - open\n"
        "      - write\n"
        "      - raed\n"
        "\n"
        '  arguments: "true"\n'
    )
    with pytest.raises(PolicyErrors) as caught:
        load_file(file)
    assert str(caught.value).replace(f"{tmp_path}", "policies") == shown.rstrip()


def test_examples_give_two_tenants_with_one_policy_each() -> None:
    loaded = load_directory(EXAMPLES)
    assert [tenant.name for tenant in loaded.tenants] == ["acme", "globex"]
    assert loaded.tenant_of("shop").name == "acme"
    assert loaded.tenant_of("bank").name == "globex"
    (shop,) = loaded.select("shop", {})
    assert not compile_policy(shop).suspend
    (bank,) = loaded.select("bank", {"app": "ledger"})
    assert not compile_policy(bank).arguments
    assert loaded.select("bank", {"app": "teller"}) == []


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.name)
def test_example_stands_alone(file: Path) -> None:
    assert load_file(file).policies
