"""Where keys come from: read once, asked for rarely, and never guessed."""

import os
from pathlib import Path

import pytest

from leaks import leaks
from tokenferry.errors import ConfigError, CorruptFile, NeedsUnlock, SealKeyLost, TokenferryError, UnsafeFile
from tokenferry.sealing import KeyPlace, Marker, SealKey, SystemKeyring
from tokenferry.settings import Home
from tokenferry.stores import KEY_FILE, Seal, key_place

KEY, OTHER = SealKey.new(), SealKey.new()


class Keyring(SystemKeyring):
    """Holds keys, and counts who asks; `fault` is what it raises instead."""

    def __init__(self, *keys: SealKey) -> None:
        self.by_id = {key.id: key for key in keys}
        self.asked = 0
        self.fault: TokenferryError | None = None

    def get(self, key: str) -> SealKey | None:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return self.by_id.get(key)

    def put(self, key: SealKey) -> None:
        self.by_id[key.id] = key

    def remove(self, key: str) -> None:
        self.by_id.pop(key, None)


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir(mode=0o700)
    return folder / "key"


def write(path: Path, *keys: SealKey, mode: int = 0o600) -> None:
    path.write_text("".join(f"{key.secret.reveal()}\n" for key in keys))
    path.chmod(mode)


def marked(home: Home, place: KeyPlace, *keys: SealKey) -> Seal:
    seal = Seal(home, keyring=Keyring())
    seal.mark(Marker(tuple((key.id, place) for key in keys or (KEY,))))
    return seal


def test_a_key_is_asked_for_once(home: Home) -> None:
    keyring = Keyring(KEY)
    seal = Seal(home, keyring=keyring)
    seal.mark(Marker(((KEY.id, KeyPlace()),)))
    assert [seal.key(KEY.id) for _ in range(3)] == [KEY] * 3
    assert keyring.asked == 1
    keyring.fault = NeedsUnlock("locked")
    assert seal.for_writing(None, is_new=True) == KEY, (
        "what was read once is in memory, whatever becomes of the keyring"
    )


def test_a_locked_keyring_is_asked_once_for_many_accounts_and_again_a_while_later(home: Home) -> None:
    keyring, clock = Keyring(KEY), Clock()
    seal = Seal(home, keyring=keyring, now=clock)
    keyring.fault = NeedsUnlock("locked")
    for _ in range(10):
        with pytest.raises(NeedsUnlock, match="locked"):
            seal.key(KEY.id)
    assert keyring.asked == 1
    before = seal.try_again()
    assert keyring.asked == 1
    clock.time += 6
    assert seal.try_again() == before
    assert keyring.asked == 2
    keyring.fault = None
    clock.time += 6
    assert seal.try_again() != before, "a watcher sees that it was unlocked"
    assert seal.key(KEY.id) == KEY


def test_no_one_is_asked_again_for_what_was_never_wanted(home: Home) -> None:
    keyring = Keyring()
    Seal(home, keyring=keyring).try_again()
    assert keyring.asked == 0


def test_a_key_file_may_hold_the_key_before_it_too(home: Home, path: Path) -> None:
    seal = marked(home, KeyPlace(path), KEY, OTHER)
    write(path, KEY, OTHER)
    assert (seal.key(KEY.id), seal.key(OTHER.id)) == (KEY, OTHER)


def test_the_file_that_the_environment_names_goes_first_and_others_are_asked_besides(
    home: Home, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = Keyring(OTHER)
    seal = Seal(home, keyring=keyring)
    seal.mark(Marker(((KEY.id, KeyPlace(Path("/nowhere"))), (OTHER.id, KeyPlace()))))
    write(path, KEY)
    monkeypatch.setenv(KEY_FILE, str(path))
    assert key_place() == KeyPlace(path)
    assert seal.key(KEY.id) == KEY
    assert seal.key(OTHER.id) == OTHER, "as in a rotation from the keyring to a file"


def test_no_variable_names_no_place() -> None:
    assert key_place() is None


def test_an_unknown_home_directory_is_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_FILE, "~nobody-of-this-name/key")
    with pytest.raises(ConfigError, match=KEY_FILE):
        key_place()


def test_a_key_file_is_checked_like_any_other_secret_file(home: Home, path: Path) -> None:
    write(path, KEY, mode=0o640)
    with pytest.raises(UnsafeFile, match=f"chmod 0600 '{path}'"):
        marked(home, KeyPlace(path)).key(KEY.id)
    path.unlink()
    target = path.with_name("target")
    write(target, KEY)
    path.symlink_to(target)
    with pytest.raises(UnsafeFile, match="symbolic link"):
        marked(home, KeyPlace(path)).key(KEY.id)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(UnsafeFile, match="not a regular file"):
        marked(home, KeyPlace(path)).key(KEY.id)
    path.unlink()
    write(path, KEY)
    path.parent.chmod(0o770)
    with pytest.raises(UnsafeFile, match="folder"):
        marked(home, KeyPlace(path)).key(KEY.id)


def test_a_file_that_is_away_is_no_lost_key_and_one_with_another_key_is(home: Home, path: Path) -> None:
    with pytest.raises(NeedsUnlock, match="isn't there"):
        marked(home, KeyPlace(path)).key(KEY.id)
    write(path, OTHER)
    with pytest.raises(SealKeyLost, match="lost for good") as caught:
        marked(home, KeyPlace(path)).key(KEY.id)
    assert not leaks(caught.value, OTHER.secret.reveal())
    path.write_text("correct horse battery staple\n")
    with pytest.raises(CorruptFile, match="no sealing key") as caught_corrupt:
        marked(home, KeyPlace(path)).key(KEY.id)
    assert not leaks(caught_corrupt.value, "correct horse battery staple")


def test_an_open_keyring_without_the_key_says_that_it_is_lost(home: Home) -> None:
    with pytest.raises(SealKeyLost, match="keyring"):
        marked(home, KeyPlace()).key(KEY.id)


def test_a_keyring_that_is_refused_now_is_no_lost_key(home: Home) -> None:
    keyring = Keyring()
    keyring.fault = ConfigError("the backend is none")
    seal = Seal(home, keyring=keyring)
    with pytest.raises(NeedsUnlock, match="the backend is none"):
        seal.key(KEY.id)


def test_keys_are_put_into_a_file_and_taken_out_of_it(home: Home, path: Path) -> None:
    seal = Seal(home)
    one, two = (seal.new_key(KeyPlace(path)) for _ in range(2))
    assert path.read_text().split() == [two.secret.reveal(), one.secret.reveal()]
    assert path.stat().st_mode & 0o7777 == 0o600
    assert Seal(home).present_key(KeyPlace(path)) == two
    seal.drop_key(two.id, KeyPlace(path))
    seal.drop_key(two.id, KeyPlace(path))
    assert path.read_text().split() == [one.secret.reveal()]
    seal.drop_key(one.id, KeyPlace(path))
    seal.drop_key(one.id, KeyPlace(path))
    assert not path.exists()


def test_a_marker_that_cannot_be_understood_is_no_unsealed_home(home: Home) -> None:
    seal = marked(home, KeyPlace())
    home.seal.write_text("{}")
    with pytest.raises(CorruptFile, match=rf"tokenferry encryption enable \(with {KEY_FILE} naming the key's file"):
        seal.marker()
    with pytest.raises(CorruptFile):
        seal.for_writing(None, is_new=True)
    assert seal.for_writing(KEY, is_new=False) == KEY


def test_a_fork_asks_by_itself(home: Home) -> None:
    seal = Seal(home, keyring=Keyring(KEY))
    with seal._guard:
        seal._forget_guard()
        assert seal.key(KEY.id) == KEY


def test_there_is_one_seal_of_a_home(home: Home) -> None:
    assert Seal.of(home) is Seal.of(Home(home.path))
