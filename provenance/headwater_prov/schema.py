# SPDX-License-Identifier: Apache-2.0
"""JSON Schemas of the documents in the stream, made from the vocabulary.

Why: whoever writes an auditor in Go or TypeScript works from ``docs/record-format.md`` and these
schemas alone. They are generated, so they cannot name a relation that the vocabulary does not.

Who calls it: ``python -m headwater_prov.schema docs/schema`` writes the files; a test compares
them. Every document that they accept is valid by the W3C's schema of PROV-JSON too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from headwater_prov.checkpoint import CHECKPOINT_TYPE
from headwater_prov.vocabulary import (
    PREFIXES,
    GapReason,
    Prov,
    ProvClass,
    RecordClass,
    Relation,
    VertexType,
)

Schema = dict[str, Any]

_BASE_URL: Final = "https://headwater.dev/schema/v1/"
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

VERTEX_ATTRIBUTES: Final = {
    "cf:pid": "task: thread id in the initial pid namespace",
    "cf:tgid": "task, process_memory: process id in the initial pid namespace",
    "cf:vpid": "task: thread id in its own pid namespace",
    "cf:utsns": "task: inode number of the uts namespace",
    "cf:ipcns": "task: inode number of the ipc namespace",
    "cf:mntns": "task: inode number of the mount namespace",
    "cf:pidns": "task: inode number of the pid namespace",
    "cf:netns": "task: inode number of the network namespace",
    "cf:cgroupns": "task: inode number of the cgroup namespace",
    "cf:name": "task, process_memory: name of the command, at most 15 bytes; xattr: its name",
    "cf:uid": "process_memory, inodes, iattr, shm: user id in the initial user namespace",
    "cf:gid": "process_memory, inodes, iattr, shm: group id in the initial user namespace",
    "cf:mode": "inodes, iattr, shm: st_mode, hexadecimal",
    "cf:ino": "inodes: inode number",
    "cf:uuid": "inodes: UUID of the file system, if it has one",
    "cf:valid": "iattr: which attributes were set (ATTR_*), hexadecimal",
    "cf:size": "iattr: the new size in bytes; xattr: bytes of the value that is set, if known; "
    "msg, shm: bytes",
    "cf:pathname": "path: the whole path as the program saw it",
    "cf:value": "argv: one argument; envp: one variable, NAME=value",
    "cf:host": "address: IPv4 or IPv6 address",
    "cf:service": "address: port",
    "cf:path": "address: path of a Unix socket, or its abstract name",
    "hw:cgroup": "task, process_memory: id of the cgroup v2",
    "hw:device": "inodes: major:minor of the device",
    "hw:generation": "inodes: generation of the inode number",
    "hw:family": "socket, address: address family (AF_*)",
    "hw:socketType": "socket: SOCK_*",
    "hw:protocol": "socket: IPPROTO_*",
    "hw:key": "shm: key of the System V segment, 0 if private",
    "hw:ipcId": "msg: id of its System V queue; shm: id of the segment",
    "hw:messageType": "msg: its type; its priority if it is a POSIX queue's",
    "hw:abstract": "address: true: the name of a Unix socket that no directory holds",
    "hw:scopeId": "address: network interface of a link-local IPv6 address, by number",
    "hw:address": "address: of other families, the bytes behind the family, hexadecimal",
    "hw:namespace": "task: Kubernetes namespace of its pod",
    "hw:pod": "task: name of its pod",
    "hw:podUid": "task: uid of its pod",
    "hw:container": "task: name of its container; known late, it comes with a later version",
    "hw:imageDigest": "task: digest of its container's image; known late, it comes with a later "
    "version",
    "hw:policies": "task: names of the policies that select its pod, namespace/name, separated by "
    "spaces; those of the platform without namespace",
    "hw:setup": "task: true: a container runtime's that sets a container up; false: no more, from "
    "this version on",
    "hw:left": "task: true: its process was moved out of its pod's cgroup; false: it is back, from "
    "this version on",
    "hw:foreign": "true: the object belongs to somebody else, nothing more is told",
    "hw:escaped": "true: bytes that are not UTF-8, and %, are written %XX in the name",
    "hw:truncated": "true: the name, argument or variable was too long, the rest is missing; on "
    "the last of a program's, further ones may be missing, too",
    "hw:redacted": "argv, envp: name of the rule by which something was taken out; from [redacted] "
    "on, the rest is missing",
    "hw:resumed": "true: the object's beginning was lost or forgotten; the version is above all "
    "that it may have had, the type may be a guess",
}
"""What a vertex may carry, with the types that carry it."""

EDGE_ATTRIBUTES: Final = {
    "cf:flags": "mask, protection, clone flags, number of a signal ... of the call, hexadecimal; "
    "omitted if 0",
    "cf:offset": "position in the file in bytes; omitted if 0",
    "cf:task_id": "wasDerivedFrom: name of the vertex of the task that acted",
    "hw:setup": "true: done by a container runtime to set a container up, not by the workload",
    "hw:left": "true: done by a process that was moved out of its pod's cgroup",
    "hw:foreign": "true, on version steps: the state was changed by somebody else",
    "hw:unmounted": "true, on named: the path is relative to the root of its file system",
    "hw:peer": "true, on addressed: the address is that of the peer (connect), not its own (bind)",
    "hw:flow": "on addressed, with hw:peer: which connection; both its ends have the same, on two "
    "hosts too",
    "hw:deleted": "true, on named: the file had lost the name when it was touched",
}
"""What a relation may carry."""

MACHINE_ATTRIBUTES: Final = {
    "cf:u_sysname": "sysname of uname(2)",
    "cf:u_nodename": "nodename of uname(2)",
    "cf:u_release": "release of uname(2)",
    "cf:u_version": "version of uname(2)",
    "cf:u_machine": "machine of uname(2)",
    "hw:node": "the node token, as in the subject",
    "hw:bootId": "the kernel's boot id, hexadecimal",
    "hw:mode": "how the kernel is observed: lsm, fentry or tracepoint",
    "hw:epoch": "number of the epoch that begins, as in Hw-Epoch",
    "hw:policy": "hash of the policy in force, as in Hw-Policy",
    "hw:unseen": "relations that mode lsm records and this mode never does; omitted if none",
    "hw:imprecise": "relations that this mode records with a loss; omitted if none",
}
"""What the machine's vertex carries."""


def schemas() -> dict[RecordClass, Schema]:
    """The schema of the documents of each class."""
    made = {
        RecordClass.GRAPH: _graph(),
        RecordClass.GAP: _gap(),
        RecordClass.MACHINE: _machine(),
        RecordClass.CHECKPOINT: _checkpoint(),
    }
    return {
        record_class: {"$schema": _DIALECT, "$id": _BASE_URL + FILE_NAMES[record_class], **schema}
        for record_class, schema in made.items()
    }


FILE_NAMES: Final = {
    RecordClass.GRAPH: "batch.schema.json",
    RecordClass.GAP: "gap.schema.json",
    RecordClass.MACHINE: "machine.schema.json",
    RecordClass.CHECKPOINT: "checkpoint.schema.json",
}


def _graph() -> Schema:
    sections: Schema = {}
    for kind in Prov:
        types = [t.qualified_name for t in VertexType if t.prov is kind]
        attributes = MACHINE_ATTRIBUTES if kind is Prov.AGENT else VERTEX_ATTRIBUTES
        sections[kind.value] = {
            "description": f"Vertices that are PROV {kind.value}, by name.",
            "type": "object",
            "propertyNames": {"$ref": "#/$defs/vertexName"},
            "additionalProperties": _vertex(types, attributes),
        }
    for prov_class in ProvClass:
        sections[prov_class.section] = {
            "description": f"Relations from {prov_class.sender_key} to {prov_class.receiver_key}.",
            "type": "object",
            "propertyNames": {"$ref": "#/$defs/relationName"},
            "additionalProperties": _relation(prov_class),
        }
    return _document("A batch of captured provenance (class graph)", sections, [])


def _gap() -> Schema:
    gap: Schema = {
        "type": "object",
        "required": ["prov:type", "hw:first", "hw:last", "hw:count", "hw:reason"],
        "properties": {
            "prov:type": _type(["hw:gap"]),
            "hw:first": _described("the first number that is lost", "#/$defs/integer"),
            "hw:last": _described("the last number that is lost", "#/$defs/integer"),
            "hw:count": _described("how many are lost: last - first + 1", "#/$defs/integer"),
            "hw:reason": {"description": "why", "enum": [reason.value for reason in GapReason]},
            "hw:begin": _described("no lost record is older", "#/$defs/typedTime"),
            "hw:end": _described("no lost record is younger", "#/$defs/typedTime"),
        },
        **_further_attributes(),
    }
    section = {
        "type": "object",
        "propertyNames": {"$ref": "#/$defs/gapName"},
        "additionalProperties": gap,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return _document("A gap: records that are lost (class gap)", {"entity": section}, ["entity"])


def _machine() -> Schema:
    machine = _vertex([VertexType.MACHINE.qualified_name], MACHINE_ATTRIBUTES)
    machine["required"] += ["hw:node", "hw:epoch", "hw:mode", "hw:policy"]
    section = {
        "type": "object",
        "propertyNames": {"$ref": "#/$defs/vertexName"},
        "additionalProperties": machine,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return _document(
        "The machine, when an epoch begins (class machine)", {"agent": section}, ["agent"]
    )


def _checkpoint() -> Schema:
    def text(meaning: str, pattern: str) -> Schema:
        return {"description": meaning, "type": "string", "pattern": pattern}

    checkpoint: Schema = {
        "type": "object",
        "required": [
            "prov:type",
            "hw:position",
            "hw:sequence",
            "hw:time",
            "hw:opened",
            "hw:closed",
        ],
        "properties": {
            "prov:type": _type([CHECKPOINT_TYPE]),
            "hw:position": _described("of this message in its chain", "#/$defs/integer"),
            "hw:sequence": _described(
                "highest number of a captured record that the chain answers for; 0: none",
                "#/$defs/integer",
            ),
            "hw:time": _described("when it was signed", "#/$defs/typedTime"),
            "hw:opened": _described("when the chain began", "#/$defs/typedTime"),
            "hw:closed": {"description": "whether the chain ends here", "type": "boolean"},
            "hw:due": _described("when the next one comes at the latest", "#/$defs/typedTime"),
            "hw:statement": text(
                "the operator's statement about the node's key",
                r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$",
            ),
            "hw:previousLoad": text("the load of the node's chain before", "^[0-9a-f]{16}$"),
            "hw:previousPosition": _described(
                "everything up to there is stored, or void", "#/$defs/integer"
            ),
            "hw:previousDigest": text("SHA-256 of the message there", "^[0-9a-f]{64}$"),
            "hw:previousTime": _described("when the node learnt of that", "#/$defs/typedTime"),
        },
        "if": {"properties": {"hw:closed": {"const": False}}},
        "then": {"required": ["hw:due"]},
        "else": {"properties": {"hw:due": False}},
        "dependentRequired": {
            "hw:previousLoad": ["hw:previousPosition", "hw:previousDigest", "hw:previousTime"]
        },
        **_further_attributes(),
    }
    section = {
        "type": "object",
        "propertyNames": {"$ref": "#/$defs/checkpointName"},
        "additionalProperties": checkpoint,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return _document("A checkpoint of a chain (class checkpoint)", {"entity": section}, ["entity"])


def _document(title: str, sections: Schema, required: list[str]) -> Schema:
    prefix = {
        "type": "object",
        "required": list(PREFIXES),
        "properties": {name: {"const": iri} for name, iri in PREFIXES.items()},
        "additionalProperties": {"type": "string"},
    }
    return {
        "title": title,
        "description": "See docs/record-format.md. Attributes that are not listed may come; "
        "a consumer ignores those that it does not know.",
        "type": "object",
        "required": ["prefix", *required],
        "properties": {"prefix": prefix, **sections},
        "additionalProperties": False,
        "$defs": _definitions(),
    }


def _definitions() -> Schema:
    return {
        "vertexName": {"type": "string", "pattern": r"^hw:[A-Za-z0-9_-]{22}\.(0|[1-9][0-9]*)$"},
        "relationName": {
            "type": "string",
            "pattern": r"^hw:[a-z2-7]{16}-[0-9a-f]{16}\.[1-9][0-9]*\.(0|[1-9][0-9]*)$",
        },
        "gapName": {
            "type": "string",
            "pattern": r"^hw:gap\.[a-z2-7]{16}-[0-9a-f]{16}\.[1-9][0-9]*$",
        },
        "checkpointName": {
            "type": "string",
            "pattern": r"^hw:checkpoint\.[a-z2-7]{16}-[0-9a-f]{16}\.[1-9][0-9]*$",
        },
        "time": {
            "type": "string",
            "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z$",
        },
        "typedTime": _literal({"$ref": "#/$defs/time"}, "xsd:dateTime"),
        "integer": {
            "description": "From 2^31 on a typed literal, so that no reader rounds it.",
            "anyOf": [
                {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
                _literal({"type": "string", "pattern": "^-?[0-9]+$"}, "xsd:long"),
                _literal({"type": "string", "pattern": "^[0-9]+$"}, "xsd:unsignedLong"),
            ],
        },
        "value": {
            "anyOf": [
                {"type": ["string", "number", "boolean"]},
                {
                    "type": "object",
                    "required": ["$"],
                    "properties": {
                        "$": {"type": "string"},
                        "type": {"type": "string"},
                        "lang": {"type": "string"},
                    },
                    "additionalProperties": False,
                },
            ]
        },
    }


def _vertex(types: list[str], attributes: dict[str, str]) -> Schema:
    return {
        "type": "object",
        "required": ["prov:type", "cf:version"],
        "properties": {
            "prov:type": _type(types),
            "cf:version": _described("as in the name", "#/$defs/integer"),
            **{name: _described(text) for name, text in attributes.items()},
        },
        **_further_attributes(),
    }


def _relation(prov_class: ProvClass) -> Schema:
    types = [relation.qualified_name for relation in Relation if relation.prov_class is prov_class]
    time = "#/$defs/time" if prov_class.has_time else "#/$defs/typedTime"
    return {
        "type": "object",
        "required": [
            prov_class.sender_key,
            prov_class.receiver_key,
            "prov:type",
            prov_class.time_key,
        ],
        "properties": {
            prov_class.sender_key: _described("the sender", "#/$defs/vertexName"),
            prov_class.receiver_key: _described("the receiver", "#/$defs/vertexName"),
            "prov:type": _type(types),
            prov_class.time_key: _described("when", time),
            **{name: _described(text) for name, text in EDGE_ATTRIBUTES.items()},
        },
        **_further_attributes(),
    }


def _type(names: list[str]) -> Schema:
    return _literal({"enum": names}, "xsd:QName")


def _literal(text: Schema, type_: str) -> Schema:
    return {
        "type": "object",
        "required": ["$", "type"],
        "properties": {"$": text, "type": {"const": type_}},
        "additionalProperties": False,
    }


def _described(text: str, reference: str = "#/$defs/value") -> Schema:
    return {"description": text, "$ref": reference}


def _further_attributes() -> Schema:
    return {
        "propertyNames": {"pattern": "^[A-Za-z][A-Za-z0-9_-]*:"},
        "additionalProperties": {"$ref": "#/$defs/value"},
    }


def text(schema: Schema) -> str:
    """The text of a schema's file."""
    return json.dumps(schema, indent=2) + "\n"


def main(directory: str) -> None:
    """Write the files.

    Args:
        directory: where to; it has to exist.
    """
    for record_class, schema in schemas().items():
        path = Path(directory, FILE_NAMES[record_class])
        path.write_text(text(schema))


if __name__ == "__main__":
    main(*sys.argv[1:])
