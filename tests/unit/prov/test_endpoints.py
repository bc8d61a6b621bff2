# SPDX-License-Identifier: Apache-2.0
"""Nothing leaves the machine in the clear."""

import pytest
from headwater_prov.endpoints import check_encrypted


@pytest.mark.parametrize(
    "url",
    [
        "tls://nats.example:4222",
        "wss://nats.example",
        "https://operator.example:8443",
        "nats://127.0.0.1:4222",
        "nats://127.8.9.1:4222",
        "nats://localhost:4222",
        "nats://[::1]:4222",
        "http://127.0.0.1:80",
    ],
)
def test_tls_or_loopback_is_taken(url: str) -> None:
    check_encrypted([url], "--nats")


@pytest.mark.parametrize(
    "url",
    [
        "nats://nats.example:4222",
        "nats://10.0.0.1:4222",
        "ws://nats.example",
        "http://operator.example",
        "nats://localhost.example:4222",
        "nats://[::2]:4222",
    ],
)
def test_what_goes_over_the_network_in_the_clear_is_refused_with_a_remedy(url: str) -> None:
    with pytest.raises(ValueError, match=r"without TLS; write (tls|https)://"):
        check_encrypted(["tls://fine", url], "--nats")


@pytest.mark.parametrize("url", ["nats.example:4222", "", "tls://", "//nats"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not a URL"):
        check_encrypted([url], "--nats")
