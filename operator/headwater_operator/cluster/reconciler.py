# SPDX-License-Identifier: Apache-2.0
"""Brings the API from what is to what should be.

Why: one place that writes. A change of anything makes it compute everything that should be (pure,
`judging`, `sets`, `statuses`), hold it against the model and put what differs into a queue; workers
take an item, look at the newest state and write it. So nothing depends on which events came, in
which order, or what was being written when the operator was killed.

The order that makes half an edit harmless: compiled policies, then the set that refers to them,
then the nodes that name the set; the other way round for what is deleted.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

from headwater_prov.policy import (
    CONTENT_LABEL,
    CONTENT_POLICY,
    CONTENT_SET,
    decode_references,
)

from headwater_operator.cluster.api import Api, ApiError
from headwater_operator.cluster.events import Transitions
from headwater_operator.cluster.judging import Judge, Judgement
from headwater_operator.cluster.kinds import (
    AUDITORS,
    CLUSTER_POLICIES,
    COMPILED,
    NAMESPACES,
    NODES,
    POLICIES,
    PROVENANCE_NODES,
    TENANTS,
    Kind,
)
from headwater_operator.cluster.merging import merge_patch
from headwater_operator.cluster.observed import Changed, Cluster, Key, Observed
from headwater_operator.cluster.pacing import Bucket, Pace
from headwater_operator.cluster.provisioned import Provisioned
from headwater_operator.cluster.reports import Counts, Reports, collect
from headwater_operator.cluster.sets import Desired, References, divide
from headwater_operator.cluster.settings import OperatorSettings
from headwater_operator.cluster.statuses import (
    auditor_status,
    is_urgent,
    policy_status,
    tenant_status,
)
from headwater_operator.cluster.tenancy import Ownership, resolve
from headwater_operator.cluster.work import WorkQueue
from headwater_operator.cluster.writing import GoneError, Writing

log = logging.getLogger(__name__)

COMPLAIN_EVERY_S = 10.0
UNREACHABLE_TAINTS = frozenset({"node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"})


class Task(IntEnum):
    """What is to be done with an object; smaller ones first."""

    POLICY = 0
    """Make a compiled policy."""
    SET = 1
    """Make a set of references."""
    NODE = 2
    """Tell a node its sets."""
    STATUS = 3
    """Say what is new of a policy or tenant."""
    COLLECT = 4
    """Delete what nobody names any more."""


class Item(NamedTuple):
    """One object that may have to be written; its task is also its priority."""

    task: Task
    kind: Kind
    key: Key


class _Said(NamedTuple):
    """A status as it should be, and all that it follows from."""

    basis: object
    status: dict[str, Any]


class NotYetError(Exception):
    """Something else has to be written first."""


class Reconciler:
    """See the module. Belongs to the event loop's thread.

    Args:
        api: to write to.
        settings: every number.
        provisioned: what has become of tenants and auditors in NATS.
        clock: monotonic seconds.
        now: the time as statuses say it.
    """

    def __init__(
        self,
        api: Api,
        settings: OperatorSettings,
        *,
        provisioned: Provisioned | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], str] = lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    ) -> None:
        self.provisioned = provisioned or Provisioned(is_configured=False)
        self.provisioned.changed = self._hear
        self.listeners: list[Changed] = []
        """Are told of every change of the model, too."""
        self.cluster = Cluster(self._notice)
        self.queue = WorkQueue()
        self.counts = WorkQueue()
        """Statuses that only say other counts: one worker, so that they hold up nothing."""
        self.writing = Writing(api, self.cluster)
        self.rounds = 0
        self.last_round_s = clock()
        """When the last round ended, by `clock`."""
        self.desired = Desired()
        self.ownership = Ownership({}, {}, {})
        self.judgements: Mapping[str, Judgement] = {}
        self._settings = settings
        self._clock = clock
        self._now = now
        self._judge = Judge()
        self._pace: Pace[References] = Pace(
            settings.set_changes_per_s, settings.set_changes_at_once
        )
        self._node_bucket = Bucket(settings.node_writes_per_s, settings.node_writes_per_s / 4)
        self._count_bucket = Bucket(settings.count_writes_per_s, settings.count_writes_per_s)
        self._transitions = Transitions(api.emit)
        self._statuses: dict[tuple[Kind, Key], _Said] = {}
        self._told_since: dict[str, float] = {}
        self._unneeded_since: dict[str, float] = {}
        self._sets: dict[str, References] = {}
        self._leaving: set[str] = set()
        self._refusals: Counter[tuple[str, int]] = Counter()
        self._complained_s: dict[tuple[str, int], float] = {}
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._is_stale = True
        self._is_computed = False
        """Whether `desired` means anything: before, it would tell every node to drop everything."""

    # -- what others tell --------------------------------------------------------------------------

    def _hear(self) -> None:
        """Statuses say something new; what nodes are told stays the same."""
        self._hurry.set()
        self._wake.set()

    def _notice(self, old: Observed | None, new: Observed | None) -> None:
        for listener in self.listeners:
            listener(old, new)
        about = new or old
        assert about is not None
        if about.kind is PROVENANCE_NODES:
            # Five thousand of them change after an edit; each is held against what is desired.
            if self._is_computed and self._node_difference(about.key) is not None:
                self._want(Task.NODE, PROVENANCE_NODES, about.key)
            if old is not None and new is not None and old.has_same_report(new):
                return  # a sign of life, or our own write: nothing to be said
        elif about.kind is COMPILED:
            self._is_stale |= new is None  # somebody may have deleted what is needed
        elif about.kind is not AUDITORS and (
            old is None or new is None or not old.has_same_spec(new)
        ):
            self._is_stale = True
        if self._is_stale:
            self._hurry.set()
        self._wake.set()

    async def run(self) -> None:
        """Reconcile until cancelled. May be run again afterwards, by the next term as leader."""
        self._is_stale = True
        self._statuses = {}  # what was queued in an earlier term is queued no more
        self._wake.set()
        self._hurry.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._transitions.run(), name="events")
            for number in range(self._settings.workers):
                tasks.create_task(self._work(self.queue), name=f"writer-{number}")
            tasks.create_task(self._work(self.counts), name="counts")
            try:
                await self._rounds()
            finally:
                self.queue.close()
                self.counts.close()

    async def _rounds(self) -> None:
        settings = self._settings
        while True:
            wait = settings.late_check_s
            if self._pace.due is not None:
                wait = min(wait, max(0.0, self._pace.due - self._clock()))
            await _wait(self._wake, wait)
            if self._pace.due is not None and self._pace.due <= self._clock():
                self._is_stale = True
            passed = self._clock() - self.last_round_s
            if not self._is_stale and passed < settings.report_interval_s:
                await _wait(self._hurry, settings.report_interval_s - passed)
                passed = self._clock() - self.last_round_s
            await asyncio.sleep(max(settings.settle_s, settings.round_interval_s - passed))
            self._wake.clear()
            self._hurry.clear()
            if self.cluster.is_complete:
                self.round()

    # -- what should be ----------------------------------------------------------------------------

    def round(self) -> None:
        """Compute what should be and queue what differs. Only for a complete model."""
        if self._is_stale:
            self._is_stale = False
            self._compute()
            self._queue_nodes()
        self._say()
        self._collect()
        self.rounds += 1
        self.last_round_s = self._clock()

    def _compute(self) -> None:
        """Tenants, policies and nodes to sets, all of it; a policy is compiled once only."""
        self._is_computed = True
        of = self.cluster.of
        self._pace.begin()
        self.ownership = resolve(of(TENANTS).values(), of(NAMESPACES))
        self.judgements = self._judge.judge(
            [*of(POLICIES).values(), *of(CLUSTER_POLICIES).values()],
            self.ownership,
            of(NAMESPACES),
            frozenset(one.name for one in of(TENANTS).values() if one.spec.get("suspend")),
        )
        self.desired = divide(
            self.judgements.values(),
            of(NODES).values(),
            lambda place, references: self._pace.show(place, references, self._clock()),
        )
        self._sets |= self.desired.sets

    def _want(self, task: Task, kind: Kind, key: Key) -> None:
        self.queue.add(Item(task, kind, key), task)

    def _queue_nodes(self) -> None:
        compiled = self.cluster.of(COMPILED)
        for name, references in self.desired.sets.items():
            for reference in references:
                if ("", reference.hash) not in compiled:
                    self._want(Task.POLICY, COMPILED, ("", reference.hash))
            if ("", name) not in compiled:
                self._want(Task.SET, COMPILED, ("", name))
        provenance_nodes = self.cluster.of(PROVENANCE_NODES)
        for key in self.cluster.of(NODES).keys() | provenance_nodes.keys():
            if self._node_difference(key) is not None:
                self._want(Task.NODE, PROVENANCE_NODES, key)

    def _node_difference(self, key: Key) -> dict[str, Any] | None:
        """What a ProvenanceNode is to be changed by; empty to delete it; None to leave it."""
        node = self.cluster.of(NODES).get(key)
        told = self.cluster.of(PROVENANCE_NODES).get(key)
        if node is None or node.is_leaving:
            return None if told is None or told.is_leaving else {}
        wanted = self.desired.nodes.get(node.name, ())
        change: dict[str, Any] = {}
        # A node made again under its name: the garbage collector would take this with the old one.
        if told is None or told.owner != node.uid:
            owner = {
                "apiVersion": NODES.api_version,
                "kind": NODES.name,
                "name": node.name,
                "uid": node.uid,
            }
            change["metadata"] = {"name": node.name, "ownerReferences": [owner]}
        if told is None or told.spec.get("policySets", ()) != wanted:
            change["spec"] = {"policySets": list(wanted)}
        return change or None

    # -- what is said ------------------------------------------------------------------------------

    def _say(self) -> None:
        """Hold every status against what it should be."""
        clock, now = self._clock(), self._now()
        reports = self._reports(clock)
        before, self._statuses = self._statuses, {}

        def say(about: Observed, basis: object, make: Callable[[], dict[str, Any]]) -> None:
            """What is said follows from the basis and the object: the same again is left alone."""
            said = before.get((about.kind, about.key))
            if said is None or said.basis != (about.version, basis):
                said = _Said((about.version, basis), make())
                self._queue_status(about, said.status)
            self._statuses[about.kind, about.key] = said

        for judgement in self.judgements.values():
            policy = judgement.policy
            # The model may be newer than the judgement in what only a status says.
            policy = self.cluster.of(policy.kind).get(policy.key, policy)
            desired = self.desired.told.get(policy.uid, 0)
            counts = Counts(desired=desired)
            if judgement.reference is not None:
                counts = reports.of(judgement.reference, desired)
            lost = reports.lost[judgement.tenant]
            is_left_out = policy.uid in self.desired.left_out
            say(
                policy,
                (judgement, counts, lost, is_left_out),
                partial(
                    policy_status,
                    judgement,
                    counts,
                    lost,
                    is_left_out=is_left_out,
                    before=policy.status,
                    now=now,
                ),
            )
        for tenant in self.cluster.of(TENANTS).values():
            account = self.provisioned.account(tenant.name)
            say(
                tenant,
                (self.ownership.of(tenant.name), account),
                partial(tenant_status, tenant, self.ownership, account, now),
            )
        for auditor in self.cluster.of(AUDITORS).values():
            state = self.provisioned.auditor(auditor.uid)
            if state is not None:
                say(auditor, state, partial(auditor_status, auditor, state, now))

    def _queue_status(self, about: Observed, after: dict[str, Any]) -> None:
        if merge_patch(about.status, after):
            queue = self.queue if is_urgent(about.status, after) else self.counts
            queue.add(Item(Task.STATUS, about.kind, about.key), Task.STATUS)

    def _reports(self, clock: float) -> Reports:
        nodes = self.cluster.of(NODES)
        for name, wanted in self.desired.nodes.items():
            told = self.cluster.of(PROVENANCE_NODES).get(("", name))
            if told is None or told.status.get("policySets", ()) == wanted:
                self._told_since[name] = clock
            else:
                self._told_since.setdefault(name, clock)
        self._told_since = {k: v for k, v in self._told_since.items() if ("", k) in nodes}
        return collect(
            self.cluster.of(PROVENANCE_NODES).values(),
            self.desired.nodes,
            self._known_sets(),
            self._told_since,
            frozenset(
                node.name
                for node in nodes.values()
                if not UNREACHABLE_TAINTS.isdisjoint(node.spec.get("taints", ()))
            ),
            clock,
        )

    def _known_sets(self) -> Mapping[str, References]:
        """Sets that some node may apply: the API's, by those who made them before us, and ours."""
        compiled = self.cluster.of(COMPILED)
        self._sets = {
            name: references
            for name, references in self._sets.items()
            if name in self.desired.sets or ("", name) in compiled
        }
        for (_, name), one in compiled.items():
            if name not in self._sets and "references" in one.spec:
                try:
                    self._sets[name] = decode_references(one.spec["references"])
                except ValueError as error:
                    log.warning("set %s cannot be read and counts for nothing: %s", name, error)
                    self._sets[name] = ()
        return self._sets

    # -- what nobody names any more ----------------------------------------------------------------

    def _collect(self) -> None:
        """Queue the deletion of what no node has named, nor is to name, for a while."""
        clock = self._clock()
        needed: set[str] = set(self.desired.sets) | set(self.desired.policies)
        for node in self.cluster.of(PROVENANCE_NODES).values():
            needed.update(node.spec.get("policySets") or ())
            needed.update(node.status.get("policySets") or ())
        # Also what unneeded sets refer to: a set that is wanted again has to be whole.
        for name in needed | self._sets.keys():
            needed.update(one.hash for one in self._sets.get(name, ()))
        unneeded = {name for _, name in self.cluster.of(COMPILED)} - needed
        self._unneeded_since = {
            name: self._unneeded_since.get(name, clock) for name in sorted(unneeded)
        }
        for name, since in self._unneeded_since.items():
            if clock - since >= self._settings.collect_after_s:
                self._want(Task.COLLECT, COMPILED, ("", name))

    # -- workers -----------------------------------------------------------------------------------

    async def _work(self, queue: WorkQueue) -> None:
        while True:
            item = await queue.take()
            assert isinstance(item, Item)
            try:
                await self._do(item)
            except NotYetError:
                queue.retry(item, item.task, after_s=0.02)
            except ApiError as error:
                queue.retry(item, item.task, after_s=error.retry_after_s or None)
                self._complain(item, error)
            else:
                queue.done(item)

    def _complain(self, item: Item, error: ApiError) -> None:
        """Log a refusal; of many of one sort the first, and every ten seconds how many."""
        sort = (item.kind.plural, error.status)
        self._refusals[sort] += 1
        if self._clock() - self._complained_s.get(sort, -COMPLAIN_EVERY_S) >= COMPLAIN_EVERY_S:
            self._complained_s[sort] = self._clock()
            log.warning(
                "%s %s is written again later (one of %d such refusals): %s",
                item.kind.name,
                "/".join(filter(None, item.key)),
                self._refusals.pop(sort),
                error,
            )

    async def _do(self, item: Item) -> None:
        match item.task:
            case Task.POLICY:
                await self._make_policy(item.key)
            case Task.SET:
                await self._make_set(item.key)
            case Task.NODE:
                await self._tell_node(item.key)
            case Task.STATUS:
                await self._write_status(item.kind, item.key)
            case Task.COLLECT:
                await self._delete_compiled(item.key)

    async def _make_policy(self, key: Key) -> None:
        compiled = self.desired.policies.get(key[1])
        if compiled is not None and key not in self.cluster.of(COMPILED):
            await self.writing.create(COMPILED, key[1], _compiled("canonical", compiled.canonical))

    async def _make_set(self, key: Key) -> None:
        references = self.desired.sets.get(key[1])
        if references is None or key in self.cluster.of(COMPILED):
            return
        if not all(self._is_there(reference.hash) for reference in references):
            raise NotYetError
        content = [reference.as_json() for reference in references]
        await self.writing.create(COMPILED, key[1], _compiled("references", content))

    async def _tell_node(self, key: Key) -> None:
        if self._node_difference(key):
            await self._spend(self._node_bucket)
        change = self._node_difference(key)  # the newest, after the wait
        if change is None:
            return
        if not change:
            await self.writing.delete(self.cluster.of(PROVENANCE_NODES)[key])
            return
        if not all(map(self._is_there, change.get("spec", {}).get("policySets", ()))):
            raise NotYetError
        if key in self.cluster.of(PROVENANCE_NODES):
            await self.writing.patch(PROVENANCE_NODES, key, change)
        else:
            await self.writing.create(PROVENANCE_NODES, key[1], change)

    async def _write_status(self, kind: Kind, key: Key) -> None:
        said = self._statuses.get((kind, key))
        about = self.cluster.of(kind).get(key)
        if said is None or about is None:
            return
        if not is_urgent(about.status, said.status):
            await self._spend(self._count_bucket)
            said = self._statuses.get((kind, key))
            about = self.cluster.of(kind).get(key)
            if said is None or about is None:
                return
        patch = merge_patch(about.status, said.status)
        if not patch:
            return
        try:
            await self.writing.patch(kind, key, {"status": patch}, "status")
        except GoneError:
            self._statuses.pop((kind, key), None)  # its watch tells; if not, it is said again
        else:
            self._transitions.note(about, said.status)

    async def _delete_compiled(self, key: Key) -> None:
        one = self.cluster.of(COMPILED).get(key)
        if one is None or one.is_leaving or key[1] not in self._unneeded_since:
            return
        if self._is_stale:
            raise NotYetError  # it may be needed again
        self._leaving.add(key[1])
        try:
            await self.writing.delete(one)
        finally:
            self._leaving.discard(key[1])

    def _is_there(self, name: str) -> bool:
        """Whether a compiled policy or set is there, and will be when this request arrives."""
        one = self.cluster.of(COMPILED).get(("", name))
        return one is not None and not one.is_leaving and name not in self._leaving

    async def _spend(self, bucket: Bucket) -> None:
        wait = bucket.take(self._clock())
        while wait:
            await asyncio.sleep(wait)
            wait = bucket.take(self._clock())


def _compiled(field: str, value: object) -> dict[str, Any]:
    content = CONTENT_SET if field == "references" else CONTENT_POLICY
    return {"metadata": {"labels": {CONTENT_LABEL: content}}, "spec": {field: value}}


async def _wait(event: asyncio.Event, seconds: float) -> None:
    # Not wait_for: in Python 3.11 it loses a cancellation that comes together with the event.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
