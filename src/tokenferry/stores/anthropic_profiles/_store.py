import contextlib
from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from msgspec.structs import replace

from tokenferry.credentials import OAuthToken
from tokenferry.errors import ConfigError, CorruptFile, NeedsLogin, TokenferryError, UnknownAccount, UsageError
from tokenferry.manifest import depend_on
from tokenferry.stores._document import Account, Document
from tokenferry.stores._files import DISK, read_private_file
from tokenferry.stores._lock import FileLock
from tokenferry.stores._store import held
from tokenferry.stores.anthropic_profiles._document import SDK_URL, ProfileConfig, parse_config, parse_credentials
from tokenferry.stores.anthropic_profiles._folder import ProfileFolder

STORE: Final = "anthropic-profile"
PROFILE_LABEL: Final = "profile"
FOLDER_LABEL: Final = "config_dir"
URL_LABEL: Final = "base_url"
_GENERATION_DIGITS: Final = 12


class AnthropicProfileStore:
    """One profile of the official SDKs as a read-only store of one account.

    The account's labels name the folder and the profile, so that every process reads the same one. Its owner is read
    each time. The generation comes from the token's sha256.
    """

    def __init__(self, account: Account, folder: ProfileFolder, profile: str, locks: Path) -> None:
        self.folder = folder
        self.profile = profile
        self._account = account
        self._locks = locks

    @classmethod
    def of(cls, account: Account, locks: Path) -> "AnthropicProfileStore":
        """Give the store that an attached account names. Raises `CorruptFile` if its labels are incomplete."""
        folder, profile = (account.labels.get(label) for label in (FOLDER_LABEL, PROFILE_LABEL))
        if not folder or not profile:
            raise CorruptFile(
                f"account {account.name!r} doesn't say which profile it is; remove it with: tokenferry account remove "
                f"{account.name}, then attach it again"
            )
        return cls(account, ProfileFolder(Path(folder)), profile, locks)

    def names(self) -> list[str]:
        """Give the account, if the profile exists or that can't be found out."""
        try:
            self.config()
        except NeedsLogin:
            return []
        except TokenferryError:
            return [self._account.name]
        return [self._account.name]

    def config(self) -> ProfileConfig:
        """Read how the profile authenticates. Raises `NeedsLogin` if it is missing, `UnsafeFile`, `CorruptFile`."""
        path = self.folder.config(self.profile)
        depend_on("link", path)
        try:
            raw = read_private_file(path.resolve(), readable_by_others=True)
        except FileNotFoundError:
            there = ", ".join(self.folder.profiles()) or "none"
            raise NeedsLogin(
                f"{path} not found, so there is no profile {self.profile!r} (there are: {there}); log in with: "
                f"ant auth login --profile {self.profile}"
            ) from None
        return parse_config(raw, str(path))

    def read(self, name: str) -> Document:
        """Give the profile's present token.

        Raises `UnknownAccount` for another name, `NeedsLogin` without a token, `UnsafeFile`, `CorruptFile`, and
        `ConfigError` if its token is for another host.
        """
        self._check_name(name)
        config = self.config()
        self._check_host(config)
        path = self._credentials(config)
        try:
            token = parse_credentials(read_private_file(path), str(path))
        except FileNotFoundError:
            raise NeedsLogin(f"{path} not found; {self._cure(config)}") from None
        if token is None:
            raise NeedsLogin(f"{path} holds no access token; {self._cure(config)}")
        token = replace(token, organization_id=config.organization_id, source=STORE)
        account = replace(self._account, owner=config.owner, labels=self._labels(config))
        return Document(account, token, _generation(token))

    def swap(self, name: str, expected: int | None, new: Document | None) -> None:  # noqa: ARG002  # the protocol's
        """Refuse, because the profile belongs to another program. Raises `UsageError`."""
        self.discard(name)

    def discard(self, name: str) -> None:
        """Refuse, because the profile belongs to another program. Raises `UsageError`."""
        self._check_name(name)
        raise UsageError(f"account {name!r} is the profile {self.profile!r} of another program, which alone changes it")

    def lock(self, name: str) -> FileLock:
        """Give a new lock of the account, not yet held. It excludes tokenferry only."""
        self._check_name(name)
        return FileLock(self.folder.path / "credentials" / f"{self.profile}.json", self._locks)

    def exclusive(self, name: str, timeout: float) -> AbstractContextManager[None]:
        """Hold the account's lock for a block. Raises `LockTimeout`."""
        return held(self.lock(name), timeout)

    def stamps(self) -> Mapping[str, Hashable]:
        """Give, by account, a value that changes when one of the profile's files is replaced."""
        paths = [self.folder.path / "configs" / f"{self.profile}.json"]
        with contextlib.suppress(TokenferryError):
            paths.append(self._credentials(self.config()))
        stamps = tuple(DISK.stamps(path.parent).get(path.name) for path in paths)
        return {self._account.name: stamps} if any(stamp is not None for stamp in stamps) else {}

    def _credentials(self, config: ProfileConfig) -> Path:
        """Give the path of the tokens. Raises `CorruptFile` for a relative one."""
        if config.credentials_path is None:
            return self.folder.credentials(self.profile)
        with contextlib.suppress(RuntimeError):
            path = Path(config.credentials_path).expanduser()
            if path.is_absolute():
                return path
        raise CorruptFile(
            f"{self.folder.config(self.profile)}: credentials_path is not an absolute path; change it, or leave it out"
        )

    def _check_host(self, config: ProfileConfig) -> None:
        """Raise `ConfigError` if the profile sends its token to another host than when it was attached."""
        known, wanted = self._account.labels.get(URL_LABEL), config.base_url or SDK_URL
        if known is not None and known != wanted:
            raise ConfigError(
                f"account {self._account.name!r}: profile {self.profile!r} was for {known} and is for {wanted} now; "
                f"remove it with: tokenferry account remove {self._account.name}; then attach it again"
            )

    def _cure(self, config: ProfileConfig) -> str:
        if config.type == "oidc_federation":
            return (
                "tokenferry does not exchange workload identities, it reads the token that a program of the official "
                "SDKs cached; start one with this profile"
            )
        if config.owner == "ant":
            return f"log in with: ant auth login --profile {self.profile}"
        return "the program that writes this profile has to write it again"

    def _labels(self, config: ProfileConfig) -> Mapping[str, str]:
        if config.workspace_id is None:
            return self._account.labels
        return MappingProxyType({**self._account.labels, "workspace": config.workspace_id})

    def _check_name(self, name: str) -> None:
        if name != self._account.name:
            raise UnknownAccount(f"there is no account {name!r} in that profile; see: tokenferry account list")


def profile_account(
    name: str, provider: str, folder: ProfileFolder, profile: str, *, created_at: int, base_url: str | None = None
) -> Account:
    """Make the account of a profile, whose token is for `base_url`; `created_at` is in seconds since 1970 UTC."""
    labels = {PROFILE_LABEL: profile, FOLDER_LABEL: str(folder.path)} | ({URL_LABEL: base_url} if base_url else {})
    return Account(
        name,
        provider,
        "oauth",
        owner="external",
        store=STORE,
        labels=MappingProxyType(labels),
        created_at=created_at,
    )


def _generation(token: OAuthToken) -> int:
    return int(token.secret.sha256[:_GENERATION_DIGITS], 16)
