# SPDX-License-Identifier: Apache-2.0
"""Mounted secrets: tenants' keys (G5) and the agent's NATS credentials."""

from __future__ import annotations

from pathlib import Path

import pytest
from headwater_agent.cluster.nats_credentials import CredentialsError, CredentialsFile
from headwater_agent.cluster.tenant_keys import MountedTenantKeys, TenantKeyError
from headwater_operator.accounts import OperatorKeys, agent_user


def test_key_is_the_file_of_the_tenant_as_it_is_now(tmp_path: Path) -> None:
    keys = MountedTenantKeys(tmp_path)
    with pytest.raises(TenantKeyError, match="mounted Secret"):
        keys("shop")
    (tmp_path / "shop").write_bytes(b"k" * 32)
    assert keys("shop") == b"k" * 32
    (tmp_path / "shop").write_bytes(b"k" * 31)
    with pytest.raises(TenantKeyError, match="31 bytes"):
        keys("shop")


@pytest.mark.parametrize("tenant", ["", "..", "../shop", "a/b", "A", "shop\n", "x" * 64])
def test_g5_only_names_of_tenants_become_files(tmp_path: Path, tenant: str) -> None:
    with pytest.raises(TenantKeyError, match="not the name of a tenant"):
        MountedTenantKeys(tmp_path)(tenant)


async def test_credentials_are_read_at_each_connection_and_prove_the_key(tmp_path: Path) -> None:
    now = 1_800_000_000
    path = tmp_path / "agent.creds"
    keys = OperatorKeys.create_or_load(tmp_path / "keys")
    user = agent_user(keys, "node1", lifetime_s=600.0, clock=lambda: now)
    path.write_text(user.text())
    options = CredentialsFile(path, lambda: now).options(("nats://127.0.0.1:1",), "node1")
    assert options.inbox_prefix == user.inbox_prefix
    token = await options.fetch_token()
    assert (token.text, token.lifetime_s) == (user.token, 600.0)
    assert options.sign_nonce("x") == user.key.sign_nonce("x")
    other = agent_user(keys, "node1", lifetime_s=60.0, clock=lambda: now)
    path.write_text(other.text())
    assert (await options.fetch_token()).lifetime_s == 60.0
    assert options.sign_nonce("x") == other.key.sign_nonce("x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n",
        "-----BEGIN NATS USER JWT-----\nabc\n------END NATS USER JWT------\n"
        "-----BEGIN USER NKEY SEED-----\nSU\n------END USER NKEY SEED------\n",
        "\u00e9",
    ],
)
async def test_what_is_no_credentials_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "agent.creds"
    path.write_text(text)
    with pytest.raises(CredentialsError, match=r"agent\.creds"):
        await CredentialsFile(path).fetch()


async def test_expired_credentials_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.creds"
    user = agent_user(
        OperatorKeys.create_or_load(tmp_path / "keys"),
        "node1",
        lifetime_s=1.0,
        clock=lambda: 1000.0,
    )
    path.write_text(user.text())
    with pytest.raises(CredentialsError, match="has expired"):
        await CredentialsFile(path, lambda: 2000.0).fetch()
