import os
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from msgspec.structs import replace

from leaks import leaks
from tokenferry.credentials import OAuthToken
from tokenferry.errors import LoginFailed, NeedsLogin, TryLater
from tokenferry.login import Addresses, LoginFlow, LoginOptions, Paste
from tokenferry.oauth import HttpOutcome, NotSent, OAuthEndpoints, TokenRequest, TokenResponse, TokenResponseLost
from tokenferry.providers import builtin_providers
from tokenferry.refresh import send
from tokenferry.sandbox import Sandbox

PATIENCE = 20.0


def no_matter(*_: object) -> None:
    pass


@pytest.fixture
def endpoints(tokenferry_sandbox: Sandbox) -> OAuthEndpoints:
    found = builtin_providers()["sandbox"].oauth.at(tokenferry_sandbox.url)
    return replace(found, authorize_parameters=(("login_hint", "alice"),))


@pytest.fixture
def pipe() -> Iterator[tuple[Paste, Callable[[str], Any]]]:
    reader, writer = os.pipe()
    yield Paste(reader), lambda text: os.write(writer, text.encode())
    os.close(reader)
    os.close(writer)


def browse(url: str) -> httpx2.Response:
    with httpx2.Client(follow_redirects=True, timeout=PATIENCE) as browser:
        return browser.get(url)


def begin(endpoints: OAuthEndpoints, options: LoginOptions | None = None, **given: Any) -> LoginFlow:
    return LoginFlow(
        endpoints, options or LoginOptions(), **({"show": no_matter, "complain": no_matter, "send": send} | given)
    )


def log_in(endpoints: OAuthEndpoints, options: LoginOptions | None = None, **given: Any) -> OAuthToken:
    """Log in by a browser on this machine."""
    threads: list[threading.Thread] = []

    def show(addresses: Addresses) -> None:
        threads.append(threading.Thread(target=browse, args=(addresses.local,)))
        threads[-1].start()

    try:
        return begin(endpoints, options, show=show, **given).run(None)
    finally:
        for thread in threads:
            thread.join(PATIENCE)


def test_the_exchange_repeats_the_redirect_that_its_code_came_through(
    endpoints: OAuthEndpoints, pipe: tuple[Paste, Callable[[str], Any]]
) -> None:
    sent: list[bytes] = []

    def note(request: TokenRequest, timeout: float) -> HttpOutcome:
        sent.append(request.body)
        return send(request, timeout)

    token = log_in(endpoints, send=note)
    assert token.email == "alice@example.com"
    assert b"http://localhost:" in sent[0]
    paste, type_in = pipe

    def show(addresses: Addresses) -> None:
        assert addresses.hosted is not None
        type_in(f"{browse(addresses.hosted).url}\n")

    begin(endpoints, show=show, send=note).run(paste)
    assert b"/oauth/code/callback" in sent[1]


def test_state_and_verifier_are_random_independent_and_the_verifier_stays_here(endpoints: OAuthEndpoints) -> None:
    logins = [begin(endpoints).authorization for _ in range(50)]
    states, verifiers = ({getattr(one, name).reveal() for one in logins} for name in ("state", "verifier"))
    assert len(states | verifiers) == 100
    assert all(len(bytes.fromhex(state)) * 8 >= 128 for state in states)
    for one in logins:
        query = urlsplit(one.url("http://localhost:1/callback")).query
        assert one.verifier.reveal() not in query
        assert parse_qs(query)["code_challenge_method"] == ["S256"]


def test_parallel_logins_do_not_mix(endpoints: OAuthEndpoints) -> None:
    tokens: list[OAuthToken] = []
    threads = [threading.Thread(target=lambda: tokens.append(log_in(endpoints))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len({token.secret for token in tokens}) == 4


def test_it_is_given_up_after_five_minutes(endpoints: OAuthEndpoints) -> None:
    clock = iter(range(0, 10_000, 100))
    with pytest.raises(LoginFailed, match="within 5 minutes"):
        begin(endpoints, monotonic=lambda: float(next(clock))).run(None)


def test_the_end_of_what_is_pasted_ends_a_login_that_nothing_else_can_answer(
    endpoints: OAuthEndpoints,
) -> None:
    reader, writer = os.pipe()
    os.close(writer)
    with pytest.raises(LoginFailed, match="without a pasted code"):
        begin(endpoints, LoginOptions(browser=False)).run(Paste(reader))
    os.close(reader)


def test_without_a_hosted_page_the_address_that_the_browser_ends_at_is_pasted(
    endpoints: OAuthEndpoints, pipe: tuple[Paste, Callable[[str], Any]]
) -> None:
    paste, type_in = pipe

    def show(addresses: Addresses) -> None:
        assert addresses.local is None
        assert addresses.hosted is not None
        back = httpx2.get(addresses.hosted, timeout=PATIENCE).headers["location"]
        assert back.startswith("http://127.0.0.1:8085/callback?")
        type_in(f"{back}\n")

    bare = replace(endpoints, redirect_uri=None, loopback_redirect=None)
    token = begin(bare, LoginOptions(browser=False, port=8085), show=show).run(paste)
    assert token.email == "alice@example.com"


@pytest.mark.parametrize("kind", ["address", "code"])
def test_a_wrapped_paste_is_joined_only_where_that_is_certainly_the_answer(
    endpoints: OAuthEndpoints, kind: str
) -> None:
    """`CO` and `DE#STATE` may be a line of something else and a whole answer: a code that is cut would be spent."""
    complaints: list[str] = []
    flow = begin(endpoints, complain=complaints.append)
    state = flow.authorization.state.reveal()
    page = f"{endpoints.redirect_uri}?code=abcdef&state={state}"
    text = page if kind == "address" else f"abcdef#{state}"
    redirects = (str(endpoints.redirect_uri),)
    for cut in range(1, len(text)):
        reader, writer = os.pipe()
        os.write(writer, f"{text[:cut]}\n {text[cut:]}\n".encode())
        os.close(writer)
        code = flow._pasted(Paste(reader, is_typed=True), redirects)
        os.close(reader)
        is_certain = cut > (text.index("://") + 2 if kind == "address" else text.index("#"))
        assert (None if code is None else code.code.reveal()) == ("abcdef" if is_certain else None)
    assert all("without line breaks" in complaint for complaint in complaints)


def test_a_missing_client_secret_is_reported_before_any_request(endpoints: OAuthEndpoints) -> None:
    with pytest.raises(NeedsLogin, match="client_secret_file"):
        begin(replace(endpoints, client_secret_file="/nowhere/secret"), show=pytest.fail).run(None)


@pytest.mark.parametrize(
    ("transmission", "kind"),
    [
        (NotSent("no way there"), TryLater),
        (TokenResponseLost("it broke"), LoginFailed),
        (TokenResponse(429, {"retry-after": "7"}, b""), TryLater),
        (TokenResponse(400, {}, b'{"error": "invalid_grant", "error_description": "SECRETS"}'), LoginFailed),
        (TokenResponse(200, {}, b"[]"), LoginFailed),
        (TokenResponse(200, {}, b'{"access_token": "two words"}'), LoginFailed),
    ],
)
def test_no_error_shows_code_state_or_verifier(
    endpoints: OAuthEndpoints, transmission: HttpOutcome, kind: type[Exception]
) -> None:
    login: list[LoginFlow] = []
    codes: list[str] = []

    def reply(request: TokenRequest, timeout: float) -> HttpOutcome:
        body = request.body.decode()
        codes.append(body.partition('"code": "')[2].partition('"')[0])
        authorization = login[0].authorization
        secrets = f"{codes[0]} {authorization.state.reveal()} {authorization.verifier.reveal()}"
        if isinstance(transmission, TokenResponse):
            return replace(transmission, body=transmission.body.replace(b"SECRETS", secrets.encode()))
        return transmission

    threads: list[threading.Thread] = []

    def show(addresses: Addresses) -> None:
        threads.append(threading.Thread(target=browse, args=(addresses.local,)))
        threads[-1].start()

    login.append(begin(endpoints, show=show, send=reply))
    with pytest.raises(kind) as caught:
        login[0].run(None)
    threads[0].join(PATIENCE)
    authorization = login[0].authorization
    assert codes[0]
    assert not leaks(caught.value, codes[0], authorization.state.reveal(), authorization.verifier.reveal())
