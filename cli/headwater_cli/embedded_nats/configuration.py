# SPDX-License-Identifier: Apache-2.0
"""The server's configuration file: operator mode on loopback, nothing else.

Why: the embedded server runs the same accounts and tokens as a cluster's, so isolation is tested
where everybody can run it. The tokens of all known accounts are in it, so a server that lost its
resolver directory, or a tenant made just before a crash, comes up right. It holds no secret, only
signed public claims; it is owner-only all the same. Called by `EmbeddedNats` before each start of
the server. Promises: G3, G5.
"""

import json
import shutil
from pathlib import Path

from headwater_operator.accounts import OperatorKeys

MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
"""Of one message. Batches stay far below; the capture account's token grows with the tenants."""

SYNC_INTERVAL = "10s"
"""How long an acknowledged record may be in the page cache only. It survives the death of any
process; a power failure can take the last ten seconds. The server's default is two minutes."""

LOG_BYTES = 8 * 1024 * 1024


def storage_limit(store: Path, reserved_bytes: int) -> int:
    """Return what the server may promise to streams, bytes.

    Nine tenths of what is free and what the store has already; at least what is promised already,
    or a restart on a fuller disk would take a tenant's stream away.
    """
    used = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    return max((shutil.disk_usage(store).free + used) * 9 // 10, reserved_bytes)


def render(*, keys: OperatorKeys, directory: Path, name: str, port: int, storage_bytes: int) -> str:
    """Return the text of the configuration file.

    Args:
        keys: of the installation.
        directory: holds the store, the resolver's tokens and the log.
        name: the server's; clients see it, and it tells ours from another on the port.
        port: on 127.0.0.1.
        storage_bytes: what all streams may take on disk.
    """
    tokens = {
        keys.system_account.public: keys.system_account_token(),
        keys.capture_account.public: keys.capture_account_token(),
    }
    for tenant in keys.tenants():
        tokens[tenant.account.public] = keys.tenant_account_token(tenant)
    preload = "\n".join(f"  {account}: {token}" for account, token in tokens.items())
    # JSON's strings are this format's strings.
    return f"""\
# Written by headwater at each start; changes are lost.
server_name: {json.dumps(name)}
listen: "127.0.0.1:{port}"
max_payload: {MAX_PAYLOAD_BYTES}
operator: {keys.operator_token()}
system_account: {keys.system_account.public}
resolver: {{
  type: full
  dir: {json.dumps(str(directory / "accounts"))}
  allow_delete: false
  interval: "2m"
}}
resolver_preload: {{
{preload}
}}
jetstream: {{
  store_dir: {json.dumps(str(directory / "store"))}
  max_file_store: {storage_bytes}
  max_memory_store: 16777216
  sync_interval: "{SYNC_INTERVAL}"
}}
log_file: {json.dumps(str(directory / "server.log"))}
logfile_size_limit: {LOG_BYTES}
logfile_max_num: 2
"""
