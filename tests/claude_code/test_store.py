import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from claude_code.rig import (
    ACCESS,
    ACCOUNT,
    HOLDER,
    REFRESH,
    STUB,
    document,
    eventually,
    holding,
    line,
    renewed,
    running,
    section,
    write,
)
from leaks import leaks
from tokenferry.claude_code import (
    ClaudeCodeHome,
    ClaudeCodeLock,
    ClaudeCodeStore,
    CredentialsFile,
    Keychain,
    LockTiming,
    parse,
)
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.errors import (
    Conflict,
    CorruptFile,
    LockTimeout,
    NeedsLogin,
    StorageFailed,
    TokenferryError,
    TryLater,
    UnknownAccount,
    UnsafeFile,
    UsageError,
)
from tokenferry.secret import Secret
from tokenferry.stores import Document, FileLock, Store

TIMING = LockTiming(heartbeat=0.02, pause=0.005, write=0.05)


@pytest.fixture
def store(claude: ClaudeCodeHome, locks: Path) -> ClaudeCodeStore:
    return ClaudeCodeStore(ACCOUNT, claude, locks, timing=TIMING)


@pytest.fixture
def login(claude: ClaudeCodeHome) -> Path:
    write(claude.credentials, document(mcpOAuth={"some server": {"accessToken": "foreign"}}))
    return claude.credentials


def tokens(path: Path) -> tuple[str, str]:
    fields = json.loads(path.read_bytes())["claudeAiOauth"]
    return fields["accessToken"], fields["refreshToken"]


def test_it_is_a_store(store: ClaudeCodeStore) -> None:
    a_store: Store = store
    assert a_store.names() == []


# -- reading


def test_a_login_is_a_document_of_the_account(store: ClaudeCodeStore, login: Path) -> None:
    assert store.names() == ["mine"]
    found = store.read("mine")
    assert found == Document(ACCOUNT, found.credential, found.generation, machine=None)
    assert found.credential == parse(login.read_bytes()).token
    assert 0 <= found.generation < 2**48


@pytest.mark.parametrize(
    ("content", "names", "kind"),
    [
        (None, [], NeedsLogin),
        (b"{}", [], NeedsLogin),
        (document(STUB), [], NeedsLogin),
        (b"{", ["mine"], CorruptFile),
    ],
)
def test_what_is_no_login_says_so_with_path_and_cure(
    store: ClaudeCodeStore, claude: ClaudeCodeHome, content: bytes | None, names: list[str], kind: type[Exception]
) -> None:
    if content is not None:
        write(claude.credentials, content)
    assert store.names() == names
    with pytest.raises(kind, match=f"{claude.credentials}.*: claude /login") as caught:
        store.read("mine")
    assert store.status().message == str(caught.value)
    assert store.status().where == str(claude.credentials)


def test_an_access_token_alone_is_a_credential_that_can_not_be_renewed(
    store: ClaudeCodeStore, claude: ClaudeCodeHome
) -> None:
    write(claude.credentials, document(section(refreshToken="")))
    assert store.names() == ["mine"]
    token = store.read("mine").credential
    assert isinstance(token, OAuthToken)
    assert token.refresh is None
    assert store.status().state == "no-refresh-token"
    assert "refresh token absent" in store.status().message


def test_an_unsafe_file_is_listed_and_reported(store: ClaudeCodeStore, login: Path) -> None:
    login.chmod(0o644)
    assert store.names() == ["mine"]
    for look in (lambda: store.read("mine"), store.status):
        with pytest.raises(UnsafeFile, match="chmod 0600"):
            look()


def test_it_knows_one_account_alone(store: ClaudeCodeStore, login: Path) -> None:
    for ask in (store.read, store.lock, store.discard, lambda name: store.swap(name, 1, None)):
        with pytest.raises(UnknownAccount, match="no account 'other'"):
            ask("other")


def test_the_stamp_tells_of_every_change(store: ClaudeCodeStore, claude: ClaudeCodeHome) -> None:
    seen = [store.stamps()]
    assert seen == [{}]
    for number in range(3):
        write(claude.credentials.with_name("new"), document(number=number))
        claude.credentials.with_name("new").replace(claude.credentials)
        assert store.stamps() not in seen
        seen.append(store.stamps())
    assert store.stamps() == seen[-1]


# -- writing


def test_a_renewed_login_takes_the_place_of_the_one_it_renews(store: ClaudeCodeStore, login: Path) -> None:
    with store.exclusive("mine", 5):
        store.swap("mine", store.read("mine").generation, holding(renewed()))
    written = json.loads(login.read_bytes())
    assert written["mcpOAuth"] == {"some server": {"accessToken": "foreign"}}
    assert stat.S_IMODE(login.stat().st_mode) == 0o600
    assert list(login.parent.iterdir()) == [login]
    found = store.read("mine")
    assert found.credential == renewed()
    assert (found.account, found.machine) == (ACCOUNT, None)
    assert b"machine" not in login.read_bytes()
    assert b"obtained" not in login.read_bytes()


def test_what_a_grant_said_is_remembered_as_long_as_its_tokens_are_there(
    store: ClaudeCodeStore, claude: ClaudeCodeHome, login: Path
) -> None:
    store.swap("mine", store.read("mine").generation, holding(renewed()))
    token = store.read("mine").credential
    assert isinstance(token, OAuthToken)
    assert (token.source, token.lifetime, token.email) == ("refresh", 28800, "me@example.com")
    write(login, document())
    token = store.read("mine").credential
    assert isinstance(token, OAuthToken)
    assert (token.source, token.lifetime, token.email) == (None, None, None)


@pytest.mark.parametrize(
    "other", [section(accessToken="other"), section(refreshToken="other"), STUB, section(refreshToken=None)]
)
def test_the_first_writer_wins(store: ClaudeCodeStore, login: Path, other: dict[str, Any]) -> None:
    generation = store.read("mine").generation
    write(login, document(other))
    with pytest.raises(Conflict, match="nothing was written"):
        store.swap("mine", generation, holding(renewed()))
    assert login.read_bytes() == document(other)


def test_a_change_elsewhere_in_the_document_is_no_conflict(store: ClaudeCodeStore, login: Path) -> None:
    generation = store.read("mine").generation
    write(login, document(pluginSecrets={"a": "b"}))
    store.swap("mine", generation, holding(renewed()))
    assert json.loads(login.read_bytes())["pluginSecrets"] == {"a": "b"}


@pytest.mark.parametrize("content", [None, b"{}", document(STUB, mcpOAuth=1)])
def test_where_no_login_is_one_can_be_put_if_none_was_expected(
    store: ClaudeCodeStore, claude: ClaudeCodeHome, content: bytes | None
) -> None:
    if content is None:
        claude.path.rmdir()
    else:
        write(claude.credentials, content)
    with pytest.raises(Conflict):
        store.swap("mine", 7, holding(renewed()))
    with store.exclusive("mine", 5):
        store.swap("mine", None, holding(renewed()))
    assert store.read("mine").credential == renewed()
    assert stat.S_IMODE(claude.path.stat().st_mode) == 0o700
    with pytest.raises(Conflict):
        store.swap("mine", None, holding(renewed(2)))
    if content and b"mcpOAuth" in content:
        assert json.loads(claude.credentials.read_bytes())["mcpOAuth"] == 1


def test_a_login_is_never_removed_or_made_less(store: ClaudeCodeStore, login: Path) -> None:
    before = login.read_bytes()
    generation = store.read("mine").generation
    for new in (None, holding(renewed(refresh=None)), Document(ACCOUNT, ApiKey(Secret("sk-ant-api03-x")))):
        with pytest.raises(UsageError):
            store.swap("mine", generation, new)
    with pytest.raises(UsageError, match="claude /logout"):
        store.discard("mine")
    assert login.read_bytes() == before
    assert list(login.parent.iterdir()) == [login]


def test_what_can_not_be_understood_is_never_written_over(store: ClaudeCodeStore, claude: ClaudeCodeHome) -> None:
    write(claude.credentials, b"{")
    for expected in (None, 1):
        with pytest.raises(StorageFailed, match="can't be understood"):
            store.swap("mine", expected, holding(renewed()))
    assert claude.credentials.read_bytes() == b"{"


def test_while_another_writes_nothing_is_written(store: ClaudeCodeStore, claude: ClaudeCodeHome, login: Path) -> None:
    claude.write_lock.mkdir()
    generation = store.read("mine").generation
    with pytest.raises(StorageFailed, match=r"storage-write\.lock is held by Claude Code") as caught:
        store.swap("mine", generation, holding(renewed()))
    assert tokens(login) == (ACCESS, REFRESH)
    assert leaks(caught.value, ACCESS, REFRESH, renewed().secret.reveal()) == []
    claude.write_lock.rmdir()
    store.swap("mine", generation, holding(renewed()))


def test_a_write_waits_for_the_write_lock_and_looks_again(claude: ClaudeCodeHome, locks: Path, login: Path) -> None:
    store = ClaudeCodeStore(ACCOUNT, claude, locks, timing=LockTiming(pause=0.005, write=30))
    generation = store.read("mine").generation
    claude.write_lock.mkdir()
    faults: list[TokenferryError] = []

    def swap() -> None:
        try:
            store.swap("mine", generation, holding(renewed()))
        except TokenferryError as fault:
            faults.append(fault)

    thread = threading.Thread(target=swap)
    thread.start()
    eventually(lambda: any(path.suffix == ".seen" for path in locks.glob("*")))
    write(login, document(section(accessToken="theirs")))
    claude.write_lock.rmdir()
    thread.join()
    assert [type(fault) for fault in faults] == [Conflict]
    assert tokens(login) == ("theirs", REFRESH)


def test_a_document_kept_from_being_written_is_no_lost_grant(store: ClaudeCodeStore, login: Path) -> None:
    """What swap raises then is what makes a refresh serve its grant from memory and try again."""
    generation = store.read("mine").generation
    target = login.with_name("target")
    login.rename(target)
    login.symlink_to(target)
    with pytest.raises(StorageFailed, match="symbolic link"):
        store.swap("mine", generation, holding(renewed()))
    assert login.is_symlink()
    assert tokens(target) == (ACCESS, REFRESH)


def test_a_write_lock_taken_over_since_stops_the_write(
    store: ClaudeCodeStore, claude: ClaudeCodeHome, login: Path, locks: Path
) -> None:
    class Slow(CredentialsFile):
        def read(self) -> bytes | None:
            if claude.write_lock.exists():
                claude.write_lock.rmdir()
                claude.write_lock.mkdir()
            return super().read()

    slow = ClaudeCodeStore(ACCOUNT, claude, locks, places=(Slow(claude),), timing=TIMING)
    with pytest.raises(StorageFailed, match="took the write lock over"):
        slow.swap("mine", store.read("mine").generation, holding(renewed()))
    assert tokens(login) == (ACCESS, REFRESH)
    assert claude.write_lock.is_dir(), "it is the successor's"


# -- locks


def test_ours_is_taken_first_then_both_of_theirs(
    store: ClaudeCodeStore, claude: ClaudeCodeHome, locks: Path, login: Path
) -> None:
    lock = store.lock("mine")
    ours = FileLock(claude.credentials, locks)
    assert not lock.is_still_ours()
    with ours.held(0), pytest.raises(LockTimeout, match="in use by process"):
        lock.acquire(0)
    assert not claude.refresh_lock.exists()
    lock.acquire(0)
    assert lock.is_still_ours()
    assert not ours.try_acquire()
    assert claude.refresh_lock.is_dir()
    assert claude.folder_lock.is_dir()
    lock.release()
    assert ours.try_acquire()
    ours.release()
    assert not claude.refresh_lock.exists()


def test_when_theirs_is_held_ours_is_let_go_of(store: ClaudeCodeStore, claude: ClaudeCodeHome, locks: Path) -> None:
    theirs = ClaudeCodeLock(claude, locks)
    theirs.acquire(0)
    with pytest.raises(LockTimeout, match="Claude Code"), store.exclusive("mine", 0.05):
        raise AssertionError
    ours = FileLock(claude.credentials, locks)
    assert ours.try_acquire()
    ours.release()
    theirs.release()
    with store.exclusive("mine", 0):
        pass


def test_another_process_that_holds_theirs_is_waited_for(store: ClaudeCodeStore, locks: Path) -> None:
    with running(HOLDER, store.home.path, locks, 60) as process:
        assert line(process) == "held"
        with pytest.raises(LockTimeout):
            store.lock("mine").acquire(0.01)
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        with store.exclusive("mine", 30):
            assert line(process) == "ours"


def wrong_write_lock(home: ClaudeCodeHome) -> None:
    home.write_lock.touch()


def link(home: ClaudeCodeHome) -> None:
    home.credentials.rename(home.path / "target")
    home.credentials.symlink_to(home.path / "target")


def open_folder(home: ClaudeCodeHome) -> None:
    home.path.chmod(0o777)


@pytest.mark.parametrize("spoil", [wrong_write_lock, link, open_folder])
def test_what_would_prevent_writing_a_grant_is_reported_before_it(
    store: ClaudeCodeStore, claude: ClaudeCodeHome, login: Path, spoil: Any
) -> None:
    spoil(claude)
    with pytest.raises(UnsafeFile):
        store.lock("mine").acquire(0)
    assert not claude.refresh_lock.exists()
    assert not claude.folder_lock.exists()


# -- macOS


class Item:
    """A Keychain item in memory."""

    where = 'the Keychain item "x"'

    def __init__(self, content: bytes | None = None, *, is_locked: bool = False, room: int = 10_000) -> None:
        self.content = content
        self.is_locked = is_locked
        self.room = room

    def read(self) -> bytes | None:
        if self.is_locked:
            raise TryLater(f"{self.where} can't be read: the Keychain is locked")
        return self.content

    def check_writable(self, size: int) -> None:
        if size > self.room:
            raise StorageFailed("no room")

    def write(self, data: bytes) -> None:
        self.content = data

    def stamp(self) -> object:
        return self.content


def on_macos(claude: ClaudeCodeHome, locks: Path, item: Item) -> ClaudeCodeStore:
    return ClaudeCodeStore(ACCOUNT, claude, locks, places=(item, CredentialsFile(claude)), timing=TIMING)


def test_the_keychain_counts_before_the_file(claude: ClaudeCodeHome, locks: Path, login: Path) -> None:
    item = Item(document(section(accessToken="newer")))
    store = on_macos(claude, locks, item)
    found = store.read("mine")
    assert found.credential.secret == Secret("newer")
    store.swap("mine", found.generation, holding(renewed()))
    assert item.content is not None
    assert parse(item.content).state == "logged-in"
    assert store.read("mine").credential == renewed()
    assert tokens(login) == (ACCESS, REFRESH)


def test_a_locked_keychain_does_not_bring_back_a_stale_file(claude: ClaudeCodeHome, locks: Path, login: Path) -> None:
    store = on_macos(claude, locks, Item(is_locked=True))
    with pytest.raises(TryLater, match="locked"):
        store.read("mine")
    with pytest.raises(StorageFailed, match="locked"):
        store.swap("mine", None, holding(renewed()))
    assert store.names() == ["mine"]
    assert tokens(login) == (ACCESS, REFRESH)


def test_without_an_item_the_file_counts(claude: ClaudeCodeHome, locks: Path, login: Path) -> None:
    item = Item()
    store = on_macos(claude, locks, item)
    store.swap("mine", store.read("mine").generation, holding(renewed()))
    assert item.content is None
    assert tokens(login)[0] == renewed().secret.reveal()
    assert store.stamps() != {}


def test_without_either_the_keychain_is_missed(claude: ClaudeCodeHome, locks: Path) -> None:
    store = on_macos(claude, locks, Item())
    with pytest.raises(NeedsLogin, match=r'^the Keychain item "x" not found: Claude Code is not logged in here'):
        store.read("mine")


def test_an_item_without_room_is_reported_before_a_grant(claude: ClaudeCodeHome, locks: Path) -> None:
    store = on_macos(claude, locks, Item(document(), room=len(document())))
    with pytest.raises(StorageFailed, match="no room"):
        store.lock("mine").acquire(0)
    assert not claude.refresh_lock.exists()


def test_each_platform_has_its_places(claude: ClaudeCodeHome, locks: Path, login: Path) -> None:
    for platform, kinds in (("linux", [CredentialsFile]), ("darwin", [Keychain, CredentialsFile])):
        store = ClaudeCodeStore.on_this_platform(ACCOUNT, claude, locks, user="me", platform=platform)
        assert [type(place) for place in store._places] == kinds
    here = ClaudeCodeStore.on_this_platform(ACCOUNT, claude, locks, user=os.environ.get("USER") or "me")
    assert here.home is claude
