# SPDX-License-Identifier: Apache-2.0
"""docs/coverage.md and the table of docs/hooks.md, from the programs, the tests and the words here.

Why: a list of what is captured that people keep by hand is wrong after a month. Hooks come from the
C text, the tests that cover a relation from the tests' own expected graphs, what mode `tracepoint`
loses from the agent. Only why something is not recorded is written here. Every type of vertex and
every relation has a row; one that would be empty is an error. `make lint` runs it with --check.
"""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent))

from headwater_agent.attach_points import CaptureMode
from headwater_agent.precision import imprecise, unseen
from headwater_agent.system_calls import CALLS
from headwater_prov.vocabulary import ProvClass, Relation, VertexType
from hooks import C_TEXT, Hook, hooks, mentioned

ROOT: Final = Path(__file__).resolve().parent.parent
COVERAGE: Final = ROOT / "docs" / "coverage.md"
HOOKS: Final = ROOT / "docs" / "hooks.md"
TRACEPOINT_FILE: Final = "system_call.bpf.c"
TESTS: Final = (
    *sorted((ROOT / "tests" / "kernel").glob("test_relations_*.py")),
    *(path for path in sorted((ROOT / "tests" / "kernel").glob("test_*.py"))
      if not path.name.startswith("test_relations_")),
    *sorted((ROOT / "tests" / "unit" / "agent").glob("test_*.py")),
)  # fmt: skip
"""Where a relation's test is looked for, the best place first."""

_LOADED: Final = "lsm `kernel_read_file`, `kernel_load_data`"
_EVERY_FLOW: Final = "with every flow of the task that needs it"
BESIDES: Final[Mapping[Relation, str]] = {
    Relation.VERSION_ENTITY: "the step to a new version, before the edge that made it",
    Relation.VERSION_ACTIVITY: "the step to a new version, before the edge that made it",
    Relation.MEMORY_READ: _EVERY_FLOW,
    Relation.MEMORY_WRITE: _EVERY_FLOW,
    Relation.SH_READ: "with a flow of a process that has a shared mapping",
    Relation.SH_WRITE: "with a flow of a process that has a shared mapping",
    Relation.NAMED: "an object's first flow in an epoch, link, rename, exec",
    Relation.RAN_ON: "the agent, when a task first shows in an epoch",
    Relation.LOAD_FIRMWARE: _LOADED,
    Relation.LOAD_KEXEC_IMAGE: _LOADED,
    Relation.LOAD_KEXEC_INITRAMFS: _LOADED,
    Relation.LOAD_POLICY: _LOADED,
}
"""Where a relation comes from that no hook's own text names."""

_BY_HAND: Final = "tests/kernel/test_relations_loading.py::"
RELATION_TESTS: Final[Mapping[Relation, str]] = {
    Relation.LOAD_FIRMWARE: f"{_BY_HAND}test_firmware",
    Relation.LOAD_KEXEC_IMAGE: f"{_BY_HAND}test_kexec_from_files",
    Relation.LOAD_KEXEC_INITRAMFS: f"{_BY_HAND}test_kexec_from_files",
    Relation.LOAD_POLICY: f"{_BY_HAND}test_policy",
    Relation.LOAD_MODULE: f"{_BY_HAND}test_module_from_a_file",
    Relation.LOAD_FILE: f"{_BY_HAND}test_module_from_a_file",
    Relation.RAN_ON: "tests/unit/agent/test_pipeline.py",
    Relation.ENV: "tests/kernel/test_relations_process.py"
    "::test_environment_is_recorded_where_a_policy_wants_it",
}
"""A test that no expected graph leads to."""

VERTEX_TESTS: Final[Mapping[VertexType, str]] = {
    VertexType.TASK: "tests/kernel/test_relations_process.py::test_fork_and_exit",
    VertexType.MACHINE: f"{_BY_HAND}test_module_from_a_file",
    VertexType.INODE_UNKNOWN: "tests/unit/agent/test_pipeline.py",
    VertexType.LINK: "tests/kernel/test_relations_inode.py::test_read_link",
    VertexType.FILE: "tests/kernel/test_relations_file.py::test_open",
    VertexType.DIRECTORY: "tests/kernel/test_relations_file.py::test_reading_a_directory",
    VertexType.CHAR: "tests/kernel/test_relations_file.py::test_ioctl_flows_both_ways",
    VertexType.BLOCK: "tests/kernel/test_relations_file.py::test_a_block_device_is_one",
    VertexType.PIPE: "tests/kernel/test_relations_file.py::test_pipe",
    VertexType.SOCKET: "tests/kernel/test_relations_file.py::test_descriptor_over_a_socket",
    VertexType.MSG: "tests/kernel/test_relations_ipc.py",
    VertexType.SHM: "tests/kernel/test_relations_ipc.py",
    VertexType.IATTR: "tests/kernel/test_relations_inode.py"
    "::test_attributes_are_made_by_the_task_and_taken_in_by_the_inode",
    VertexType.PROCESS_MEMORY: "tests/kernel/test_relations_process.py"
    "::test_thread_shares_the_memory",
    VertexType.ADDRESS: "tests/kernel/test_relations_socket.py",
    VertexType.PATH: "tests/kernel/test_names.py::test_paths_are_whole_and_exact",
    VertexType.XATTR: "tests/kernel/test_relations_attributes.py",
    VertexType.ARGV: "tests/kernel/test_relations_process.py"
    "::test_arguments_are_exact_and_no_environment_is_among_them",
    VertexType.ENVP: "tests/kernel/test_relations_process.py"
    "::test_environment_is_recorded_where_a_policy_wants_it",
}
"""A test of each type that is recorded."""

_DISCLOSED: Final = (
    "programs that tell their own provenance: Headwater has no interface for them",
    "what the kernel sees of the program",
)
_PACKETS: Final = (
    "packets are not objects: one record each would cost more than the connection's content",
    "`send_msg`, `receive_msg` of the socket, with both `addressed` ends and the connection's "
    "`hw:flow`",
)
_NEVER_ASKED: Final = "no call of the supported kernels asks for it"
UNRECORDED_RELATIONS: Final[Mapping[Relation, tuple[str, str]]] = {
    Relation.SEND_PACKET: _PACKETS,
    Relation.RECEIVE_PACKET: _PACKETS,
    Relation.PACKET_CONTENT: _PACKETS,
    Relation.FILE_SIGIO: (
        "the task that is signalled is not the one that acts, and learns no content",
        "the read that follows the signal",
    ),
    Relation.LOG: ("CamFlow's own text records", "`write` into the log's file or socket"),
    Relation.SEARCH: (
        "the kernel asks for a directory's search by inode, never by file",
        "`perm_check` with MAY_EXEC in `cf:flags`",
    ),
    Relation.LOAD_CERTIFICATE: (
        "IMA's certificates are read at boot, before anything is in scope",
        "`load_file`, `load_policy`",
    ),
    Relation.LOAD_UNKNOWN: (f"recorded if it comes, but {_NEVER_ASKED}", "`load_file`"),
    Relation.LOAD_UNDEFINED: (
        f"recorded if it comes, for kinds that a later kernel adds; {_NEVER_ASKED}",
        "`load_file`",
    ),
    Relation.DERIVED_DISC: _DISCLOSED,
    Relation.GENERATED_DISC: _DISCLOSED,
    Relation.USED_DISC: _DISCLOSED,
    Relation.INFORMED_DISC: _DISCLOSED,
    Relation.INFLUENCED_DISC: _DISCLOSED,
    Relation.ASSOCIATED_DISC: _DISCLOSED,
}
"""Why, and the nearest thing that is recorded instead."""

UNRECORDED_VERTICES: Final[Mapping[VertexType, tuple[str, str]]] = {
    VertexType.DISC_ACTIVITY: _DISCLOSED,
    VertexType.DISC_AGENT: _DISCLOSED,
    VertexType.DISC_ENTITY: _DISCLOSED,
    VertexType.USER: ("CamFlow names the type and makes none", "`cf:uid` of the memory"),
    VertexType.GROUP: ("CamFlow names the type and makes none", "`cf:gid` of the memory"),
    VertexType.SB: ("a file system is no end of any relation", "device and uuid of its inodes"),
    VertexType.PACKET: _PACKETS,
    VertexType.PACKET_CONTENT: _PACKETS,
    VertexType.STRING: ("CamFlow's own text records (log)", "`write` into the log's file"),
}
"""Why, and the nearest thing that is recorded instead."""


INTRODUCTION: Final = """\
Every type of vertex and every relation of CamFlow's model, where it is seen, and the test that
shows it; or why it is not recorded, and the nearest thing that is. *lsm* stands for modes `lsm` and
`fentry`, which have the same hooks. What mode `tracepoint` loses is here, in `headwater doctor`, in
a node's status (`unseenRelations`) and in the machine's record of each stream (`hw:unseen`,
`hw:imprecise`); more of it in [capture modes](capture-modes.md). In which file a hook is:
[hooks](hooks.md)."""


@dataclass(slots=True)
class Evidence:
    """What the repository says of each relation."""

    programs: dict[Relation, list[Hook]] = field(default_factory=dict)
    """Of modes lsm and fentry."""
    tracepoint: set[Relation] = field(default_factory=set)
    tests: dict[Relation, str] = field(default_factory=dict)


def evidence() -> Evidence:
    """Read the C text, the table of system calls and the tests."""
    found = Evidence()
    for hook in hooks():
        if hook.file == TRACEPOINT_FILE:
            found.tracepoint |= hook.relations
            continue
        for relation in hook.relations:
            found.programs.setdefault(relation, []).append(hook)
    found.tracepoint |= mentioned(C_TEXT / TRACEPOINT_FILE)
    for steps in CALLS.values():
        for step in steps:
            found.tracepoint |= {each for each in (step.relation, step.socket) if each}
    # These come with flows in every mode.
    found.tracepoint |= BESIDES.keys() - {
        relation for relation, how in BESIDES.items() if how == _LOADED
    }
    for path in TESTS:
        for relation, test in _covered(path):
            found.tests.setdefault(relation, test)
    return found


def _covered(path: Path) -> Iterator[tuple[Relation, str]]:
    """What a file's tests expect: edges of expected graphs first, then relations by name."""
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    ]
    name = path.relative_to(ROOT).as_posix()
    by_name: list[tuple[Relation, str]] = []
    for function in functions:
        test = f"{name}::{function.name}"
        for node in ast.walk(function):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from ((relation, test) for relation in _edges(node.value))
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "Relation"
                and node.attr in Relation.__members__
            ):
                by_name.append((Relation[node.attr], test))
    yield from by_name


def _edges(text: str) -> Iterator[Relation]:
    for relation in re.findall(r"^\s*(\w+) \S+ -> \S", text, re.MULTILINE):
        if relation.upper() in Relation.__members__:
            yield Relation[relation.upper()]


def problems(found: Evidence) -> Iterator[str]:
    """Yield what is said and not so, and rows that would be empty."""
    for test in (*RELATION_TESTS.values(), *VERTEX_TESTS.values()):
        path, _, name = test.partition("::")
        if not (ROOT / path).is_file() or (
            name and f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")
        ):
            yield f"setup/coverage.py: there is no test {test}"
    for relation in Relation:
        recorded = relation in found.programs or relation in BESIDES
        if relation in UNRECORDED_RELATIONS:
            if relation in found.tests:
                yield f"setup/coverage.py: {relation.camflow} is recorded: {found.tests[relation]}"
        elif not recorded:
            yield f"setup/coverage.py: no hook names {relation.camflow}: say why in UNRECORDED"
        elif relation not in found.tests and relation not in RELATION_TESTS:
            yield f"setup/coverage.py: no test expects {relation.camflow}"
    for vertex in VertexType:
        if (vertex in UNRECORDED_VERTICES) == (vertex in VERTEX_TESTS):
            yield f"setup/coverage.py: {vertex.camflow} needs a test or a reason, not both"
    seen = {r for r in Relation if r in found.programs or r in BESIDES}
    for relation in Relation:
        lost = relation in seen and relation not in found.tracepoint
        if lost != (relation in unseen(CaptureMode.TRACEPOINT)):
            yield (
                f"headwater_agent/precision.py: mode tracepoint "
                f"{'does not see' if lost else 'sees'} {relation.camflow}"
            )


def coverage_text(found: Evidence) -> str:
    """docs/coverage.md."""
    losses = {
        relation: each.loss
        for each in imprecise(CaptureMode.TRACEPOINT)
        for relation in each.relations
    }
    lines = [
        "<!-- SPDX-License-Identifier: Apache-2.0 -->",
        "<!-- Written by setup/coverage.py (make documents); make lint compares. -->",
        "# What is captured",
        "",
        *INTRODUCTION.splitlines(),
        "",
        "## Vertices",
        "",
        "| type | PROV | test, or why not |",
        "|---|---|---|",
    ]
    for vertex in VertexType:
        if vertex in UNRECORDED_VERTICES:
            last = _reason(UNRECORDED_VERTICES[vertex])
        else:
            last = _link(VERTEX_TESTS[vertex])
        lines.append(f"| `{vertex.camflow}` | {vertex.prov.value} | {last} |")
    lines += [
        "",
        "## Relations",
        "",
    ]
    for prov_class in ProvClass:
        lines += [
            f"### {prov_class.section}",
            "",
            "| relation | recorded by | modes | test, or why not |",
            "|---|---|---|---|",
        ]
        for relation in Relation:
            if relation.prov_class is not prov_class:
                continue
            if relation in UNRECORDED_RELATIONS:
                last = _reason(UNRECORDED_RELATIONS[relation])
                lines.append(f"| `{relation.camflow}` | - | - | {last} |")
                continue
            source = BESIDES.get(relation) or _programs(found.programs[relation])
            modes = "lsm"
            if relation in found.tracepoint:
                loss = losses.get(relation)
                modes += f", tracepoint{f' ({loss})' if loss else ''}"
            last = _link(RELATION_TESTS.get(relation) or found.tests[relation])
            lines.append(f"| `{relation.camflow}` | {source} | {modes} | {last} |")
        lines.append("")
    return "\n".join(lines)


def _programs(found: list[Hook]) -> str:
    return ", ".join(dict.fromkeys(f"{hook.kind} `{hook.name}`" for hook in found))


def _reason(words: tuple[str, str]) -> str:
    why, instead = words
    return f"not recorded: {why}; instead: {instead}"


def _link(test: str) -> str:
    path, _, name = test.partition("::")
    return f"[`{name or Path(path).stem}`](../{path})"


def hook_rows() -> list[str]:
    """The rows of docs/hooks.md."""
    return [
        f"| {hook.kind} `{hook.name}` "
        f"| {', '.join(sorted(relation.camflow for relation in hook.relations)) or '-'} "
        f"| `{hook.file}` |"
        for hook in hooks()
    ]


def hooks_text(text: str) -> str:
    """docs/hooks.md with its table as the C text has it."""
    lines = text.splitlines()
    rows = [number for number, line in enumerate(lines) if re.match(r"\| \w+ `", line)]
    return "\n".join([*lines[: rows[0]], *hook_rows(), *lines[rows[-1] + 1 :], ""])


def main() -> int:
    """Write the documents, or compare them with what would be written."""
    found = evidence()
    wrong = list(problems(found))
    if not wrong:
        wanted = {
            COVERAGE: coverage_text(found),
            HOOKS: hooks_text(HOOKS.read_text(encoding="utf-8")),
        }
        for path, text in wanted.items():
            if "--check" not in sys.argv[1:]:
                path.write_text(text, encoding="utf-8")
            elif not path.is_file() or path.read_text(encoding="utf-8") != text:
                wrong.append(f"{path.relative_to(ROOT)} is not what the code says: make documents")
    for problem in wrong:
        print(problem, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
