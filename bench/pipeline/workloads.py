# SPDX-License-Identifier: Apache-2.0
"""What runs on the simulated kernel: every kind of flow at random, or something like a build.

Who calls it: the unit tests of the agent's pipeline, and the benchmarks where no recording serves.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from socket import AF_INET, AF_INET6, AF_NETLINK, AF_UNIX

from headwater_agent.layout import STANDING, Mark, TextMark
from headwater_prov.vocabulary import Relation, VertexType

from bench.pipeline.simulation import Process, SimulatedKernel, Thing


def random_address(random: Random) -> bytes:
    """A ``struct sockaddr`` of some family, of some length."""
    families = {
        AF_INET: random.randbytes(2) + bytes(4) + bytes(8),
        AF_INET6: random.randbytes(2) + bytes(4) + random.randbytes(16) + bytes(4),
        AF_UNIX: random.choice([b"/run/\xff\0left over", b"\0an \0 abstract \xff", b"\0"]),
        AF_NETLINK: random.randbytes(10),
    }
    family = random.choice(list(families))
    data = family.to_bytes(2, "little") + families[family]
    return data[: random.choice([len(data), len(data), random.randrange(3, len(data) + 1)])]


def random_workload(kernel: SimulatedKernel, slots: list[int], steps: int) -> None:
    """Processes of several slots on shared and own objects, `steps` operations in all."""
    random = kernel.random
    shared = [
        kernel.inode(0, 0, f"/usr/lib/shared {number}", ino=number + 1) for number in range(4)
    ]
    things: dict[int, list[Thing]] = {}
    sockets: dict[int, list[Thing]] = {}
    running: dict[int, list[Process]] = {}
    pid = 100
    for slot in slots:
        running[slot] = [kernel.process(random.randrange(kernel.cpus), slot, pid + slot)]
        sockets[slot] = [kernel.socket(0, slot), kernel.socket(0, 0)]
        things[slot] = [*shared, kernel.inode(0, slot, "/"), sockets[slot][0]]
    stranger = kernel.process(0, 0, 1, b"outside", owner=0)

    reads = (Relation.READ, Relation.OPEN, Relation.MMAP, Relation.GETATTR)
    writes = (Relation.WRITE, Relation.LINK, Relation.RENAME)
    standings = (Mark(0), *STANDING)

    def run(who: Process) -> None:
        if not who.memory.has_sent:  # arguments come before the program does anything
            kernel.arguments(who, b"cc", b"-o", bytes([random.getrandbits(8) | 1]) * 9)

    def step(who: Process) -> None:
        nonlocal pid
        slot = who.slot
        own = things[slot]
        thing = random.choice(own)
        actions: list[Callable[[], None]] = [
            lambda: kernel.used(who, random.choice(reads), thing, random.getrandbits(8)),
            lambda: kernel.used(who, Relation.READ, thing, 4, random.getrandbits(40)),
            lambda: kernel.generated(who, random.choice(writes), thing, 2, random.getrandbits(20)),
            lambda: kernel.name(who, thing, TextMark(random.getrandbits(3))),
            lambda: kernel.derived(who, Relation.EXEC, thing, who.memory),
            lambda: kernel.derived(who, Relation.SH_WRITE, who.memory, thing),
            lambda: run(who),
            lambda: own.append(
                kernel.inode(who.cpu, slot, f"/tmp/\u00e9 %{random.getrandbits(9)}", ino=2**63)
            ),
            lambda: kernel.generated(who, Relation.SETATTR, kernel.iattr(who.cpu, slot)),
            lambda: kernel.generated(
                who,
                Relation.SETXATTR,
                kernel.xattr(who.cpu, slot, b'user."\xe9' * random.randrange(1, 20)),
            ),
            lambda: kernel.generated(
                who, Relation.MSG_CREATE, kernel.message(who.cpu, slot), random.getrandbits(2)
            ),
            lambda: kernel.generated(who, Relation.SH_CREATE, kernel.segment(who.cpu, slot)),
            lambda: kernel.address(
                who, random.choice(sockets[slot]), random_address(random), TextMark(8)
            ),
            lambda: kernel.used(who, Relation.GETPGID, stranger.memory),
            lambda: kernel.describe_again(who, thing, bare=bool(random.getrandbits(1))),
            lambda: kernel.change(who, thing),
            lambda: kernel.change(who, who.task),
            lambda: setattr(who, "standing", random.choice(standings)),
        ]
        chance = random.random()
        if chance < 0.06 and len(running[slot]) < 8:
            pid += 1
            running[slot].append(kernel.fork(who, pid, random.randrange(kernel.cpus)))
        elif chance < 0.1 and len(running[slot]) > 1:
            running[slot].remove(who)
            kernel.exit(who)
        elif chance < 0.13 and len(own) > 8:
            kernel.terminate(who, Relation.FREE, own.pop())
        else:
            random.choice(actions)()

    for _ in range(steps):
        step(random.choice(running[random.choice(slots)]))


def build_workload(kernel: SimulatedKernel, slot: int, records: int) -> None:
    """What a compiler run does, over and over, until there are so many captured records.

    A stand-in where no recording of a real build is at hand.
    """
    random = kernel.random
    shell = kernel.process(0, slot, 1000, b"make")
    binary = kernel.inode(0, 0, "/usr/lib/gcc/x86_64-linux-gnu/12/cc1", ino=11)
    libraries = [kernel.inode(0, 0, f"/usr/lib/x86_64-linux-gnu/lib{n}.so.6") for n in range(6)]
    directories = [
        kernel.inode(0, 0, f"/usr/include/d{n}", VertexType.DIRECTORY) for n in range(30)
    ]
    headers = [
        kernel.inode(0, 0, f"/usr/include/d{n % 30}/header_{n}.h", ino=100 + n) for n in range(400)
    ]
    counters = kernel.counters[slot]
    pid = 1000
    while sum(counter.captured for counter in counters) < records:
        pid += 1
        cpu = pid % kernel.cpus
        compiler = kernel.fork(shell, pid, cpu)
        kernel.used(compiler, Relation.OPEN, binary, 4)
        kernel.name(compiler, binary)
        kernel.derived(compiler, Relation.EXEC, binary, compiler.memory)
        kernel.generated(compiler, Relation.EXEC_TASK, compiler.memory)
        kernel.arguments(compiler, b"cc1", b"-O2", b"-o", f"/tmp/unit{pid}.o".encode())
        for library in libraries:
            kernel.name(compiler, library)
            for relation, flags in ((Relation.OPEN, 4), (Relation.READ, 4), (Relation.MMAP, 5)):
                kernel.used(compiler, relation, library, flags)
        source = kernel.inode(cpu, 0, f"/home/me/project/src/unit_{pid}.c", ino=5000 + pid)
        target = kernel.inode(cpu, slot, f"/home/me/project/obj/unit_{pid}.o", ino=9000 + pid)
        for header in [source, *random.sample(headers, 60)]:
            for _ in range(2):
                kernel.used(compiler, Relation.PERM_CHECK, random.choice(directories), 1)
            kernel.name(compiler, header)
            kernel.used(compiler, Relation.OPEN, header, 4)
            kernel.used(compiler, Relation.GETATTR, header)
            for offset in range(0, 4096 * random.choice((1, 1, 2, 6)), 4096):
                kernel.used(compiler, Relation.READ, header, 4, offset)
        kernel.generated(compiler, Relation.INODE_CREATE, directories[0])
        kernel.name(compiler, target)
        for offset in range(0, 65536, 4096):
            kernel.generated(compiler, Relation.WRITE, target, 2, offset)
        kernel.exit(compiler)
