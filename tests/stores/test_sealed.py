"""Documents in a sealed home: they say what they said, and nobody without the key can change a byte of that."""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from leaks import shows
from tokenferry.credentials import ApiKey, Credential, OAuthToken
from tokenferry.errors import Conflict, CorruptFile, NeedsUnlock, SealKeyLost, UnknownAccount
from tokenferry.sealing import KeyPlace, Marker, SealKey, SystemKeyring
from tokenferry.secret import Fields, Secret
from tokenferry.settings import Home
from tokenferry.stores import Account, Document, FileStore, Seal

KEY = SealKey.new()
MARKER = Marker(((KEY.id, KeyPlace()),))
ACCESS, REFRESH = "sk-ant-oat01-" + "Aa1" * 30, "sk-ant-ort01-" + "Rr1" * 30

printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=120)
secrets = printable.map(Secret)
times = st.integers(0, 4_102_444_800)
unknown = st.dictionaries(
    st.text(max_size=9).map(lambda name: f"x-{name}"),
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    max_size=3,
).map(Fields)
credentials: st.SearchStrategy[Credential] = st.builds(ApiKey, secrets, unknown) | st.builds(
    OAuthToken,
    secret=secrets,
    refresh=st.none() | secrets,
    expires_at=st.none() | times,
    email=st.none() | st.text(max_size=20),
    refresh_expires_at=st.none() | times,
    unknown=unknown,
)


def labels(found: dict[str, str]) -> Mapping[str, str]:
    return MappingProxyType(found)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    credential = draw(credentials)
    account = Account(
        "work",
        draw(st.sampled_from(["console", "anthropic", "π"])),
        credential.kind,
        draw(st.sampled_from(["tokenferry", "external"])),
        labels=draw(st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=2).map(labels)),
        priority=draw(st.integers(-5, 500)),
        created_at=draw(times),
    )
    return Document(account, credential, machine=draw(st.none() | st.text(max_size=9)), unknown=draw(unknown))


def sealed_home(home: Home, *keys: SealKey) -> FileStore:
    """A store over it, as a new process would have it that has these keys."""
    seal = Seal(home, keys=keys or (KEY,))
    if seal.marker() is None:
        seal.mark(MARKER)
    return FileStore(home, seal=seal)


def document(number: int = 0, name: str = "work") -> Document:
    token = OAuthToken(Secret(ACCESS + str(number)), Secret(REFRESH + str(number)), expires_at=1_900_000_000)
    return Document(Account(name, "console", "oauth", created_at=5), token)


@given(documents(), documents())
def test_what_is_swapped_in_is_read_back_whole(one: Document, other: Document) -> None:
    with TemporaryDirectory() as folder:
        home = Home(Path(folder).resolve())
        store = sealed_home(home)
        store.swap("work", None, one)
        assert sealed_home(home).read("work") == replace(one, generation=1)
        store.swap("work", 1, other)
        assert sealed_home(home).read("work") == store.read("work") == replace(other, generation=2)


@pytest.fixture
def store(home: Home) -> FileStore:
    store = sealed_home(home)
    store.swap("work", None, document())
    return store


def test_in_clear_is_what_listings_need_and_nothing_else(store: FileStore) -> None:
    raw = store.path("work").read_text()
    assert not shows(raw, ACCESS, REFRESH)
    assert set(json.loads(raw)) == {
        "version",
        "generation",
        "name",
        "provider",
        "kind",
        "owner",
        "priority",
        "created_at",
        "expires_at",
        "refresh_expires_at",
        "fingerprint",
        "refresh_fingerprint",
        "key",
        "sealed",
    }
    assert store.path("work").stat().st_mode & 0o7777 == 0o600


def test_every_byte_counts(store: FileStore, home: Home) -> None:
    """Each is changed in every bit, left out and doubled: none of these documents is taken."""
    path = store.path("work")
    whole = path.read_bytes()
    fresh = sealed_home(home)
    for place in range(len(whole)):
        bit = 1 << place % 8
        for changed in (bytes([whole[place] ^ bit]), b"", whole[place : place + 1] * 2):
            torn = whole[:place] + changed + whole[place + 1 :]
            if torn == whole:
                continue
            path.write_bytes(torn)
            with pytest.raises((CorruptFile, NeedsUnlock)):  # a changed key id is that of a key which isn't here
                fresh.read("work")
    path.write_bytes(whole)
    assert fresh.read("work") == document()


def test_every_word_in_clear_is_vouched_for(store: FileStore, home: Home) -> None:
    path = store.path("work")
    whole = json.loads(path.read_text())
    changes: dict[str, object] = {
        "generation": 2,
        "provider": "anthropic",
        "kind": "api-key",
        "owner": "external",
        "priority": 1,
        "created_at": 6,
        "expires_at": None,
        "refresh_expires_at": 1_900_000_000,
        "fingerprint": "00000000",
        "refresh_fingerprint": None,
        "version": 1,
    }
    for key, value in changes.items():
        path.write_text(json.dumps(whole | {key: value}, indent=1) + "\n")
        with pytest.raises(CorruptFile):
            sealed_home(home).read("work")


def test_a_renamed_document_is_refused_under_its_new_name_even_if_that_is_written_into_it(
    store: FileStore, home: Home
) -> None:
    raw = store.path("work").read_bytes()
    other = store.path("other")
    for content in (raw, raw.replace(b'"work"', b'"other"')):
        other.write_bytes(content)
        other.chmod(0o600)
        with pytest.raises(CorruptFile, match=r"other\.json"):
            sealed_home(home).read("other")


def test_a_box_is_refused_in_another_accounts_document(store: FileStore, home: Home) -> None:
    store.swap("other", None, document(name="other"))
    mine, other = (json.loads(store.path(name).read_text()) for name in ("work", "other"))
    store.path("work").write_text(json.dumps(mine | {"sealed": other["sealed"]}, indent=1) + "\n")
    with pytest.raises(CorruptFile, match="it was changed after it was sealed"):
        sealed_home(home).read("work")


def test_an_older_document_that_comes_back_is_noticed_by_who_saw_it_go(store: FileStore, home: Home) -> None:
    old = store.path("work").read_bytes()
    witness = sealed_home(home)
    assert witness.read("work").generation == 1
    store.swap("work", 1, document(1))
    assert witness.read("work").generation == 2
    store.path("work").write_bytes(old)
    for _ in range(2):
        with pytest.raises(CorruptFile, match=r"older document \(generation 1\)"):
            witness.read("work")
        with pytest.raises(CorruptFile):
            witness.swap("work", 1, document(2))
    assert sealed_home(home).read("work").generation == 1, "who hasn't seen it can't tell"


def test_an_account_that_was_removed_and_made_again_is_no_older_one(store: FileStore, home: Home) -> None:
    witness = sealed_home(home)
    for number in range(1, 4):
        generation = witness.read("work").generation
        store.swap("work", generation, document(number))
        assert witness.read("work").generation == generation + 1
        store.swap("work", generation + 1, None)
        store.swap("work", None, document(number))
        assert witness.read("work").generation == 1


def test_the_generation_rules_as_it_does_in_clear(store: FileStore) -> None:
    for expected in (None, 0, 2):
        with pytest.raises(Conflict):
            store.swap("work", expected, document(1))
    store.swap("work", 1, None)
    with pytest.raises(UnknownAccount):
        store.read("work")


# -- without the key


def test_without_the_key_nothing_is_read_but_what_is_in_clear(store: FileStore, home: Home, tmp_path: Path) -> None:
    Seal(home).mark(Marker(((KEY.id, KeyPlace(tmp_path / "elsewhere" / "key")),)))
    locked = FileStore(home, seal=Seal(home))
    for call in (
        lambda: locked.read("work"),
        lambda: locked.swap("work", 1, document(1)),
        lambda: locked.swap("work", 1, None),
        lambda: locked.swap("new", None, document(name="new")),
        lambda: locked.discard("work"),
    ):
        with pytest.raises(NeedsUnlock, match="elsewhere/key isn't there"):
            call()
    header = locked.header("work")
    assert header is not None
    assert (header.account.provider, header.account.kind, header.expires_at) == ("console", "oauth", 1_900_000_000)
    assert (header.generation, header.fingerprint) == (1, Secret(ACCESS + "0").fingerprint)
    assert locked.names() == ["work"]
    assert store.read("work") == document(), "nothing was changed"


def test_a_document_whose_key_is_lost_can_be_given_up(store: FileStore, home: Home, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "key"
    other = SealKey.new()
    path.parent.mkdir(mode=0o700)
    path.write_text(other.secret.reveal() + "\n")
    path.chmod(0o600)
    Seal(home).mark(Marker(((KEY.id, KeyPlace(path)),)))
    keyless = FileStore(home, seal=Seal(home))
    with pytest.raises(SealKeyLost, match="lost for good"):
        keyless.read("work")
    keyless.discard("work")
    assert keyless.names() == []


# -- partly sealed homes


def signed(home: Home, marker: Marker, *keys: SealKey) -> None:
    """Mark the home as whoever has these keys does."""
    seal = Seal(home, keys=keys or (KEY,))
    seal.mark(seal.signed(marker))


def test_a_document_in_clear_is_sealed_by_the_next_write_while_the_home_is_being_sealed(home: Home) -> None:
    plain = FileStore(home, seal=Seal(home))
    plain.swap("work", None, document())
    assert plain.header("work") is None
    signed(home, replace(MARKER, is_complete=False))
    store = sealed_home(home)
    assert store.read("work") == document()
    store.swap("work", 1, document(1))
    assert store.header("work") is not None
    assert store.read("work") == replace(document(1), generation=2)


def test_a_document_is_written_as_it_was_where_the_newer_key_is_out_of_reach(store: FileStore, home: Home) -> None:
    """It may be a grant's: it is never lost for want of the key that a rotation made meanwhile."""
    newer = SealKey.new()
    signed(home, Marker(((newer.id, KeyPlace(Path("/nowhere/key"))), *MARKER.keys)), newer, KEY)
    store.swap("work", 1, document(1))
    header = store.header("work")
    assert header is not None
    assert header.key == KEY.id
    with pytest.raises(NeedsUnlock):
        store.swap("new", None, document(name="new"))


def test_a_sealed_document_stays_so_when_the_marker_is_gone(store: FileStore, home: Home) -> None:
    home.seal.unlink()
    store.swap("work", 1, document(1))
    assert store.header("work") is not None


def test_beside_sealed_accounts_none_is_added_in_clear_because_the_marker_is_gone(store: FileStore, home: Home) -> None:
    home.seal.unlink()
    with pytest.raises(CorruptFile, match="tokenferry encryption enable"):
        store.swap("new", None, document(name="new"))
    assert store.names() == ["work"]


def test_while_a_home_is_unsealed_what_is_sealed_stays_so_and_what_is_new_is_in_clear(
    store: FileStore, home: Home
) -> None:
    signed(home, Marker(MARKER.keys, is_opening=True))
    store.swap("work", 1, document(1))
    store.swap("new", None, document(name="new"))
    assert store.header("work") is not None
    assert store.header("new") is None
    assert store.read("new") == document(name="new")


# -- who may change the marker

FOREIGN = SealKey.new()
FORGED = [
    MARKER.to_bytes().replace(b'"opening": false', b'"opening": true'),
    Marker(((FOREIGN.id, KeyPlace()),)).to_bytes(),
    Marker(((FOREIGN.id, KeyPlace()),)).signed([FOREIGN]).to_bytes(),
    Marker(((FOREIGN.id, KeyPlace()),), is_opening=True).signed([FOREIGN]).to_bytes(),
    Marker(((FOREIGN.id, KeyPlace()), *MARKER.keys)).to_bytes(),
    Marker(((FOREIGN.id, KeyPlace()), *MARKER.keys)).signed([FOREIGN]).to_bytes(),
    Marker((*MARKER.keys, (FOREIGN.id, KeyPlace()))).signed([FOREIGN, FOREIGN]).to_bytes(),
    Marker(((KEY.id, KeyPlace(Path("/nowhere/other"))),), is_opening=True).signed([FOREIGN]).to_bytes(),
]


@pytest.mark.parametrize("forged", FORGED)
def test_a_marker_that_was_written_without_the_key_opens_nothing_and_takes_in_nothing(
    store: FileStore, home: Home, forged: bytes
) -> None:
    home.seal.write_bytes(forged)
    other = sealed_home(home, KEY, FOREIGN)
    assert other.read("work") == document(), "it is read, and renewed, as ever"
    other.swap("work", 1, document(1))
    header = other.header("work")
    assert header is not None
    assert header.key == KEY.id
    for call in (lambda: other.swap("new", None, document(name="new")), other.seal.for_new):
        with pytest.raises(CorruptFile, match=r"can't be trusted.*tokenferry encryption enable"):
            call()
    assert home.seal.read_bytes() == forged
    assert other.names() == ["work"]


@given(st.data())
def test_every_word_of_a_signed_marker_counts(data: st.DataObject) -> None:
    marker = Marker(((KEY.id, KeyPlace(Path("/stick/key"))),), is_complete=data.draw(st.booleans())).signed([KEY])
    fields = json.loads(marker.to_bytes())
    key = data.draw(st.sampled_from(["version", "opening", "complete", "tags", "id", "file", "more"]))
    target = fields["keys"][0] if key in {"id", "file"} else fields
    value = data.draw(st.none() | st.booleans() | st.integers() | st.text() | st.just("/other/key"))
    assume(key not in target or target[key] != value)
    target[key] = value
    changed = Marker.from_bytes(json.dumps(fields, indent=1).encode("ascii") + b"\n")
    assert changed is None or not changed.is_signed_by(KEY)


@pytest.mark.parametrize("has_marker", [True, False])
def test_a_document_in_clear_is_refused_where_all_are_sealed(store: FileStore, home: Home, *, has_marker: bool) -> None:
    """Also where the marker is gone: our own programs remove it once nothing is sealed any more."""
    signed(home, MARKER)
    if not has_marker:
        home.seal.unlink()
    raw = document(name="planted").to_bytes()
    path = home.accounts / "planted.json"
    path.write_bytes(raw)
    path.chmod(0o600)
    for call in (
        lambda: store.read("planted"),
        lambda: store.swap("planted", 1, document(name="planted")),
        lambda: FileStore(home, seal=Seal(home, keys=[KEY])).read("planted"),
    ):
        with pytest.raises(CorruptFile, match="tokenferry encryption enable --accept planted"):
            call()
    assert path.read_bytes() == raw
    if has_marker:
        with pytest.raises(NeedsUnlock):
            FileStore(home, seal=Seal(home, keyring=_Locked())).read("planted")
    store.discard("planted")
    assert store.names() == ["work"]


class _Locked(SystemKeyring):
    def get(self, key: str) -> SealKey | None:
        raise NeedsUnlock("locked")


def test_a_marker_of_version_1_is_taken_once_if_its_key_opens_every_document_and_is_signed_then(
    store: FileStore, home: Home
) -> None:
    home.seal.write_bytes(MARKER.to_bytes())
    assert json.loads(home.seal.read_bytes())["version"] == 1
    sealed_home(home).swap("work", 1, document(1))
    marker = Marker.from_bytes(home.seal.read_bytes())
    assert marker is not None
    assert marker.is_signed_by(KEY)
    home.seal.write_bytes(MARKER.to_bytes())
    path = home.accounts / "planted.json"
    path.write_bytes(document(name="planted").to_bytes())
    path.chmod(0o600)
    with pytest.raises(CorruptFile, match="in clear"):
        sealed_home(home).seal.checked()
    assert home.seal.read_bytes() == MARKER.to_bytes()
