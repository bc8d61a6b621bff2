# SPDX-License-Identifier: Apache-2.0
"""Programs that people run, under capture: the format's rules hold, and lineage is found.

What every workload must keep (no cycle, in before out, contiguous versions, an exact balance) is
asserted in :mod:`tests.kernel.rendering`. Class TestPressure needs packages that the other tests do
not, and minutes: `make test-pressure`.
"""

import shutil
from pathlib import Path

import pytest
from headwater_agent.layout import Loss
from headwater_prov.document import merge
from headwater_prov.lineage import Lineage
from headwater_prov.vocabulary import Relation

from tests.cluster import helm
from tests.kernel.lab import Lab, Tenant
from tests.kernel.rendering import Rendered, rendered
from tests.kernel.workloads import web_server

WORKLOADS = Path(__file__).with_name("workloads")
FULL_RING = frozenset({Loss.CONTENTION, Loss.RING})
"""What a program that never waits may lose to a test that reads the ring in an emulated guest."""


def work_of(lab: Lab, tenant: Tenant, work: Path, name: str, *words: str) -> Rendered:
    """Run one of the Python workloads."""
    # The distribution's interpreter: that of the virtual environment would read the checkout.
    command = tenant.command("/usr/bin/python3", "-I", str(WORKLOADS / f"{name}.py"), *words)
    return rendered(lab, tenant, command, work, may_lose=FULL_RING)


def origins(left: Rendered, path: Path) -> set[str]:
    """Paths in the answer to the question where a file came from."""
    answer = Lineage(merge(left.documents)).origins(str(path))
    return {
        str(vertex.attributes["cf:pathname"])
        for vertex in answer.document.vertices.values()
        if "cf:pathname" in vertex.attributes
    }


def test_g4_an_interpreter_with_threads_processes_and_an_event_loop(
    lab: Lab, tenant: Tenant, work: Path
) -> None:
    left = work_of(lab, tenant, work, "interpreter")
    expected = {
        Relation.ACCEPT,
        Relation.CLONE,
        Relation.CONNECT,
        Relation.EXEC,
        Relation.LISTEN,
        Relation.READ,
        Relation.RECEIVE_MSG,
        Relation.SEND_MSG,
        Relation.TERMINATE_PROC,
        Relation.TERMINATE_TASK,
        Relation.WRITE,
    }
    assert expected <= set(left.relations())


def test_g4_a_database_under_load(lab: Lab, tenant: Tenant, work: Path) -> None:
    left = work_of(lab, tenant, work, "database")
    # The WAL's index is a mapping that all processes share, and each transaction takes locks.
    expected = {Relation.SH_READ, Relation.SH_WRITE, Relation.FILE_LOCK}
    assert expected <= set(left.relations())
    assert str(work / "accounts.sqlite-wal") in origins(left, work / "accounts.sqlite")


def test_g4_a_parallel_build_and_where_its_program_came_from(
    lab: Lab, tenant: Tenant, work: Path
) -> None:
    sources = 6
    left = work_of(lab, tenant, work, "building", str(sources))
    assert not left.lost[Loss.RING], "the question below wants all of it"
    found = origins(left, work / "total")
    names = ["parts.h", "main.c", *(f"part{each}.c" for each in range(sources))]
    assert {str(work / name) for name in names} <= found
    # An object file's own lineage does not hold the other sources.
    assert str(work / "part1.c") not in origins(left, work / "part0.o")


def test_g4_a_clone_comes_from_its_repository(lab: Lab, tenant: Tenant, work: Path) -> None:
    left = work_of(lab, tenant, work, "cloning")
    found = origins(left, work / "copy" / "file-3")
    assert str(work / "origin" / "file-3") in found


def test_g4_a_web_server_with_a_thread_for_each_client(
    lab: Lab, tenant: Tenant, work: Path
) -> None:
    (work / "served").write_bytes(web_server.CONTENT)
    left = work_of(lab, tenant, work, "web_server")
    assert {Relation.ACCEPT, Relation.SEND_MSG, Relation.RECEIVE_MSG} <= set(left.relations())
    assert str(work / "served") in origins(left, work / "access.log")
    # Only the connection leads from a client's file to what a thread of the server read.
    assert str(work / "served") in origins(left, work / "fetched-3-7")


def needed(program: str, package: str) -> str:
    """Path of a program that `make test-pressure` installs."""
    found = shutil.which(program)
    assert found, f"{program} is missing: run `make test-pressure`, which installs {package}"
    return found


@pytest.mark.pressure
class TestPressure:
    @pytest.mark.parametrize("seed", range(1, 5))
    def test_g4_eight_threads_on_the_same_objects(
        self, lab: Lab, whole: Tenant, work: Path, seed: int
    ) -> None:
        whole.prepare(work)
        words = whole.words("churn", str(seed), "4", "200")
        rendered(lab, whole, words, work, may_lose=FULL_RING)

    @pytest.mark.timeout(1800)
    def test_g4_a_longer_build(self, lab: Lab, tenant: Tenant, work: Path) -> None:
        work_of(lab, tenant, work, "building", "60")

    @pytest.mark.timeout(1800)
    def test_g4_postgresql_under_pgbench(self, lab: Lab, tenant: Tenant, work: Path) -> None:
        assert list(Path("/usr/lib/postgresql").glob("*/bin/initdb")), (
            "PostgreSQL is missing: run `make test-pressure`, which installs postgresql"
        )
        left = work_of(lab, tenant, work, "postgresql", "prepare", "load")
        assert {Relation.SH_READ, Relation.SH_WRITE, Relation.SEND_MSG} <= set(left.relations())

    @pytest.mark.timeout(1800)
    def test_g4_packages_installed_into_a_root(self, lab: Lab, tenant: Tenant, work: Path) -> None:
        left = work_of(lab, tenant, work, "packages")
        installed = work / "root/usr/share/greeting/text"
        assert not left.lost[Loss.RING], "the question below wants all of it"
        assert str(work / "repository/greeting.deb") in origins(left, installed)

    @pytest.mark.timeout(1800)
    def test_g4_a_node_js_server(self, lab: Lab, tenant: Tenant, work: Path) -> None:
        script = str(WORKLOADS / "node_server.js")
        command = tenant.command(needed("node", "nodejs"), script)
        left = rendered(lab, tenant, command, work, may_lose=FULL_RING)
        assert (work / "sum").read_text().strip().isdigit()
        assert str(work / "page") in origins(left, work / "sum")

    @pytest.mark.timeout(1800)
    def test_g4_a_go_program(self, lab: Lab, tenant: Tenant, work: Path) -> None:
        chart = helm.CHART
        (values,) = (path for path in helm.VALUES if path.stem == "existing_nats")
        command = tenant.command(
            str(helm.program()),
            *("template", helm.RELEASE, str(chart)),
            *("--values", str(values), "--output-dir", "rendered"),
        )
        left = rendered(lab, tenant, command, work, may_lose=FULL_RING)
        (made, *_) = sorted(work.glob("rendered/headwater/templates/*.yaml"))
        assert str(chart / "values.yaml") in origins(left, made)

    @pytest.mark.timeout(1800)
    def test_g4_a_rust_program(self, lab: Lab, tenant: Tenant, work: Path) -> None:
        for number in range(64):
            (work / f"text-{number}").write_text(f"line {number}\n" * 100)
        program = needed("rg", "ripgrep")
        command = tenant.command("/bin/sh", "-c", f"{program} --threads 4 'line 42' . > found")
        left = rendered(lab, tenant, command, work, may_lose=FULL_RING)
        assert len((work / "found").read_text().splitlines()) == 100
        assert not left.lost[Loss.RING], "the question below wants all of it"
        assert str(work / "text-42") in origins(left, work / "found")
