"""A home, Claude Code's folder, and a provider that knows which refresh token of each login is the living one."""

import contextlib
import json
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from tokenferry.claude_code import ClaudeCodeHome, ClaudeCodeStore, CredentialsFile, LockTiming, Place
from tokenferry.claude_code.moves import Mover
from tokenferry.credentials import OAuthToken
from tokenferry.errors import NeedsLogin
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import Account, AttachedStore, Disk, Document, FileStore, Store, replace_private_file

MACHINE: Final = "here"
EXPIRES: Final = 1_900_000_000
TIMING: Final = LockTiming(heartbeat=0.5, stale=0.1, pause=0.005, write=5)


class QuickDisk(Disk):
    """A disk without power cuts, and so without waiting for it."""

    @override
    def fsync(self, descriptor: int) -> None:
        return

    @override
    def sync_folder(self, path: Path) -> None:
        return


QUICK: Final = QuickDisk()


@dataclass
class Provider:
    """Every rotation of a login, in order: the last refresh token is the living one, any other revokes it."""

    rotations: dict[str, list[str]] = field(default_factory=dict)

    def tokens(self, login: str) -> tuple[str, str]:
        number = self.rotations.setdefault(login, [f"sk-ant-ort01-{login}-0"])[-1].rpartition("-")[2]
        return f"sk-ant-oat01-{login}-{number}", f"sk-ant-ort01-{login}-{number}"

    def rotate(self, presented: str) -> tuple[str, str]:
        """What a grant gives. A token that isn't the living one is the end of the login."""
        login = presented.removeprefix("sk-ant-ort01-").rpartition("-")[0]
        assert presented == self.rotations[login][-1], f"{presented} was presented, which is used up"
        self.rotations[login].append(f"sk-ant-ort01-{login}-{len(self.rotations[login])}")
        return self.tokens(login)


class Item:
    """Stands for a Keychain item: written whole, and without a trace of who wrote it. It lies where the file would."""

    where = 'the Keychain item "x"'

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = path
        self._disk = disk

    def read(self) -> bytes | None:
        try:
            return self._disk.read(self._path)
        except FileNotFoundError:
            return None

    def write(self, data: bytes) -> None:
        replace_private_file(self._path, data, disk=self._disk)

    def check_writable(self, size: int) -> None:
        return

    def stamp(self) -> Hashable | None:
        return self.read()


class World:
    """All parties of a move. `disk` is what tokenferry's own processes see."""

    def __init__(self, folder: Path, disk: Disk = QUICK, *, has_ids: bool = True, is_mac: bool = False) -> None:
        self.home = Home(folder / "home")
        self.claude = ClaudeCodeHome(folder / "person" / ".claude")
        for path in (self.home.path, self.claude.path):
            path.mkdir(parents=True, mode=0o700, exist_ok=True)
        self.provider = Provider()
        self.has_ids = has_ids
        self.is_mac = is_mac
        self.disk = disk

    # -- tokenferry

    def mover(self, disk: Disk | None = None) -> Mover:
        disk = disk or self.disk
        return Mover(self.home, lambda account: self._open(account, disk), machine=MACHINE, disk=disk)

    def store(self, disk: Disk | None = None) -> AttachedStore:
        disk = disk or self.disk
        return AttachedStore(
            FileStore(self.home, disk=disk),
            self.home.attached,
            lambda account: self._open(account, disk),
            moves=self.mover(disk),
            disk=disk,
        )

    def _open(self, account: Account, disk: Disk) -> ClaudeCodeStore:
        file = self.claude.credentials
        place: Place = Item(file, disk) if self.is_mac else CredentialsFile(self.claude, disk=disk)
        return ClaudeCodeStore(account, self.claude, self.home.locks, places=(place,), timing=TIMING)

    def token(self, login: str, **changes: Any) -> OAuthToken:
        access, refresh = self.provider.tokens(login)
        ids = {"account_id": f"uuid-{login}", "organization_id": f"org-{login}"} if self.has_ids else {}
        given: dict[str, Any] = {"expires_at": EXPIRES, "scopes": ("user:inference",), "subscription_type": "max"}
        return OAuthToken(Secret(access), Secret(refresh), **(given | ids | changes))

    def add(self, name: str, login: str | None = None, *, priority: int = 100, **changes: Any) -> OAuthToken:
        """An account of ours, at home."""
        token = self.token(login or name, **({"email": f"{name}@example.com", "source": "login"} | changes))
        account = Account(name, "claude-max", "oauth", priority=priority, created_at=1_700_000_000)
        files = FileStore(self.home, disk=QUICK)
        with files.exclusive(name, 5):
            files.swap(name, None, Document(account, token, machine=MACHINE))
        return token

    def renew_here(self, name: str, store: Store | None = None) -> None:
        """One grant for the account, by whichever locks its place asks for."""
        store = store or self.store(QUICK)
        with store.exclusive(name, 5):
            document = store.read(name)
            old = document.credential
            assert isinstance(old, OAuthToken)
            assert old.refresh is not None
            access, refresh = self.provider.rotate(old.refresh.reveal())
            token = OAuthToken(
                Secret(access),
                Secret(refresh),
                expires_at=EXPIRES,
                account_id=old.account_id,
                organization_id=old.organization_id,
                email=old.email,
                unknown=old.unknown,
            )
            new = Document(document.account, token, machine=MACHINE)
            self.store(QUICK).swap(name, document.generation, new)  # what a death in between loses, the journal keeps

    # -- Claude Code

    def log_in(self, login: str, **more: Any) -> None:
        """`claude /login`: a login that nobody here knows."""
        access, refresh = self.provider.tokens(login)
        section: dict[str, Any] = {"accessToken": access, "refreshToken": refresh, "expiresAt": EXPIRES * 1000}
        section |= {"scopes": ["user:inference"], "subscriptionType": "max", "subscriptionTypeSource": f"of {login}"}
        if self.has_ids:
            section |= {"accountUuid": f"uuid-{login}", "organizationUuid": f"org-{login}"}
        self.write(section | more)

    def log_out(self) -> None:
        self.write(self.section() | {"accessToken": "", "refreshToken": "", "expiresAt": 0})

    def write(self, section: dict[str, Any]) -> None:
        others = self.document() or {"mcpOAuth": {"server": {"kept": True}}}
        path = self.claude.credentials.with_name("new")
        path.write_text(json.dumps({**others, "claudeAiOauth": section}))
        path.chmod(0o600)
        path.replace(self.claude.credentials)

    def claude_renews(self) -> None:
        """Claude Code's own refresh. It knows nothing of us, and keeps what it wrote for whoever is logged in."""
        section = self.section()
        if section.get("refreshToken"):
            access, refresh = self.provider.rotate(section["refreshToken"])
            self.write(section | {"accessToken": access, "refreshToken": refresh})

    def document(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.claude.credentials.read_bytes())
        except FileNotFoundError:
            return {}
        return found

    def section(self) -> dict[str, Any]:
        found: dict[str, Any] = self.document().get("claudeAiOauth", {})
        return found

    def claude_has(self) -> str | None:
        """Which login Claude Code has."""
        refresh: str = self.section().get("refreshToken", "")
        return refresh.removeprefix("sk-ant-ort01-").rpartition("-")[0] or None

    # -- what must hold

    def check(self, accounts: dict[str, str]) -> None:
        """There are these accounts. Each is one login, which lives, rests in one place, and can be renewed there."""
        store = self.store(QUICK)
        for name in accounts:
            self.renew_here(name)
        assert store.names() == sorted(accounts)
        for name, login in accounts.items():
            document = store.read(name)
            token = document.credential
            assert isinstance(token, OAuthToken)
            assert token.refresh == Secret(self.provider.rotations[login][-1]), (name, login)
            assert document.account.owner == ("claude-code" if self.claude_has() == login else "tokenferry")

    def check_readers(self) -> None:
        """Who only reads never gets a token of another account, and nobody has two."""
        store, seen = self.store(QUICK), set()
        for name in store.names():
            with contextlib.suppress(NeedsLogin):
                login = store.read(name).credential.secret.reveal().removeprefix("sk-ant-oat01-").rpartition("-")[0]
                assert name in {login, "claude-code"}
                assert login not in seen
                seen.add(login)
