import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from leaks import leaks, shows
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.errors import CorruptFile, UsageError
from tokenferry.secret import Fields, Secret
from tokenferry.stores import Account, Document, check_account_name

ACCESS = "sk-ant-oat01-" + "Aa0" * 30
REFRESH = "sk-ant-ort01-" + "Rr1" * 30
PLACE = "/home/me/accounts/work.json"
DOCUMENT = Document(
    Account(
        "work",
        "console",
        "oauth",
        labels=MappingProxyType({"team": "a"}),
        priority=5,
        created_at=1_700_000_000,
        paused=True,
        paused_until=1_800_000_000,
    ),
    OAuthToken(Secret(ACCESS), Secret(REFRESH), expires_at=1_800_000_000, scopes=("a", "b")),
    generation=7,
    machine="0123456789abcdef",
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def changed(**changes: Any) -> bytes:
    """The document with some fields changed; `...` takes one away."""
    fields = {**json.loads(DOCUMENT.to_bytes()), **changes}
    return json.dumps({key: value for key, value in fields.items() if value is not ...}).encode()


# -- names


@pytest.mark.parametrize("name", ["a", "9", "Work", "me@mail.example", "a+b", "a_b-c.d", "A" * 64])
def test_these_are_names(name: str) -> None:
    assert check_account_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", ".a", "-a", "_a", "@a", "a/b", "../a", "a\\b", "a b", "a\n", "a\x00", "a\r\nb", "é", "\uff41"),
        *("A" * 65, "a:b", "a*", "a%2e", "a\u202eb", "/etc/passwd"),
    ],
)
def test_these_are_none_and_are_shown_escaped(name: str) -> None:
    with pytest.raises(UsageError, match="can't be an account's name") as caught:
        check_account_name(name)
    assert str(caught.value).isprintable()


@settings(deadline=None)
@given(st.text())
def test_a_name_can_leave_no_folder(name: str) -> None:
    try:
        check_account_name(name)
    except UsageError:
        return
    assert (Path("/folder") / f"{name}.json").parent == Path("/folder")
    assert name.isascii()
    assert name.isprintable()


# -- round trip


def test_a_document_is_read_back_whole() -> None:
    assert Document.from_bytes(DOCUMENT.to_bytes(), "work", PLACE) == DOCUMENT


@settings(deadline=None)
@given(
    st.dictionaries(st.text().filter(lambda key: key not in json.loads(DOCUMENT.to_bytes())), JSON, max_size=4),
    st.dictionaries(st.text(), st.text()),
    st.integers(),
    st.integers(),
    st.integers(0, 4_102_444_800),
    st.none() | st.text(),
)
def test_unknown_fields_survive_and_nothing_is_lost(  # noqa: PLR0917  # drawn in this order
    unknown: dict[str, Any],
    labels: dict[str, str],
    priority: int,
    generation: int,
    created_at: int,
    machine: str | None,
) -> None:
    account = replace(DOCUMENT.account, labels=MappingProxyType(labels), priority=priority, created_at=created_at)
    document = replace(DOCUMENT, account=account, generation=generation, machine=machine, unknown=Fields(unknown))
    again = Document.from_bytes(document.to_bytes(), "work", PLACE)
    assert again == document
    assert again.unknown == unknown
    assert again.to_bytes() == document.to_bytes()


def test_a_number_beyond_json_costs_nothing() -> None:
    """Read, written and read again: what another program wrote carelessly must not corrupt the document later."""
    raw = changed(later=0).replace(b'"later": 0', b'"later": 1e999')
    document = Document.from_bytes(raw, "work", PLACE)
    assert replace(document, unknown=Fields()) == DOCUMENT
    assert Document.from_bytes(document.to_bytes(), "work", PLACE) == document


def test_a_document_shows_no_secret() -> None:
    document = replace(DOCUMENT, unknown=Fields(odd=ACCESS))
    assert not shows(repr(document), ACCESS, REFRESH)
    assert hash(document) == hash(replace(document))


# -- corrupt ones

GOOD_CREDENTIAL = {"access_token": ACCESS, "refresh_token": REFRESH}
CORRUPT: list[tuple[bytes, str]] = [
    (b"", "isn't a JSON object"),
    (b"\n", "isn't a JSON object"),
    (b"\x00" * 300, "isn't a JSON object"),
    (b"null", "isn't a JSON object"),
    (f'["{ACCESS}"]'.encode(), "isn't a JSON object"),
    (f'"{ACCESS}"'.encode(), "isn't a JSON object"),
    (DOCUMENT.to_bytes()[:-40], "isn't a JSON object"),
    (DOCUMENT.to_bytes() * 2, "isn't a JSON object"),
    (DOCUMENT.to_bytes().replace(b'"work"', b'"w\xff"'), "isn't a JSON object"),
    (b"[" * 100_000, "isn't a JSON object"),
    (b"{}", '"version"'),
    (changed(version=2), "written by a newer tokenferry"),
    (changed(name="other"), 'another account, "other"'),
    (changed(name="../work"), "can't be an account's name"),
    (changed(kind="password"), '"kind" must be one of api-key, setup-token, oauth'),
    (changed(owner="me"), '"owner" must be one of tokenferry, claude-code, ant, external'),
    (changed(created_at=1_700_000_000_000), "unit mistake"),
    (changed(created_at=-1), "1970"),
    (changed(labels={"a": 1}), '"labels" must hold strings'),
    (changed(labels={"a": {"b": ACCESS}}), '"labels" must hold strings'),
    (changed(machine=5), '"machine"'),
    (changed(machine=[ACCESS]), '"machine"'),
    (changed(credential={}), '"access_token"'),
    (changed(credential={"access_token": ACCESS, "refresh_token": [REFRESH]}), '"refresh_token"'),
    (changed(credential={"access_token": [ACCESS], "refresh_token": REFRESH}), '"access_token"'),
    (changed(credential=GOOD_CREDENTIAL | {"expires_at": ACCESS}), '"expires_at"'),
    (changed(credential=GOOD_CREDENTIAL | {"expires_at": 1_800_000_000_000}), '"expires_at"'),
    (changed(credential=GOOD_CREDENTIAL | {"email": [ACCESS]}), '"email"'),
    (changed(kind="api-key"), '"key"'),
    (changed(kind="setup-token", credential={"token": ACCESS[:40]}), "setup token"),
    *[
        (changed(**{key: wrong}), f'"{key}" is missing or has the wrong type')
        for key in ("version", "generation", "name", "provider", "kind", "owner", "labels", "priority", "created_at")
        for wrong in (..., None, True, [ACCESS], 1.5)
    ],
    *[(changed(credential=wrong), '"credential" is missing') for wrong in (..., None, ACCESS, [ACCESS])],
]


@pytest.mark.parametrize(("raw", "reason"), CORRUPT, ids=range(len(CORRUPT)))
def test_a_corrupt_document_is_reported_by_path_and_reason_and_shows_nothing(raw: bytes, reason: str) -> None:
    with pytest.raises(CorruptFile) as caught:
        Document.from_bytes(raw, "work", PLACE)
    text = str(caught.value)
    assert text.startswith(PLACE)
    assert reason in text
    assert text.endswith("move it away and run: tokenferry account add NAME")
    assert not leaks(caught.value, ACCESS, REFRESH)


@settings(deadline=None)
@given(st.data())
def test_no_damage_to_one_field_raises_anything_else(data: st.DataObject) -> None:
    fields = json.loads(DOCUMENT.to_bytes())
    part = data.draw(st.sampled_from([fields, fields["credential"]]))
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(JSON | st.just([ACCESS]))
    try:
        document = Document.from_bytes(json.dumps(fields).encode(), "work", PLACE)
    except CorruptFile as fault:
        assert not leaks(fault, ACCESS, REFRESH)  # noqa: PT017  # either outcome is right
        return
    assert Document.from_bytes(document.to_bytes(), "work", PLACE) == document


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_no_damage_to_the_bytes_raises_anything_else(junk: bytes, place: int) -> None:
    raw = DOCUMENT.to_bytes()
    try:
        Document.from_bytes(raw[:place] + junk + raw[place + len(junk) :], "work", PLACE)
    except CorruptFile as fault:
        assert not leaks(fault, REFRESH)  # noqa: PT017  # either outcome is right


def test_a_key_account_holds_a_key() -> None:
    account = Account("work", "anthropic", "api-key", owner="external")
    document = Document(account, ApiKey(Secret("sk-1")))
    assert Document.from_bytes(document.to_bytes(), "work", PLACE) == document
