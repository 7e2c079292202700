from base64 import urlsafe_b64encode
from hashlib import sha256
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from leaks import leaks
from tokenferry.errors import LoginFailed
from tokenferry.oauth import Authorization, OAuthEndpoints, pasted_state
from tokenferry.providers import builtin_providers

HOSTED = "https://idp.example/done"
LOCAL = "http://localhost:1234/callback"
ENDPOINTS = OAuthEndpoints(
    authorization_endpoint="https://idp.example/authorize",
    authorize_parameters=(("prompt", "consent"),),
    token_endpoint="https://token.example/token",
    client_id="client",
    scopes=("a:b", "c"),
    redirect_uri=HOSTED,
)


@pytest.fixture
def login() -> Authorization:
    return Authorization.begin(ENDPOINTS)


def query(login: Authorization, **changes: str) -> str:
    return urlencode({"code": "the-code", "state": login.state.reveal()} | changes)


def test_the_url_holds_what_the_standard_wants_and_what_the_provider_declares(login: Authorization) -> None:
    url = login.url(LOCAL)
    assert url.startswith("https://idp.example/authorize?")
    digest = sha256(login.verifier.reveal().encode()).digest()
    assert parse_qs(urlsplit(url).query) == {
        "prompt": ["consent"],
        "client_id": ["client"],
        "response_type": ["code"],
        "redirect_uri": [LOCAL],
        "scope": ["a:b c"],
        "code_challenge": [urlsafe_b64encode(digest).decode().rstrip("=")],
        "code_challenge_method": ["S256"],
        "state": [login.state.reveal()],
    }
    assert "scope=a%3Ab+c" in url


def test_both_addresses_of_a_login_have_one_state_and_one_challenge(login: Authorization) -> None:
    local, hosted = (parse_qs(urlsplit(login.url(one)).query) for one in (LOCAL, HOSTED))
    assert local.pop("redirect_uri") != hosted.pop("redirect_uri")
    assert local == hosted


def test_the_vendors_page_is_asked_to_show_the_code() -> None:
    for name in ("claude-max", "console"):
        login = Authorization.begin(builtin_providers()[name].endpoints, ["user:inference"])
        given = parse_qs(urlsplit(login.url(HOSTED)).query)
        assert given["code"] == ["true"]
        assert given["scope"] == ["user:inference"]


def test_an_answer_is_read(login: Authorization) -> None:
    answer = login.read_redirect(query(login), LOCAL)
    assert answer is not None
    assert (answer.code.reveal(), answer.redirect_uri) == ("the-code", LOCAL)
    assert "the-code" not in repr(answer)


@pytest.mark.parametrize(
    "text",
    [
        "CODE#STATE",
        " CODE # STATE ",
        f"{HOSTED}?code=CODE&state=STATE",
        f"{LOCAL}?code=CODE&state=STATE&iss=https%3A%2F%2Fidp.example#fragment",
    ],
)
def test_a_code_with_its_state_and_an_address_are_read_alike(login: Authorization, text: str) -> None:
    answer = login.read_pasted(text.replace("STATE", login.state.reveal()), (LOCAL, HOSTED))
    assert answer is not None
    assert answer.code.reveal() == "CODE"
    assert answer.redirect_uri == (LOCAL if text.startswith(LOCAL) else HOSTED)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "CODE",
        "CODE#",
        "#STATE",
        "CODE#STATE#STATE",
        "CO DE#STATE",
        "CODE#" + "0" * 64,
        "https://evil.example/done?code=CODE&state=STATE",
        f"{HOSTED}/?code=CODE&state=STATE",
        f"{HOSTED}?code=CODE",
        f"{HOSTED}?code=CODE&code=CODE&state=STATE",
        "http://[?code=CODE&state=STATE",
    ],
)
def test_what_is_no_answer_to_this_login_is_none(login: Authorization, text: str) -> None:
    assert login.read_pasted(text.replace("STATE", login.state.reveal()), (LOCAL, HOSTED)) is None


@given(st.text())
def test_no_text_is_an_answer_or_an_error(text: str) -> None:
    login = Authorization.begin(ENDPOINTS)
    assert login.read_pasted(text, (LOCAL, HOSTED)) is None
    assert login.read_redirect(text, LOCAL) is None


def test_without_a_hosted_page_a_bare_code_is_no_answer() -> None:
    login = Authorization.begin(replace(ENDPOINTS, redirect_uri=None))
    assert login.read_pasted(f"CODE#{login.state.reveal()}", (LOCAL,)) is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("access_denied", "the login was refused (access_denied: Because.)"),
        ("temporarily_unavailable", "try again later"),
        ("invalid_scope", "the provider refused the login (invalid_scope: Because.)"),
    ],
)
def test_a_refusal_is_a_sentence(login: Authorization, error: str, words: str) -> None:
    with pytest.raises(LoginFailed) as caught:
        login.read_redirect(query(login, error=error, error_description="Because."), LOCAL)
    assert words in str(caught.value)


def test_a_refusal_of_another_login_is_ignored(login: Authorization) -> None:
    assert login.read_redirect(query(login, error="access_denied", state="other"), LOCAL) is None


@pytest.mark.parametrize(
    ("declared", "named", "is_good"),
    [
        ("https://issuer.example", "https://issuer.example", True),
        ("https://issuer.example", "https://issuer.example/", False),
        ("https://issuer.example", "https://idp.example", False),
        ("https://issuer.example", None, True),
        (None, "https://idp.example", True),
        (None, "https://idp.example/tenant", True),
        (None, "https://token.example", True),
        (None, "https://idp.example.evil.example", False),
        (None, "http://idp.example", False),
        (None, "nonsense", False),
        (None, "https://[", False),
    ],
)
def test_the_issuer_is_checked_where_one_is_named(declared: str | None, named: str | None, *, is_good: bool) -> None:
    """RFC 9207; an issuer that isn't declared must at least be one of the provider's hosts."""
    login = Authorization.begin(replace(ENDPOINTS, issuer=declared))
    answer = query(login, **({} if named is None else {"iss": named}))
    if is_good:
        assert login.read_redirect(answer, LOCAL) is not None
    else:
        with pytest.raises(LoginFailed, match="it was not accepted"):
            login.read_redirect(answer, LOCAL)


def test_a_server_that_always_names_its_issuer_has_to() -> None:
    login = Authorization.begin(replace(ENDPOINTS, issuer="https://issuer.example", names_issuer=True))
    with pytest.raises(LoginFailed, match=r"doesn't name its issuer, as those of https://issuer\.example"):
        login.read_redirect(query(login), LOCAL)


def test_an_error_shows_nothing_of_what_was_pasted(login: Authorization) -> None:
    secrets = (login.state.reveal(), login.verifier.reveal(), "the-code-that-is-secret")
    description = f"you gave {secrets[0]} and {secrets[1]}"
    text = f"{HOSTED}?{query(login, code=secrets[2], error='invalid_request', error_description=description)}"
    for read, arguments in (
        (login.read_pasted, (text, (HOSTED,))),
        (login.read_redirect, (text.partition("?")[2], HOSTED)),
    ):
        with pytest.raises(LoginFailed) as caught:
            read(*arguments)
        assert not leaks(caught.value, *secrets)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("code#s1", "s1"),
        (" code # s1 ", "s1"),
        ("https://idp.example/done?code=c&state=s1", "s1"),
        (" https://idp.example/done?code=c&state=s1#more ", "s1"),
        ("https://idp.example/done?state=s1&state=s2", ""),
        ("https://idp.example/done", ""),
        ("code", ""),
        ("", ""),
    ],
)
def test_the_state_in_what_is_pasted_tells_which_login_it_answers(text: str, state: str) -> None:
    assert pasted_state(text) == state
