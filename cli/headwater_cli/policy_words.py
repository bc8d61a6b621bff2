# SPDX-License-Identifier: Apache-2.0
"""What a policy means, in words: whose pods, what is recorded of them, what is not.

Why: a filter of one vertex type takes every relation with it that touches nothing else, several
policies of one pod are taken together, and none of that can be read off the YAML. What is said here
is what the compiled policy says, which is what nodes are told. Pure; called by
`headwater policy explain`.
"""

from collections.abc import Iterable, Iterator

from headwater_prov.policy import CompiledPolicy, Operator, Policy, ProcessRules, Requirement
from headwater_prov.redaction import Redaction
from headwater_prov.vocabulary import Relation, VertexType


def selected(policy: Policy) -> str:
    """Which pods a policy selects."""
    wanted = [_requirement(each) for each in policy.selector.requirements]
    pods = f"with {' and '.join(wanted)}" if wanted else "all of them"
    return f"pods of namespace {policy.namespace}, {pods}"


def recorded(compiled: CompiledPolicy) -> Iterator[str]:
    """What is recorded of a pod, a line for each aspect."""
    if compiled.suspend:
        yield "records     nothing: suspended, all filtered, or no pod can match"
        return
    left_out = [relation for relation in Relation if relation in compiled.relations_off]
    types = [kind for kind in VertexType if kind in compiled.vertices_off]
    yield f"records     {len(Relation) - len(left_out)} of {len(Relation)} relations"
    yield f"leaves out  relations: {_names(left_out) or 'none'}"
    yield f"            with a vertex of: {_names(types) or 'no type'}"
    repeats = "once for two versions" if compiled.compress_edges else "every time"
    versions = "only after it has sent" if compiled.compress_nodes else "with each flow into it"
    yield f"repetition  a flow is recorded {repeats}; an object has a new version {versions}"
    if compiled.duplicate:
        yield "            every document declares all that it mentions"
    if compiled.records_per_second is not None:
        yield f"at most     {compiled.records_per_second} records a second on each node"
    yield from _processes(compiled.processes)
    yield f"arguments   {'recorded' if compiled.arguments else 'not recorded'}"
    yield f"environment {'recorded' if compiled.environment else 'not recorded'}"
    if compiled.arguments or compiled.environment:
        yield f"            of either up to {compiled.program_text_bytes} bytes of a program"
        yield from _taken_out(compiled.redaction)


def _taken_out(redaction: Redaction) -> Iterator[str]:
    """What of a program's texts does not leave the node."""
    rules = redaction.effective
    if not rules:
        yield "takes out   nothing"
        return
    names = ", ".join(dict.fromkeys(rule.variable for rule in rules if rule.variable))
    if names:
        yield f"takes out   values of names like {names}"
    for index, rule in enumerate(rule for rule in rules if rule.pattern):
        head = "            " if names or index else "takes out   "
        yield f"{head}what {rule.pattern} finds ({rule.name})"


def _processes(rules: Iterable[ProcessRules]) -> Iterator[str]:
    each = []
    for one in rules:
        parts = []
        if one.is_selective:
            parts.append(f"only what executes {', '.join(sorted(one.track))}, and its children")
        if one.opaque:
            parts.append(f"not what executes {', '.join(sorted(one.opaque))}")
        each.append("; ".join(parts))
    for number, text in enumerate(each):
        yield f"{'processes   ' if not number else '         or '}{text}"


def _requirement(requirement: Requirement) -> str:
    values = ", ".join(sorted(requirement.values))
    match requirement.operator:
        case Operator.IN if len(requirement.values) == 1:
            return f"{requirement.key} = {values}"
        case Operator.IN:
            return f"{requirement.key} in ({values})"
        case Operator.NOT_IN:
            return f"{requirement.key} not in ({values})"
        case Operator.EXISTS:
            return f"a label {requirement.key}"
        case Operator.DOES_NOT_EXIST:
            return f"no label {requirement.key}"


def _names(members: Iterable[Relation | VertexType]) -> str:
    return ", ".join(member.camflow for member in members)
