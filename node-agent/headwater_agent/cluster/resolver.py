# SPDX-License-Identifier: Apache-2.0
"""From the names of sets to policies: by hash, checked, kept on disk, the last good ones as a rest.

Why: a node is told 32 hashes at most (docs/decisions/0009-what-a-node-is-told.md); what they stand
for is immutable, so it is fetched once and needs no watch. What cannot be had or applied must
neither stop what is in force nor hold up what is good: a failed set is represented by the sets that
were in force in its place, a failed policy by its own last good version, and each failure is said.
Called by `main` whenever the node's spec or the namespaces of its pods change; asks :mod:`.api` and
:mod:`.cache`; next, :mod:`.matching`. Promises: G6, G8.
"""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Protocol

import orjson
from headwater_prov.policy import (
    CompiledPolicy,
    PolicyReference,
    UnreadablePolicy,
    canonical_references,
    decode_policy,
    decode_references,
    reference_set_index,
)

from headwater_agent.cluster.api_errors import ApiError, ApiNotFoundError
from headwater_agent.cluster.cache import CONTENT_MAX_BYTES, ConfigurationCache
from headwater_agent.cluster.configuration import Configuration, Failure, FailureReason
from headwater_agent.cluster.resources import NodeSpec, compiled_path

log = logging.getLogger(__name__)

_AT_ONCE: Final = 8
"""Requests side by side: a first start with all sets and some policies takes a few round trips."""

_STATE: Final = "configuration"

RETRIED: Final = frozenset(
    {FailureReason.UNREACHABLE, FailureReason.NOT_FOUND, FailureReason.HASH_MISMATCH}
)
"""Failures that another attempt can mend."""

PolicyKey = tuple[str, str]
"""Namespace (empty for the platform's) and name."""


class GetObject(Protocol):
    """What is needed of the API client."""

    async def get(self, path: str) -> dict[str, Any]:
        """Return one object."""
        ...


class _Unresolved(Exception):  # noqa: N818  # a state, said to nobody else
    """A content cannot be had or applied."""

    def __init__(self, reason: FailureReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Resolver:
    """Resolves what the node is told; one resolution at a time."""

    def __init__(self, api: GetObject, cache: ConfigurationCache) -> None:
        self._api = api
        self._cache = cache
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self._sets: dict[str, tuple[PolicyReference, ...]] = {}
        self._policies: dict[str, CompiledPolicy] = {}
        # What is wrong with contents that are what their names say: that will not change.
        self._unreadable: dict[str, str] = {}
        self._kept: dict[str, Any] = {}
        # By policy, the hash of what was last in force for it.
        self._last_good: dict[PolicyKey, str] = {}
        # What a failed set falls back on: in force now, or when the cache was written.
        self._before: Mapping[str, tuple[PolicyReference, ...]] = {}
        self.current = Configuration()
        """The last resolution; empty before the first."""

    async def resolve(self, spec: NodeSpec, namespaces: Collection[str]) -> Configuration:
        """Return what is to be in force from now on; never raises for what it was told.

        Args:
            spec: what the node is told.
            namespaces: of the pods on this node: others' policies are not fetched.
        """
        sets, failures = await self._resolve_sets(spec.sets)
        references = [
            reference
            for each in sets.values()
            for reference in each
            if any(reference.applies_to(namespace) for namespace in namespaces)
        ]
        found = await asyncio.gather(
            *(self._policy(reference.hash) for reference in references), return_exceptions=True
        )
        policies: dict[str, CompiledPolicy] = {}
        in_force: dict[PolicyReference, str] = {}
        for reference, outcome in zip(references, found, strict=True):
            key = (reference.namespace or "", reference.name)
            if isinstance(outcome, _Unresolved):
                rest = await self._rest(key)
                failures.append(
                    Failure(*key, reference.hash, outcome.reason, _with_rest(outcome, rest))
                )
                if rest is None:
                    continue
                policy = rest
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                policy = outcome
                self._last_good[key] = policy.hash
            policies[policy.hash] = policy
            in_force[reference] = policy.hash
        self.current = Configuration(
            spec.generation, sets, policies, in_force, tuple(sorted(failures))
        )
        self._before = sets
        self._keep(spec)
        return self.current

    def recall(self) -> NodeSpec | None:
        """Take up what the cache says was in force last; None if it says nothing.

        The result is to be resolved like a spec that the API server just sent.
        """
        state = self._cache.read_state(_STATE)
        if state is None:
            return None
        try:
            spec = NodeSpec(int(state["generation"]), tuple(map(str, state["spec"])))
            self._last_good = {
                (str(namespace), str(name)): str(digest)
                for namespace, name, digest in state["lastGood"]
            }
            in_force = [str(name) for name in state["sets"]]
        except (KeyError, TypeError, ValueError) as error:
            log.warning("the cached configuration is damaged, starting without it: %r", error)
            return None
        sets = {}
        for name in in_force:
            content = self._cache.read(name)
            with contextlib.suppress(_Unresolved):
                if content is not None:
                    sets[name] = _decode_set(content)
        self._before = sets
        return spec

    # -- sets ------------------------------------------------------------------------------------

    async def _resolve_sets(
        self, names: Collection[str]
    ) -> tuple[dict[str, tuple[PolicyReference, ...]], list[Failure]]:
        found = await asyncio.gather(*(self._set(name) for name in names), return_exceptions=True)
        sets: dict[str, tuple[PolicyReference, ...]] = {}
        failed: list[tuple[str, _Unresolved]] = []
        for name, outcome in zip(names, found, strict=True):
            if isinstance(outcome, _Unresolved):
                failed.append((name, outcome))
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                sets[name] = outcome
        if failed:
            # Which set a failed one replaces it does not say; it is one of those that no good one
            # does. They all stay, lest a policy ends that nobody took back.
            covered = {_place(references) for references in sets.values()}
            for name, references in self._before.items():
                if name not in sets and _place(references) not in covered:
                    sets[name] = references
        failures = [
            Failure("", name, name, error.reason, f"{error}; the sets before it stay in force")
            for name, error in failed
        ]
        return sets, failures

    async def _set(self, name: str) -> tuple[PolicyReference, ...]:
        known = self._sets.get(name)
        if known is None:
            content = self._cache.read(name)
            if content is None:
                content = await self._fetch(name)
                self._cache.write(name, content)
            known = self._sets[name] = _decode_set(content)
        return known

    # -- policies --------------------------------------------------------------------------------

    async def _policy(self, name: str) -> CompiledPolicy:
        known = self._policies.get(name)
        if known is not None:
            return known
        if name in self._unreadable:
            raise _Unresolved(FailureReason.UNREADABLE, self._unreadable[name])
        content = self._cache.read(name)
        is_cached = content is not None
        if content is None:
            content = await self._fetch(name)
        try:
            known = self._policies[name] = decode_policy(content)
        except UnreadablePolicy as error:
            self._unreadable[name] = str(error)
            raise _Unresolved(FailureReason.UNREADABLE, str(error)) from error
        if not is_cached:
            self._cache.write(name, content)
        return known

    async def _rest(self, key: PolicyKey) -> CompiledPolicy | None:
        """The last good version of a policy, if it is still to be had."""
        digest = self._last_good.get(key)
        if digest is None:
            return None
        try:
            return await self._policy(digest)
        except _Unresolved:
            return None

    # -- contents --------------------------------------------------------------------------------

    async def _fetch(self, name: str) -> str:
        """Get a content from the API server and hold it against its name."""
        try:
            async with self._limit:
                found = await self._api.get(compiled_path(name))
        except ApiNotFoundError as error:
            raise _Unresolved(
                FailureReason.NOT_FOUND, "the API server has no such CompiledProvenancePolicy"
            ) from error
        except ApiError as error:
            raise _Unresolved(FailureReason.UNREACHABLE, str(error)) from error
        content = _content(found.get("spec"))
        if len(content) > CONTENT_MAX_BYTES or _digest(content) != name:
            raise _Unresolved(
                FailureReason.HASH_MISMATCH,
                "the CompiledProvenancePolicy does not have the content that its name says; "
                "delete it, the operator makes it again",
            )
        return content

    def _keep(self, spec: NodeSpec) -> None:
        """Write down what is in force, and forget what nothing refers to."""
        current = self.current
        keys = {(reference.namespace or "", reference.name) for reference in _all(current.sets)}
        self._last_good = {key: value for key, value in self._last_good.items() if key in keys}
        wanted = {*current.contents(), *spec.sets, *self._last_good.values()}
        wanted |= {reference.hash for reference in current.in_force}
        wanted |= {failure.hash for failure in current.failures}
        self._sets = {name: each for name, each in self._sets.items() if name in wanted}
        self._policies = {name: each for name, each in self._policies.items() if name in wanted}
        self._unreadable = {n: each for n, each in self._unreadable.items() if n in wanted}
        state = {
            "generation": spec.generation,
            "spec": list(spec.sets),
            "sets": sorted(current.sets),
            "lastGood": sorted([*key, value] for key, value in self._last_good.items()),
        }
        if state != self._kept:
            self._kept = state
            self._cache.write_state(_STATE, state)
        self._cache.collect(wanted)


def _content(spec: object) -> str:
    """What a CompiledProvenancePolicy holds, as its name is made of; empty if it holds nothing."""
    if not isinstance(spec, Mapping):
        return ""
    canonical = spec.get("canonical")
    if isinstance(canonical, str):
        return canonical if canonical.isascii() else ""
    try:
        return canonical_references(decode_references(spec.get("references")))
    except ValueError as error:
        raise _Unresolved(FailureReason.UNREADABLE, str(error)) from error


def _decode_set(content: str) -> tuple[PolicyReference, ...]:
    try:
        return decode_references(orjson.loads(content))
    except ValueError as error:
        raise _Unresolved(FailureReason.UNREADABLE, str(error)) from error


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode("ascii")).hexdigest()


def _place(references: tuple[PolicyReference, ...]) -> int:
    """Which of the sets this is; -1 for one without references."""
    return reference_set_index(references[0].namespace) if references else -1


def _all(sets: Mapping[str, tuple[PolicyReference, ...]]) -> Iterable[PolicyReference]:
    return (reference for references in sets.values() for reference in references)


def _with_rest(error: _Unresolved, rest: CompiledPolicy | None) -> str:
    if rest is None:
        return f"{error}; nothing is captured by this policy here"
    return f"{error}; its last good version {rest.hash[:12]} stays in force"
