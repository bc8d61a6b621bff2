# SPDX-License-Identifier: Apache-2.0
"""Equal meaning, equal hash; different meaning, different hash; a combination records the union."""

import dataclasses
import hashlib
import json

from headwater_prov import policy
from headwater_prov.policy import (
    NOTHING,
    CompiledPolicy,
    Compression,
    Filters,
    Operator,
    PodSelector,
    Policy,
    ProcessRules,
    Requirement,
    combine,
    compile_policy,
    default_policy,
)
from headwater_prov.policy.compiled import PROCESS_RULES_MAX
from headwater_prov.redaction import Redaction, RedactionRule
from headwater_prov.vocabulary import VERSION_STEPS, ProvClass, Relation, VertexType
from hypothesis import given
from hypothesis import strategies as st

Flow = tuple[Relation, VertexType, VertexType]

_T = VertexType
WITHOUT_VERSIONS = frozenset(
    {_T.USER, _T.GROUP, _T.SB, _T.STRING, _T.ADDRESS, _T.PATH, _T.PACKET_CONTENT, _T.ARGV, _T.ENVP}
)
"""Types that never receive information, or never occur: no version edge, nothing to disclose of."""


def possible_flows() -> frozenset[Flow]:
    """Every flow that a node can record, written down apart from the code under test."""
    found = set()
    for relation in Relation:
        for sender in relation.senders:
            for receiver in relation.receivers:
                if relation in VERSION_STEPS and sender is not receiver:
                    continue
                if (
                    relation in (Relation.VERSION_ENTITY, Relation.VERSION_ACTIVITY)
                    or relation.camflow.endswith("_disc")
                ) and WITHOUT_VERSIONS & {sender, receiver}:
                    continue
                found.add((relation, sender, receiver))
    return frozenset(found)


FLOWS = possible_flows()

# Few names, those that interact most, so that equal meanings come up often.
relations = st.frozensets(
    st.sampled_from(
        [Relation.ARG, Relation.ENV, Relation.NAMED, Relation.READ, Relation.SEARCH]
        + [Relation.SETATTR, Relation.SETATTR_INODE, Relation.LOG]
        + [r for r in Relation if r.prov_class is ProvClass.INFLUENCED]
    )
)
nodes = st.frozensets(
    st.sampled_from(
        [_T.ARGV, _T.ENVP, _T.PATH, _T.DIRECTORY, _T.IATTR, _T.MACHINE, _T.STRING, _T.USER, _T.TASK]
    )
)
any_nodes = st.frozensets(st.sampled_from(list(VertexType)))
any_relations = st.frozensets(st.sampled_from(list(Relation)))
selectors = st.sampled_from(
    [
        PodSelector(),
        PodSelector((Requirement("app", Operator.IN, frozenset({"a"})),)),
        PodSelector(
            (
                Requirement("app", Operator.EXISTS),
                Requirement("app", Operator.IN, frozenset({"a"})),
            )
        ),
    ]
)
compressions = st.builds(Compression, st.booleans(), st.booleans(), st.booleans())
every_process = ProcessRules(False, frozenset(), frozenset())
processes = st.sampled_from(
    [
        every_process,
        every_process,
        ProcessRules(True, frozenset({"/bin/a"}), frozenset()),
        ProcessRules(True, frozenset({"/bin/a", "/**"}), frozenset({"/bin/b"})),
        ProcessRules(False, frozenset(), frozenset({"/bin/b"})),
    ]
)
redactions = st.sampled_from(
    [
        Redaction(),
        Redaction(),
        Redaction(builtin=False),
        Redaction(rules=(RedactionRule("a", "A*"),)),
        Redaction(rules=(RedactionRule("a", "", "x"), RedactionRule("b", "", '"\\\\'))),
    ]
)
policies = st.builds(
    lambda selector, filters, compression, arguments, texts, limit, suspend: dataclasses.replace(
        default_policy(),
        environment=texts[0],
        program_text_bytes=texts[1],
        redaction=texts[2],
        selector=selector,
        filters=filters,
        compression=compression,
        arguments=arguments,
        records_per_second=limit,
        suspend=suspend,
        processes=texts[3],
    ),
    selectors,
    st.builds(Filters, st.one_of(nodes, any_nodes), st.one_of(relations, any_relations)),
    compressions,
    st.booleans(),
    st.tuples(st.booleans(), st.sampled_from([4096, 4096, 100]), redactions, processes),
    st.sampled_from([None, None, 1, 5000]),
    st.booleans(),
)
compiled_policies = policies.map(compile_policy)


def recorded(one: Policy) -> frozenset[Flow]:
    """The flows that a policy records, by what its fields say."""
    if one.suspend:
        return frozenset()
    off = one.filters.relations
    off |= set() if one.arguments else {Relation.ARG}
    off |= set() if one.environment else {Relation.ENV}
    return frozenset(
        (relation, sender, receiver)
        for relation, sender, receiver in FLOWS
        if relation not in off and not {sender, receiver} & one.filters.nodes
    )


def left_by(compiled: CompiledPolicy) -> frozenset[Flow]:
    """The flows that a node records by the compiled masks."""
    return frozenset(
        (relation, sender, receiver)
        for relation, sender, receiver in FLOWS
        if relation not in compiled.relations_off and not {sender, receiver} & compiled.vertices_off
    )


def meaning(one: Policy) -> object:
    """What a policy does, in a form that can be compared; its pods by trial."""
    flows = recorded(one)
    if not flows:
        return None
    trials: tuple[dict[str, str], ...] = (
        {},
        {"app": ""},
        {"app": "a"},
        {"app": "b"},
        {"tier": "a"},
    )
    limit = one.records_per_second
    of_programs = {Relation.ARG, Relation.ENV} & {relation for relation, _, _ in flows}
    texts = (one.program_text_bytes, one.redaction) if of_programs else None
    pods = [one.selector.matches(labels) for labels in trials]
    return flows, one.compression, texts, limit, one.processes, pods


@given(policies, policies)
def test_equal_hash_is_equal_meaning(one: Policy, other: Policy) -> None:
    same = meaning(one) == meaning(other)
    assert (compile_policy(one).hash == compile_policy(other).hash) is same


@given(policies, st.data())
def test_filters_that_follow_from_the_others_change_nothing(
    one: Policy, data: st.DataObject
) -> None:
    compiled = compile_policy(one)
    if compiled.suspend:
        return
    more = Filters(
        one.filters.nodes
        | data.draw(st.frozensets(st.sampled_from(sorted(compiled.vertices_off)))),
        one.filters.relations
        | data.draw(
            st.frozensets(st.sampled_from(sorted(compiled.relations_off) or [Relation.ENV]))
        )
        & compiled.relations_off,
    )
    assert compile_policy(dataclasses.replace(one, filters=more)) == compiled


@given(policies)
def test_masks_leave_exactly_what_the_fields_say(one: Policy) -> None:
    compiled = compile_policy(one)
    assert left_by(compiled) == recorded(one)
    assert compiled.suspend is not bool(recorded(one))
    assert compiled.arguments is (Relation.ARG not in compiled.relations_off)
    assert compiled.environment is (Relation.ENV not in compiled.relations_off)


@given(policies)
def test_canonical_form_is_json_without_floats_and_its_hash_is_the_hash(one: Policy) -> None:
    compiled = compile_policy(one)
    content = json.loads(compiled.canonical, parse_float=lambda text: 1 / 0)
    again = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert again == compiled.canonical
    assert hashlib.sha256(compiled.canonical.encode()).hexdigest() == compiled.hash
    assert compiled.members == {compiled.hash}


def test_name_namespace_and_place_are_no_part_of_the_meaning() -> None:
    one = default_policy("shop", "one")
    other = default_policy("bank", "other")
    assert compile_policy(one) == compile_policy(other)


@given(st.lists(policies, max_size=3))
def test_a_pod_of_several_policies_has_the_rules_of_all(some: list[Policy]) -> None:
    effective = [one for one in map(compile_policy, some) if not one.suspend]
    together = combine(effective)
    wanted = {rule for one in effective for rule in one.redaction.rules}
    assert set(together.redaction.rules) == wanted
    assert together.environment is any(one.environment for one in effective)
    if effective:
        assert together.redaction.builtin is any(one.redaction.builtin for one in effective)
        assert together.program_text_bytes == max(one.program_text_bytes for one in effective)


def test_an_older_agent_applies_what_asks_for_nothing_new() -> None:
    text = compile_policy(default_policy()).canonical
    assert (
        not {"environment", "opaque", "programTextBytes", "redaction", "track"}
        & json.loads(text).keys()
    )


def test_arguments_can_be_switched_off_in_three_ways() -> None:
    plain = default_policy()
    by_switch = dataclasses.replace(plain, arguments=False)
    by_node = dataclasses.replace(
        plain, filters=Filters(plain.filters.nodes | {_T.ARGV}, frozenset())
    )
    by_relation = dataclasses.replace(
        plain, filters=Filters(plain.filters.nodes, frozenset({Relation.ARG}))
    )
    hashes = {compile_policy(one).hash for one in (by_switch, by_node, by_relation)}
    assert len(hashes) == 1
    assert compile_policy(plain).hash not in hashes


def test_default_policy_filters_what_camflow_does() -> None:
    compiled = policy.compile(default_policy())
    never_made = {_T.USER, _T.GROUP, _T.SB}
    assert compiled.vertices_off - never_made == {
        _T.DIRECTORY,
        _T.INODE_UNKNOWN,
        _T.CHAR,
        _T.ENVP,
    }
    assert compiled.relations_off == {Relation.SEARCH, Relation.ENV}
    assert compiled.compress_nodes and compiled.compress_edges and not compiled.duplicate
    assert compiled.arguments and not compiled.suspend


def test_hash_of_the_default_policy_stays_the_same_between_releases() -> None:
    # A new hash begins a new epoch on every node: change it on purpose only.
    assert compile_policy(default_policy()).hash == (
        "73cc6d657087b04fe6b908c1db67728155ce81d1859eb5d7fb8e7f9e8506bd0e"
    )


def test_no_limit_leaves_the_text_that_agents_before_limits_read() -> None:
    assert "rateLimit" not in json.loads(compile_policy(default_policy()).canonical)
    limited = dataclasses.replace(default_policy(), records_per_second=7)
    assert json.loads(compile_policy(limited).canonical)["rateLimit"] == {"recordsPerSecond": 7}


def test_more_policies_with_rules_than_the_kernel_tells_apart_record_every_process() -> None:
    one, *others = (
        compile_policy(
            dataclasses.replace(
                default_policy(),
                processes=ProcessRules(True, frozenset({f"/bin/{number}"}), frozenset()),
            )
        )
        for number in range(PROCESS_RULES_MAX + 1)
    )
    assert len(combine(others).processes) == PROCESS_RULES_MAX
    assert combine([one, *others]).processes == ()


def test_selector_without_any_pod_records_nothing() -> None:
    impossible = PodSelector(
        (Requirement("app", Operator.EXISTS), Requirement("app", Operator.DOES_NOT_EXIST))
    )
    one = dataclasses.replace(default_policy(), selector=impossible)
    assert compile_policy(one) is NOTHING


@given(st.lists(compiled_policies, max_size=4), st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter_to_a_combination(
    members: list[CompiledPolicy], random: object
) -> None:
    shuffled = members + members[:1]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert combine(shuffled) == combine(members)


@given(st.lists(compiled_policies, max_size=4), st.integers(0, 4))
def test_combination_of_combinations_is_one_combination(
    members: list[CompiledPolicy], cut: int
) -> None:
    assert combine([combine(members[:cut]), combine(members[cut:])]) == combine(members)


@given(st.lists(compiled_policies, max_size=4))
def test_combination_records_whatever_any_member_records(members: list[CompiledPolicy]) -> None:
    combined = combine(members)
    for member in members:
        assert left_by(member) <= left_by(combined)
    effective = [member for member in members if not member.suspend]
    assert combined.suspend is not bool(effective)
    assert combined.compress_nodes is all(member.compress_nodes for member in effective)
    assert combined.compress_edges is all(member.compress_edges for member in effective)
    assert combined.duplicate is any(member.duplicate for member in effective)
    assert combined.arguments is (Relation.ARG not in combined.relations_off)
    if all(member.processes for member in effective):
        wanted = {rules for member in effective for rules in member.processes}
        assert set(combined.processes) == wanted and len(combined.processes) == len(wanted)
    else:
        assert combined.processes == (), "one of them records every process"
    limits = [member.records_per_second for member in effective]
    if None in limits or not limits:
        assert combined.records_per_second is None
    else:
        assert combined.records_per_second == max(limit for limit in limits if limit)


@given(st.lists(compiled_policies, max_size=4))
def test_combination_filters_only_what_all_members_filter(members: list[CompiledPolicy]) -> None:
    combined = combine(members)
    effective = [member for member in members if not member.suspend]
    for relation in combined.relations_off:
        assert all(relation in member.relations_off for member in effective)
    for vertex in combined.vertices_off:
        assert all(vertex in member.vertices_off for member in effective)


@given(st.lists(compiled_policies, max_size=4))
def test_hash_of_a_combination_is_that_of_the_sorted_hashes(members: list[CompiledPolicy]) -> None:
    combined = combine(members)
    hashes = sorted({member.hash for member in members if not member.suspend})
    match hashes:
        case []:
            assert combined is NOTHING
        case [only]:
            assert combined.hash == only
        case _:
            canonical = json.dumps(hashes, separators=(",", ":"))
            assert combined.canonical == canonical
            assert combined.hash == hashlib.sha256(canonical.encode()).hexdigest()
            assert combined.members == set(hashes)


def test_suspended_policies_contribute_nothing() -> None:
    active = compile_policy(default_policy())
    suspended = compile_policy(dataclasses.replace(default_policy(), suspend=True))
    assert suspended is NOTHING
    assert combine([suspended, active]) is active
    assert combine([suspended]) is NOTHING
    assert combine([]) is NOTHING
