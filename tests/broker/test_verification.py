"""One question to the provider, free of charge: whether it takes a credential."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from tokenferry.broker import Broker
from tokenferry.credentials import ApiKey, Credential, OAuthToken, SetupToken
from tokenferry.errors import PolicyRefused, UsageError
from tokenferry.oauth import HttpOutcome, NotSent, OAuthEndpoints, TokenRequest, TokenResponse, TokenResponseLost
from tokenferry.providers import Provider, builtin_providers
from tokenferry.secret import Secret
from tokenferry.settings import PolicySettings
from tokenferry.stores import Account, MemoryStore

NOW = 1_800_000_000
KEY = ApiKey(Secret("key-of-somebody"))
LOGIN = OAuthToken(Secret("fake-access"), Secret("fake-refresh"), expires_at=NOW + 60)
SETUP = SetupToken(Secret("sk-ant-oat01-" + "x" * 80))
PROVIDER = Provider(
    "llm",
    "llm",
    "https://llm.example",
    check_url="{base_url}/v1/key",
    key_header="authorization",
    oauth=OAuthEndpoints(profile_url="https://id.example/userinfo"),
)


class Server:
    def __init__(self, answer: HttpOutcome) -> None:
        self.answer = answer
        self.asked: list[TokenRequest] = []

    def send(self, request: TokenRequest, timeout: float, _sending: Callable[[], None] = lambda: None) -> HttpOutcome:
        assert timeout == 5
        self.asked.append(request)
        return self.answer


def ask(
    credential: Credential, answer: HttpOutcome, provider: Provider = PROVIDER, owner: str = "tokenferry"
) -> tuple[str, Server]:
    server = Server(answer)
    broker = Broker(
        store=MemoryStore(),
        providers={provider.name: provider},
        send=server.send,
        now=lambda: NOW,
        policy=PolicySettings(),
    )
    account = Account("work", provider.name, credential.kind, owner=owner)  # type: ignore[arg-type]
    return broker.verify(account, credential).result, server


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (TokenResponse(200, {}, b"{}"), "accepted"),
        (TokenResponse(400, {}, b'{"error": {"details": [{"reason": "API_KEY_INVALID"}]}}'), "refused"),
        (TokenResponse(400, {}, b'{"error": {"message": "no such thing"}}'), "unclear"),
        (TokenResponse(204, {}, b""), "accepted"),
        (TokenResponse(401, {}, b""), "refused"),
        (TokenResponse(403, {}, b""), "unclear"),
        (TokenResponse(302, {}, b""), "unclear"),
        (TokenResponse(404, {}, b""), "unclear"),
        (TokenResponse(429, {}, b""), "unreachable"),
        (TokenResponse(503, {}, b""), "unreachable"),
        (NotSent("no route"), "unreachable"),
        (TokenResponseLost("timed out"), "unreachable"),
    ],
)
@pytest.mark.parametrize("credential", [KEY, LOGIN])
def test_only_a_401_refuses_and_it_is_asked_once(answer: HttpOutcome, result: str, credential: Credential) -> None:
    found, server = ask(credential, answer)
    assert found == result
    (request,) = server.asked
    assert (request.method, request.body) == ("GET", b"")
    assert dict(request.headers)["authorization"] == f"Bearer {credential.secret.reveal()}"
    assert request.url == ("https://llm.example/v1/key" if credential is KEY else "https://id.example/userinfo")


@pytest.mark.parametrize(
    ("credential", "provider"),
    [
        (KEY, replace(PROVIDER, check_url=None)),
        (SETUP, PROVIDER),
        (LOGIN, Provider("own", "own", "https://llm.example")),
    ],
)
def test_where_no_free_route_is_declared_nothing_is_asked(credential: Credential, provider: Provider) -> None:
    found, server = ask(credential, TokenResponse(200, {}, b""), provider)
    assert found == "no-route"
    assert not server.asked


def test_nothing_is_renewed_for_it() -> None:
    found, server = ask(replace(LOGIN, expires_at=NOW), TokenResponse(200, {}, b""))
    assert found == "unclear"
    assert not server.asked


@pytest.mark.parametrize("owner", ["claude-code", "ant", "external"])
def test_the_login_of_another_program_is_not_used(owner: str) -> None:
    with pytest.raises(UsageError, match="check it there"):
        ask(LOGIN, TokenResponse(200, {}, b""), owner=owner)
    assert ask(KEY, TokenResponse(200, {}, b""), owner="external")[0] == "accepted"


@pytest.mark.parametrize("credential", [LOGIN, SETUP])
def test_a_subscription_s_credential_is_not_sent_under_off(credential: Credential) -> None:
    with pytest.raises(PolicyRefused):
        ask(credential, TokenResponse(200, {}, b""), builtin_providers()["claude-max"])
