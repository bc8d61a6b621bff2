# SPDX-License-Identifier: Apache-2.0
"""The agent on a node of a cluster: what it is told by the API server becomes scope in the kernel.

Why: everything between the ring and the wire is the same as in local mode; what differs is where
policies and workloads come from. The way of a policy here: `watching` (own ProvenanceNode and
pods, over `api`) -> `resolver` (sets and policies by hash, `cache`) -> `matching` (pods against
selectors) -> `placing` (cgroups of `cgroup_watch` into slots, by `headwater_agent.service.Agent`).
What came of it goes back: `status`, `reporter`. `main` ties them together.
Promises: G1 (a pod's own cgroup is matched before its containers exist), G6 and G8 (the last good
configuration stays in force, through failures and restarts).
"""
