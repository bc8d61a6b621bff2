# SPDX-License-Identifier: Apache-2.0
"""What is decided about tenants and auditors before any server is asked."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from headwater_operator.accounts import KeyPair, KeyStateError, Quotas, Role, is_public_key
from headwater_operator.accounts.handover import Handover
from headwater_operator.cluster.kinds import AUDITORS, NODES, TENANTS
from headwater_operator.cluster.observed import Observed, observe
from headwater_operator.cluster.provisioned import AuditorReason
from headwater_operator.provisioning import auditors, tenants
from headwater_operator.provisioning.agents import IssuedAgents, node_tokens
from headwater_operator.provisioning.installation import Installation
from headwater_operator.provisioning.records import (
    AuditorRecord,
    CaptureRecord,
    TenantRecord,
    TimedKey,
    decode_data,
)
from headwater_prov.identifiers import node_token

NOW = 1_795_000_000
HOUR = 3600


def tenant(**spec: Any) -> tenants.WantedTenant:
    metadata = {"name": "acme", "uid": "t", "generation": 3}
    return tenants.wanted_tenant(observe(TENANTS, {"metadata": metadata, "spec": spec}))


def auditor(name: str, created: int = 0, **spec: Any) -> Observed:
    metadata = {
        "name": name,
        "namespace": "shop",
        "uid": f"uid-{name}",
        "creationTimestamp": f"2026-11-26T00:00:{created:02}Z",
    }
    return observe(
        AUDITORS, {"metadata": metadata, "spec": {"secretName": f"{name}-secret", **spec}}
    )


def decide(*found: Observed, maximum: int = 9, **tokens: str) -> auditors.Decision:
    return auditors.decide(found, maximum=maximum, is_suspended=False, node_tokens=tokens)


def wanted(**spec: Any) -> auditors.WantedAuditor:
    (one,) = decide(auditor("web", **spec)).served
    return one


def record(**changes: Any) -> TenantRecord:
    made = TenantRecord.new("acme", Quotas(), keep_s=HOUR, now=NOW)
    return dataclasses.replace(made, **changes)


def advance(
    before: TenantRecord | None, now: int = NOW, rotation: str = "", is_granted: bool = True
) -> TenantRecord | None:
    return tenants.next_record(
        tenant(quotas={"streamBytes": "2Gi"}),
        before,
        is_granted=is_granted,
        rotation=rotation,
        now=now,
    )


def test_tenant_without_a_word_has_the_defaults_of_the_definition() -> None:
    assert tenant() == tenants.WantedTenant(
        "acme", Quotas(1024**3, 168 * HOUR, 16, 40), 16, 86400, False, 3
    )


def test_tenant_without_auditors_still_is_one() -> None:
    one = tenant(quotas={"auditors": 0})
    assert (one.auditors_max, one.quotas.consumers) == (0, 1)


def test_quota_that_does_not_fit_leaves_a_new_tenant_nothing_and_an_old_one_what_it_has() -> None:
    assert advance(None, is_granted=False) is None
    made = advance(None)
    assert made is not None and made.account.quotas.stream_bytes == 2 * 1024**3
    kept = advance(record(), is_granted=False)
    assert kept is not None and kept.account.quotas.stream_bytes == Quotas().stream_bytes
    assert kept.account.quotas.connections == 40, "all but the size is in force"


def test_old_signing_keys_count_until_the_last_credentials_by_them_have_ended() -> None:
    user = TimedKey("U1", NOW + HOUR, at=NOW)
    before = record(auditors={"a": AuditorRecord("shop", "web", "web", "s", (user,), "A")})
    after = advance(before, rotation="once")
    assert after is not None
    assert after.account.signing.public != before.account.signing.public
    assert [one.public for one in after.retired_auditor] == [before.account.auditor.public]
    body = tenants.account_body(
        after, replicas=1, is_shared=False, admits_users=True, takes_records=True
    )
    keys = [one if isinstance(one, str) else one["key"] for one in body["signing_keys"]]
    assert keys == [
        after.account.signing.public,
        before.account.signing.public,
        after.account.auditor.public,
        before.account.auditor.public,
    ]
    same = advance(after, now=NOW + HOUR - 1, rotation="once")
    assert same is not None and len(same.retired_auditor) == 1 and same.retired == ()
    over = advance(same, now=NOW + HOUR, rotation="once")
    assert over is not None and over.retired_auditor == ()
    assert over.account == after.account


def test_deleted_tenant_is_due_after_its_time_and_not_if_it_comes_back() -> None:
    left = tenants.gone(record(keep_s=10), NOW)
    assert tenants.gone(left, NOW + 5) == left
    assert [tenants.is_due(left, NOW + after) for after in (0, 9, 10)] == [False, False, True]
    back = advance(left, now=NOW + 9)
    assert back is not None and not tenants.is_due(back, NOW + 100)


def test_record_is_read_as_it_was_written_and_keeps_its_secrets_to_itself() -> None:
    user = TimedKey("U1", NOW + HOUR, at=NOW)
    one = record(
        auditors={"a": AuditorRecord("shop", "web", "web", "s", (user,), "A")},
        revoked=(TimedKey("U2", NOW + 5, at=NOW),),
        deleted_at=NOW,
        rotation="x",
    )
    data = one.encode()
    again = TenantRecord.decode("acme", "secret", data)
    assert again.encode() == data
    assert again.auditors == one.auditors and again.revoked == one.revoked
    for secret in (one.account.signing.seed, one.object_key.hex(), str(one.object_key)):
        assert secret not in repr(one)
    capture = CaptureRecord.new()
    assert CaptureRecord.decode("secret", capture.encode()).encode() == capture.encode()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("account.seed", None),
        ("signing.seed", b"SAAB"),
        ("auditor.seed", KeyPair.generate(Role.USER).seed.encode()),
        ("object.key", b"short"),
        ("record.json", b"{"),
        ("record.json", b"[]"),
        ("record.json", b'{"version": 2}'),
        ("record.json", b'{"version": 1}'),
    ],
)
def test_damaged_record_is_named_and_never_shown(key: str, value: bytes | None) -> None:
    data = record().encode()
    seed = data["account.seed"].decode()
    if value is None:
        del data[key]
    else:
        data[key] = value
    with pytest.raises(KeyStateError, match=f"Secret hw: {key}") as raised:
        TenantRecord.decode("acme", "hw", data)
    assert seed not in str(raised.value) and "restore" in raised.value.remedy


def test_credentials_are_replaced_at_two_thirds_of_their_life_or_with_a_new_signer() -> None:
    one, before = wanted(credentialLife="30m"), record()
    signer = before.account.auditor.public
    assert auditors.is_due(one, None, signer, NOW)
    user = TimedKey("U1", NOW + 1800, at=NOW)
    after = auditors.given(before, one, user, NOW)
    given = after.auditors[one.uid]
    due = [auditors.is_due(one, given, signer, NOW + at) for at in (0, 1199, 1200, 1801)]
    assert due == [False, False, True, True]
    assert auditors.is_due(one, given, "another", NOW)
    shorter = wanted(credentialLife="10m")
    assert auditors.is_due(shorter, given, signer, NOW + 400)
    # The one before is remembered while it is good, so that it can be made void.
    both = auditors.given(after, one, TimedKey("U2", NOW + 3000, at=NOW + 1200), NOW + 1200)
    assert [user.public for user in both.auditors[one.uid].users] == ["U1", "U2"]
    last = auditors.given(both, one, TimedKey("U3", NOW + 4200, at=NOW + 2400), NOW + 2400)
    assert [user.public for user in last.auditors[one.uid].users] == ["U2", "U3"]


def test_all_users_of_an_ended_auditor_that_are_good_are_void() -> None:
    one = wanted()
    after = auditors.given(record(), one, TimedKey("U1", NOW + 10, at=NOW), NOW)
    after = auditors.given(after, one, TimedKey("U2", NOW + 3000, at=NOW), NOW)
    ended = auditors.without(after, [one.uid], NOW + 20)
    assert ended.auditors == {}
    assert ended.revoked == (TimedKey("U2", NOW + 3000, at=NOW + 20),)
    forgotten = advance(ended, now=NOW + 3000)
    assert forgotten is not None and forgotten.revoked == ()


def test_filter_becomes_subjects() -> None:
    assert wanted().subjects == ("prov.v1.*.>",), "checkpoints too"
    some = wanted(filter={"classes": ["machine", "gap"]})
    assert some.subjects == ("prov.v1.*.gap", "prov.v1.*.machine")
    decision = decide(auditor("a", filter={"nodes": ["n1", "n2"], "classes": ["gap"]}), n1="t1")
    assert decision.served[0].subjects == ("prov.v1.t1.gap",)
    assert "n2" in decision.served[0].remark


def test_filter_by_policy_is_the_programs() -> None:
    """NATS cannot tell policies apart, so the subjects are all, and the Secret says which."""
    some = wanted(filter={"policies": ["web", "db"]})
    assert some.subjects == ("prov.v1.*.>",)
    assert some.policies == ("shop/db", "shop/web")
    assert "by the program" in some.remark
    assert wanted().policies == ()


def test_auditor_whose_nodes_are_away_keeps_what_it_has() -> None:
    one = auditor("a", filter={"nodes": ["n1"]})
    served = decide(one, n1="t1").served[0]
    had = auditors.given(record(), served, TimedKey("U1", NOW + 10, at=NOW), NOW)
    assert auditors.ended(had, decide(one)) == set()
    assert auditors.ended(had, decide()) == {one.uid}


def test_oldest_are_served_and_a_name_is_one_auditors() -> None:
    decision = decide(
        auditor("new", 3), auditor("b", 1), auditor("a", 0), auditor("c", 2, durable="a"), maximum=2
    )
    assert [one.name for one in decision.served] == ["a", "b"]
    reasons = {uid: state.reason for uid, state in decision.refused.items()}
    assert reasons == {
        "uid-c": AuditorReason.TOO_MANY_AUDITORS,
        "uid-new": AuditorReason.TOO_MANY_AUDITORS,
    }
    taken = decide(auditor("a", 0), auditor("c", 2, durable="a"), auditor("d", 3), maximum=2)
    assert [one.name for one in taken.served] == ["a", "d"], "a refusal takes no place"
    assert auditors.consumer_name(auditor("leaks.eu")) == "leaks_eu"


def node(name: str, machine_id: str, created: int) -> Observed:
    metadata = {
        "name": name,
        "uid": name,
        "creationTimestamp": f"2026-11-26T00:00:{created:02}Z",
    }
    status = {"nodeInfo": {"machineID": machine_id}}
    return observe(NODES, {"metadata": metadata, "status": status})


def test_g5_of_two_nodes_with_one_machine_id_the_older_has_it() -> None:
    one, other = "ab" * 16, "cd" * 16
    found = node_tokens(
        [node("late", one, 5), node("early", one, 1), node("own", other, 9), node("odd", "x", 0)]
    )
    assert found == {
        "early": node_token(bytes.fromhex(one)),
        "own": node_token(bytes.fromhex(other)),
    }


def test_tokens_of_nodes_that_are_gone_are_known_while_they_are_good() -> None:
    issued = IssuedAgents()
    issued.note("U1", "gone", NOW + 10)
    issued.note("U2", "there", NOW + 10)
    assert issued.of_others(["there"], NOW) == {"U1"}
    assert issued.of_others(["there"], NOW + 10) == set()


def test_handover_of_either_kind_is_understood(tmp_path: Path) -> None:
    handover = Handover.create(tmp_path / "keys")
    data = decode_data("s", handover.secret("ns"))
    own = Installation.parse("s", data)
    assert not own.is_shared and own.system_user().expires_at
    creds = own.system_user().text()
    shared = Installation.parse(
        "s",
        {"operator-signing.seed": data["operator-signing.seed"], "system.creds": creds.encode()},
    )
    assert shared.is_shared and shared.system_user().token == creds.splitlines()[1]
    for broken in (
        {},
        {"operator-signing.seed": data["system-signing.seed"]},
        {"operator-signing.seed": data["operator-signing.seed"]},
        {"operator-signing.seed": data["operator-signing.seed"], "system.creds": b"x"},
    ):
        with pytest.raises(KeyStateError):
            Installation.parse("s", broken)


def test_capture_imports_each_tenant_with_a_token_only_where_others_have_accounts() -> None:
    capture, one = CaptureRecord.new(), record()
    plain = tenants.capture_body(capture, [one], is_shared=False)
    assert "token" not in plain["imports"][0]
    shared = tenants.capture_body(capture, [one], is_shared=True)
    assert (
        shared
        == json.loads(json.dumps(shared))
        == tenants.capture_body(capture, [one], is_shared=True)
    ), "made again it is no change"
    body = tenants.account_body(
        one, replicas=3, is_shared=True, admits_users=True, takes_records=True
    )
    assert body["exports"][0]["token_req"] is True
    assert body["limits"]["disk_storage"] == 3 * one.account.quotas.reserved_bytes


def test_public_keys_are_checked_to_the_last_letter() -> None:
    key = KeyPair.generate(Role.USER).public
    assert is_public_key(key, Role.USER) and not is_public_key(key, Role.ACCOUNT)
    for broken in (
        key[:-1],
        key[:20] + "A" + key[21:] if key[20] != "A" else key[:20] + "B" + key[21:],
        "",
        "U",
    ):
        assert not is_public_key(broken, Role.USER)
