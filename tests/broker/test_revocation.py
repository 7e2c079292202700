import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tokenferry.broker import Broker, Revocation, store_login
from tokenferry.credentials import ApiKey, Credential, OAuthToken, SetupToken
from tokenferry.errors import ConfigError, UnknownAccount, UsageError
from tokenferry.oauth import HttpOutcome, NotSent, OAuthEndpoints, TokenRequest, TokenResponse
from tokenferry.providers import Provider
from tokenferry.refresh import RefreshAttempt
from tokenferry.secret import Secret
from tokenferry.stores import Account, MemoryStore, ProcessIdentity

TOKEN = OAuthToken(Secret("fake-access"), Secret("fake-refresh"), expires_at=4_000_000_000)
ISSUER = "https://idp.example"
PROVIDER = Provider(
    "idp", "idp", "https://llm.example", "oauth", oauth=OAuthEndpoints(client_id="me", token_body="form")
)


class Server:
    """Answers what it is told to; keeps the bodies of what it was asked."""

    def __init__(self, *answers: HttpOutcome) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def send(self, request: TokenRequest, _timeout: float, _sending: Callable[[], None] = lambda: None) -> HttpOutcome:
        self.asked.append(f"{request.url} {request.body.decode()}")
        return self.answers.pop(0)


def broker(server: Server, credential: Credential = TOKEN, **oauth: Any) -> Broker:
    provider = replace(PROVIDER, oauth=replace(PROVIDER.oauth, **oauth))
    found = Broker(store=MemoryStore(), providers={"idp": provider}, send=server.send)
    found.add(Account("work", "idp", credential.kind), credential)
    return found


DONE = TokenResponse(200, {}, b"")
REVOKE: dict[str, Any] = {"revocation_endpoint": f"{ISSUER}/revoke"}


def test_the_chain_is_ended_by_its_refresh_token() -> None:
    server = Server(DONE)
    assert broker(server, **REVOKE).revoke("work") == Revocation(is_done=True)
    assert server.asked == [f"{ISSUER}/revoke token=fake-refresh&token_type_hint=refresh_token&client_id=me"]


def test_a_login_that_can_not_be_stored_is_ended_unless_an_account_has_it() -> None:
    server = Server(DONE)
    found = broker(server, **REVOKE)
    with pytest.raises(UsageError, match="account 'work' has this login already"):
        store_login(found, "idp", replace(TOKEN, secret=Secret("fake-newer")), "other")
    assert server.asked == []
    with pytest.raises(UsageError, match="can't be an account's name"):
        store_login(found, "idp", replace(TOKEN, refresh=Secret("fake-new")), "../other")
    assert server.asked == [f"{ISSUER}/revoke token=fake-new&token_type_hint=refresh_token&client_id=me"]


def test_a_renewed_token_that_waits_in_the_journal_is_the_one_to_end() -> None:
    server = Server(DONE)
    found = broker(server, **REVOKE)
    assert TOKEN.refresh is not None
    attempt = RefreshAttempt.begin(TOKEN.refresh.sha256, 0, ProcessIdentity.own(), 1)
    found.journal.begin("work", attempt)
    found.journal.answer("work", attempt, replace(TOKEN, refresh=Secret("newer-refresh")))
    assert found.revoke("work").is_done
    assert "token=newer-refresh" in server.asked[0]


@pytest.mark.parametrize("credential", [ApiKey(Secret("key")), SetupToken(Secret("sk-ant-oat01-" + "x" * 80))])
def test_what_is_no_chain_is_left_alone(credential: Credential) -> None:
    assert broker(Server(), credential, **REVOKE).revoke("work") == Revocation()


@pytest.mark.parametrize(
    ("oauth", "answers", "words"),
    [
        ({}, [], "declares no revocation_endpoint"),
        (REVOKE, [NotSent("nobody there")], "nobody there"),
        (REVOKE, [TokenResponse(503, {}, b"")], "HTTP 503"),
        (REVOKE | {"client_secret_file": "/nowhere/secret"}, [], "client_secret_file"),
        ({"issuer": ISSUER}, [NotSent("nobody there")] * 2, "nobody there"),
        (
            {"issuer": ISSUER},
            [TokenResponse(200, {}, b'{"issuer": "https://idp.example"}')],
            "declares no revocation_endpoint",
        ),
    ],
)
def test_whatever_keeps_it_from_being_ended_is_a_reason_and_no_error(
    oauth: dict[str, Any], answers: Iterable[HttpOutcome], words: str
) -> None:
    found = broker(Server(*answers), **oauth).revoke("work")
    assert not found.is_done
    assert words in found.reason


def test_an_account_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UnknownAccount):
        broker(Server()).revoke("nobody")


def test_the_issuer_may_say_where_to_revoke() -> None:
    metadata = {"issuer": ISSUER, "revocation_endpoint": f"{ISSUER}/end"}
    server = Server(TokenResponse(200, {}, json.dumps(metadata).encode()), DONE)
    assert broker(server, issuer=ISSUER, token_endpoint=f"{ISSUER}/token").revoke("work").is_done
    assert server.asked[1].startswith(f"{ISSUER}/end ")


def test_an_issuer_does_not_lead_to_a_subscriptions_login_that_is_not_declared_as_one(tmp_path: Path) -> None:
    metadata = {
        "issuer": ISSUER,
        "authorization_endpoint": "https://claude.ai/oauth/authorize",
        "token_endpoint": f"{ISSUER}/token",
    }
    found = broker(Server(TokenResponse(200, {}, json.dumps(metadata).encode())), issuer=ISSUER)
    with pytest.raises(ConfigError, match="subscription = true"):
        found.login_endpoints(found.providers["idp"])
