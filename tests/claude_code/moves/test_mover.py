import json
import os
import threading
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from msgspec.structs import replace

from claude_code.moves.rig import EXPIRES, MACHINE, World
from leaks import leaks
from tokenferry.claude_code import ClaudeCodeLock, digest
from tokenferry.claude_code.moves import Moved, MoveFile, MoveRecord, _mover
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.errors import (
    ChainCopied,
    CorruptFile,
    CredentialRefused,
    LockTimeout,
    NeedsLogin,
    RefreshBusy,
    RefreshUncertain,
    TokenferryError,
    UnknownAccount,
    UnsafeFile,
    UsageError,
)
from tokenferry.refresh import FileJournal, RefreshAttempt, RefreshFailure
from tokenferry.secret import Secret
from tokenferry.stores import Account, Disk, Document, FileLock, FileStore, ProcessIdentity


@pytest.fixture
def world(tmp_path: Path, home: object) -> World:
    return World(tmp_path)


@pytest.fixture
def journal(world: World) -> FileJournal:
    return FileJournal(world.home.journal)


def credential(world: World, name: str) -> OAuthToken:
    token = FileStore(world.home).read(name).credential
    assert isinstance(token, OAuthToken)
    return token


# -- moving there and back


def test_a_login_moves_to_a_claude_code_that_has_none(world: World) -> None:
    world.add("alice")
    assert world.mover().move("alice") == Moved("alice")
    assert world.claude_has() == "alice"
    section = world.section()
    assert (section["expiresAt"], section["accountUuid"]) == (EXPIRES * 1000, "uuid-alice")
    assert section["organizationUuid"] == "org-alice"
    assert world.store().read("alice").account.owner == "claude-code"
    assert world.mover().pending() is None
    assert list(world.claude.path.iterdir()) == [world.claude.credentials]
    assert not world.claude.folder_lock.exists()
    world.check({"alice": "alice"})


def test_what_was_there_goes_home_with_what_claude_code_made_of_it(world: World) -> None:
    world.add("alice")
    world.add("bob")
    world.mover().move("alice")
    world.claude_renews()
    assert world.mover().move("bob") == Moved("bob", home="alice")
    assert world.claude_has() == "bob"
    came_home = credential(world, "alice")
    assert came_home.refresh == Secret("sk-ant-ort01-alice-1")
    assert came_home.email == "alice@example.com"
    world.check({"alice": "alice", "bob": "bob"})


def test_there_and_back_again_as_often_as_one_likes(world: World) -> None:
    for name in ("alice", "bob", "carol"):
        world.add(name)
    for number in range(9):
        world.mover().move(("alice", "bob", "carol")[number % 3])
        world.claude_renews()
        world.check({"alice": "alice", "bob": "bob", "carol": "carol"})


def test_the_present_one_stays_where_it_is(world: World) -> None:
    world.add("alice")
    world.mover().move("alice")
    before = world.claude.credentials.stat().st_ino
    assert world.mover().move("alice") == Moved("alice", was_there=True)
    assert world.claude.credentials.stat().st_ino == before


def test_fields_beside_the_login_stay_and_fields_in_it_move_with_it(world: World) -> None:
    world.add("alice")
    world.log_in(
        "bob", unknownHere={"kept": [True, None]}, email={"not": "an e-mail"}, refreshTokenExpiresAt=1_950_000_000_000
    )
    world.mover().move("alice")
    assert world.document()["mcpOAuth"] == {"server": {"kept": True}}
    assert "unknownHere" not in world.section()
    assert "subscriptionTypeSource" not in world.section()
    before = credential(world, "claude-code")
    assert (before.account_id, before.organization_id, before.subscription_type) == ("uuid-bob", "org-bob", "max")
    world.mover().move("claude-code")
    section = world.section()
    assert section["subscriptionTypeSource"] == "of bob"
    assert section["unknownHere"] == {"kept": [True, None]}
    assert section["email"] == {"not": "an e-mail"}
    assert section["refreshTokenExpiresAt"] == 1_950_000_000_000
    assert (section["accountUuid"], section["organizationUuid"]) == ("uuid-bob", "org-bob")
    world.check({"alice": "alice", "claude-code": "bob"})


def test_labels_priority_and_what_a_newer_version_wrote_travel_with_the_account(world: World) -> None:
    world.add("alice", priority=7)
    files = FileStore(world.home)
    document = files.read("alice")
    account = replace(document.account, labels=MappingProxyType({"team": "a"}))
    files.swap("alice", document.generation, replace(document, account=account))
    raw = json.loads(files.path("alice").read_bytes())
    files.path("alice").write_text(json.dumps(raw | {"later": 1}))
    world.add("bob")
    world.mover().move("alice")
    moved = world.store().read("alice").account
    assert (moved.priority, moved.labels["team"]) == (7, "a")
    assert moved.labels["config_dir"] == str(world.claude.path)
    world.mover().move("bob")
    back = files.read("alice")
    assert back.account == account
    assert back.unknown == {"later": 1}
    assert back.machine == MACHINE


# -- a login that nobody here knew


def test_a_login_without_an_account_gets_one(world: World) -> None:
    world.add("alice")
    world.log_in("stranger")
    assert world.mover().move("alice") == Moved("alice", home="claude-code", is_new=True)
    world.log_in("another")
    world.add("bob")
    assert world.mover().move("bob") == Moved("bob", home="claude-code-2", is_new=True, stranded="alice")
    world.check({"alice": "alice", "bob": "bob", "claude-code": "stranger", "claude-code-2": "another"})


def test_a_second_login_of_a_known_account_is_called_by_its_e_mail_and_the_first_one_is_kept(world: World) -> None:
    world.add("work", "one", account_id="uuid-w", organization_id="org-w", email="w@example.com")
    world.add("bob")
    world.log_in("two", accountUuid="uuid-w", organizationUuid="org-w")
    assert world.mover().move("bob") == Moved("bob", home="w@example.com", is_new=True)
    world.check({"work": "one", "w@example.com": "two", "bob": "bob"})


def test_a_living_login_takes_the_place_of_a_dead_one_of_the_same_account(world: World, journal: FileJournal) -> None:
    dead = world.add("work", "one", account_id="uuid-w", organization_id="org-w")
    assert dead.refresh is not None
    journal.record_failure("work", RefreshFailure("needs-login", dead.refresh.sha256, 0, "it is dead"))
    world.add("bob")
    world.log_in("two", accountUuid="uuid-w", organizationUuid="org-w")
    assert world.mover().move("bob") == Moved("bob", home="work")
    assert credential(world, "work").email == "work@example.com"
    world.check({"work": "two", "bob": "bob"})


def test_and_asked_for_it_is_there_already(world: World, journal: FileJournal) -> None:
    dead = world.add("work", "one", account_id="uuid-w", organization_id="org-w")
    assert dead.refresh is not None
    journal.record_failure("work", RefreshFailure("needs-login", dead.refresh.sha256, 0, "it is dead"))
    world.log_in("two", accountUuid="uuid-w", organizationUuid="org-w")
    assert world.mover().move("work") == Moved("work")
    world.check({"work": "two"})


def test_one_login_in_both_places_becomes_claude_codes_alone(world: World) -> None:
    world.add("alice")
    world.log_in("alice")
    assert world.mover().move("alice") == Moved("alice")
    assert world.store().read("alice").account.owner == "claude-code"
    world.check({"alice": "alice"})


def test_an_account_that_was_attached_goes_home_as_one_of_ours(world: World) -> None:
    world.log_in("stranger")
    world.store().attach(Account("mine", "claude-max", "oauth", "claude-code", "claude-code", priority=3))
    world.add("alice")
    assert world.mover().move("alice") == Moved("alice", home="mine")
    account = FileStore(world.home).read("mine").account
    assert (account.owner, account.store, account.priority, dict(account.labels)) == ("tokenferry", "file", 3, {})
    world.check({"alice": "alice", "mine": "stranger"})


# -- when Claude Code was logged out, or in as somebody else


def test_a_logged_out_stub_goes_nowhere(world: World) -> None:
    world.add("alice")
    world.add("bob")
    world.log_in("bob")
    world.log_out()
    world.mover().move("alice")
    world.log_out()
    assert world.mover().move("bob") == Moved("bob", stranded="alice")
    assert world.document()["mcpOAuth"] == {"server": {"kept": True}}
    world.check({"alice": "alice", "bob": "bob"})


def test_an_account_that_claude_code_was_logged_out_of_can_be_given_to_it_again(world: World) -> None:
    world.add("alice")
    world.mover().move("alice")
    world.log_out()
    assert world.mover().move("alice") == Moved("alice", stranded="alice")
    world.check({"alice": "alice"})


def test_an_attached_account_of_which_nothing_is_left_is_let_go(world: World) -> None:
    world.log_in("stranger")
    world.store().attach(Account("mine", "claude-max", "oauth", "claude-code", "claude-code"))
    world.log_out()
    world.add("alice")
    with pytest.raises(NeedsLogin, match="claude /login"):
        world.mover().move("mine")
    assert world.mover().move("alice") == Moved("alice", stranded="mine", is_gone=True)
    world.check({"alice": "alice"})


def test_another_persons_login_is_not_mistaken_for_the_account_that_was_moved_there(world: World) -> None:
    world.add("alice")
    world.add("bob")
    world.mover().move("alice")
    world.log_in("stranger")
    with pytest.raises(NeedsLogin, match=r"logged in as another account.*tokenferry claude-code switch alice"):
        world.store().read("alice")
    assert world.mover().move("alice") == Moved("alice", home="claude-code", is_new=True, stranded="alice")
    world.check({"alice": "alice", "bob": "bob", "claude-code": "stranger"})


def test_what_belongs_to_another_folder_is_left_alone(world: World, tmp_path: Path) -> None:
    world.add("alice")
    world.mover().move("alice")
    elsewhere = World(tmp_path)
    elsewhere.claude = replace(world.claude, path=tmp_path / "other" / ".claude")
    elsewhere.add("bob")
    assert elsewhere.mover().move("bob") == Moved("bob")
    with pytest.raises(UsageError, match=f"in {world.claude.path}"):
        elsewhere.mover().move("alice")
    assert world.claude_has() == "alice"
    assert elsewhere.claude_has() == "bob"


# -- what is refused


def test_what_is_no_account_or_no_login_is_refused(world: World) -> None:
    with pytest.raises(UnknownAccount):
        world.mover().move("nobody")
    FileStore(world.home).swap(
        "key", None, Document(Account("key", "anthropic", "api-key"), ApiKey(Secret("sk-ant-api03-x")))
    )
    with pytest.raises(CredentialRefused, match="tokenferry run --account key -- claude"):
        world.mover().move("key")
    assert world.document() == {}


@pytest.mark.parametrize(
    ("changes", "machine", "kind"),
    [
        ({"refresh": None}, MACHINE, NeedsLogin),
        ({"refresh_expires_at": 1}, MACHINE, NeedsLogin),
        ({}, "other", ChainCopied),
    ],
)
def test_a_login_that_claude_code_could_not_go_on_with_is_refused(
    world: World, changes: dict[str, Any], machine: str, kind: type[TokenferryError]
) -> None:
    world.add("alice")
    files = FileStore(world.home)
    document = files.read("alice")
    assert isinstance(document.credential, OAuthToken)
    token = replace(document.credential, **changes)
    files.swap("alice", document.generation, replace(document, credential=token, machine=machine))
    with pytest.raises(kind, match=r"tokenferry (account|login)"):
        world.mover().move("alice")
    assert world.document() == {}


def attempt(token: OAuthToken, process: ProcessIdentity | None = None) -> RefreshAttempt:
    assert token.refresh is not None
    return RefreshAttempt.begin(token.refresh.sha256, 1, process or ProcessIdentity(1, "gone", "another boot"), 1)


@pytest.mark.parametrize("who", ["alice", "bob"])
def test_while_the_answer_to_a_refresh_is_lost_neither_login_moves(
    world: World, journal: FileJournal, who: str
) -> None:
    tokens = {name: world.add(name) for name in ("alice", "bob")}
    world.mover().move("alice")
    begun = attempt(tokens[who])
    journal.begin(who, replace(begun, state="open"))
    with pytest.raises(RefreshUncertain, match=f"account '{who}' is not moved.*tokenferry refresh {who}") as caught:
        world.mover().move("bob")
    assert leaks(caught.value, *world.provider.tokens(who)) == []
    journal.close(who, begun)
    journal.begin(who, attempt(tokens[who], ProcessIdentity.own()))
    with pytest.raises(RefreshBusy, match=f"process {os.getpid()}"):
        world.mover().move("bob")
    assert world.claude_has() == "alice"
    assert world.mover().pending() is None
    journal.close(who, begun)
    world.check({"alice": "alice", "bob": "bob"})


@pytest.mark.parametrize("who", ["alice", "bob"])
def test_an_attempt_of_which_no_byte_left_keeps_no_login_from_moving(
    world: World, journal: FileJournal, who: str
) -> None:
    tokens = {name: world.add(name) for name in ("alice", "bob")}
    world.mover().move("alice")
    journal.begin(who, attempt(tokens[who]))
    world.mover().move("bob")
    assert world.claude_has() == "bob"


@pytest.mark.parametrize("who", ["alice", "bob"])
def test_an_answer_that_waits_in_the_journal_is_kept_before_the_login_moves(
    world: World, journal: FileJournal, who: str
) -> None:
    tokens = {name: world.add(name) for name in ("alice", "bob")}
    world.mover().move("alice")
    begun = attempt(tokens[who])
    journal.begin(who, begun)
    assert tokens[who].refresh is not None
    access, refresh = world.provider.rotate(tokens[who].refresh.reveal())  # type: ignore[union-attr]  # seen above
    journal.answer(who, begun, replace(tokens[who], secret=Secret(access), refresh=Secret(refresh)))
    world.mover().move("bob")
    assert journal.attempt(who) is None
    world.check({"alice": "alice", "bob": "bob"})


def test_one_login_under_two_names_is_reported(world: World) -> None:
    world.add("alice")
    world.add("again", "alice")
    world.mover().move("alice")
    with pytest.raises(UsageError, match="must not be two accounts"):
        world.mover().move("again")


def test_what_can_not_be_understood_or_trusted_is_left_alone(world: World) -> None:
    world.add("alice")
    world.claude.credentials.write_text("{")
    world.claude.credentials.chmod(0o600)
    with pytest.raises(CorruptFile, match="claude /login"):
        world.mover().move("alice")
    world.claude.credentials.chmod(0o644)
    with pytest.raises(UnsafeFile):
        world.mover().move("alice")
    assert world.claude.credentials.read_text() == "{"
    world.claude.credentials.unlink()
    world.check({"alice": "alice"})


def test_while_claude_code_refreshes_nothing_moves(world: World) -> None:
    world.add("alice")
    theirs = ClaudeCodeLock(world.claude, world.home.locks)
    theirs.acquire(0)
    with pytest.raises(LockTimeout, match="Claude Code"):
        world.mover().move("alice", timeout=0.05)
    theirs.release()
    assert world.mover().move("alice") == Moved("alice")


# -- what becomes of a moved account


def test_removing_a_moved_account_removes_the_copy_as_well(world: World) -> None:
    """Alone it would count, and log Claude Code out when it is renewed."""
    world.add("alice")
    world.mover().move("alice")
    world.store().detach("alice")
    assert world.store().names() == []
    assert world.claude_has() == "alice"


def test_a_removal_while_a_move_is_cut_short_ends_the_move_first(world: World) -> None:
    world.add("alice")
    world.add("bob")
    world.mover().move("alice")

    class NoRename(Disk):
        def rename(self, old: Path, new: Path) -> None:
            if new == world.claude.credentials:
                raise KeyboardInterrupt
            super().rename(old, new)

        def unlink(self, path: Path) -> None:
            if not path.parent.name.endswith("attached"):
                raise KeyboardInterrupt
            super().unlink(path)

    with pytest.raises(KeyboardInterrupt):
        world.mover(NoRename()).move("bob")
    assert world.mover().concerns("alice")
    world.store().detach("alice")
    assert world.mover().pending() is None
    world.check({"bob": "bob"})


def test_a_move_whose_home_going_account_is_gone_is_undone(world: World) -> None:
    world.add("bob")
    world.log_in("alice")
    record = MoveRecord(
        to="bob",
        home="alice",
        step="preparing",
        place=str(world.claude.credentials),
        config_dir=str(world.claude.path),
        present=digest(world.token("alice")),
        coming=digest(world.token("bob")),
        account_id=None,
        organization_id=None,
        at=1,
    )
    MoveFile(world.home.move_to_claude_code).write(record)
    world.renew_here("bob")
    assert world.mover().pending() is None
    assert world.claude_has() == "alice"


def test_what_we_renewed_there_comes_home_with_what_the_grant_said(world: World) -> None:
    world.add("alice")
    world.add("bob")
    world.mover().move("alice")
    store = world.store()
    document = store.read("alice")
    access, refresh = world.provider.rotate("sk-ant-ort01-alice-0")
    granted = world.token("alice", source="refresh", obtained_at=5, lifetime=7)
    with store.exclusive("alice", 5):
        store.swap("alice", document.generation, replace(document, credential=granted))
    world.mover().move("bob")
    token = credential(world, "alice")
    assert (token.source, token.obtained_at, token.lifetime, token.email) == ("refresh", 5, 7, "alice@example.com")
    assert (token.secret, token.refresh) == (Secret(access), Secret(refresh))


def test_who_waited_for_the_lock_while_the_login_moved_gets_that_of_the_new_place(world: World) -> None:
    world.add("alice")
    lock = world.store().lock("alice")
    world.mover().move("alice")
    lock.acquire(1)
    assert world.claude.refresh_lock.is_dir()
    lock.release()
    assert not world.claude.refresh_lock.exists()


def test_a_moved_account_is_known_by_its_e_mail_still(world: World) -> None:
    world.add("alice")
    world.mover().move("alice")
    token = world.store().read("alice").credential
    assert isinstance(token, OAuthToken)
    assert token.email == "alice@example.com"


def test_no_record_holds_a_secret(world: World) -> None:
    seen: list[bytes] = []

    class Watching(Disk):
        def sync_folder(self, path: Path) -> None:
            super().sync_folder(path)
            if world.home.move_to_claude_code.exists():
                seen.append(world.home.move_to_claude_code.read_bytes())

    world.add("alice")
    world.log_in("bob")
    world.mover(Watching()).move("alice")
    attached = [path.read_bytes() for path in world.home.attached.iterdir()]
    assert {json.loads(one)["step"] for one in seen} == {"preparing", "writing"}
    for content in (*seen, *attached):
        assert b"sk-ant" not in content


def test_a_long_wait_is_explained_once(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.add("alice")
    monkeypatch.setattr(_mover, "_SILENT", 0.0)
    path = world.home.move_to_claude_code
    with FileLock(path, world.home.locks).held(1), pytest.raises(LockTimeout):
        world.mover().move("alice", timeout=0.05)
    (reported,) = caplog.messages
    assert reported.startswith(f"waiting up to 0 s: {path} is in use by process {os.getpid()}")


def test_a_move_ends_though_the_document_of_its_account_is_gone(world: World) -> None:
    """Somebody removed it by hand. Whose login Claude Code has is as unknown then as that of any other."""
    world.add("alice")
    world.add("bob")
    world.mover().move("alice")

    class NoAttachment(Disk):
        def rename(self, old: Path, new: Path) -> None:
            if new == world.home.attached / "bob.json":
                raise KeyboardInterrupt
            super().rename(old, new)

    with pytest.raises(KeyboardInterrupt):
        world.mover(NoAttachment()).move("bob")
    (world.home.accounts / "bob.json").unlink()
    world.renew_here("alice")
    assert world.mover().pending() is None
    assert world.mover().move("alice") == Moved("alice", home="bob@example.com", is_new=True)
    world.check({"alice": "alice", "bob@example.com": "bob"})


def test_nothing_is_attached_or_detached_while_a_login_moves(world: World) -> None:
    """Else two accounts would be attached to one login, or a move lose the account that it is about."""
    world.add("alice")
    store, moving, attached = world.store(), threading.Event(), threading.Event()

    def attach() -> None:
        moving.wait(10)
        with pytest.raises(UsageError, match="'alice' is attached to that login already"):
            store.attach(Account("mine", "claude-max", "oauth", "claude-code", "claude-code"))
        attached.set()

    class Slow(Disk):
        def rename(self, old: Path, new: Path) -> None:
            if new == world.claude.credentials:
                moving.set()
                assert not attached.wait(0.2)
            super().rename(old, new)

    thread = threading.Thread(target=attach)
    thread.start()
    world.mover(Slow()).move("alice")
    thread.join(10)
    assert attached.is_set()
    store.detach("alice")
    assert store.names() == []


def test_a_move_in_a_linked_folder_is_one_in_that_folder(world: World, tmp_path: Path) -> None:
    world.add("alice")
    world.add("bob")
    world.mover().move("alice")
    link = tmp_path / "link"
    link.symlink_to(world.claude.path)
    world.claude = replace(world.claude, path=link, variable=str(link))
    assert world.mover().move("bob") == Moved("bob", home="alice")


def test_a_login_without_an_account_is_of_the_given_provider(world: World) -> None:
    world.add("alice")
    world.log_in("stranger")
    world.mover().move("alice", "another")
    assert FileStore(world.home).read("claude-code").account.provider == "another"
