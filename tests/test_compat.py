import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from msgspec.structs import replace

from integrations.rig import Rig
from refresh.rig import sandbox_providers, value
from tokenferry import compat
from tokenferry.broker import Broker
from tokenferry.claude_code import ClaudeCodeHome
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.errors import Conflict, CorruptFile, NeedsLogin, TryLater, UsageError
from tokenferry.sandbox import Sandbox
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import Account, Document, MemoryStore, replace_private_file

TOKEN = OAuthToken(
    Secret("sk-ant-oat01-" + "a" * 90), Secret("sk-ant-ort01-" + "r" * 90), 1_900_000_000, email="me@example.com"
)
NEWER = OAuthToken(
    Secret("sk-ant-oat01-" + "b" * 90), Secret("sk-ant-ort01-" + "s" * 90), 1_900_009_000, email="me@example.com"
)
WITHOUT_REFRESH = replace(NEWER, refresh=None)


@pytest.fixture
def rig(home: Home, tokenferry_sandbox: Sandbox) -> Iterator[Rig]:
    """Alice, logged in at the sandbox."""
    rig = Rig(home, tokenferry_sandbox)
    yield rig
    rig.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "claude"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def broker(home: Home) -> Broker:
    return Broker(home=home)


@pytest.fixture(params=["claude-code", "bundle"])
def place(request: pytest.FixtureRequest, folder: Path, broker: Broker) -> "Place":
    if request.param == "bundle":
        return Place(
            folder / "login.json",
            lambda: compat.load_bundle(folder / "login.json"),
            lambda token, expected: compat.save_bundle(folder / "login.json", token, expected=expected, broker=broker),
        )
    return Place(
        ClaudeCodeHome(folder).credentials,
        lambda: compat.read_claude_code_credentials(folder),
        lambda token, expected: compat.write_claude_code_credentials(
            token, expected=expected, folder=folder, broker=broker
        ),
    )


class Place:
    """A file with one login, with what reads and what writes it."""

    def __init__(
        self,
        path: Path,
        read: Callable[[], OAuthToken],
        write: Callable[[OAuthToken, OAuthToken | None], None],
    ) -> None:
        self.path = path
        self.read = read
        self.write = write


def test_a_login_that_is_written_is_read_back(place: Place) -> None:
    place.write(TOKEN, None)
    found = place.read()
    assert (found.secret, found.refresh, found.expires_at) == (TOKEN.secret, TOKEN.refresh, TOKEN.expires_at)
    assert place.path.stat().st_mode & 0o777 == 0o600
    place.write(NEWER, found)
    assert place.read().secret == NEWER.secret


def test_a_login_that_another_program_changed_is_left_alone(place: Place) -> None:
    place.write(TOKEN, None)
    place.write(NEWER, TOKEN)
    before = place.path.read_bytes()
    for expected in (TOKEN, None):
        with pytest.raises(Conflict):
            place.write(TOKEN, expected)
    assert place.path.read_bytes() == before


def test_a_refresh_token_is_never_replaced_by_none(place: Place) -> None:
    place.write(TOKEN, None)
    before = place.path.read_bytes()
    with pytest.raises(UsageError):
        place.write(WITHOUT_REFRESH, TOKEN)
    assert place.path.read_bytes() == before


def test_unknown_keys_stay(place: Place) -> None:
    place.write(TOKEN, None)
    content = json.loads(place.path.read_bytes())
    content["theirs"] = {"a": [1]}
    replace_private_file(place.path, json.dumps(content).encode())
    place.write(NEWER, place.read())
    assert json.loads(place.path.read_bytes())["theirs"] == {"a": [1]}


def test_a_login_that_an_account_refreshes_is_never_written_a_second_time(
    place: Place, broker: Broker, folder: Path
) -> None:
    broker.add(Account("work", "claude-max", "oauth"), TOKEN)
    for token in (TOKEN, replace(NEWER, refresh=TOKEN.refresh)):
        with pytest.raises(UsageError, match="account 'work'"):
            place.write(token, None)
        with pytest.raises(UsageError, match="account 'work'"):
            compat.upsert_pool(folder / "pool.json", token, broker=broker)
    assert not place.path.exists()


def test_a_file_that_can_not_be_understood_is_left_alone(place: Place) -> None:
    replace_private_file(place.path, b"{]")
    with pytest.raises(CorruptFile):
        place.write(TOKEN, None)
    assert place.path.read_bytes() == b"{]"


def test_no_login_of_claude_code_says_how_to_log_in(folder: Path) -> None:
    with pytest.raises(NeedsLogin, match="claude /login"):
        compat.read_claude_code_credentials(folder)


def test_a_login_of_a_pool_file_is_known_by_its_address(
    folder: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/nowhere")
    path = folder / "oauth_pool.json"
    assert compat.read_pool(path) == ()
    compat.upsert_pool(path, TOKEN, broker=broker)
    compat.upsert_pool(path, NEWER, broker=broker)
    (entry,) = compat.read_pool(path)
    assert isinstance(entry.credential, OAuthToken)
    assert entry.credential.refresh == NEWER.refresh


@pytest.mark.parametrize("text", ["sk-ant-oat01-" + "x" * 95, "  sk-ant-oat01-" + "x" * 50 + "\n" + "x" * 45 + "\r\n"])
def test_a_setup_token_is_taken_with_what_pasting_adds(text: str) -> None:
    assert compat.validate_setup_token(text).secret.reveal() == "sk-ant-oat01-" + "x" * 95


@pytest.mark.parametrize(
    ("text", "says"), [("sk-ant-oat01-xyz", "has 16 characters"), ("", "has 0 characters"), ("sk-x", "begins")]
)
def test_a_text_that_is_no_setup_token_is_refused_with_its_length(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        compat.validate_setup_token(text)
    assert "xyz" not in str(caught.value)


def test_what_is_known_of_an_account(rig: Rig) -> None:
    assert compat.resolve_headers("alice", broker=rig.broker)["authorization"] == f"Bearer {value(rig.first)}"
    assert compat.base_url("alice", broker=rig.broker) == rig.sandbox.url
    assert not compat.is_subscription("alice", broker=rig.broker)


def test_a_subscription_is_distinguished_from_a_key(broker: Broker) -> None:
    broker.add(Account("max", "claude-max", "oauth"), TOKEN)
    broker.add(Account("key", "anthropic", "api-key"), ApiKey(Secret("sk-ant-api03-" + "k" * 95)))
    assert compat.is_subscription("max", broker=broker)
    assert not compat.is_subscription("key", broker=broker)


def test_a_stale_token_is_refreshed_at_the_next_resolve(rig: Rig) -> None:
    compat.mark_stale("alice", broker=rig.broker)
    assert rig.broker.resolve("alice").secret != rig.first.secret
    assert rig.refreshes() == 1


def test_a_login_by_its_two_steps(rig: Rig) -> None:
    url, login = compat.authorization_url("sandbox", broker=rig.broker)
    with httpx2.Client(follow_redirects=True, trust_env=False) as browser:
        page = browser.get(f"{url}&login_hint=carol&account=carol&approve=1").text
    pasted = next(word for word in page.replace("<", " ").replace(">", " ").split() if "#" in word and len(word) > 60)
    stored = compat.exchange_code(login, pasted, "carol")
    assert rig.broker.resolve("carol").secret == stored.token.secret


def test_an_api_key_is_made_by_a_console_login_and_stored(rig: Rig) -> None:
    rig.login(3600, "carol")
    key = compat.create_api_key("carol", "carol-key", broker=rig.broker)
    assert rig.broker.resolve("carol-key").secret == key.secret
    with pytest.raises(UsageError, match="already"):
        compat.create_api_key("carol", "carol-key", broker=rig.broker)
    with pytest.raises(UsageError, match="can't make API keys"):
        compat.create_api_key("carol-key", "other", broker=rig.broker)


def test_a_login_is_stored_as_its_persons_account(rig: Rig) -> None:
    first = compat.upsert_account(TOKEN, "sandbox", broker=rig.broker)
    again = compat.upsert_account(NEWER, "sandbox", broker=rig.broker)
    assert first.name == again.name == "me@example.com"
    assert again.has_replaced
    assert rig.broker.book.read(first.name).credential == again.credential


def test_a_token_address_of_ones_own_is_one_argument(tokenferry_sandbox: Sandbox) -> None:
    given = tokenferry_sandbox.issue("alice", expires_in=-60)
    token = OAuthToken(Secret(given["access_token"]), Secret(given["refresh_token"]), int(given["expires_at"]))
    provider = compat.oauth_provider(
        "mine", tokenferry_sandbox.url, token_url=f"{tokenferry_sandbox.url}/v1/oauth/token", client_id="any"
    )
    broker = Broker(store=MemoryStore(Document(Account("a", "mine", "oauth"), token)), providers={"mine": provider})
    assert broker.resolve("a").secret != token.secret


class Kept:
    """A program's own store of two methods."""

    def __init__(self) -> None:
        self.content: bytes | None = None

    def load(self) -> bytes | None:
        return self.content

    def save(self, content: bytes) -> None:
        self.content = content


def test_a_store_of_two_methods_is_refreshed_once_and_keeps_the_new_login(
    tokenferry_sandbox: Sandbox, home: Home
) -> None:
    kept = Kept()
    kept.save(json.dumps(tokenferry_sandbox.issue("alice", expires_in=-60)).encode())
    store = compat.LoginStore(Account("mine", "sandbox", "oauth"), kept.load, kept.save, locks=home.locks)
    broker = Broker(store=store, providers=sandbox_providers(tokenferry_sandbox))
    found = broker.resolve("mine")
    assert json.loads(kept.content or b"")["access_token"] == value(found)
    again = Broker(store=store, providers=sandbox_providers(tokenferry_sandbox))
    assert again.resolve("mine").secret == found.secret
    assert tokenferry_sandbox.counters()["accounts"]["alice"]["refreshes"] == 1


def test_a_store_of_two_methods_notices_another_programs_write(home: Home) -> None:
    kept = Kept()
    store = compat.LoginStore(Account("mine", "sandbox", "oauth"), kept.load, kept.save, locks=home.locks)
    assert store.names() == []
    store.swap("mine", None, Document(Account("mine", "sandbox", "oauth"), TOKEN))
    generation = store.read("mine").generation
    store.swap("mine", generation, Document(Account("mine", "sandbox", "oauth"), NEWER))
    with pytest.raises(Conflict):
        store.swap("mine", generation, Document(Account("mine", "sandbox", "oauth"), TOKEN))
    kept.content = b"nothing"
    with pytest.raises(CorruptFile):
        store.read("mine")
    with pytest.raises(UsageError):
        store.discard("mine")


def test_the_lock_of_a_store_of_two_methods_excludes_others(home: Home) -> None:
    kept = Kept()
    account = Account("mine", "sandbox", "oauth")
    first, second = (compat.LoginStore(account, kept.load, kept.save, locks=home.locks) for _ in range(2))
    with first.exclusive("mine", 1), pytest.raises(TryLater):
        second.lock("mine").acquire(0.01)
    assert list(home.locks.iterdir())
