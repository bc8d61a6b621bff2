# SPDX-License-Identifier: Apache-2.0
"""Which slot of the kernel's maps serves which tenant under which policies.

Why: the kernel knows numbers only. One slot stands for one tenant and one set of policies; every
workload that the same set selects shares it. Editing a policy keeps the slot and gives it a new
epoch, so nothing is detached and no number is lost.
`service.Agent` asks here when a workload starts and when policies change; the answer goes to
`scope.Scope` and to the pipeline. Pure: no maps, no clock.
Promises: G5 (a slot never changes its tenant within a load, so a number once seen stays theirs) and
G6 (only slots whose compiled policy really changed get a new epoch).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from headwater_prov.policy import CompiledPolicy, PolicySet, combine, compile_policy

FIRST_SLOT = 1
"""0 in the kernel's maps means: in no scope."""


class SlotsExhaustedError(RuntimeError):
    """More distinct sets of policies than the kernel's maps have room for."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What runs in one cgroup, as a policy selects it."""

    namespace: str
    """Kubernetes namespace, or what `run --namespace` said."""

    name: str
    """Name of the pod or the local run."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """What `podSelector` looks at."""

    pod_uid: str = ""
    """Of the pod: tells it from an earlier one of the same name."""

    container: str = ""
    """Name of the container; empty for the pod as a whole, and as long as nobody knows it."""

    image_digest: str = ""
    """What the container runs, `sha256:...`."""

    @property
    def is_complete(self) -> bool:
        """Whether no more is to be learnt of what runs: of a container, name and image are late."""
        return not self.pod_uid or bool(self.container and self.image_digest)


@dataclass(frozen=True, slots=True)
class Placement:
    """What the policies say about one workload."""

    tenant: str
    """Owner of the workload's namespace."""

    policies: tuple[str, ...]
    """The selecting policies as "namespace/name", sorted."""

    compiled: CompiledPolicy
    """All of them together."""


@dataclass(slots=True)
class Slot:
    """One slot in use."""

    number: int
    """Index in the kernel's maps."""

    tenant: str
    """Whose records it makes; empty while that is not known."""

    policies: tuple[str, ...]
    """Which set of policies it stands for."""

    policy_hash: str = ""
    """Hash of the compiled policy in force; empty before the first."""

    epoch: int = 0
    """Token of (slot, policy) in force; 0 before the first."""


def place(policies: PolicySet, workload: Workload) -> Placement | None:
    """Return what `policies` say about `workload`, None where no policy selects it.

    Raises:
        NamespaceWithoutTenant: its namespace has policies, but nobody's stream to write to.
    """
    selected = policies.select(workload.namespace, workload.labels)
    if not selected:
        return None
    return Placement(
        tenant=policies.tenant_of(workload.namespace).name,
        policies=tuple(sorted(f"{policy.namespace}/{policy.name}" for policy in selected)),
        compiled=combine([compile_policy(policy) for policy in selected]),
    )


class SlotTable:
    """Slots and epochs of one load of the kernel programs."""

    def __init__(self, slots: int) -> None:
        """Args: slots: how many the kernel's maps hold, slot 0 included."""
        self._slots = slots
        self._by_key: dict[tuple[str, tuple[str, ...]], Slot] = {}
        self._released: list[Slot] = []
        self._next_number = FIRST_SLOT
        self._unused: list[int] = []
        self._next_epoch = 1

    def slot_for(self, placement: Placement) -> tuple[Slot, bool]:
        """Return the placement's slot and whether its policy is new, which made a new epoch.

        Raises:
            SlotsExhaustedError: no number is left.
        """
        key = (placement.tenant, placement.policies)
        slot = self._by_key.get(key)
        if slot is None:
            number = self._take()
            if number is None:
                raise SlotsExhaustedError(
                    f"all {self._slots - FIRST_SLOT} policy slots are in use: "
                    f'tenant "{placement.tenant}" needs one more; select workloads by fewer '
                    "different combinations of policies, or restart the agent to free unused slots"
                )
            slot = self._by_key[key] = Slot(number, placement.tenant, placement.policies)
        if slot.policy_hash == placement.compiled.hash:
            return slot, False
        slot.policy_hash = placement.compiled.hash
        slot.epoch = self._epoch()
        return slot, True

    def nobodys(self, policy_hash: str) -> Slot | None:
        """Return a slot without a tenant, in a new epoch; None if no number is left."""
        number = self._take()
        return None if number is None else Slot(number, "", (), policy_hash, self._epoch())

    def give(self, slot: Slot, tenant: str) -> None:
        """A slot without a tenant is this one's from now on, and for good."""
        slot.tenant = tenant
        self._released.append(slot)

    def put_back(self, slot: Slot) -> None:
        """Nothing has ever happened in a slot without a tenant: it may be anybody's."""
        self._unused.append(slot.number)

    @property
    def epoch(self) -> int:
        """The latest epoch of any slot; 0 before the first."""
        return self._next_epoch - 1

    def slots(self) -> list[Slot]:
        """Return the slots that have a tenant."""
        return [*self._by_key.values(), *self._released]

    def _take(self) -> int | None:
        if self._unused:
            return self._unused.pop()
        if self._next_number >= self._slots:
            return None
        self._next_number += 1
        return self._next_number - 1

    def _epoch(self) -> int:
        self._next_epoch += 1
        return self._next_epoch - 1
