# SPDX-License-Identifier: Apache-2.0
"""A CamFlow configuration, /etc/camflow.ini, as a ProvenancePolicy; and what has no counterpart.

Why: whoever comes from CamFlow has a configuration that means something to them, and must learn
what of it is captured here and what is not. Called by `headwater policy import`. Pure.

The reading is camconfd's, defaults included: a switch that is absent is off, and so is one that is
anything but "true". Its parser takes an indented line for a continuation of the one before; here
that is an error, because nobody means it.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from headwater_prov.policy.problems import did_you_mean, shown
from headwater_prov.policy.remedies import OLD_NAMES, unknown_value
from headwater_prov.vocabulary import RELATIONS, VERTEX_TYPES

_SECTION: Final = re.compile(r"\[([^\]]*)\]\s*([;#].*)?")
_SETTING: Final = re.compile(r"([^=:]+?)\s*[=:]\s*(.*)")
_MINUS_SIGNS: Final = str.maketrans({"\u2212": "-", "\u2013": "-"})
"""CamFlow writes ipv4-egress with a mathematical minus sign; people correct it to a hyphen."""

_ALL: Final = "capture: all records every flow of the selected pods"
_MARKED: Final = (
    "CamFlow marks what it names; here spec.track and spec.opaque name programs by their paths"
)
_IDENTITY: Final = (
    "ids are made from the machine's and the boot's own ids, with a key of the tenant"
)
_BUFFER: Final = (
    "no part of a policy; the ring's size is an option of the agent, and what it loses is declared"
)
_OUTPUT: Final = "camflowd's; records go to the tenant's stream, and auditors read them there"
_TARGETS: Final = {
    "track": f"{_MARKED}; {_ALL}",
    "propagate": f"{_MARKED}; {_ALL}",
    "opaque": f"{_MARKED}; it is recorded",
    "record": "not available in this version; the contents of packets are not recorded",
}
_TARGET_SECTIONS: Final = {
    "file": ("track", "propagate", "opaque"),
    "user": ("track", "propagate", "opaque"),
    "group": ("track", "propagate", "opaque"),
    "secctx": ("track", "propagate", "opaque"),
    "ipv4-ingress": ("track", "propagate", "record"),
    "ipv4-egress": ("track", "propagate", "record"),
    # Releases before 0.3 had the files' keys there.
    "provenance": ("track", "tracked", "propagate", "opaque"),
}
_NOTHING_TRACKED: Final = "not available in this version; nothing is tracked selectively"

_WITHOUT_COUNTERPART: Final = {
    ("provenance", "machine_id"): _IDENTITY,
    ("provenance", "boot_id"): _IDENTITY,
    ("provenance", "propagate_node_filter"): _NOTHING_TRACKED,
    ("provenance", "propagate_relation_filter"): _NOTHING_TRACKED,
    ("relay", "buff_exp"): _BUFFER,
    ("relay", "subuf_nb"): _BUFFER,
    ("ifc", "bridge"): "information flow control was taken out of CamFlow, and is not here",
    ("ifc", "trusted"): "information flow control was taken out of CamFlow, and is not here",
    **{
        (section, key): _TARGETS["track" if key == "tracked" else key]
        for section, keys in _TARGET_SECTIONS.items()
        for key in keys
    },
}
"""Keys of camflow.ini that a policy cannot say, by section and key, with the reason."""

_OF_CAMFLOWD: Final = frozenset({"general", "log", "mqtt", "unix", "fifo"})
"""Sections of the other file, camflowd.ini."""

_SWITCHES: Final = (
    ("provenance", "enabled"),
    ("provenance", "all"),
    ("compression", "node"),
    ("compression", "edge"),
    ("compression", "duplicate"),
    ("compression", "version"),
)
_FILTERS: Final = (("provenance", "node_filter"), ("provenance", "relation_filter"))

KEYS: Final = frozenset({*_SWITCHES, *_FILTERS, *_WITHOUT_COUNTERPART})
"""Every key that some release of CamFlow reads, by section and key."""


class NotCamflowError(ValueError):
    """The text is not a CamFlow configuration.

    Args:
        line: from 1; 0 where it is the file as a whole.
        message: what is wrong, with the remedy.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Note:
    """Something of the configuration that the policy does not say.

    Args:
        line: from 1; 0 for what the file does not have.
        setting: what the file says.
        reason: why the policy does not, and what happens instead.
    """

    line: int
    setting: str
    reason: str


@dataclass(slots=True)
class Imported:
    """What a policy says of a configuration, and what it does not."""

    nodes: list[str] = field(default_factory=list)
    relations: list[str] = field(default_factory=list)
    switches: dict[tuple[str, str], bool] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def policy(self, *, name: str, namespace: str) -> str:
        """The policy as YAML.

        Args:
            name: of the policy.
            namespace: of the policy, and so of the pods that it captures.
        """

        def flag(section: str, key: str) -> str:
            return str(self.switches[section, key]).lower()

        suspend = str(not self.switches["provenance", "enabled"]).lower()
        return (
            "apiVersion: headwater.dev/v1alpha1\n"
            "kind: ProvenancePolicy\n"
            "metadata:\n"
            f"  name: {name}\n"
            f"  namespace: {namespace}\n"
            "spec:\n"
            "  podSelector: {}  # CamFlow captures a machine; this is every pod of the namespace\n"
            "  capture: all\n"
            "  filters:\n"
            f"    nodes: {_listed(self.nodes)}\n"
            f"    relations: {_listed(self.relations)}\n"
            "  compression:\n"
            f"    nodes: {flag('compression', 'node')}\n"
            f"    edges: {flag('compression', 'edge')}\n"
            f"    duplicate: {flag('compression', 'duplicate')}\n"
            f"  suspend: {suspend}\n"
        )


def _listed(names: list[str]) -> str:
    return f"[{', '.join(names)}]"


def import_configuration(text: str) -> Imported:
    """Read a configuration as camconfd reads it.

    Raises:
        NotCamflowError: it is not in the form of an INI file, or has nothing of CamFlow in it.
    """
    imported = Imported()
    sections = set()
    section = ""
    has_setting = False
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.strip()
        if not bare or bare[0] in ";#":
            continue
        if bare[0] == "[":
            section = _section(bare, number)
            sections.add(section)
            continue
        if line[0].isspace() and has_setting:
            message = "is indented, which CamFlow reads as part of the line before; move it left"
            raise NotCamflowError(number, message)
        key, value = _setting(bare, number)
        if not section:
            message = f'{shown(key)} is in no section; write "[provenance]" above it'
            raise NotCamflowError(number, message)
        has_setting = True
        _take(imported, number, section, key, value)
    if not sections & {known for known, _ in KEYS}:
        message = (
            "is camflowd's configuration, which says where records go; name CamFlow's, camflow.ini"
            if sections & _OF_CAMFLOWD
            else "has no section of CamFlow in it; name CamFlow's configuration, camflow.ini"
        )
        raise NotCamflowError(0, message)
    _fill_in(imported)
    return imported


def _section(line: str, number: int) -> str:
    found = _SECTION.fullmatch(line)
    if found is None:
        raise NotCamflowError(number, f'{shown(line)} is no section; write for example "[file]"')
    return found[1].strip().translate(_MINUS_SIGNS)


def _setting(line: str, number: int) -> tuple[str, str]:
    # camconfd takes "=" and ":" alike, whichever comes first; a ";" after a space is a comment.
    bare = re.split(r"\s;", line, maxsplit=1)[0]
    found = _SETTING.fullmatch(bare)
    if found is None:
        raise NotCamflowError(number, f'{shown(line)} is no setting; write "key=value"')
    return found[1], found[2].strip()


def _take(imported: Imported, line: int, section: str, key: str, value: str) -> None:
    setting = f"[{section}] {key}={value}"
    if (section, key) in _SWITCHES:
        imported.switches[section, key] = value == "true"
        if value not in ("true", "false"):
            reason = 'taken for false, as CamFlow takes anything but "true"'
            imported.notes.append(Note(line, setting, reason))
    elif (section, key) == ("provenance", "node_filter"):
        _filter(imported, line, setting, value, "nodes", VERTEX_TYPES)
    elif (section, key) == ("provenance", "relation_filter"):
        _filter(imported, line, setting, value, "relations", RELATIONS)
    else:
        imported.notes.append(Note(line, setting, _why_not(section, key)))


def _filter(
    imported: Imported, line: int, setting: str, value: str, filtered: str, known: Collection[str]
) -> None:
    names = getattr(imported, filtered)
    name = OLD_NAMES.get(value, value)
    if name not in known:
        what = "a vertex type" if filtered == "nodes" else "a relation"
        reason = f"not filtered, {unknown_value(value, known, what)}"
        imported.notes.append(Note(line, setting, reason))
    elif name not in names:
        names.append(name)


def _why_not(section: str, key: str) -> str:
    """Why a policy does not say this."""
    if (section, key) in _WITHOUT_COUNTERPART:
        return _WITHOUT_COUNTERPART[section, key]
    if section in _OF_CAMFLOWD:
        return _OUTPUT
    known = sorted(name for in_section, name in KEYS if in_section == section)
    close = did_you_mean(key, known)
    return "no key of CamFlow, which ignores it too" + (
        f'; did you mean "{close}"?' if close else ""
    )


def _fill_in(imported: Imported) -> None:
    """What the configuration says by not saying it."""
    for section, key in _SWITCHES:
        if (section, key) in imported.switches or key == "version":
            continue
        imported.switches[section, key] = False
        reason = 'absent, which CamFlow takes for false; write "true" if you mean it'
        imported.notes.append(Note(0, f"[{section}] {key}", reason))
    if not imported.switches["provenance", "all"]:
        reason = f"{_MARKED}; {_ALL}"
        imported.notes.append(Note(0, "[provenance] all=false", reason))
    if not imported.switches.get(("compression", "version"), True):
        reason = "not available in this version; objects are always versioned"
        imported.notes.append(Note(0, "[compression] version=false", reason))
    if len(imported.nodes) == len(VERTEX_TYPES) or len(imported.relations) == len(RELATIONS):
        imported.nodes, imported.relations = [], []
        imported.switches["provenance", "enabled"] = False
        reason = "leaves nothing to record; the policy is suspended instead"
        imported.notes.append(Note(0, "[provenance] node_filter and relation_filter", reason))
    elif not {"envp", "env"} & {*imported.nodes, *imported.relations}:
        reason = 'recorded by CamFlow; write "environment: true" if you mean it'
        imported.notes.append(Note(0, "environments of programs", reason))
