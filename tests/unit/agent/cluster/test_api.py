# SPDX-License-Identifier: Apache-2.0
"""One request, its answer or its error; and how the client finds and knows its server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from headwater_agent.cluster.api_access import (
    TOKEN_REREAD_S,
    AccessError,
    TokenFile,
    from_kubeconfig,
    in_cluster,
)
from headwater_agent.cluster.api_errors import (
    ApiError,
    ApiNotFoundError,
    ApiRefusedError,
    ApiUnreachableError,
)

from tests.unit.agent.cluster.fake_api import Answer, FakeApi, running


async def test_object_is_read_and_its_status_merged() -> None:
    fake = FakeApi()
    fake.objects["/apis/x/things/a"] = {"spec": {"n": 1}}
    async with running(fake) as api:
        assert await api.get("/apis/x/things/a") == {"spec": {"n": 1}}
        await api.patch_status("/apis/x/things/a", {"epoch": 3})
    assert fake.requests[1] == (
        "PATCH",
        "/apis/x/things/a/status",
        {"fieldManager": "headwater-agent"},
    )
    assert fake.patches == [{"status": {"epoch": 3}}]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(404, {"message": "gone"}), ApiNotFoundError),
        (Answer(401, {"message": "who"}), ApiRefusedError),
        (Answer(403, {"message": "no"}), ApiRefusedError),
        (Answer(500, "text"), ApiError),
        (Answer(302, {}, {"Location": "http://127.0.0.1:9/"}), ApiError),
    ],
)
async def test_refusals_have_the_servers_words(answer: Answer, kind: type[ApiError]) -> None:
    fake = FakeApi()
    fake.answers.append(answer)
    async with running(fake) as api:
        with pytest.raises(kind) as caught:
            await api.get("/apis/x/things/a")
    assert caught.value.status == answer.status
    if isinstance(answer.body, dict) and answer.body:
        assert str(caught.value) == answer.body["message"]


async def test_seconds_to_wait_come_from_header_or_body() -> None:
    fake = FakeApi()
    fake.answers.extend(
        [
            Answer(429, {}, {"Retry-After": "7"}),
            Answer(429, {"details": {"retryAfterSeconds": 4}}),
            Answer(503, {}, {"Retry-After": "soon"}),
        ]
    )
    asked = []
    async with running(fake) as api:
        for _ in range(3):
            with pytest.raises(ApiError) as caught:
                await api.get("/x")
            asked.append(caught.value.retry_after_s)
    assert asked == [7.0, 4.0, None]


async def test_answer_that_does_not_come_ends_in_time() -> None:
    fake = FakeApi()

    async def stall(_: object) -> None:
        await asyncio.sleep(30)

    fake.handle = stall  # type: ignore[method-assign,assignment]
    async with running(fake) as api:
        with pytest.raises(ApiUnreachableError, match="no answer in time"):
            await api.get("/x")


async def test_refused_token_is_read_again_at_once(tmp_path: Path) -> None:
    fake = FakeApi()
    fake.objects["/x"] = {}
    path = tmp_path / "token"
    path.write_text("one\n")
    async with running(fake, token=TokenFile(path)) as api:
        await api.get("/x")
        path.write_text("two\n")
        await api.get("/x")
        fake.answers.append(Answer(401, {}))
        with pytest.raises(ApiRefusedError):
            await api.get("/x")
        await api.get("/x")
    assert fake.tokens == ["Bearer one"] * 3 + ["Bearer two"]


def test_token_is_read_again_after_a_while_and_outlives_its_file(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "token"
    path.write_text("one")
    token = TokenFile(path, lambda: now)
    assert token() == "one"
    path.write_text("two")
    now = TOKEN_REREAD_S - 1
    assert token() == "one"
    now = TOKEN_REREAD_S
    assert token() == "two"
    path.unlink()
    now *= 3
    assert token() == "two"


def test_pod_without_service_account_is_told_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="--kubeconfig"):
        in_cluster({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, tmp_path)
    (tmp_path / "token").write_text("t")
    (tmp_path / "ca.crt").write_text("c")
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT_HTTPS": "443"}
    assert in_cluster(environment, tmp_path).server == "https://[fd00::1]:443"
    with pytest.raises(AccessError):
        in_cluster({}, tmp_path)


CONFIG = """
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: "http://127.0.0.1:1/"}}]
users: [{name: u, user: %s}]
"""


def test_kubeconfig_gives_server_and_token(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(CONFIG % "{token: secret}")
    access = from_kubeconfig(path)
    assert access.server == "http://127.0.0.1:1"
    assert access.token is not None
    assert access.token() == "secret"
    assert access.make_tls() is None
    assert "secret" not in repr(access)
    (tmp_path / "t").write_text("file")
    path.write_text(CONFIG % "{tokenFile: t}")
    token = from_kubeconfig(path).token
    assert token is not None
    assert token() == "file"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "current-context: c",
        "current-context: c\ncontexts: []",
        "- a",
        "{",
        CONFIG % "{exec: {command: x}}",
        CONFIG % "{auth-provider: {}}",
    ],
)
def test_kubeconfig_that_cannot_be_used_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(AccessError, match="config: "):
        from_kubeconfig(path)


def test_kubeconfig_with_damaged_certificate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config"
    text = CONFIG.replace(
        '"http://127.0.0.1:1/"', '"https://127.0.0.1:1", certificate-authority-data: "%%%%"'
    )
    path.write_text(text % "{}")
    with pytest.raises(AccessError, match="certificate-authority"):
        from_kubeconfig(path).make_tls()
