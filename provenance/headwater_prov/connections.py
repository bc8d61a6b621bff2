# SPDX-License-Identifier: Apache-2.0
"""The two ends of a connection, joined: who received it has it from who sent it.

Why: a socket's vertex is one end, and its peer may be another pod's, on another host. Both ends
carry one id (``hw:flow``), and what was received through one was sent into the other before. The
kernel does not say which bytes; times do, as far as the edges that are recorded allow.

Who calls it: :mod:`headwater_prov.lineage`, before the walk; nothing that is stored is changed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Final

from headwater_prov.catalogue import METADATA_RELATIONS
from headwater_prov.document import Document, Edge
from headwater_prov.identifiers import parse_relation_key, parse_vertex_name
from headwater_prov.vocabulary import VERSION_STEPS, ProvClass, Relation

FLOW_ATTRIBUTE: Final = "hw:flow"

CLOCKS_APART_NS: Final = 1_000_000_000
"""How far the clocks of two nodes may be apart; a sender's is taken to be ahead by as much."""

_INDEX_OF_JOINED: Final = 1000
"""Edges that are made here count from here on within their record: no record has as many."""

_FOREVER: Final = 2**63 - 1


@dataclass(slots=True)
class _End:
    """What went into one socket, and what came out of it."""

    sent: list[Edge] = field(default_factory=list)
    received: dict[tuple[str, Relation], list[Edge]] = field(default_factory=dict)
    """By the object that received it and how, in the order of time."""
    ended_ns: dict[str, int] = field(default_factory=dict)
    """When each version of the socket gave way to its next, by the version's name."""


def joined(document: Document) -> Document:
    """The document with each edge out of a socket replaced by edges from what its peer was sent.

    Only where the peer is in the document, too, and was sent something that could have arrived. An
    edge that is made carries the flow's id (``hw:flow``). A receiver may have taken in more than
    its edge says: that a flow repeats is not recorded. So what was sent while the receiving
    socket's version lasted is taken to have arrived with the last edge before it.
    """
    flows = _flows(document.edges)
    if not flows:
        return document
    ends = _ends(document.edges, {end for sockets in flows.values() for end in sockets})
    origins: dict[str, dict[str, str]] = defaultdict(dict)
    for flow, sockets in flows.items():
        for sender, receiver in permutations(sockets, 2):
            for received, vertex in _arrivals(ends[sender], ends[receiver]):
                origins[received.key].setdefault(vertex, flow)
    edges = tuple(_replaced(document.edges, origins))
    return replace(document, edges=edges)


def _flows(edges: Iterable[Edge]) -> dict[str, list[str]]:
    """The sockets of each connection of which both ends are known."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for edge in edges:
        if edge.relation is Relation.ADDRESSED:
            flow = edge.attributes.get(FLOW_ATTRIBUTE)
            if isinstance(flow, str):
                found[flow][parse_vertex_name(edge.receiver)[0]] = None
    return {flow: list(sockets) for flow, sockets in found.items() if len(sockets) > 1}


def _ends(edges: Iterable[Edge], sockets: set[str]) -> dict[str, _End]:
    ends = {socket: _End() for socket in sockets}
    for edge in sorted(edges, key=lambda edge: edge.time_ns or 0):
        if edge.relation in METADATA_RELATIONS:
            continue
        sender, receiver = parse_vertex_name(edge.sender)[0], parse_vertex_name(edge.receiver)[0]
        if edge.relation in VERSION_STEPS:
            if sender in sockets:
                ends[sender].ended_ns[edge.sender] = edge.time_ns or 0
        elif edge.relation.prov_class is ProvClass.GENERATED and receiver in sockets:
            ends[receiver].sent.append(edge)
        elif edge.relation.prov_class is ProvClass.USED and sender in sockets:
            ends[sender].received.setdefault((receiver, edge.relation), []).append(edge)
    return ends


def _arrivals(peer: _End, end: _End) -> Iterator[tuple[Edge, str]]:
    """The edges out of an end, each with a version of the peer that it may have come from."""
    for received in end.received.values():
        times = [edge.time_ns or 0 for edge in received]
        for sent in peer.sent:
            edge = _arrival(sent, received, times, end.ended_ns)
            if edge is not None:
                yield edge, sent.receiver


def _arrival(
    sent: Edge, received: Sequence[Edge], times: Sequence[int], ended_ns: dict[str, int]
) -> Edge | None:
    sent_ns = sent.time_ns or 0
    if _node(sent) != _node(received[0]):
        sent_ns -= CLOCKS_APART_NS
    after = bisect_right(times, sent_ns)
    before = received[after - 1] if after else None
    if before is not None and sent_ns < ended_ns.get(before.sender, _FOREVER):
        return before
    return received[after] if after < len(received) else None


def _node(edge: Edge) -> str:
    return parse_relation_key(edge.key)[0]


def _replaced(edges: Iterable[Edge], origins: dict[str, dict[str, str]]) -> Iterator[Edge]:
    for edge in edges:
        known = origins.get(edge.key)
        if known is None:
            yield edge
            continue
        record = edge.key.rpartition(".")[0]
        for number, (vertex, flow) in enumerate(known.items()):
            yield replace(
                edge,
                key=f"{record}.{_INDEX_OF_JOINED + number}",
                sender=vertex,
                attributes={**edge.attributes, FLOW_ATTRIBUTE: flow},
            )
