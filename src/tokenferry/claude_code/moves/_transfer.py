import contextlib
import logging
from types import MappingProxyType

from msgspec.structs import replace

from tokenferry.claude_code import FOLDER_LABEL, ClaudeCodeLogin, ClaudeCodeStore, digest, taken_out
from tokenferry.claude_code import STORE as CLAUDE_CODE
from tokenferry.claude_code.moves._record import MoveFile, MoveRecord
from tokenferry.credentials import OAuthToken
from tokenferry.errors import NeedsUnlock, RefreshBusy, TokenferryError, UnknownAccount
from tokenferry.stores import Account, Attachments, Document, FileStore, Lock

logger = logging.getLogger(__name__)


class Transfer:
    """The steps of a move. Hold all its locks. A token family is never cloned.

    While an account has an attachment, its login is the one in Claude Code's store, and the document here is a copy
    that no program uses. Without an attachment, its login is the document. Only the attachment decides.
    A move changes things in this order, each step durable before the next:
    1. the record names the move (`preparing`);
    2. the login in Claude Code's store is copied into its account's document, which doesn't count yet;
    3. the new content of that store is staged beside it;
    4. the record says that the content is about to be installed (`writing`), and the old account's attachment is
       removed;
    5. one rename installs the content, and the move is final;
    6. the new account's attachment is created, and the record removed.
    No process gets the lock of either account while a record names it. A process that finds a record continues it:
    before the rename it repeats the move, or undoes it if anything has changed.
    """

    def __init__(self, files: FileStore, attachments: Attachments, record: MoveFile, *, machine: str) -> None:
        self._files = files
        self._attachments = attachments
        self._record = record
        self._machine = machine

    def carry_out(self, record: MoveRecord, store: ClaudeCodeStore, lock: Lock) -> None:
        def announce() -> None:
            self._record.write(replace(record, step="writing"))
            if record.home is not None:
                self._attachments.remove(record.home)
            if not lock.is_still_ours():
                raise RefreshBusy("another program took Claude Code's lock before anything was written; try again")

        self._record.write(record)
        try:
            if record.home is not None:
                self._bring_home(record.home, store)
            coming = self._files.read(record.to).credential
            assert isinstance(coming, OAuthToken)
            store.hand_over(record.present, coming, announce)
        except BaseException:
            with contextlib.suppress(TokenferryError):
                self.end(store, lock, is_given_up=True)
            raise
        self._complete(record, store)

    def _bring_home(self, name: str, store: ClaudeCodeStore) -> None:
        """Copy the login that is there into the account's document."""
        account, token = self._attachments.read(name), store.look()[1].token
        assert account is not None
        if token is None:
            return
        try:
            known: Document | None = self._files.read(name)
        except UnknownAccount:
            known = None
        held = None if known is None else known.credential
        if isinstance(held, OAuthToken) and held.refresh is not None and token.refresh is None:
            return  # never leave a document with fewer tokens than it had
        labels = {key: value for key, value in account.labels.items() if key != FOLDER_LABEL}
        new = Document(
            replace(account, owner="tokenferry", store="file", labels=MappingProxyType(labels)),
            taken_out(token, held if isinstance(held, OAuthToken) else None),
            machine=self._machine,
        )
        if known is not None:
            new = replace(new, unknown=known.unknown)
        self._files.swap(name, None if known is None else known.generation, new)

    def end(self, store: ClaudeCodeStore, lock: Lock, *, is_given_up: bool = False) -> None:
        """Complete the recorded move, repeat it, or undo it. Hold all its locks."""
        record = self._record.read()
        if record is None:
            return
        _, login = store.look()
        found = None if login.token is None else digest(login.token)
        if record.step == "writing" and _is_in_place(record, store, login, found):
            logger.warning("completing the move of account %s to Claude Code, which was cut short", record.to)
            self._complete(record, store)
            return
        if record.step == "writing":  # before the staged file, which shows the progress, is removed
            record = replace(record, step="preparing")
            self._record.write(record)
        if record.home is not None and self._attachments.read(record.home) is None:
            try:
                self._attachments.put(leaving(self._files.read(record.home).account, store))
            except UnknownAccount:  # it was removed in between, so there is nothing to bring home
                is_given_up = True
        if not is_given_up and found == record.present and self._is_as_recorded(record):
            logger.warning("making the move of account %s to Claude Code again, which was cut short", record.to)
            self.carry_out(record, store, lock)
            return
        store.unstage()
        self._record.remove()

    def _is_as_recorded(self, record: MoveRecord) -> bool:
        try:
            coming = self._files.read(record.to).credential
        except NeedsUnlock:
            raise  # don't undo a move only because its login can't be read now
        except TokenferryError:
            return False
        return isinstance(coming, OAuthToken) and digest(coming) == record.coming

    def _complete(self, record: MoveRecord, store: ClaudeCodeStore) -> None:
        with contextlib.suppress(UnknownAccount):  # its document was removed: the login is only Claude Code's
            self._attachments.put(leaving(self._files.read(record.to).account, store))
        self._record.remove()


def leaving(account: Account, store: ClaudeCodeStore) -> Account:
    """The account, with its login in Claude Code's store."""
    labels = MappingProxyType({**account.labels, FOLDER_LABEL: store.home.label})
    return replace(account, owner=CLAUDE_CODE, store=CLAUDE_CODE, labels=labels)


def _is_in_place(record: MoveRecord, store: ClaudeCodeStore, login: ClaudeCodeLogin, found: str | None) -> bool:
    """Whether the new login was installed; it may have been renewed since."""
    is_staged = store.is_staged()
    if is_staged is not None:
        return not is_staged
    if found == record.present or login.token is None:
        return False
    named, meant = login.token.account_id, record.account_id
    return not named or not meant or named == meant
