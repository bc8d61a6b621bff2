# SPDX-License-Identifier: Apache-2.0
"""The agent's process on a node of a cluster: what it starts, in which order it stops, how it ends.

Why: `python -m headwater_agent.cluster` is what the DaemonSet runs. The order is that of local
mode: the programs leave after the last count, NATS after the last delivery. Everything that decides
is in :mod:`.node_agent` and below. Promises: G2 (the balance is printed), G8 (nothing that is away
keeps it from starting: not NATS, not the API server).
"""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import IntEnum
from importlib import metadata
from typing import Final

from prometheus_client import CollectorRegistry

from headwater_agent.attach_points import CaptureMode
from headwater_agent.attached_kernel import AttachedKernel
from headwater_agent.cluster.api import KubernetesApi
from headwater_agent.cluster.api_access import (
    AccessError,
    ApiAccess,
    from_kubeconfig,
    in_cluster,
)
from headwater_agent.cluster.cache import CacheError, ConfigurationCache
from headwater_agent.cluster.metrics import AgentCollector, make_registry
from headwater_agent.cluster.nats_credentials import CredentialsFile
from headwater_agent.cluster.nats_exchange import ExchangedCredentials, trusted
from headwater_agent.cluster.node_agent import Capturing, NodeAgent, NodeAgentSettings
from headwater_agent.cluster.node_chains import NodeChains, NodeKeyError, NodeStatementError
from headwater_agent.cluster.options import ClusterOptions, parse
from headwater_agent.cluster.pages import make_application, serve
from headwater_agent.cluster.runtime_names import RuntimeNames
from headwater_agent.cluster.status import NodeFacts
from headwater_agent.cluster.tenant_keys import MountedTenantKeys, TenantKeys
from headwater_agent.kernel_port import KernelPort
from headwater_agent.load import Capture, CaptureError
from headwater_agent.node import NodeIdentity, NodeIdentityError
from headwater_agent.probe import active_lsms
from headwater_agent.publish import ConnectionOptions, PublishWindow
from headwater_agent.service import Agent, Balance
from headwater_agent.settings import AgentSettings
from headwater_agent.spool import SpoolError

log = logging.getLogger(__name__)

_LAST_WORD_S: Final = 3.0
"""How long a stopping agent tries to say so in its status."""


class ExitStatus(IntEnum):
    """What the process ends with; `options.EPILOG` is the text for people."""

    STOPPED = 0
    FAILED = 1
    UNUSABLE = 3


class UnusableError(Exception):
    """Something that the agent was started with cannot be used; the message says what to do."""


Attach = Callable[[ExitStack, AgentSettings, str], KernelPort]
"""Attaches the programs and sees that they leave with the stack.

Raises:
    CaptureError: this node cannot capture.
"""


def attach_programs(stack: ExitStack, settings: AgentSettings, mode: str) -> KernelPort:
    """Attach the real programs; takes seconds."""
    capture = stack.enter_context(Capture(ring_bytes=settings.ring.size_bytes, mode=mode))
    for hook, status in capture.attached.items():
        if status != "attached":
            log.warning("hook %s is not attached, its relations are missing: %s", hook, status)
    return AttachedKernel(capture, marks_setup=True)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a test replaces."""

    attach: Attach = attach_programs
    settings: AgentSettings = field(default_factory=AgentSettings)
    node_settings: NodeAgentSettings = field(default_factory=NodeAgentSettings)
    keys: Callable[[ClusterOptions], TenantKeys] = lambda options: MountedTenantKeys(
        options.tenant_keys
    )


def main() -> int:
    """Run until a signal; return the process's exit status."""
    options = parse()
    logging.basicConfig(
        level=options.log_level,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        return asyncio.run(_run_until_signal(options))
    except UnusableError as error:
        print(f"headwater: {error}", file=sys.stderr)
        return ExitStatus.UNUSABLE
    except Exception:
        log.exception("the agent failed")
        return ExitStatus.FAILED


async def _run_until_signal(options: ClusterOptions) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    balances = await run(options, stop)
    for tenant, balance in sorted(balances.items()):
        print(
            f"headwater: tenant {tenant}: captured {balance.captured}, "
            f"delivered {balance.delivered}, declared lost {balance.declared}, "
            f"kept for the next start {balance.owed}",
            flush=True,
        )
    return ExitStatus.STOPPED


async def run(
    options: ClusterOptions, stop: asyncio.Event, parts: Parts | None = None
) -> dict[str, Balance]:
    """Run until `stop`; return the final balance by tenant.

    Raises:
        UnusableError: it could not be started.
    """
    parts = parts or Parts()
    settings = replace(
        parts.settings,
        ring=replace(parts.settings.ring, size_bytes=options.ring_bytes),
        quarantine=options.quarantine,
        spool=options.spool,
    )
    parts = replace(parts, settings=settings)
    try:
        access = from_kubeconfig(options.kubeconfig) if options.kubeconfig else in_cluster()
        cache = ConfigurationCache(options.state / "configuration")
    except (AccessError, CacheError) as error:
        raise UnusableError(str(error)) from error
    with ExitStack() as stack:
        try:
            _check_hierarchy(options)
            kernel = await asyncio.to_thread(parts.attach, stack, parts.settings, options.mode)
        except CaptureError as error:
            log.error("this node cannot capture: %s", error)
            await _run_unsupported(options, access, cache, str(error), stop, parts)
            return {}
        return await _run_capturing(options, access, cache, kernel, stop, parts)


async def _run_capturing(
    options: ClusterOptions,
    access: ApiAccess,
    cache: ConfigurationCache,
    kernel: KernelPort,
    stop: asyncio.Event,
    parts: Parts,
) -> dict[str, Balance]:
    identity = _identity(options, kernel.load_id, kernel.mode)
    try:
        signing = NodeChains(options.state, identity, parts.settings.chain)
    except (NodeKeyError, NodeStatementError) as error:
        raise UnusableError(str(error)) from error
    window = PublishWindow(
        _nats_access(options, identity, signing),
        node=identity.token,
        max_bytes=parts.settings.delivery.window_bytes,
    )
    await window.start()
    try:
        try:
            agent = Agent(
                kernel=kernel,
                node=identity,
                tenant_key=parts.keys(options),
                send=window.put,
                settings=parts.settings,
                spool=options.state,
                chains=signing.chains,
            )
        except SpoolError as error:
            raise UnusableError(str(error)) from error
        await agent.start()
        try:
            capturing = Capturing(agent, lambda: window.statistics.connected)
            async with _api(access) as api:
                node = NodeAgent(
                    api,
                    options.node_name,
                    _facts(identity, CaptureMode(kernel.mode)),
                    cache,
                    options.cgroup_root,
                    capturing,
                    names=RuntimeNames(options.runtime_state),
                    keep_s=options.quarantine.keep_s,
                    settings=parts.node_settings,
                )
                log.info("node %s captures in mode %s", options.node_name, kernel.mode)
                collector = AgentCollector(
                    agent, lambda: node.report, lambda: window.statistics, kernel.hooks
                )
                registry = make_registry(node.facts, collector)
                async with _pages(options, node, registry):
                    await _until(stop, node)
                # Counting and delivering takes longest; the last word may be said meanwhile.
                balances, _ = await asyncio.gather(agent.stop(), node.say_stopped(_LAST_WORD_S))
                return balances
        except BaseException:
            await agent.stop()
            raise
    finally:
        await window.stop()


def _nats_access(
    options: ClusterOptions, identity: NodeIdentity, signing: NodeChains
) -> ConnectionOptions:
    """Who the agent is to NATS: by the operator's word, or by a file."""
    credentials: CredentialsFile | ExchangedCredentials
    if options.nats_credentials is not None:
        credentials = CredentialsFile(options.nats_credentials)
    else:
        credentials = ExchangedCredentials(
            options.operator,
            options.operator_token,
            trusted(options.operator_ca),
            signing_key=signing.key.public,
            keep_statement=signing.store_statement,
        )
    return credentials.options(options.nats_servers, identity.token, trusted(options.nats_ca))


async def _run_unsupported(
    options: ClusterOptions,
    access: ApiAccess,
    cache: ConfigurationCache,
    reason: str,
    stop: asyncio.Event,
    parts: Parts,
) -> None:
    """Say that this node cannot capture, until it is stopped: a restart would change nothing."""
    identity = _identity(options, bytes(8), CaptureMode.UNSUPPORTED)
    async with _api(access) as api:
        node = NodeAgent(
            api,
            options.node_name,
            _facts(identity, CaptureMode.UNSUPPORTED),
            cache,
            options.cgroup_root,
            None,
            unsupported=reason,
            settings=parts.node_settings,
        )
        async with _pages(options, node, make_registry(node.facts)):
            await _until(stop, node)


@asynccontextmanager
async def _pages(
    options: ClusterOptions, node: NodeAgent, registry: CollectorRegistry
) -> AsyncIterator[None]:
    """Serve the pages, if they are wanted.

    Raises:
        UnusableError: the address cannot be listened on.
    """
    if options.listen is None:
        yield
        return
    host, port = options.listen
    async with AsyncExitStack() as stack:
        try:
            pages = serve(make_application(node.problem, registry), host, port)
            bound = await stack.enter_async_context(pages)
        except OSError as error:
            raise UnusableError(
                f"--listen {host}:{port}: {error.strerror}; choose one that is free"
            ) from error
        log.info("pages on %s:%d", host, bound)
        yield


async def _until(stop: asyncio.Event, node: NodeAgent) -> None:
    """Run the node's tasks until `stop`.

    Raises:
        ExceptionGroup: one of them failed.
    """
    running = asyncio.create_task(node.run(), name="node")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        is_failed = running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    if is_failed:
        running.result()


def _api(access: ApiAccess) -> KubernetesApi:
    return KubernetesApi(access)


def _check_hierarchy(options: ClusterOptions) -> None:
    """Raises: CaptureError: pods have no cgroups of version 2 there."""
    if not (options.cgroup_root / "cgroup.controllers").exists():
        raise CaptureError(
            f"{options.cgroup_root} is no cgroup v2 hierarchy; mount the node's /sys/fs/cgroup "
            "there and name it with --cgroup-root, or boot with the unified hierarchy"
        )


def _identity(options: ClusterOptions, load_id: bytes, mode: str) -> NodeIdentity:
    try:
        return NodeIdentity.of_host(load_id, mode, machine_id_path=options.machine_id_file)
    except NodeIdentityError as error:
        raise UnusableError(str(error)) from error


def _facts(identity: NodeIdentity, mode: CaptureMode) -> NodeFacts:
    return NodeFacts(
        capture_mode=mode,
        kernel=identity.release,
        lsm=active_lsms(),
        machine_id=identity.machine_id.hex(),
        boot_id=identity.boot_id.hex(),
        agent_version=_version(),
        started_at=datetime.now(UTC),
    )


def _version() -> str:
    try:
        return metadata.version("headwater")
    except metadata.PackageNotFoundError:
        return "unknown"


__all__ = ["ExitStatus", "Parts", "UnusableError", "main", "run"]
