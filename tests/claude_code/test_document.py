import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_code.rig import ACCESS, EXPIRES, REFRESH, STUB, document, renewed, section
from leaks import leaks, shows
from tokenferry.claude_code import LoginState, digest, merge, parse
from tokenferry.credentials import OAuthToken
from tokenferry.errors import CorruptFile, NeedsLogin, UsageError
from tokenferry.secret import Secret

WHERE = "/home/person/.claude/.credentials.json"
KNOWN = {*section(), "refreshTokenExpiresAt"}

texts = st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
foreign = st.dictionaries(texts.filter(lambda key: key != "claudeAiOauth"), values, max_size=4)
foreign_inside = st.dictionaries(texts.filter(lambda key: key not in KNOWN), values, max_size=4)
secrets = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
times = st.integers(10_000_001, 4_102_444_800)  # before that, in April 1970, milliseconds look like seconds
tokens = st.builds(
    OAuthToken,
    secrets.map(Secret),
    secrets.map(Secret),
    expires_at=st.none() | times,
    scopes=st.lists(texts, max_size=3).map(tuple),
    subscription_type=st.none() | texts,
    rate_limit_tier=st.none() | texts,
    account_id=st.none() | texts,
    organization_id=st.none() | texts,
    refresh_expires_at=st.none() | times,
)


def known(token: OAuthToken) -> OAuthToken:
    """A token without what it carries along of the document."""
    return OAuthToken(
        token.secret,
        token.refresh,
        token.expires_at,
        token.scopes,
        token.subscription_type,
        token.rate_limit_tier,
        account_id=token.account_id,
        organization_id=token.organization_id,
        refresh_expires_at=token.refresh_expires_at,
    )


# -- reading


def test_a_login_is_read_whole() -> None:
    raw = document(section(refreshTokenExpiresAt=(EXPIRES + 9) * 1000 + 999, subscriptionTypeSource="profile"))
    login = parse(raw)
    assert login.state == "logged-in"
    assert login.token == OAuthToken(
        Secret(ACCESS),
        Secret(REFRESH),
        expires_at=EXPIRES,
        scopes=("user:inference", "user:profile"),
        subscription_type="max",
        rate_limit_tier="default_claude_max_5x",
        account_id="11111111-1111-4111-8111-111111111111",
        organization_id="22222222-2222-4222-8222-222222222222",
        refresh_expires_at=EXPIRES + 9,
        unknown=login.fields["claudeAiOauth"].without(*KNOWN),
    )
    assert login.token.unknown == {"subscriptionTypeSource": "profile"}
    assert login.error(WHERE) is None


@given(times, st.integers(0, 999))
def test_seconds_and_milliseconds_are_distinguished(time: int, fraction: int) -> None:
    for number in (time, time * 1000 + fraction, float(time)):
        token = parse(document(section(expiresAt=number, refreshTokenExpiresAt=number))).token
        assert token is not None
        assert (token.expires_at, token.refresh_expires_at) == (time, time)


@pytest.mark.parametrize(
    ("raw", "state", "kind", "words"),
    [
        (
            None,
            "absent",
            NeedsLogin,
            f"{WHERE} not found: Claude Code is not logged in here; log in with: claude /login",
        ),
        (b"{}", "section-missing", NeedsLogin, f"{WHERE}: section claudeAiOauth missing; log in with: claude /login"),
        (b'{"claudeAiOauth":null,"mcpOAuth":{}}', "section-missing", NeedsLogin, "section claudeAiOauth missing"),
        (document(STUB), "logged-out", NeedsLogin, "logged out, .* log in again with: claude /login"),
        (document({}), "logged-out", NeedsLogin, "logged out"),
        (document(section(accessToken=None, refreshToken=" ")), "logged-out", NeedsLogin, "logged out"),
        (document(section(refreshToken="")), "no-refresh-token", NeedsLogin, "refresh token absent.*claude /login"),
        (document(section(accessToken="")), "unparsable", CorruptFile, '"accessToken" is blank'),
        (document(section(accessToken=7)), "unparsable", CorruptFile, '"accessToken" is not a string'),
        (document(section(refreshToken="a\nb")), "unparsable", CorruptFile, '"refreshToken": a secret must'),
        (document(section(expiresAt="soon")), "unparsable", CorruptFile, '"expiresAt": a time must be a number'),
        (document(section(expiresAt=-1)), "unparsable", CorruptFile, '"expiresAt": a time must lie between'),
        (document(section(expiresAt=5e15)), "unparsable", CorruptFile, '"expiresAt": a time must lie between'),
        (document([]), "unparsable", CorruptFile, '"claudeAiOauth" isn\'t an object'),
        (b"", "unparsable", CorruptFile, f"{WHERE} can't be understood: it isn't a JSON object.*claude /login"),
        (b"[]", "unparsable", CorruptFile, "isn't a JSON object"),
        (document()[:-1], "unparsable", CorruptFile, "isn't a JSON object"),
    ],
)
def test_each_state_names_the_file_and_the_cure(
    raw: bytes | None, state: LoginState, kind: type[Exception], words: str
) -> None:
    login = parse(raw)
    assert login.state == state
    assert (login.token is None) == (state != "no-refresh-token")
    assert (login.generation is None) == (login.token is None)
    error = login.error(WHERE)
    assert error is not None
    with pytest.raises(kind, match=words) as caught:
        raise error
    assert WHERE in str(caught.value)
    assert "claude /login" in str(caught.value)
    assert leaks(caught.value, ACCESS, REFRESH) == []
    assert shows(f"{login!r} {login.fields!r}", ACCESS, REFRESH) == []


blanks = st.sampled_from(["", " ", "\t\n", None])


@given(blanks, blanks, st.sampled_from([0, None, EXPIRES * 1000, "x"]), foreign_inside)
def test_a_stub_is_never_a_credential(access: Any, refresh: Any, expires: Any, others: dict[str, Any]) -> None:
    login = parse(document({**others, "accessToken": access, "refreshToken": refresh, "expiresAt": expires}))
    assert (login.state, login.token, login.generation) == ("logged-out", None, None)


@given(st.binary(max_size=60) | values.map(lambda value: json.dumps({"claudeAiOauth": value}).encode()))
def test_nothing_makes_reading_raise(raw: bytes) -> None:
    login = parse(raw)
    assert (login.token is None) == (login.state not in {"logged-in", "no-refresh-token"})


@pytest.mark.parametrize("key", ["scopes", "subscriptionType", "accountUuid", "refreshTokenExpiresAt"])
def test_odd_values_beside_the_tokens_cost_no_login(key: str) -> None:
    login = parse(document(section(**{key: {"odd": 1}})))
    assert login.state == "logged-in"
    written = json.loads(merge(login, login.token or renewed()))
    assert written["claudeAiOauth"][key] == {"odd": 1}


# -- the generation


def test_the_generation_changes_with_either_token_and_with_nothing_else() -> None:
    one = parse(document()).generation
    assert parse(document(section(expiresAt=1, scopes=[]), mcpOAuth={"a": 1})).generation == one
    others = [section(accessToken="x"), section(refreshToken="x"), section(refreshToken="")]
    assert len({one, *(parse(document(other)).generation for other in others)}) == 4
    swapped = section(accessToken=REFRESH, refreshToken=ACCESS)
    assert parse(document(swapped)).generation != one


def test_the_digest_is_of_both_tokens() -> None:
    token = renewed()
    assert digest(token) == digest(renewed(expires_at=3, email=None))
    assert len(digest(token)) == 64


# -- writing


@given(foreign, foreign, foreign_inside, foreign_inside, tokens)
def test_foreign_fields_survive_at_both_levels(
    before: dict[str, Any], after: dict[str, Any], first: dict[str, Any], last: dict[str, Any], token: OAuthToken
) -> None:
    old = {**before, "claudeAiOauth": {**first, **section(), **last}, **after}
    new = json.loads(merge(parse(json.dumps(old).encode()), token))
    assert list(new) == list(old)
    assert {**new, "claudeAiOauth": 0} == {**old, "claudeAiOauth": 0}
    inside = {key: value for key, value in new["claudeAiOauth"].items() if key not in KNOWN}
    assert inside == {**first, **last}
    order = [key for key in old["claudeAiOauth"] if key in new["claudeAiOauth"]]
    assert [key for key in new["claudeAiOauth"] if key in old["claudeAiOauth"]] == order


@given(tokens, st.sampled_from([None, b"{}", document(), document(STUB), document(section(scopes="a b"))]))
def test_what_is_written_is_read_again(token: OAuthToken, raw: bytes | None) -> None:
    written = parse(merge(parse(raw), token))
    assert written.state == "logged-in"
    assert written.token is not None
    assert known(written.token) == known(token)
    assert merge(written, token) == merge(written, written.token)


@given(tokens)
def test_times_are_written_in_milliseconds(token: OAuthToken) -> None:
    seconds = document(section(expiresAt=token.expires_at, refreshTokenExpiresAt=token.refresh_expires_at))
    for raw in (seconds, document()):
        new = json.loads(merge(parse(raw), token))["claudeAiOauth"]
        for key, time in (("expiresAt", token.expires_at), ("refreshTokenExpiresAt", token.refresh_expires_at)):
            assert new.get(key) == (time and time * 1000)


def test_what_did_not_change_stays_as_it_stood() -> None:
    raw = document(section(expiresAt=EXPIRES * 1000 + 123, subscriptionType=None, scopes=[]), other=[1, "ü"])
    login = parse(raw)
    assert login.token is not None
    assert merge(login, login.token) == json.dumps(json.loads(raw), separators=(",", ":")).encode()


def test_what_is_known_of_the_old_login_goes_with_it() -> None:
    reported = section(refreshTokenExpiresAt=EXPIRES * 1000)
    for raw in (document(reported), document(STUB | {"refreshTokenExpiresAt": 1})):
        new = json.loads(merge(parse(raw), OAuthToken(Secret("new"), Secret("newer"), 5)))
        assert new["claudeAiOauth"] == {"accessToken": "new", "refreshToken": "newer", "expiresAt": 5000}


def test_fewer_tokens_are_never_written() -> None:
    with pytest.raises(UsageError, match="fewer tokens"):
        merge(parse(document()), renewed(refresh=None))
    written = parse(merge(parse(document(section(refreshToken=None))), renewed(refresh=None)))
    assert written.state == "no-refresh-token"


def test_what_can_not_be_understood_is_never_written_over() -> None:
    with pytest.raises(UsageError, match="never written over"):
        merge(parse(b'{"claudeAiOauth": 3}'), renewed())


def test_the_bytes_to_write_show_nothing() -> None:
    assert shows(repr(merge(parse(document()), renewed())), renewed().secret.reveal(), REFRESH) == []


@pytest.mark.parametrize(
    ("account", "email"),
    [
        ({"emailAddress": "me@mail.example", "uuid": "u"}, "me@mail.example"),
        ({"emailAddress": ""}, None),
        ({"emailAddress": 1}, None),
        ("me@mail.example", None),
        (None, None),
    ],
)
def test_the_e_mail_address_is_the_account_s_and_stays_in_the_document(account: Any, email: str | None) -> None:
    raw = json.dumps({"claudeAiOauth": {"accessToken": "a", "refreshToken": "r", "account": account}}).encode()
    login = parse(raw)
    assert login.token is not None
    assert login.token.email == email
    assert json.loads(merge(login, login.token))["claudeAiOauth"]["account"] == account
