# SPDX-License-Identifier: Apache-2.0
"""What the tokens say: least privilege, bounded lives, and a size that fits a thousand tenants."""

import base64
import json
from pathlib import Path
from typing import Any

import nacl.signing
import pytest
from headwater_operator.accounts import (
    ROOM_FOR_GAPS_BYTES,
    KeyPair,
    OperatorKeys,
    QuotaError,
    Quotas,
    Reservation,
    Role,
    agent_user,
    auditor_user,
    check_reservations,
    share_out,
    stream_config,
    system_user,
)
from headwater_operator.accounts import claims as claims_module
from nats.js.api import DiscardPolicy

NOW = 1_795_000_000


@pytest.fixture
def keys(tmp_path: Path) -> OperatorKeys:
    return OperatorKeys.create_or_load(tmp_path / "keys", clock=lambda: NOW)


def read(token: str) -> dict[str, Any]:
    """Check the signature and return the claims."""
    signed, _, signature = token.rpartition(".")
    header, _, body = signed.partition(".")
    assert json.loads(unpad(header)) == {"typ": "JWT", "alg": "ed25519-nkey"}
    content: dict[str, Any] = json.loads(unpad(body))
    # A public key is its role's byte, 32 bytes of key and 2 of checksum, in base32.
    key = base64.b32decode(content["iss"])[1:33]
    nacl.signing.VerifyKey(key).verify(signed.encode(), unpad(signature))
    return content


def unpad(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_tenant_account_has_one_stream_one_export_no_imports(keys: OperatorKeys) -> None:
    tenant = keys.ensure_tenant("acme", Quotas(stream_bytes=10**8))
    content = read(keys.tenant_account_token(tenant))
    body = content["nats"]
    assert content["iss"] == keys.signing.public != keys.identity.public
    assert content["sub"] == tenant.account.public
    expected = {"imports": 0, "exports": 1, "leaf": 0, "streams": 1, "max_bytes_required": True}
    assert (
        body["limits"].items()
        >= {**expected, "disk_max_stream_bytes": 10**8 + ROOM_FOR_GAPS_BYTES}.items()
    )
    (export,) = body["exports"]
    assert (export["type"], export["subject"]) == ("service", "prov.v1.>")
    assert export["response_threshold"] == claims_module.RESPONSE_THRESHOLD_S * 10**9


def test_agents_template_pins_node_and_inbox(keys: OperatorKeys) -> None:
    keys.ensure_tenant("acme", Quotas())
    body = read(keys.capture_account_token())["nats"]
    (scope,) = body["signing_keys"]
    assert scope["kind"] == "user_scope"
    assert scope["template"]["pub"] == {"allow": ["t.*.prov.v1.{{name()}}.>"]}
    assert scope["template"]["sub"] == {"allow": ["_INBOX_{{name()}}.>"]}
    (each,) = body["imports"]
    assert (each["local_subject"], each["type"]) == ("t.acme.prov.v1.>", "service")


def test_scoped_users_carry_no_permissions_of_their_own(keys: OperatorKeys) -> None:
    tenant = keys.ensure_tenant("acme", Quotas())
    for user, signer in (
        (agent_user(keys, "nodea", lifetime_s=60, clock=lambda: NOW), keys.capture_agent),
        (auditor_user(tenant, "eve", lifetime_s=60, clock=lambda: NOW), tenant.auditor),
    ):
        content = read(user.token)
        assert set(content["nats"]) == {"issuer_account", "type", "version"}
        assert content["iss"] == signer.public
        assert content["exp"] == NOW + 60 == user.expires_at


def test_auditor_may_ask_and_acknowledge_only() -> None:
    allowed = claims_module.auditor_subjects()
    for subject in allowed:
        assert subject.startswith(("$JS.API.STREAM.INFO.PROV", "$JS.API.CONSUMER.", "$JS.ACK.PROV"))
        assert ".PROV" in subject
    assert not any("DELETE.PROV" in each and "CONSUMER" not in each for each in allowed)


def test_pusher_can_only_push_and_look_up(keys: OperatorKeys) -> None:
    body = read(system_user(keys, lifetime_s=60, clock=lambda: NOW).token)["nats"]
    assert body["pub"]["allow"] == [
        "$SYS.REQ.CLAIMS.UPDATE",
        "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP",
        "$SYS.REQ.ACCOUNT.*.INFO",
    ]


def test_a_thousand_tenants_fit_a_message(keys: OperatorKeys) -> None:
    account, signer = keys.capture_account.public, keys.signing

    def size(activation: str) -> int:
        body = claims_module.capture_account_body(
            agent_keys=[keys.capture_agent.public],
            tenants=[
                claims_module.TenantImport(f"tenant-{number:04}", account, activation)
                for number in range(1000)
            ],
        )
        return len(
            claims_module.encode(
                subject=account, name="capture", body=body, signer=signer, issued_at=NOW
            )
        )

    assert size("") < 400_000
    activation = claims_module.activation_token(
        tenant_account=account, capture_account=account, signer=signer, issued_at=NOW
    )
    assert 1_000_000 < size(activation) < 1_300_000, "larger than the server's default message"


def test_token_is_read_only_as_it_was_signed(keys: OperatorKeys) -> None:
    token = keys.tenant_account_token(keys.ensure_tenant("acme", Quotas()))
    found = claims_module.read(token)
    assert found is not None
    assert (found.issuer, found.issued_at, found.name) == (keys.signing.public, NOW, "acme")
    signed, _, signature = token.rpartition(".")
    other = claims_module.encode(
        subject=found.subject,
        name="acme",
        body=found.body,
        signer=KeyPair.generate(Role.OPERATOR),
        issued_at=NOW,
    )
    forged = [
        f"{signed}.{signature[:-4]}AAAA",
        f"{other.rpartition('.')[0]}.{signature}",
        f"{signed}.",
        "",
        "a.b.c",
        "no token",
    ]
    assert [claims_module.read(each) for each in forged] == [None] * len(forged)


def test_auditor_of_one_consumer_can_use_no_other() -> None:
    body = claims_module.tenant_account_body(
        signing_keys=["A1"],
        auditor_keys=["A2"],
        quotas=Quotas(),
        scope=claims_module.AuditorScope.OWN_CONSUMER,
    )
    template = body["signing_keys"][1]["template"]
    assert template["sub"] == {"allow": ["_INBOX_{{name()}}.>"]}
    own = [each for each in template["pub"]["allow"] if "CONSUMER" in each or "ACK" in each]
    assert len(own) == 3 and all("{{name()}}" in each for each in own)
    assert not any("CREATE" in each or "DELETE" in each for each in template["pub"]["allow"])


def test_suspended_account_takes_nothing_and_nobody_in_but_keeps_its_stream() -> None:
    body = claims_module.tenant_account_body(
        signing_keys=["A1"],
        auditor_keys=["A2"],
        quotas=Quotas(),
        admits_users=False,
        takes_records=False,
    )
    assert body["exports"] == [] and body["limits"]["conn"] == 0
    assert body["limits"]["disk_storage"] == Quotas().reserved_bytes


def test_storage_goes_to_those_that_have_it_then_to_the_first_that_ask() -> None:
    decided = share_out(
        [
            Reservation("grows", 100, 300),
            Reservation("shrinks", 200, 100),
            Reservation("new", 0, 500),
            Reservation("small", 0, 50),
        ],
        storage_bytes=500,
    )
    assert {name for name, refusal in decided.items() if refusal is None} == {
        "grows",
        "shrinks",
        "small",
    }
    refusal = decided["new"]
    assert refusal is not None
    for number in ("500 bytes", "it has 0", "reserved 400", "by 400"):
        assert number in str(refusal), refusal


def test_nobody_loses_what_it_has_when_the_server_shrinks() -> None:
    decided = share_out([Reservation("a", 300, 300), Reservation("b", 300, 400)], 500)
    assert decided["a"] is None and decided["b"] is not None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stream_bytes", 0),
        ("stream_bytes", 1000),
        ("stream_age_s", -1),
        ("consumers", 0),
        ("connections", -1),
        ("duplicate_window_s", 0),
    ],
)
def test_impossible_quota_is_named(field: str, value: int) -> None:
    with pytest.raises(QuotaError, match=f"{field}: {value} .*; write"):
        Quotas(**{field: value})


def test_reservations_are_summed_before_anything_is_pushed() -> None:
    quotas = [("acme", Quotas(stream_bytes=10**9)), ("zeta", Quotas(stream_bytes=2 * 10**9))]
    check_reservations(quotas, 3_100_000_000)
    with pytest.raises(QuotaError, match=r"reserve 3008388608 bytes.*of zeta"):
        check_reservations(quotas, 3_000_000_000)


def test_stream_refuses_when_full_and_forgets_nothing() -> None:
    config = stream_config(Quotas(stream_age_s=60, duplicate_window_s=600))
    assert config.discard is DiscardPolicy.NEW
    assert config.deny_delete and config.deny_purge and not config.no_ack
    assert config.duplicate_window == 60  # the server refuses one longer than the age
    assert stream_config(Quotas(stream_age_s=0)).duplicate_window == 600
