# SPDX-License-Identifier: Apache-2.0
"""Keys on disk: owner-only, whole or not at all, and never shown."""

import json
import os
from pathlib import Path

import pytest
from headwater_operator.accounts import (
    KeyPair,
    KeyStateError,
    OperatorKeys,
    Quotas,
    Role,
    TenantNameError,
)


def test_keys_are_made_once_and_loaded_again(tmp_path: Path) -> None:
    first = OperatorKeys.create_or_load(tmp_path / "keys")
    again = OperatorKeys.create_or_load(tmp_path / "keys")
    assert first.identity.public == again.identity.public
    assert first.capture_agent.seed == again.capture_agent.seed


def test_every_file_is_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keys = OperatorKeys.create_or_load(tmp_path / "keys")
        keys.ensure_tenant("acme", Quotas())
    finally:
        os.umask(before)
    modes = {path.is_dir(): path.stat().st_mode & 0o777 for path in (tmp_path / "keys").rglob("*")}
    assert modes == {True: 0o700, False: 0o600}
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700


def test_a_crash_while_writing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = OperatorKeys.create_or_load(tmp_path / "keys")
    before = keys.ensure_tenant("acme", Quotas())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyStateError, match="No space left"):
        keys.ensure_tenant("acme", Quotas(stream_bytes=10**8))
    monkeypatch.undo()
    assert keys.tenant("acme").quotas == before.quotas
    assert [path.name for path in (tmp_path / "keys" / "tenants").iterdir()] == ["acme.json"]


def test_left_over_temporary_file_is_no_tenant_and_no_hindrance(tmp_path: Path) -> None:
    keys = OperatorKeys.create_or_load(tmp_path / "keys")
    (tmp_path / "keys" / "tenants" / ".acme.json.new").write_text("half")
    assert keys.tenants() == []
    keys.ensure_tenant("acme", Quotas())
    assert [tenant.name for tenant in keys.tenants()] == ["acme"]


def test_new_quotas_keep_the_keys(tmp_path: Path) -> None:
    keys = OperatorKeys.create_or_load(tmp_path / "keys")
    before = keys.ensure_tenant("acme", Quotas())
    after = keys.ensure_tenant("acme", Quotas(stream_bytes=10**8))
    assert before.account.public == after.account.public
    assert keys.tenant("acme").quotas.stream_bytes == 10**8


@pytest.mark.parametrize(
    "quotas",
    ["many", {"stream_bytes": "1"}, {"stream_bytes": True}, {"unknown": 1}, None],
)
def test_damaged_quotas_are_named(tmp_path: Path, quotas: object) -> None:
    keys = OperatorKeys.create_or_load(tmp_path / "keys")
    keys.ensure_tenant("acme", Quotas())
    path = tmp_path / "keys" / "tenants" / "acme.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "quotas": quotas}))
    with pytest.raises(KeyStateError, match=r"acme.json: damaged key file \(quotas\)"):
        keys.tenant("acme")


def test_unknown_tenant_lists_the_known(tmp_path: Path) -> None:
    keys = OperatorKeys.create_or_load(tmp_path / "keys")
    keys.ensure_tenant("acme", Quotas())
    with pytest.raises(TenantNameError, match='"zeta" has no account; known are: acme'):
        keys.tenant("zeta")


def test_no_keys_where_another_process_should_have_them(tmp_path: Path) -> None:
    with pytest.raises(KeyStateError, match="there are no keys"):
        OperatorKeys.load(tmp_path)


def test_nothing_prints_a_seed(tmp_path: Path) -> None:
    keys = OperatorKeys.create_or_load(tmp_path / "keys")
    tenant = keys.ensure_tenant("acme", Quotas())
    for shown in (repr(tenant), repr(keys.identity), str(keys.signing)):
        assert "KeyPair(" in shown or shown.startswith("Tenant")
        for pair in (tenant.account, tenant.signing, tenant.auditor, keys.identity, keys.signing):
            assert pair.seed not in shown


@pytest.mark.parametrize("seed", ["", "SO", "not a seed", "SOAA\u00e9", "SUAM" + "A" * 54])
def test_broken_seed_is_refused_without_being_shown(seed: str) -> None:
    with pytest.raises(ValueError, match="not an nkeys seed") as caught:
        KeyPair(seed, Role.OPERATOR)
    assert not seed or seed not in str(caught.value)


def test_seed_with_one_flipped_letter_is_refused() -> None:
    seed = KeyPair.generate(Role.ACCOUNT).seed
    flipped = seed[:20] + ("A" if seed[20] != "A" else "B") + seed[21:]
    with pytest.raises(ValueError, match="not an nkeys seed"):
        KeyPair(flipped, Role.ACCOUNT)


def test_seed_of_another_role_is_refused() -> None:
    user = KeyPair.generate(Role.USER)
    with pytest.raises(ValueError, match='a seed of role "U", expected "A"') as caught:
        KeyPair(user.seed, Role.ACCOUNT)
    assert user.seed not in str(caught.value)
