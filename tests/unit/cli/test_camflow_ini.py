# SPDX-License-Identifier: Apache-2.0
"""A CamFlow configuration becomes a policy, and nothing of it is lost without a word."""

from pathlib import Path

import pytest
from headwater_cli.camflow_ini import KEYS, Imported, NotCamflowError, import_configuration
from headwater_prov.policy import Policy, load_file
from headwater_prov.vocabulary import RELATIONS, VERTEX_TYPES, Relation, VertexType

WHOLE = """
[provenance]
enabled=true
all=true
node_filter=envp

[compression]
node=true
edge=true
duplicate=false
"""
"""Says nothing that a policy cannot."""


def policy_of(imported: Imported, directory: Path) -> Policy:
    file = directory / "policy.yaml"
    file.write_text(imported.policy(name="as-before", namespace="shop"))
    (policy,) = load_file(file).policies
    return policy


def noted(text: str) -> list[tuple[int, str]]:
    return [(note.line, note.setting) for note in import_configuration(text).notes]


def test_what_a_policy_can_say_is_said_without_a_note(tmp_path: Path) -> None:
    imported = import_configuration(WHOLE)
    assert imported.notes == []
    policy = policy_of(imported, tmp_path)
    assert (policy.namespace, policy.name) == ("shop", "as-before")
    assert policy.filters.nodes == {VertexType.ENVP}
    assert policy.filters.relations == frozenset()
    assert policy.compression.nodes and policy.compression.edges
    assert not policy.compression.duplicate and not policy.suspend


def test_filters_are_carried_over_each_once_with_todays_names(tmp_path: Path) -> None:
    text = WHOLE + (
        "[provenance]\nnode_filter=fifo\nnode_filter=pipe\n"
        "relation_filter=sh_read\nrelation_filter=env\nrelation_filter=sh_read\n"
    )
    imported = import_configuration(text)
    assert imported.notes == []
    policy = policy_of(imported, tmp_path)
    assert policy.filters.nodes == {VertexType.ENVP, VertexType.PIPE}
    assert policy.filters.relations == {Relation.SH_READ, Relation.ENV}


def test_last_of_two_switches_holds(tmp_path: Path) -> None:
    imported = import_configuration(WHOLE + "[provenance]\nenabled=false\n")
    assert policy_of(imported, tmp_path).suspend


def test_absent_switch_is_off_and_said(tmp_path: Path) -> None:
    imported = import_configuration("[provenance]\nenabled=true\n")
    policy = policy_of(imported, tmp_path)
    assert not policy.compression.nodes and not policy.compression.edges
    assert policy.filters.nodes == frozenset()
    assert {note.setting for note in imported.notes} == {
        "[provenance] all",
        "[provenance] all=false",
        "[compression] node",
        "[compression] edge",
        "[compression] duplicate",
        "environments of programs",
    }


def test_switch_is_on_by_nothing_but_true(tmp_path: Path) -> None:
    imported = import_configuration(WHOLE.replace("node=true", "node=TRUE"))
    assert not policy_of(imported, tmp_path).compression.nodes
    assert [note.reason for note in imported.notes] == [
        'taken for false, as CamFlow takes anything but "true"'
    ]


@pytest.mark.parametrize("key", sorted(KEYS), ids="-".join)
def test_every_key_of_camflow_is_carried_over_or_noted(key: tuple[str, str]) -> None:
    section, name = key
    value = {"node_filter": "file", "relation_filter": "read"}.get(name, "false")
    before = import_configuration(WHOLE)
    after = import_configuration(f"{WHOLE}[{section}]\n{name}={value}\n")
    is_carried_over = after.policy(name="p", namespace="n") != before.policy(
        name="p", namespace="n"
    )
    is_noted = len(after.notes) > len(before.notes)
    assert is_carried_over or is_noted or key == ("compression", "duplicate")
    assert all(note.reason for note in after.notes)


def test_environment_is_noted_unless_it_was_filtered() -> None:
    assert noted(WHOLE.replace("node_filter=envp", "")) == [(0, "environments of programs")]
    assert noted(WHOLE.replace("node_filter=envp", "relation_filter=env")) == []


def test_filter_of_an_unknown_name_is_noted_with_a_guess() -> None:
    imported = import_configuration(WHOLE + "[provenance]\nrelation_filter=raed\n")
    (note,) = imported.notes
    assert note.line == 12
    assert note.reason == 'not filtered, "raed" is not a relation; did you mean "read"?'


@pytest.mark.parametrize(
    ("key", "names"), [("node_filter", VERTEX_TYPES), ("relation_filter", RELATIONS)]
)
def test_filter_of_everything_is_a_suspended_policy(
    key: str, names: dict[str, object], tmp_path: Path
) -> None:
    filters = "".join(f"{key}={name}\n" for name in names)
    imported = import_configuration(f"{WHOLE}[provenance]\n{filters}")
    assert policy_of(imported, tmp_path).suspend
    assert "suspended instead" in imported.notes[0].reason


@pytest.mark.parametrize("minus", ["\u2212", "\u2013", "-"])
def test_network_sections_are_known_by_camflows_minus_sign_and_by_a_hyphen(minus: str) -> None:
    text = f"{WHOLE}[ipv4{minus}egress] ; comment\n;record=0.0.0.0/0:1\nrecord: 10.0.0.0/8:80 ; c\n"
    assert noted(text) == [(13, "[ipv4-egress] record=10.0.0.0/8:80")]


def test_unknown_key_is_noted_with_a_guess() -> None:
    imported = import_configuration(WHOLE + "[file]\nopague=/bin/sh\n[nowhere]\nkey=1\n")
    assert [note.reason for note in imported.notes] == [
        'no key of CamFlow, which ignores it too; did you mean "opaque"?',
        "no key of CamFlow, which ignores it too",
    ]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 0, "has no section of CamFlow"),
        ("; nothing\n\n", 0, "has no section of CamFlow"),
        ("[client]\nport=1\n", 0, "has no section of CamFlow"),
        ("[general]\noutput=mqtt\n[mqtt]\nqos=0\n", 0, "is camflowd's configuration"),
        ("enabled=true\n", 1, "is in no section"),
        ("[provenance\n", 1, "is no section"),
        ("[provenance]\nenabled\n", 2, "is no setting"),
        ("[provenance]\n=true\n", 2, "is no setting"),
        ("[provenance]\nenabled=true\n  all=true\n", 3, "is indented"),
    ],
)
def test_what_is_no_configuration_is_refused_with_line_and_remedy(
    text: str, line: int, message: str
) -> None:
    with pytest.raises(NotCamflowError, match=message) as caught:
        import_configuration(text)
    assert caught.value.line == line
    assert ";" in str(caught.value)
