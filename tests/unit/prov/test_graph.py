# SPDX-License-Identifier: Apache-2.0
"""The arrays hold the graph that the edges describe."""

from headwater_prov.document import Edge
from headwater_prov.graph import Graph
from headwater_prov.vocabulary import Relation
from hypothesis import given
from hypothesis import strategies as st

pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


def edges(joined: list[tuple[int, int]]) -> list[Edge]:
    return [
        Edge(f"hw:n.{place}.0", Relation.READ, f"hw:v.{sender}", f"hw:v.{receiver}")
        for place, (sender, receiver) in enumerate(joined, 1)
    ]


@given(pairs)
def test_neighbours_are_those_of_the_edges(joined: list[tuple[int, int]]) -> None:
    graph = Graph(edges(joined))
    for name, number in graph.numbers.items():
        vertex = int(name.rpartition(".")[2])
        received = [graph.names[graph.senders[e]] for e in graph.incoming[number]]
        assert received == [f"hw:v.{s}" for s, r in joined if r == vertex]
        sent = [graph.names[graph.receivers[e]] for e in graph.outgoing[number]]
        assert sent == [f"hw:v.{r}" for s, r in joined if s == vertex]


def reaches_itself(joined: list[tuple[int, int]], start: int) -> bool:
    seen: set[int] = set()
    pending = [r for s, r in joined if s == start]
    while pending:
        vertex = pending.pop()
        if vertex not in seen:
            seen.add(vertex)
            pending += [r for s, r in joined if s == vertex]
    return start in seen


@given(pairs)
def test_a_cycle_is_found_if_there_is_one_and_is_real(joined: list[tuple[int, int]]) -> None:
    cycle = Graph(edges(joined)).find_cycle()
    assert bool(cycle) == any(reaches_itself(joined, start) for start in range(7))
    numbers = [int(name.rpartition(".")[2]) for name in cycle]
    steps = zip(numbers, [*numbers[1:], *numbers[:1]], strict=True)
    assert set(steps) <= set(joined)


def test_a_long_chain_does_not_exhaust_the_stack() -> None:
    chain = [(place, place + 1) for place in range(20_000)]
    assert Graph(edges(chain)).find_cycle() == []
    assert len(Graph(edges([*chain, (20_000, 0)])).find_cycle()) == 20_001
