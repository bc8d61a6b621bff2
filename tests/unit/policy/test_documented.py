# SPDX-License-Identifier: Apache-2.0
"""The page and the examples say what the program does: every YAML block in them is loaded."""

import re
from pathlib import Path

import pytest
from headwater_prov.policy import PolicyErrors, compile_policy, load_directory, load_file
from headwater_prov.policy.remedies import LATER_KINDS
from headwater_prov.policy.schema import Schema, resource_kinds
from headwater_prov.vocabulary import Relation, VertexType

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "policies.md").read_text("utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
EXAMPLES = ROOT / "examples" / "policies"


def field_names(schema: Schema) -> set[str]:
    names = set(schema.properties)
    for below in (*schema.properties.values(), schema.items):
        if below is not None:
            names |= field_names(below)
    return names


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.findall(r"name: (\S+)", block)[0])
def test_yaml_block_of_the_page_is_accepted(block: str, tmp_path: Path) -> None:
    file = tmp_path / "block.yaml"
    file.write_text(block, "utf-8")
    loaded = load_file(file)
    assert loaded.policies or loaded.tenants


def test_page_has_an_example_of_every_field() -> None:
    for kind in resource_kinds().values():
        for name in field_names(kind.schema.properties["spec"]):
            assert any(re.search(rf"\b{name}:", block) for block in BLOCKS), name


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


def test_page_names_what_is_not_available() -> None:
    section = PAGE.partition("## Not in this version")[2]
    for kind in LATER_KINDS:
        assert kind in section


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
