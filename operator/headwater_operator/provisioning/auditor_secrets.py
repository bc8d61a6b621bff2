# SPDX-License-Identifier: Apache-2.0
"""The Secret with an auditor's credentials, in the auditor's own namespace.

Why: it is the tenant's, beside the tenant's other Secrets, which the operator neither reads nor
writes: it may not get or list them, and admission refuses it any that does not belong to a
ProvenanceAuditor. The object's owner is the ProvenanceAuditor, so it goes with that, whether or not
an operator runs. Called by `provisioner`. Promise: G5.
"""

from typing import Any, Final

from headwater_prov.stream import STREAM_NAME

from headwater_operator.accounts import Credentials
from headwater_operator.cluster.api import ApiError
from headwater_operator.cluster.kinds import AUDITORS
from headwater_operator.provisioning.auditors import WantedAuditor
from headwater_operator.provisioning.records import encode_data
from headwater_operator.provisioning.settings import NatsSettings
from headwater_operator.provisioning.vault import MANAGED_BY, SECRETS, SecretApi

USER_ANNOTATION: Final = "headwater.dev/user"
"""Public key of the user whose credentials are in the Secret."""

POLICIES_ENTRY: Final = "policies"
"""Names of policies, with commas; absent if the auditor gets the records of all."""

_REFUSED_BY_ADMISSION: Final = 422
"""What the policy headwater-operator-secrets answers; a role that is missing is a 403."""


class SecretTakenError(Exception):
    """A Secret of that name is there and is not the auditor's."""


class AuditorSecrets:
    """Writes them.

    Args:
        api: to write to.
        settings: what a program has to know of NATS beside its credentials.
    """

    def __init__(self, api: SecretApi, settings: NatsSettings) -> None:
        self._api = api
        self._settings = settings

    async def put(self, wanted: WantedAuditor, user: Credentials) -> None:
        """Put credentials into the auditor's Secret, making it if need be.

        Args:
            wanted: the auditor.
            user: whose credentials.

        Raises:
            SecretTakenError: a Secret of that name is somebody else's.
            ApiError: it cannot be written.
        """
        content = {
            "auditor.creds": user.text().encode("ascii"),
            "consumer": wanted.consumer.encode("ascii"),
            "inbox-prefix": user.inbox_prefix.encode("ascii"),
            "servers": ",".join(self._settings.servers).encode("ascii"),
            "stream": STREAM_NAME.encode("ascii"),
        }
        if authority := self._settings.authority():
            content["ca.crt"] = authority
        if policies := _policies_entry(wanted):
            content[POLICIES_ENTRY] = policies
        annotations = {USER_ANNOTATION: user.key.public}
        data = encode_data(content)
        change = {"metadata": {"annotations": annotations}, "data": data}
        try:
            # What an earlier filter said goes, too.
            await self._patch(wanted, {**change, "data": {POLICIES_ENTRY: None, **data}})
        except ApiError as error:
            if not error.is_absent:
                raise
            await self._create(wanted, change)

    async def holds(self, wanted: WantedAuditor, user: str) -> bool:
        """Whether the auditor's Secret is there, with a user's credentials and its policies.

        Args:
            wanted: the auditor.
            user: public key.

        Raises:
            SecretTakenError: a Secret of that name is somebody else's.
            ApiError: it cannot be told.
        """
        try:
            # A patch of nothing answers with the object, and is refused where it is not ours.
            stored = await self._patch(wanted, {})
        except ApiError as error:
            if error.is_absent:
                return False
            raise
        annotations = stored["metadata"].get("annotations") or {}
        data = stored.get("data") or {}
        expected = encode_data({POLICIES_ENTRY: _policies_entry(wanted)})[POLICIES_ENTRY]
        return (
            "auditor.creds" in data
            and data.get(POLICIES_ENTRY, "") == expected
            and annotations.get(USER_ANNOTATION) == user
        )

    async def _patch(self, wanted: WantedAuditor, change: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._api.patch(SECRETS, wanted.namespace, wanted.secret, change)
        except ApiError as error:
            if error.status == _REFUSED_BY_ADMISSION:
                raise SecretTakenError(
                    f'Secret "{wanted.secret}" is there and does not belong to this auditor; '
                    "delete it, or create a ProvenanceAuditor with another spec.secretName"
                ) from error
            raise

    async def _create(self, wanted: WantedAuditor, change: dict[str, Any]) -> None:
        owner = {
            "apiVersion": AUDITORS.api_version,
            "kind": AUDITORS.name,
            "name": wanted.name,
            "uid": wanted.uid,
            "controller": True,
        }
        metadata = {
            **change["metadata"],
            "name": wanted.secret,
            "namespace": wanted.namespace,
            "labels": MANAGED_BY,
            "ownerReferences": [owner],
        }
        body = {"apiVersion": SECRETS.api_version, "kind": SECRETS.name, "type": "Opaque"}
        await self._api.create(SECRETS, {**body, **change, "metadata": metadata})


def _policies_entry(wanted: WantedAuditor) -> bytes:
    return ",".join(wanted.policies).encode("ascii")
