import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anthropic import AnthropicError
from anthropic.lib.credentials import CredentialsFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effort import effort
from tokenferry.accounts import Content, Publication, Publications
from tokenferry.errors import Conflict, LockTimeout, StorageFailed, UnsafeFile, UsageError
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import Disk, FileLock
from tokenferry.stores.anthropic_profiles import ProfileFolder

URL = "https://api.anthropic.com"


class Account:
    """An account whose token a test moves on."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> Content:
        return Content(Secret(f"access-{self.number}"), 1_900_000_000 + self.number, URL)

    @property
    def token(self) -> str:
        return f"access-{self.number}"


@pytest.fixture
def folder(tmp_path: Path) -> ProfileFolder:
    return ProfileFolder(tmp_path / "person" / ".config" / "anthropic")


@pytest.fixture
def publications(home: Home) -> Publications:
    return Publications(home)


@pytest.fixture
def account() -> Account:
    return Account()


def sdk_token(profile: str = "work") -> str:
    """What a program of the SDK in this person's home would send."""
    provider = CredentialsFile(profile)
    try:
        return provider().token
    finally:
        provider.close()


def files(folder: ProfileFolder) -> dict[str, bytes]:
    return {str(path.relative_to(folder.path)): path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}


def file_id(path: Path) -> tuple[int, int]:
    """What is another after each write. Reading may change the time of the last access."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


# -- publishing


def test_the_sdk_picks_a_published_account_up_and_follows_it(
    publications: Publications, folder: ProfileFolder, account: Account
) -> None:
    new = publications.publish(folder, "work", "mine", account)
    assert sdk_token() == "access-0"
    account.number = 1
    assert publications.look(new, account).state == "behind"
    assert publications.sync(new, account).state == "current"
    assert sdk_token() == "access-1"
    assert {path.stat().st_mode & 0o777 for path in (new.config, new.credentials)} == {0o600}
    assert [one.profile for one in publications.of("mine")] == ["work"]
    assert publications.of("other") == []


def test_only_what_changed_is_written(publications: Publications, folder: ProfileFolder, account: Account) -> None:
    new = publications.publish(folder, "work", "mine", account)
    config, credentials = file_id(new.config), file_id(new.credentials)
    publications.sync(new, account)
    assert (file_id(new.config), file_id(new.credentials)) == (config, credentials)
    account.number = 1
    publications.sync(new, account)
    assert file_id(new.config) == config
    assert file_id(new.credentials) != credentials


@pytest.mark.parametrize("which", ["configs", "credentials"])
@pytest.mark.parametrize("link", ["file", "link", "dangling"])
def test_a_profile_that_isnt_ours_is_never_touched(
    publications: Publications, folder: ProfileFolder, account: Account, which: str, link: str
) -> None:
    path = folder.path / which / "work.json"
    path.parent.mkdir(mode=0o700, parents=True)
    if link == "file":
        path.write_text("{}")
    else:
        path.symlink_to("elsewhere.json")
        if link == "link":
            path.with_name("elsewhere.json").write_text("{}")
    before = files(folder)
    with pytest.raises(Conflict, match="isn't ours"):
        publications.publish(folder, "work", "mine", account)
    assert files(folder) == before
    assert publications.all() == []


@pytest.mark.parametrize("which", ["config", "credentials"])
def test_a_profile_changed_by_another_program_is_reported_and_left(
    publications: Publications, folder: ProfileFolder, account: Account, which: str
) -> None:
    new = publications.publish(folder, "work", "mine", account)
    getattr(new, which).write_text('{"by": "somebody"}')
    account.number = 1
    before = files(folder)
    for standing in (publications.look(new, account), publications.sync(new, account)):
        assert standing.state == "changed"
        assert "was changed by another program" in standing.text
    with pytest.raises(Conflict, match="was changed by another program"):
        publications.publish(folder, "work", "mine", account)
    assert files(folder) == before
    [left] = publications.unpublish(new)
    assert left == f"{getattr(new, which)} was changed by another program, so it was left"
    assert getattr(new, which).read_text() == '{"by": "somebody"}'
    assert publications.all() == []


def test_a_mode_that_programs_would_refuse_is_reported(
    publications: Publications, folder: ProfileFolder, account: Account
) -> None:
    new = publications.publish(folder, "work", "mine", account)
    new.config.chmod(0o644)
    assert publications.look(new, account).state == "current"
    new.credentials.chmod(0o644)
    standing = publications.look(new, account)
    assert standing.state == "changed"
    assert "chmod 0600" in standing.text


def test_a_removed_profile_stays_removed_until_it_is_published_again(
    publications: Publications, folder: ProfileFolder, account: Account
) -> None:
    new = publications.publish(folder, "work", "mine", account)
    new.credentials.unlink()
    standing = publications.sync(new, account)
    assert standing.state == "removed"
    assert "tokenferry profile publish mine --profile work" in standing.text
    assert not new.credentials.exists()
    publications.publish(folder, "work", "mine", account)
    assert sdk_token() == "access-0"


def test_a_profile_is_one_accounts_and_an_account_may_have_several(
    publications: Publications, folder: ProfileFolder, account: Account
) -> None:
    publications.publish(folder, "work", "mine", account)
    with pytest.raises(UsageError, match="published for account mine already"):
        publications.publish(folder, "work", "other", account)
    with pytest.raises(UsageError, match="published for account mine already"):
        publications.publish(folder, "work", None, account)
    publications.publish(folder, "play", "mine", account)
    assert [one.profile for one in publications.of("mine")] == ["play", "work"]


def test_nothing_is_written_when_there_is_nothing_to_publish(publications: Publications, folder: ProfileFolder) -> None:
    def fail() -> Content:
        raise UsageError("an API key")

    with pytest.raises(UsageError):
        publications.publish(folder, "work", "mine", fail)
    assert publications.all() == []
    assert not folder.path.exists()


@pytest.mark.parametrize("name", ["", "../evil", ".hidden", "a/b"])
def test_a_bad_profile_name_is_refused(
    publications: Publications, folder: ProfileFolder, account: Account, name: str
) -> None:
    with pytest.raises(UsageError, match="a profile's name must"):
        publications.publish(folder, name, "mine", account)


def test_a_folder_in_which_others_could_replace_files_is_refused(
    publications: Publications, folder: ProfileFolder, account: Account
) -> None:
    (folder.path / "credentials").mkdir(parents=True)
    (folder.path / "credentials").chmod(0o777)
    with pytest.raises(UnsafeFile, match="chmod"):
        publications.publish(folder, "work", "mine", account)


def test_a_record_that_cannot_be_read_is_reported_and_hides_no_other(
    publications: Publications, folder: ProfileFolder, account: Account, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    publications.publish(folder, "work", "mine", account)
    broken = home.published / "0000.json"
    broken.write_text("{")
    broken.chmod(0o600)
    assert [one.profile for one in publications.all()] == ["work"]
    assert "0000.json can't be understood" in caplog.text


# -- the active profile


def test_the_first_profile_becomes_the_active_one_and_goes_with_it(
    publications: Publications, folder: ProfileFolder, account: Account
) -> None:
    new = publications.publish(folder, "work", "mine", account)
    assert folder.pointed() == "work"
    assert publications.unpublish(new) == []
    assert folder.pointed() is None
    assert files(folder) == {}


@pytest.mark.parametrize("there", ["pointer", "default profile"])
def test_an_active_profile_is_replaced_only_when_that_is_wished_for(
    publications: Publications, folder: ProfileFolder, account: Account, there: str
) -> None:
    (folder.path / "configs").mkdir(mode=0o700, parents=True)
    if there == "pointer":
        folder.pointer.write_text("before\n")
    else:
        (folder.path / "configs" / "default.json").write_text("{}")
    before = folder.pointed()
    new = publications.publish(folder, "work", "mine", account)
    assert folder.pointed() == before
    new = publications.publish(folder, "work", "mine", account, activate=True)
    assert folder.pointed() == "work"
    assert publications.unpublish(new) == []
    assert folder.pointed() == before


def test_a_profile_called_default_needs_no_pointer(
    publications: Publications, folder: ProfileFolder, account: Account
) -> None:
    publications.publish(folder, "default", "mine", account)
    assert not folder.pointer.exists()
    assert sdk_token("default") == "access-0"


def test_a_pointer_set_by_another_program_stays_and_is_reported(
    publications: Publications, folder: ProfileFolder, account: Account
) -> None:
    folder.path.mkdir(mode=0o700, parents=True)
    folder.pointer.write_text("work")
    new = publications.publish(folder, "work", "mine", account)
    [left] = publications.unpublish(new)
    assert "still names profile 'work'" in left
    assert folder.pointed() == "work"


def test_a_pointer_that_was_turned_elsewhere_since_is_left(
    publications: Publications, folder: ProfileFolder, account: Account
) -> None:
    new = publications.publish(folder, "work", "mine", account)
    folder.pointer.write_text("other")
    assert publications.unpublish(new) == []
    assert folder.pointed() == "other"


def test_a_profile_taken_over_by_a_login_stays_active(
    publications: Publications, folder: ProfileFolder, account: Account
) -> None:
    new = publications.publish(folder, "work", "mine", account)
    new.config.write_text('{"authentication": {"type": "user_oauth", "client_id": "ant"}}')
    new.credentials.write_text('{"access_token": "theirs"}')
    assert len(publications.unpublish(new)) == 2
    assert folder.pointed() == "work"


def test_a_pointer_that_is_a_link_is_not_replaced(
    publications: Publications, folder: ProfileFolder, account: Account
) -> None:
    folder.path.mkdir(mode=0o700, parents=True)
    folder.pointer.symlink_to("elsewhere")
    with pytest.raises(UnsafeFile, match="is a symbolic link"):
        publications.publish(folder, "work", "mine", account, activate=True)
    assert folder.pointer.is_symlink()
    assert sdk_token() == "access-0"


# -- with others, and after a crash


def test_who_writes_last_has_read_last(
    publications: Publications, folder: ProfileFolder, account: Account, home: Home
) -> None:
    """A writer that was held up writes what the account holds by then, not what it held before."""
    new = publications.publish(folder, "work", "mine", account)
    account.number = 1
    with FileLock(new.config, home.locks).held(1.0):
        slow = threading.Thread(target=publications.sync, args=(new, account))
        slow.start()
        account.number = 2
    slow.join()
    assert sdk_token() == "access-2"


def test_many_threads_at_once_leave_the_newest(
    publications: Publications, folder: ProfileFolder, account: Account
) -> None:
    new = publications.publish(folder, "work", "mine", account)
    guard = threading.Lock()

    def renew() -> None:
        for _ in range(5):
            with guard:
                account.number += 1
            assert publications.sync(new, account).state == "current"

    threads = [threading.Thread(target=renew) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sdk_token() == account.token == "access-20"


def test_a_lock_that_is_not_let_go_of_is_an_error(
    publications: Publications, folder: ProfileFolder, account: Account, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = publications.publish(folder, "work", "mine", account)
    monkeypatch.setattr("tokenferry.accounts._publish._LOCK_WAIT", 0.0)
    with FileLock(new.config, home.locks).held(1.0), pytest.raises(LockTimeout):
        publications.sync(new, account)


class Killed(BaseException):
    """The process ends here."""


class DyingDisk(Disk):
    """Ends the process, or fails, before the operation of this number that changes something."""

    def __init__(self, at: int, failure: Callable[[], BaseException] = Killed) -> None:
        self.left = at
        self.failure = failure

    def _step(self) -> None:
        self.left -= 1
        if self.left == -1:
            raise self.failure()

    def create(self, path: Path) -> int:
        self._step()
        return super().create(path)

    def write(self, descriptor: int, data: bytes, offset: int = 0) -> None:
        self._step()
        super().write(descriptor, data, offset)

    def fsync(self, descriptor: int) -> None:
        self._step()
        super().fsync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        self._step()
        super().rename(old, new)

    def unlink(self, path: Path) -> None:
        self._step()
        super().unlink(path)

    def sync_folder(self, path: Path) -> None:
        self._step()
        super().sync_folder(path)


def is_whole(folder: ProfileFolder, *tokens: str) -> None:
    """No reader sees a configuration without credentials, or a token that isn't one of these."""
    if (folder.path / "configs" / "work.json").exists():
        assert sdk_token() in tokens
    else:
        with pytest.raises(AnthropicError):
            sdk_token()


def attempt(action: Callable[[], Any]) -> bool:
    try:
        action()
    except (Killed, StorageFailed):
        return False
    return True


def full() -> OSError:
    return OSError(28, "No space left on device")


@given(st.lists(st.integers(0, 40), min_size=1, max_size=4), st.sampled_from([Killed, full]))
@settings(max_examples=effort(60), suppress_health_check=list(HealthCheck))
def test_killed_anywhere_the_profile_is_whole_and_the_next_writer_completes_it(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    deaths: list[int],
    failure: Callable[[], BaseException],
) -> None:
    """Publishing, two renewals and unpublishing, each dying and tried again: never foreign, never torn, never stuck."""
    place = tmp_path_factory.mktemp("crash")
    home, folder, account = Home(place / "home"), ProfileFolder(place / "profiles"), Account()
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(folder.path))
    dying = iter(deaths)

    def until_done(action: Callable[[Publications], Any], *tokens: str) -> None:
        while not attempt(lambda: action(Publications(home, disk=DyingDisk(next(dying, 1000), failure)))):
            is_whole(folder, *tokens)
        is_whole(folder, *tokens)

    def publication() -> Publication:
        [found] = Publications(home).all()
        return found

    until_done(lambda publications: publications.publish(folder, "work", "mine", account), "access-0")
    for number in (1, 2):
        account.number = number
        until_done(
            lambda publications: publications.sync(publication(), account), f"access-{number - 1}", account.token
        )
        assert sdk_token() == account.token
    until_done(lambda publications: [publications.unpublish(one) for one in publications.all()], account.token)
    assert files(folder) == {}
    assert Publications(home).all() == []


def test_the_same_content_is_known_for_ours_even_if_the_record_is_older(
    home: Home, folder: ProfileFolder, account: Account
) -> None:
    """Killed between record and file: both the old and the new content are ours."""
    new = Publications(home).publish(folder, "work", "mine", account)
    old = new.credentials.read_bytes()
    account.number = 1
    publications = Publications(home)
    publications.sync(new, account)
    new.credentials.write_bytes(old)
    assert publications.sync(new, account).state == "current"
    assert sdk_token() == "access-1"


def test_a_record_holds_no_secret(publications: Publications, folder: ProfileFolder, home: Home) -> None:
    secret = "sk-ant-oat01-" + "z" * 80
    publications.publish(folder, "work", "mine", lambda: Content(Secret(secret), None, URL))
    [record] = home.published.iterdir()
    assert secret[:20] not in record.read_text()
    assert json.loads(record.read_text())["account"] == "mine"
