"""Another account's login in the place of the one that is there."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from claude_code.rig import ACCESS, ACCOUNT, EXPIRES, REFRESH, STUB, document, renewed, section, write
from leaks import leaks
from tokenferry.claude_code import (
    ClaudeCodeHome,
    ClaudeCodeStore,
    CredentialsFile,
    LockTiming,
    digest,
    parse,
    put_in,
    taken_out,
)
from tokenferry.credentials import OAuthToken, credential_from_json
from tokenferry.errors import Conflict, CorruptFile, StorageFailed, TokenferryError, UnsafeFile, UsageError
from tokenferry.secret import Fields, Secret

NEW = renewed(account_id="uuid-new", organization_id="org-new")


@pytest.fixture
def store(claude: ClaudeCodeHome, locks: Path) -> ClaudeCodeStore:
    return ClaudeCodeStore(ACCOUNT, claude, locks, timing=LockTiming(heartbeat=0.02, pause=0.005, write=0.05))


def nothing() -> None:
    return


def present(store: ClaudeCodeStore) -> str | None:
    token = store.look()[1].token
    return None if token is None else digest(token)


# -- the document


def test_fields_beside_the_section_stay_and_none_of_the_previous_login(store: ClaudeCodeStore) -> None:
    login = parse(document(section(odd=1), mcpOAuth={"kept": True}, other=None))
    written = json.loads(put_in(login, NEW))
    assert list(written) == ["mcpOAuth", "other", "claudeAiOauth"]
    assert written["mcpOAuth"] == {"kept": True}
    assert "odd" not in written["claudeAiOauth"]
    assert written["claudeAiOauth"]["expiresAt"] == (EXPIRES + 1) * 1000
    read = parse(json.dumps(written).encode()).token
    assert read is not None
    assert digest(read) == digest(NEW)
    assert (read.account_id, read.organization_id) == ("uuid-new", "org-new")


def test_what_can_not_be_understood_is_not_written_over() -> None:
    with pytest.raises(UsageError, match="never written over"):
        put_in(parse(b"{"), NEW)


def test_without_a_refresh_token_it_is_written_as_claude_code_writes_none() -> None:
    written = json.loads(put_in(parse(None), replace(NEW, refresh=None)))
    assert written["claudeAiOauth"]["refreshToken"] == ""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
foreign = st.dictionaries(
    st.text() | st.sampled_from(["email", "source", "access_token", "expires_at", "lifetime", "claude_code"]),
    json_values,
    max_size=4,
).map(lambda fields: {key: value for key, value in fields.items() if key not in section()})


@given(fields=foreign, others=st.dictionaries(st.text().filter(lambda key: key != "claudeAiOauth"), json_values))
def test_a_login_comes_home_and_goes_back_as_it_was(fields: dict[str, Any], others: dict[str, Any]) -> None:
    """By way of our document, which is JSON as well."""
    token = parse(json.dumps({"claudeAiOauth": section(**fields)}).encode()).token
    assert token is not None
    home = credential_from_json("oauth", Fields(json.loads(json.dumps(taken_out(token).to_json()))))
    assert isinstance(home, OAuthToken)
    assert digest(home) == digest(token)
    written = json.loads(put_in(parse(json.dumps(others).encode()), home))
    assert written == {**others, "claudeAiOauth": section(**fields)}


def test_what_our_document_knew_besides_stays_with_the_account() -> None:
    token = parse(document(section(odd=1))).token
    assert token is not None
    known = replace(
        token,
        email="me@example.com",
        source="login",
        obtained_at=5,
        lifetime=7,
        unknown=Fields(ours=True, claude_code={}),
    )
    home = taken_out(token, known)
    assert home == replace(known, unknown=Fields(ours=True, claude_code={"odd": 1}))
    rotated = taken_out(replace(token, secret=Secret("another")), known)
    assert (rotated.email, rotated.source, rotated.obtained_at) == ("me@example.com", "claude-code", None)
    assert rotated.unknown["ours"] is True


def test_an_identity_that_the_section_lacks_is_not_forgotten() -> None:
    token = parse(document(section(accountUuid=None, organizationUuid=None))).token
    assert token is not None
    home = taken_out(token, NEW)
    assert (home.account_id, home.organization_id) == ("uuid-new", "org-new")


# -- the store


@pytest.mark.parametrize("content", [None, b"{}", document(STUB, mcpOAuth=1), document(section(odd=1), mcpOAuth=1)])
def test_it_is_staged_announced_and_put_in_place(
    store: ClaudeCodeStore, claude: ClaudeCodeHome, content: bytes | None
) -> None:
    if content is not None:
        write(claude.credentials, content)
    seen: list[tuple[bytes | None, bool | None]] = []
    place = CredentialsFile(claude)

    def announce() -> None:
        seen.append((place.read(), store.is_staged() if content is not None else place.is_staged()))
        assert claude.write_lock.is_dir()

    with store.exclusive("mine", 5):
        store.hand_over(present(store), NEW, announce)
    assert seen == [(content, True)]
    assert present(store) == digest(NEW)
    assert store.is_staged() is False
    assert list(claude.path.iterdir()) == [claude.credentials]
    assert claude.credentials.stat().st_mode & 0o777 == 0o600


def test_what_announcing_raises_ends_it_and_leaves_the_trace(store: ClaudeCodeStore, claude: ClaudeCodeHome) -> None:
    write(claude.credentials, document())

    def announce() -> None:
        raise StorageFailed("no room")

    with pytest.raises(StorageFailed, match="no room") as caught:
        store.hand_over(present(store), NEW, announce)
    assert leaks(caught.value, ACCESS, REFRESH, NEW.secret.reveal()) == []
    assert claude.credentials.read_bytes() == document()
    assert store.is_staged() is True
    assert not claude.write_lock.exists()
    store.unstage()
    store.unstage()
    assert store.is_staged() is False


@pytest.mark.parametrize("content", [document(section(accessToken="other")), document(STUB), b"{}"])
def test_another_persons_login_is_not_overwritten(
    store: ClaudeCodeStore, claude: ClaudeCodeHome, content: bytes
) -> None:
    write(claude.credentials, document())
    expected = present(store)
    write(claude.credentials, content)
    with pytest.raises(Conflict, match="nothing was written"):
        store.hand_over(expected, NEW, nothing)
    assert claude.credentials.read_bytes() == content
    assert store.is_staged() is False


def link(claude: ClaudeCodeHome) -> None:
    claude.credentials.rename(claude.path / "target")
    claude.credentials.symlink_to(claude.path / "target")


def spoil(claude: ClaudeCodeHome) -> None:
    claude.credentials.write_bytes(b"{")


@pytest.mark.parametrize(("harm", "kind"), [(link, UnsafeFile), (spoil, CorruptFile)])
def test_what_can_not_be_trusted_or_understood_is_left(
    store: ClaudeCodeStore, claude: ClaudeCodeHome, harm: Any, kind: type[TokenferryError]
) -> None:
    write(claude.credentials, document())
    expected = present(store)
    harm(claude)
    with pytest.raises(kind):
        store.hand_over(expected, NEW, nothing)
    assert not (claude.path / ".credentials.json.tokenferry").exists()


def test_a_write_lock_taken_over_since_stops_it(store: ClaudeCodeStore, claude: ClaudeCodeHome) -> None:
    write(claude.credentials, document())

    def announce() -> None:
        claude.write_lock.rmdir()
        claude.write_lock.mkdir()

    with pytest.raises(StorageFailed, match="took the write lock over"):
        store.hand_over(present(store), NEW, announce)
    assert claude.credentials.read_bytes() == document()
    assert store.is_staged() is True


def test_what_a_killed_one_staged_is_in_no_ones_way(store: ClaudeCodeStore, claude: ClaudeCodeHome) -> None:
    write(claude.path / ".credentials.json.tokenferry", b"half a docu")
    store.hand_over(None, NEW, nothing)
    assert present(store) == digest(NEW)
    assert list(claude.path.iterdir()) == [claude.credentials]
