# SPDX-License-Identifier: Apache-2.0
"""One local capture: attached programs, embedded NATS and an agent, started and stopped together.

Why: `trace` and `serve` differ in what they bind and for how long, not in what they run. The order
matters both ways: NATS stops after the last delivery, the programs leave after the last count.
Called by those verbs and by the kernel tests. Promises: G2, G8.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from headwater_agent.attached_kernel import AttachedKernel
from headwater_agent.chain import Chains
from headwater_agent.chain_heads import ChainHeads
from headwater_agent.kernel_port import KernelPort
from headwater_agent.load import Capture, CaptureError
from headwater_agent.node import NodeIdentity, NodeIdentityError
from headwater_agent.node_key import NodeKey, NodeKeyError
from headwater_agent.publish import PublishWindow
from headwater_agent.service import Agent, Balance
from headwater_agent.settings import AgentSettings
from headwater_agent.slots import Placement, Slot, Workload
from headwater_agent.spool import SpoolError
from headwater_operator.accounts import Quotas
from headwater_prov.policy import PolicySet, Tenant
from headwater_prov.statement import sign_statement

from headwater_cli.embedded_nats import EmbeddedNats
from headwater_cli.errors import Failure
from headwater_cli.state import tenant_key

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 15.0


def quotas_of(tenant: Tenant) -> Quotas:
    """Return a ProvenanceTenant's quotas as the accounts understand them."""
    return Quotas(stream_bytes=tenant.quotas.stream_bytes, stream_age_s=tenant.quotas.stream_age_s)


class LocalSession:
    """A running capture; made by `open_session`."""

    def __init__(self, nats: EmbeddedNats, agent: Agent, window: PublishWindow, mode: str) -> None:
        self.mode = mode
        self.nats = nats
        self.agent = agent
        self.window = window
        self.result: dict[str, Balance] | None = None

    async def bind(
        self,
        cgroup: int,
        workload: Workload,
        placement: Placement | None,
        quotas: Quotas | None = None,
        path: Path | None = None,
    ) -> Slot | None:
        """Put a cgroup in scope, its tenant's stream ready before its first record.

        Raises:
            Failure: the tenant's account or stream cannot be made.
        """
        if placement is not None:
            await self.nats.ensure_tenant(placement.tenant, quotas)
        return await self.agent.bind(cgroup, workload, placement, path)

    async def apply(self, policies: PolicySet) -> int:
        """Bring every bound cgroup under new policies; return how many slots changed.

        Raises:
            Failure: a new tenant's account or stream cannot be made; nothing was changed.
        """
        for tenant in self.agent.tenants_under(policies):
            await self.nats.ensure_tenant(tenant.name, quotas_of(tenant))
        return await self.agent.apply(policies)

    async def stop(self) -> dict[str, Balance]:
        """End capture and deliver everything; the server still runs, for who wants to read."""
        if self.result is None:
            self.result = {}  # an interrupted stop is not begun anew
            self.result = await self.agent.stop()
        return self.result


@asynccontextmanager
async def open_session(
    state: Path,
    *,
    port: int = 0,
    mode: str = "auto",
    settings: AgentSettings | None = None,
    attach: Callable[..., Any] = Capture,
) -> AsyncIterator[LocalSession]:
    """Attach, start the server and the agent; stop them in the right order at the end.

    Args:
        state: directory for keys, streams and what is owed across a stop.
        port: of the embedded NATS; 0 takes a free one.
        mode: capture mode, "auto" for the best that attaches.
        settings: of the agent.
        attach: makes the capture.

    Raises:
        Failure: anything of it cannot be had; nothing is left running.
    """
    settings = settings or AgentSettings()
    began = time.monotonic()
    with ExitStack() as stack:
        nats = EmbeddedNats(state, port=port)
        stack.callback(nats.stop)
        # Attaching cannot be interrupted, so whether the state is free is settled before.
        await asyncio.to_thread(nats.claim)
        capture = attach(ring_bytes=settings.ring.size_bytes, mode=mode)
        # Compiling takes seconds, the server some tenths: side by side.
        _, kernel = await asyncio.gather(
            asyncio.to_thread(nats.start), asyncio.to_thread(_enter, stack, capture)
        )
        try:
            node = NodeIdentity.of_host(kernel.load_id, kernel.mode)
        except NodeIdentityError as error:
            raise Failure(str(error)) from error
        chains = signed_chains(nats, node, settings)
        window = PublishWindow(
            nats.capture_connection_options(node.token),
            node=node.token,
            max_bytes=settings.delivery.window_bytes,
        )
        await window.start()
        try:
            agent = Agent(
                kernel=kernel,
                node=node,
                tenant_key=lambda tenant: tenant_key(state, tenant),
                send=window.put,
                settings=settings,
                spool=state,
                make_room=nats.make_room,
                chains=chains,
            )
        except SpoolError as error:
            await window.stop()
            raise Failure(str(error)) from error
        session = LocalSession(nats, agent, window, kernel.mode)
        try:
            if not await window.wait_connected(_CONNECT_TIMEOUT_S):
                raise Failure(
                    f"the agent cannot connect to its NATS: {window.statistics.last_error}",
                    f"see {state / 'nats' / 'server.log'}",
                )
            await agent.start()
            log.info("capture mode %s, ready in %.1f s", kernel.mode, time.monotonic() - began)
            yield session
        finally:
            await session.stop()
            await window.stop()


def signed_chains(nats: EmbeddedNats, node: NodeIdentity, settings: AgentSettings) -> Chains:
    """Return this node's chains: its own key, which the embedded operator states to be the node's.

    Raises:
        Failure: the node's key in the state directory cannot be used.
    """
    try:
        key = NodeKey.load_or_create(nats.state)
    except NodeKeyError as error:
        raise Failure(str(error)) from error
    operator = nats.keys.signing
    statement = sign_statement(
        node=node.token,
        key=key.public,
        issuer=operator.public,
        issued_at=int(time.time()),
        sign=operator.sign,
    )
    return Chains(
        node, key, settings=settings.chain, heads=ChainHeads(nats.state), statement=statement
    )


def _enter(stack: ExitStack, capture: Any) -> KernelPort:
    """Attach, and see that it is undone."""
    try:
        entered = stack.enter_context(capture)
    except CaptureError as error:
        raise Failure(str(error), 'see "headwater doctor"') from error
    if isinstance(entered, Capture):
        for hook, status in entered.attached.items():
            if status != "attached":
                log.warning("hook %s is not attached, its relations are missing: %s", hook, status)
    return AttachedKernel(entered)
