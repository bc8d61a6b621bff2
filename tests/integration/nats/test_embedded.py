# SPDX-License-Identifier: Apache-2.0
"""The embedded server's life: no orphan, no second one, and words for every bad state."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from headwater_cli.embedded_nats import EmbeddedNats, NatsAccess, embedded
from headwater_cli.embedded_nats.access import NATS
from headwater_cli.embedded_nats.lock import is_held
from headwater_cli.errors import Failure
from headwater_operator.accounts import Quotas, push_account
from nats.aio.client import Client

from tests.integration.nats.batches import (
    Fates,
    batch,
    connected_window,
    eventually,
    publish,
    stored_ids,
)

SERVE = """
import asyncio, sys, time
from pathlib import Path
from headwater_cli.embedded_nats import EmbeddedNats
from headwater_cli.errors import Failure
state, port = Path(sys.argv[1]), int(sys.argv[2])
try:
    with EmbeddedNats(state, port=port) as server:
        asyncio.run(server.ensure_tenant("acme"))
        print(server.url, server.server_pid, flush=True)
        sys.stdin.read()
except Failure as failure:
    print(failure.message, "|", failure.remedy, flush=True)
    sys.exit(failure.exit_code)
"""


class Serving:
    """Another process that runs an embedded server on `state`."""

    def __init__(self, state: Path, *, port: int = 0, wrap: tuple[str, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [*wrap, sys.executable, "-c", SERVE, str(state), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline().strip()

    @property
    def server_pid(self) -> int:
        return int(self.said.split()[1])

    def __enter__(self) -> "Serving":
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.communicate()  # closes stdin: it stops


def exists(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


async def test_g8_no_orphan_after_sigkill_and_the_store_is_used_again(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Serving(state) as serving:
        pid = serving.server_pid
        access = NatsAccess.open(state)
        window_server = EmbeddedNats(state)
        window_server._access = access  # publish into the other process's server
        window = await connected_window(window_server)
        await publish(window, [batch("acme", number) for number in range(1, 24)])
        await window.stop()
        assert exists(pid)
        serving.process.send_signal(signal.SIGKILL)
        serving.process.wait()
        await eventually(lambda: not exists(pid), 3)
    with EmbeddedNats(state) as server:
        assert len(await stored_ids(server, "acme")) == 23
        window = await connected_window(server)
        fates = await publish(window, [batch("acme", 23), batch("acme", 24)])
        assert (window.statistics.stored, window.statistics.duplicates) == (2, 1), fates
        await window.stop()


async def test_g8_server_and_parent_killed_at_once(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Serving(state) as serving:
        os.kill(serving.server_pid, signal.SIGKILL)
        serving.process.send_signal(signal.SIGKILL)
    with EmbeddedNats(state) as server:
        assert sum((await stored_ids(server, "acme")).values()) == 0


def test_second_server_on_the_same_state_names_the_first(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Serving(state) as first:
        with Serving(state) as second:
            assert f"process {first.process.pid} already works on this state" in second.said
            assert "|" in second.said
        assert second.process.returncode == 125
        assert exists(first.server_pid)
        with pytest.raises(Failure, match=f"process {first.process.pid}"):
            EmbeddedNats(state).start()
    with EmbeddedNats(state):
        pass


def test_claimed_state_is_in_use_and_free_again_after_a_stop(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first, second = EmbeddedNats(state), EmbeddedNats(state)
    first.claim()
    with pytest.raises(Failure, match=f"process {os.getpid()} already works on this state"):
        second.claim()
    first.stop()
    second.claim()
    with second:
        with pytest.raises(Failure, match="already running"):
            second.start()
        assert exists(second.server_pid)
    assert not is_held(state)


def test_stop_ends_the_server_and_leaves_no_address(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Serving(state) as serving:
        assert NatsAccess.open(state).url == serving.said.split()[0]
    assert not exists(serving.server_pid)
    with pytest.raises(Failure, match="no server runs on this state"):
        NatsAccess.open(state)


async def test_address_left_by_a_killed_server_is_not_believed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Serving(state) as serving:
        serving.process.send_signal(signal.SIGKILL)
        serving.process.wait()
    await eventually(lambda: not is_held(state), 3)
    assert (state / "nats" / "address.json").exists()
    with pytest.raises(Failure, match="no server runs"):
        NatsAccess.open(state)


def test_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Failure, match=f"port {port} on 127.0.0.1 is in use") as caught:
            EmbeddedNats(tmp_path / "state", port=port).start()
        assert "or 0 for a free one" in caught.value.remedy
    with EmbeddedNats(tmp_path / "state", port=port) as server:
        assert server.url == f"nats://127.0.0.1:{port}"


@pytest.mark.parametrize("port", [-1, 65536])
def test_port_that_is_no_port(tmp_path: Path, port: int) -> None:
    with pytest.raises(Failure, match="is not a port number"):
        EmbeddedNats(tmp_path / "state", port=port).start()


async def test_keeper_revives_a_killed_server_with_its_tenants(server: EmbeddedNats) -> None:
    url, before = server.url, server.server_pid
    os.kill(before, signal.SIGKILL)
    await eventually(lambda: server.server_pid not in (0, before))
    await server.ensure_tenant("late", Quotas(stream_bytes=1024 * 1024))
    window = await connected_window(server)
    fates = await publish(window, [batch(tenant, 1) for tenant in ("acme", "zeta", "late")])
    await window.stop()
    assert server.url == url and server.restarts == 1
    assert window.statistics.stored == 3, fates


async def test_g3_token_that_is_stored_and_not_applied_is_pushed_again(
    server: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a push in the moment in which the server loads the account: what it gives back is
    the new token, what it works by the old one, and the same token again is no news."""
    held: list[str] = []

    async def push(system: Client, *, account: str, token: str, what: str) -> None:
        if what == "capture account" and not held:
            held.append(token)
            stored = server.state / NATS / "accounts" / f"{account}.jwt"
            assert stored.read_text() != token
            stored.write_text(token)
            return
        await push_account(system, account=account, token=token, what=what)

    monkeypatch.setattr(embedded, "push_account", push)
    window = await connected_window(server)
    await server.ensure_tenant("late", Quotas(stream_bytes=1024 * 1024))
    await publish(window, [batch("late", 1)])
    await window.stop()
    assert held and window.statistics.stored == 1


async def test_tenants_and_quotas_outlive_a_restart(tmp_path: Path) -> None:
    state, quotas = tmp_path / "state", Quotas(stream_bytes=10 * 1024 * 1024)
    for number in (1, 2):
        with EmbeddedNats(state) as server:
            if number == 1:
                await server.ensure_tenant("acme", quotas)
            window = await connected_window(server)
            await publish(window, [batch("acme", number)])
            await window.stop()
            assert server.keys.tenant("acme").quotas == quotas
            assert len(await stored_ids(server, "acme")) == number


async def test_many_tenants_at_run_time_disturb_no_publisher(server: EmbeddedNats) -> None:
    window = await connected_window(server)
    fates, number = Fates(), 0

    async def keep_publishing() -> None:
        nonlocal number
        while True:
            number += 1
            await window.put(batch("acme", number), fates.of(number))
            await asyncio.sleep(0.001)

    publishing = asyncio.create_task(keep_publishing())
    for index in range(13):
        await server.ensure_tenant(f"tenant-{index}", Quotas(stream_bytes=1024 * 1024))
    publishing.cancel()
    assert await window.drain(5)
    late = await publish(window, [batch(f"tenant-{index}", 1) for index in range(13)])
    statistics = window.statistics
    await window.stop()
    assert late.answers == 13 and statistics.refused == 0 and statistics.unknown == 0
    assert statistics.connections == 1


async def test_streams_that_do_not_fit_are_refused_with_the_numbers(tmp_path: Path) -> None:
    with EmbeddedNats(tmp_path / "state", storage_bytes=100_000_000) as server:
        await server.ensure_tenant("acme", Quotas(stream_bytes=60_000_000))
        with pytest.raises(Failure, match="reserve 128388608 bytes, the server has 100000000"):
            await server.ensure_tenant("zeta", Quotas(stream_bytes=60_000_000))
        with pytest.raises(Failure, match="has no account"):
            server.tenant_credentials("zeta")
        await server.ensure_tenant("zeta", Quotas(stream_bytes=20_000_000))


@pytest.mark.parametrize("name", ["", "Acme", "a.b", "a*", ">", "../x", "-a", "a" * 64, "a b"])
async def test_names_that_no_tenant_can_have(server: EmbeddedNats, name: str) -> None:
    with pytest.raises(Failure, match="is not a name for a tenant"):
        await server.ensure_tenant(name)
    with pytest.raises(Failure):
        server.tenant_credentials(name)


def test_started_from_a_thread_that_ends(tmp_path: Path) -> None:
    """The kernel ties a child to the thread that forked it; the keeper's must be the one."""
    server = EmbeddedNats(tmp_path / "state")
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as client:
            assert client.recv(4) == b"INFO"
        assert server.restarts == 0
    finally:
        server.stop()


def test_a_stop_during_a_start_ends_the_server(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path / "state")
    starter = threading.Thread(target=server.start)
    starter.start()
    while not (tmp_path / "state" / "nats" / "server.conf").exists():
        time.sleep(0.001)
    server.stop()
    starter.join()
    with pytest.raises(Failure, match="no server runs"):
        NatsAccess.open(tmp_path / "state")
    assert server.server_pid == 0


def test_a_forked_copy_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedNats(tmp_path / "state") as server:
        pid = server.server_pid
        monkeypatch.setattr(os, "getpid", lambda: 1)
        server.stop()
        monkeypatch.undo()
        assert server.server_pid == pid and exists(pid)
        assert NatsAccess.open(tmp_path / "state").url == server.url


def test_a_stop_without_a_start_and_twice(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path / "state")
    server.stop()
    server.start()
    server.stop()
    server.stop()


async def test_files_are_owner_only_and_only_keys_hold_seeds(server: EmbeddedNats) -> None:
    await server.ensure_tenant("acme")
    server.tenant_credentials("acme")
    seed = re.compile(rb"\bS[OAU][A-Z2-7]{56}\b")
    holding = set()
    for path in server.state.rglob("*"):
        mode = path.stat().st_mode & 0o777
        inside_server = server.state / "nats" in path.parents
        assert mode & 0o077 == 0 or inside_server, f"{path} {mode:o}"
        if path.is_file() and seed.search(path.read_bytes()):
            holding.add(path.relative_to(server.state).parts[0])
    assert holding == {"keys"}
    assert server.state.stat().st_mode & 0o777 == 0o700
    assert (server.state / "nats").stat().st_mode & 0o777 == 0o700


# -- bad state -------------------------------------------------------------------------------------


def corrupt_json(path: Path) -> None:
    path.write_text("{")


def empty(path: Path) -> None:
    path.write_text("")


def cut_seed(path: Path) -> None:
    content = json.loads(path.read_text())
    name = next(key for key in content if key not in ("version", "quotas"))
    path.write_text(json.dumps({**content, name: content[name][:-2]}))


def swap_roles(path: Path) -> None:
    content = json.loads(path.read_text())
    wrong = "SUAM" + "A" * 54
    name = next(key for key in content if key not in ("version", "quotas"))
    path.write_text(json.dumps({**content, name: wrong}))


def drop_field(path: Path) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({"version": content["version"]}))


def open_to_others(path: Path) -> None:
    path.chmod(0o644)


def replace_by_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


@pytest.mark.parametrize("name", ["operator.json", "tenants/acme.json"])
@pytest.mark.parametrize(
    "damage",
    [corrupt_json, empty, cut_seed, swap_roles, drop_field, open_to_others, replace_by_link],
)
def test_damaged_keys_are_named_and_never_replaced(
    tmp_path: Path, damage: Callable[[Path], None], name: str
) -> None:
    state = tmp_path / "state"
    with EmbeddedNats(state) as server:
        asyncio.run(server.ensure_tenant("acme"))
    path = state / "keys" / name
    damage(path)
    left = path.read_bytes()
    with pytest.raises(Failure) as caught:
        EmbeddedNats(state).start()
    assert str(path) in caught.value.message and caught.value.remedy
    assert not re.search(r"S[OAU][A-Z2-7]{20}", caught.value.message)
    assert path.read_bytes() == left
    assert not [entry for entry in Path("/proc").glob("[0-9]*/cwd") if _is_in(entry, state)]


def _is_in(link: Path, state: Path) -> bool:
    try:
        return str(os.readlink(link)).startswith(str(state))
    except OSError:
        return False


def test_operator_keys_gone_while_tenants_are_there(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with EmbeddedNats(state) as server:
        asyncio.run(server.ensure_tenant("acme"))
    (state / "keys" / "operator.json").unlink()
    with pytest.raises(Failure, match="is missing, yet tenants' keys are there"):
        EmbeddedNats(state).start()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_state_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    state.chmod(mode)
    with pytest.raises(Failure, match="others may enter it"):
        EmbeddedNats(state).start()


def test_state_of_another_owner_is_refused(tmp_path: Path) -> None:
    state, owner = Path("/"), 0
    if os.geteuid() == 0:  # only root can give a directory away
        state, owner = tmp_path / "state", 12345
        state.mkdir(mode=0o700)
        os.chown(state, owner, -1)
    with pytest.raises(Failure, match=f"belongs to user {owner}"):
        EmbeddedNats(state).start()


@pytest.mark.parametrize(
    ("options", "words"),
    [("ro", "Read-only file system"), ("size=4k", "No space left"), ("size=1m", "MiB are free")],
)
def test_state_read_only_or_full(tmp_path: Path, options: str, words: str) -> None:
    """On real file systems, in a mount namespace of the server's own."""
    mount = tmp_path / "mount"
    mount.mkdir(mode=0o700)
    fill = f'head -c 8k /dev/zero > "{mount}/filler" 2>/dev/null;' if options == "size=4k" else ""
    script = f'mount -t tmpfs -o {options},mode=700 none "{mount}" && {fill} exec "$@"'
    rights = ("--mount",) if os.geteuid() == 0 else ("--mount", "--map-root-user")
    wrap = ("unshare", *rights, "sh", "-c", script, "sh")
    with Serving(mount / "state" if options == "ro" else mount, wrap=wrap) as serving:
        pass
    assert serving.process.returncode == 125
    assert words in serving.said and "|" in serving.said
