import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx2
import pytest
from msgspec.structs import replace

import tokenferry
from integrations.rig import BODY, VERSION, Rig
from refresh.rig import sandbox_providers, value
from tokenferry.broker import Broker
from tokenferry.errors import NeedsLogin
from tokenferry.secret import Secret

Post = Callable[..., httpx2.Response]


@pytest.fixture(params=["sync", "async"])
def post(request: pytest.FixtureRequest, rig: Rig) -> Post:
    """One POST with a client of either kind, which uses `auth`."""

    def sync(name: str = "alice", headers: dict[str, str] | None = None) -> httpx2.Response:
        with httpx2.Client(auth=tokenferry.auth(name, broker=rig.broker), headers=VERSION, trust_env=False) as client:
            return client.post(rig.url, json=BODY, headers=headers)

    async def asynchronous(name: str, headers: dict[str, str] | None) -> httpx2.Response:
        auth = tokenferry.auth(name, broker=rig.broker)
        async with httpx2.AsyncClient(auth=auth, headers=VERSION, trust_env=False) as client:
            return await client.post(rig.url, json=BODY, headers=headers)

    if request.param == "sync":
        return sync
    return lambda name="alice", headers=None: asyncio.run(asynchronous(name, headers))


def test_a_request_carries_the_accounts_credential_alone(rig: Rig, post: Post) -> None:
    """The sandbox refuses a request with two different credentials."""
    others = {"x-api-key": "sk-ant-api03-other", "Authorization": "Bearer other", "anthropic-beta": "mine-1, mine-2"}
    assert post(headers=others).status_code == 200
    headers = rig.messages()[0]["headers"]
    assert "x-api-key" not in headers
    assert headers["anthropic-beta"] == "mine-1,mine-2,oauth-2025-04-20"


def test_an_api_key_is_presented_as_one_without_the_beta_name(rig: Rig, post: Post) -> None:
    rig.add_key()
    assert post("key", headers={"authorization": "Bearer other"}).status_code == 200
    headers = rig.messages()[0]["headers"]
    assert "authorization" not in headers
    assert "anthropic-beta" not in headers


def test_an_api_key_goes_where_its_provider_takes_it(rig: Rig, post: Post) -> None:
    key = rig.add_key()
    providers = sandbox_providers(rig.sandbox)
    providers["sandbox"] = replace(providers["sandbox"], key_header="authorization")
    rig.broker = Broker(home=rig.home, providers=providers)
    for name in ("key", "alice", "key"):
        post(name, headers={"x-api-key": "sk-ant-api03-other"})
    shown = [each["headers"] for each in rig.messages()]
    assert [headers.get("x-api-key") for headers in shown] == [None] * 3
    assert shown[0]["authorization"] == shown[2]["authorization"] == f"Bearer {Secret(key).fingerprint}"


def test_an_expired_token_is_renewed_before_the_request(rig: Rig, post: Post) -> None:
    rig.login(expires_in=-10)
    assert post().status_code == 200
    assert [each["status"] for each in rig.messages()] == [200]
    assert rig.refreshes() == 1


def test_a_refused_token_is_renewed_and_the_request_sent_once_more_with_its_body(rig: Rig, post: Post) -> None:
    rig.sandbox.revoke("alice")
    answer = post()
    assert answer.status_code == 200
    first, second = rig.messages()
    assert (first["status"], second["status"]) == (401, 200)
    assert first["body_sha256"] == second["body_sha256"]
    assert first["credentials"] != second["credentials"]
    assert second["headers"]["anthropic-beta"] == "oauth-2025-04-20"
    assert rig.refreshes() == 1


def test_a_token_that_others_renewed_since_is_used_without_a_refresh(rig: Rig, post: Post) -> None:
    assert post().status_code == 200
    rig.sandbox.revoke("alice")
    rig.login(expires_in=28_800)
    assert post().status_code == 200
    assert rig.refreshes() == 0


def test_there_is_no_third_request(rig: Rig, post: Post) -> None:
    rig.sandbox.fault("status", status=401, path="/v1/messages", times=0)
    assert post().status_code == 401
    assert len(rig.messages()) == 2
    assert rig.refreshes() == 1


def test_a_401_comes_back_when_there_is_no_other_credential_and_the_log_says_why(
    rig: Rig, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    rig.sandbox.revoke("alice", "family")
    assert post().status_code == 401
    assert len(rig.messages()) == 1
    assert [record.levelno for record in caplog.records if record.name.startswith("tokenferry.integ")] == [
        logging.WARNING
    ]
    assert "log in again with: tokenferry login alice" in caplog.text
    with pytest.raises(NeedsLogin):
        post()


def test_a_refused_key_comes_back_as_401(rig: Rig, post: Post) -> None:
    rig.add_key()
    rig.sandbox.revoke("alice", "api-key")
    assert post("key").status_code == 401
    assert len(rig.messages()) == 1


REVOKED = {"error": {"type": "permission_error", "message": "OAuth token has been revoked. Please obtain a new token."}}


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("refusal", "is_refused"),
    [
        ({"json": REVOKED}, True),
        ({"headers": {"www-authenticate": 'Bearer error="invalid_token"'}}, True),
        ({"headers": {"www-authenticate": 'Bearer error="insufficient_scope"'}}, False),
        ({"json": {"error": {"type": "permission_error", "message": "no"}}}, False),
    ],
)
def test_a_403_that_refuses_the_token_is_one_renewal(
    rig: Rig, kind: str, refusal: dict[str, Any], *, is_refused: bool
) -> None:
    answers = [httpx2.Response(403, **refusal), httpx2.Response(200)]
    transport = httpx2.MockTransport(lambda _: answers.pop(0))
    auth = tokenferry.auth("alice", broker=rig.broker)

    async def asynchronous() -> httpx2.Response:
        async with httpx2.AsyncClient(auth=auth, transport=transport) as client:
            return await client.post(rig.url, json=BODY)

    if kind == "sync":
        with httpx2.Client(auth=auth, transport=transport) as client:
            response = client.post(rig.url, json=BODY)
    else:
        response = asyncio.run(asynchronous())
    assert response.status_code == (200 if is_refused else 403)
    assert rig.refreshes() == is_refused


def test_403_refreshes_nothing(rig: Rig, post: Post) -> None:
    rig.sandbox.fault("status", status=403, path="/v1/messages")
    assert post().status_code == 403
    assert rig.refreshes() == 0
    assert len(rig.messages()) == 1


def test_a_body_that_is_used_up_is_not_sent_again_but_the_token_is_renewed(rig: Rig) -> None:
    rig.sandbox.revoke("alice")

    def body() -> Iterator[bytes]:
        yield httpx2.Request("POST", rig.url, json=BODY).content

    with httpx2.Client(auth=tokenferry.auth("alice", broker=rig.broker), headers=VERSION, trust_env=False) as client:
        assert client.post(rig.url, content=body()).status_code == 401
        assert len(rig.messages()) == 1
        assert client.post(rig.url, content=body()).status_code == 200
    assert rig.refreshes() == 1


@pytest.mark.anyio
async def test_the_same_for_an_asynchronous_body(rig: Rig) -> None:
    rig.sandbox.revoke("alice")

    async def body() -> AsyncIterator[bytes]:
        yield httpx2.Request("POST", rig.url, json=BODY).content

    auth = tokenferry.auth("alice", broker=rig.broker)
    async with httpx2.AsyncClient(auth=auth, headers=VERSION, trust_env=False) as client:
        assert (await client.post(rig.url, content=body())).status_code == 401
        assert (await client.post(rig.url, content=body())).status_code == 200
    assert rig.refreshes() == 1


def test_one_auth_serves_many_clients_and_shows_no_secret(rig: Rig) -> None:
    auth = tokenferry.auth("alice", broker=rig.broker)
    for _ in range(3):
        with httpx2.Client(auth=auth, headers=VERSION, trust_env=False) as client:
            assert client.post(rig.url, json=BODY).status_code == 200
    assert value(rig.first) not in repr(vars(auth))
