# SPDX-License-Identifier: Apache-2.0
"""The kinds that the operator reads, each once.

Why: paths, watches, RBAC and tests name the same eight kinds; a kind that is missing in one of them
would be a hole. It reads no pods: what a pod is given depends on its node's agent alone.
"""

from dataclasses import dataclass
from typing import Final

from headwater_prov.policy.schema import GROUP, VERSION


@dataclass(frozen=True, slots=True, eq=False)  # each is there once, and a key of every look-up
class Kind:
    """One kind of object of the API.

    Args:
        group: API group; empty for Kubernetes' core.
        version: of the group.
        plural: as paths and RBAC name it.
        name: as objects name it in their `kind`.
        is_namespaced: whether its objects live in a namespace.
    """

    group: str
    version: str
    plural: str
    name: str
    is_namespaced: bool = False

    @property
    def api_version(self) -> str:
        """What objects have as `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, name: str = "", namespace: str = "", subresource: str = "") -> str:
        """The path of one object, or of all of them.

        Args:
            name: of the object; empty for all.
            namespace: of the object; empty for those of no or of all namespaces.
            subresource: `status`, or empty for the object itself.
        """
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        parts += ["namespaces", namespace] if namespace else []
        return "/".join([*parts, self.plural, *filter(None, (name, subresource))])


TENANTS: Final = Kind(GROUP, VERSION, "provenancetenants", "ProvenanceTenant")
POLICIES: Final = Kind(GROUP, VERSION, "provenancepolicies", "ProvenancePolicy", True)
CLUSTER_POLICIES: Final = Kind(
    GROUP, VERSION, "clusterprovenancepolicies", "ClusterProvenancePolicy"
)
AUDITORS: Final = Kind(GROUP, VERSION, "provenanceauditors", "ProvenanceAuditor", True)
COMPILED: Final = Kind(GROUP, VERSION, "compiledprovenancepolicies", "CompiledProvenancePolicy")
PROVENANCE_NODES: Final = Kind(GROUP, VERSION, "provenancenodes", "ProvenanceNode")
NAMESPACES: Final = Kind("", "v1", "namespaces", "Namespace")
NODES: Final = Kind("", "v1", "nodes", "Node")

READ: Final = (
    NAMESPACES,
    NODES,
    TENANTS,
    POLICIES,
    CLUSTER_POLICIES,
    AUDITORS,
    COMPILED,
    PROVENANCE_NODES,
)
"""What the operator lists and watches."""
