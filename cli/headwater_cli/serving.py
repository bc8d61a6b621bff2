# SPDX-License-Identifier: Apache-2.0
"""The work of `headwater serve`: keep a capture running under policies that may change.

Why: it is the agent's life on a node, with a directory in place of the API server and `run` in
place of the kubelet. Whatever goes wrong with a request or a policy is said and survived; what is
in force stays in force. Called by the verb `serve`. Promises: G6, G8.
"""

import asyncio
import contextlib
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from headwater_agent.service import Balance
from headwater_agent.settings import AgentSettings
from headwater_agent.slots import SlotsExhaustedError, Workload, place
from headwater_prov.policy import NamespaceWithoutTenant

from headwater_cli.control import ControlServer
from headwater_cli.errors import Failure
from headwater_cli.policy_files import WatchedPolicies
from headwater_cli.session import LocalSession, open_session, quotas_of

LOOK_INTERVAL_S = 0.5
"""How often the policies' directory is looked at."""


class Serving:
    """A running `serve`: answers requests and follows the policies."""

    def __init__(self, session: LocalSession, policies: WatchedPolicies) -> None:
        self._session = session
        self._policies = policies
        # A request and a policy change must not both move the same cgroup.
        self._changing = asyncio.Lock()

    def handlers(self) -> dict[str, Any]:
        """Return what the control socket answers, by verb."""
        return {"bind": self.bind, "release": self.release, "statistics": self.statistics}

    async def bind(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Put a cgroup in scope, if a policy selects it; the answer comes when it is."""
        workload = Workload(
            str(request["namespace"]),
            str(request["name"]),
            {str(key): str(value) for key, value in dict(request.get("labels", {})).items()},
        )
        path = Path(request["path"]) if "path" in request else None
        async with self._changing:
            policies = self._policies.current
            try:
                placement = place(policies, workload)
            except NamespaceWithoutTenant as error:
                raise Failure(str(error)) from error
            quotas = None
            if placement is not None:
                quotas = quotas_of(policies.tenant_of(workload.namespace))
            try:
                slot = await self._session.bind(
                    int(request["cgroup"]), workload, placement, quotas, path
                )
            except SlotsExhaustedError as error:
                raise Failure(str(error)) from error
        if slot is None or placement is None:
            return {"policies": [], "reason": "no policy selects this namespace and these labels"}
        return {
            "tenant": placement.tenant,
            "policies": list(placement.policies),
            "suspended": placement.compiled.suspend,
        }

    async def release(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Forget a cgroup whose workload has ended."""
        async with self._changing:
            self._session.agent.release(int(request["cgroup"]))
        return {}

    async def statistics(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Say what became of the records so far, by tenant."""
        return {
            "mode": self._session.mode,
            "tenants": {
                tenant: describe_balance(balance)
                for tenant, balance in self._session.agent.balances().items()
            },
            "nats": {
                "url": self._session.nats.url,
                "restarts": self._session.nats.restarts,
                "connected": self._session.window.statistics.connected,
            },
        }

    async def follow_policies(self) -> None:
        """Look for changes for ever, and bring every cgroup under them."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            self._session.agent.check()
            good = self._policies.current
            try:
                if not self._policies.reload_if_changed():
                    continue
                async with self._changing:
                    changed = await self._session.apply(self._policies.current)
            except (Failure, NamespaceWithoutTenant, SlotsExhaustedError) as error:
                self._policies.current = good
                message = error.message if isinstance(error, Failure) else str(error)
                click.echo(
                    f"headwater: {message}\nheadwater: the last good policies stay in force",
                    err=True,
                )
                continue
            count = len(self._policies.current.policies)
            click.echo(f"headwater: {count} policies in force, {changed} slots changed", err=True)


def describe_balance(balance: Balance) -> dict[str, Any]:
    """Return a balance as JSON has it."""
    return {
        "captured": balance.captured,
        "delivered": balance.delivered,
        "declared": balance.declared,
        "owed": balance.owed,
    }


async def serve(
    policies: WatchedPolicies, state: Path, *, port: int, mode: str, settings: AgentSettings
) -> dict[str, Balance]:
    """Capture until SIGTERM or SIGINT; return the final balance by tenant.

    Raises:
        Failure: it could not be started.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    async with open_session(state, port=port, mode=mode, settings=settings) as session:
        serving = Serving(session, policies)
        control = ControlServer(state, serving.handlers())
        await control.start()
        following = asyncio.create_task(serving.follow_policies(), name="policies")
        try:
            click.echo(
                f"headwater: serving in mode {session.mode} with "
                f"{len(policies.current.policies)} policies, NATS at {session.nats.url}, "
                f"state in {state}",
                err=True,
            )
            ended = asyncio.create_task(stop.wait())
            await asyncio.wait({ended, following}, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if following.done():
                following.result()  # a defect: say it, do not serve on without policies
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
            await control.stop()
        return await session.stop()
