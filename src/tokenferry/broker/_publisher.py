import contextlib
import logging
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from msgspec import Struct

from tokenferry.accounts import CONFIGURATION, ENVIRONMENT, Content, Publication, Publications, PublicationStatus
from tokenferry.errors import ConfigError, TokenferryError, UnknownAccount, UnknownName, UsageError
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import FETCHED, Document, read_private_file
from tokenferry.stores.anthropic_profiles import ProfileFolder, parse_credentials

logger = logging.getLogger(__name__)

GATEWAY_PROFILE: Final = "tokenferry"


class Published(Struct, frozen=True):
    """A profile of ours, and its state. `fingerprint` is that of the token in it."""

    publication: Publication
    standing: PublicationStatus
    fingerprint: str | None = None
    expires_at: int | None = None


class Publisher:
    """Publishes accounts as profiles of the official SDKs, and updates them with their accounts.

    `read` gives an account's document if policy allows its use, `base_url` the address of its requests.
    """

    def __init__(self, home: Home | None, read: Callable[[str], Document], base_url: Callable[[Document], str]) -> None:
        self._home = home
        self._publications = Publications(home) if home is not None else None
        self._read = read
        self._base_url = base_url
        self._healed: set[tuple[Path, str]] = set()

    def publish(self, name: str, profile: str | None = None, *, activate: bool = False) -> Publication:
        """Publish an account; the profile has its name unless another is given.

        Raises what `Publications.publish` and reading the account raise.
        """
        folder = _folder()
        return self._ours().publish(folder, profile or name, name, partial(self._render, name), activate=activate)

    def publish_gateway(self, url: str, profile: str | None = None, *, activate: bool = False) -> Publication:
        """Publish the gateway, by its URL and local client key. Raises what `Publications.publish` raises."""
        render = partial(self._render_gateway, url)
        return self._ours().publish(_folder(), profile or GATEWAY_PROFILE, None, render, activate=activate)

    def published(self) -> list[Published]:
        """Return all published profiles and their state, without writing."""
        if self._publications is None:
            return []
        return [self._look(one) for one in self._publications.all()]

    def profiles_of(self, name: str) -> list[Publication]:
        return [] if self._publications is None else self._publications.of(name)

    def is_published(self, folder: ProfileFolder, profile: str) -> bool:
        """Whether this profile is ours. Raises `UsageError`, `UnsafeFile`, `CorruptFile`."""
        return self._publications is not None and self._publications.find(folder, profile) is not None

    def republish(self, name: str | None = None) -> list[Published]:
        """Rewrite each profile that is behind, of one account or of all, and return their states.

        A failed write is a state, and nothing is raised. The profiles of removed accounts are removed.
        """
        if self._publications is None:
            return []
        publications = self._publications.all() if name is None else self._publications.of(name)
        return [self._sync(one) for one in publications]

    def follow(self, name: str) -> None:
        """Rewrite the account's profiles after a grant or a new login. Raises nothing; failures are logged."""
        try:
            for one in self.republish(name):
                if one.standing.state != "current":
                    logger.warning("profile %s of account %s: %s", one.publication.profile, name, one.standing.text)
        except Exception as fault:  # noqa: BLE001  # the grant before it is safe in any case
            logger.warning("account %s: its profiles could not be checked: %s", name, _reason(fault))

    @property
    def has_healed(self) -> bool:
        """Whether a profile was found behind its account."""
        return bool(self._healed)

    def heal(self, document: Document) -> None:
        """Rewrite profiles that a killed process left behind, on a thread of its own; once per token."""
        name, token = document.account.name, document.credential.secret.sha256
        behind = False
        with contextlib.suppress(TokenferryError, OSError):
            for one in self.profiles_of(name):
                is_new = (one.config, token) not in self._healed
                if is_new and self._is_behind(one, document):
                    self._healed.add((one.config, token))
                    behind = True
        if behind:
            with contextlib.suppress(RuntimeError):  # the interpreter is shutting down
                threading.Thread(target=self.follow, args=(name,), name=f"tokenferry-publish-{name}").start()

    def unpublish(self, publications: list[Publication]) -> list[str]:
        """Remove them; return a sentence about each file that is left. Raises `StorageFailed`, `LockTimeout`."""
        return [left for one in publications for left in self._ours().unpublish(one)]

    def withdraw(self, name: str) -> None:
        """Remove the profiles of a removed account. Raises nothing; files that are left are logged."""
        try:
            for left in self.unpublish(self.profiles_of(name)):
                logger.warning("%s", left)
        except TokenferryError as fault:
            logger.warning("account %s is removed, but its profiles could not be: %s", name, fault)

    def find(self, name: str | None, profile: str | None, *, gateway: bool = False) -> list[Publication]:
        """Find the publications of an account, the gateway or a profile. Raises `UnknownName` if nothing is found."""
        found = [
            one
            for one in (self._publications.all() if self._publications is not None else ())
            if (profile is None or one.profile == profile)
            and (name is None or one.account == name)
            and (not gateway or one.account is None)
        ]
        if not found:
            asked = [f"account {name!r}" if name else "", "the gateway" if gateway else ""]
            asked.append(f"profile {profile!r}" if profile else "")
            raise UnknownName(f"{' as '.join(filter(None, asked))} is not published; see: tokenferry profile list")
        return found

    # -- state and content

    def _look(self, publication: Publication) -> Published:
        try:
            standing = self._ours().look(publication, self._render_for(publication))
        except TokenferryError as fault:
            standing = PublicationStatus("held", str(fault))
        return _described(publication, standing)

    def _sync(self, publication: Publication) -> Published:
        try:
            standing = self._ours().sync(publication, self._render_for(publication))
        except UnknownAccount as fault:
            standing = self._retire(publication, fault)
        except TokenferryError as fault:
            standing = PublicationStatus("held", str(fault))
        return _described(publication, standing)

    def _retire(self, publication: Publication, fault: TokenferryError) -> PublicationStatus:
        try:
            left = self._ours().unpublish(publication)
        except TokenferryError as problem:
            return PublicationStatus("held", str(problem))
        return PublicationStatus("removed", "; ".join(left) or f"removed: {fault}")

    def _is_behind(self, publication: Publication, document: Document) -> bool:
        content = Content.of(document.account.name, document.credential, self._base_url(document))
        return self._ours().is_behind(publication, content)

    def _render_for(self, publication: Publication) -> Callable[[], Content]:
        if publication.account is None:
            return partial(self._render_gateway, publication.base_url)
        return partial(self._render, publication.account)

    def _render(self, name: str) -> Content:
        document = self._read(name)
        if (place := document.account.store) in {ENVIRONMENT, CONFIGURATION, *FETCHED}:
            raise UsageError(f"account {name!r} comes from the {place} and can't be published; add it as an account")
        return Content.of(name, document.credential, self._base_url(document))

    def _render_gateway(self, url: str) -> Content:
        return Content(self._local_key(), None, url)

    def _local_key(self) -> Secret:
        from tokenferry.state import read_local_key  # noqa: PLC0415  # few publish the gateway

        assert self._home is not None
        key = read_local_key(self._home)
        if key is None:
            raise ConfigError("the gateway has no local key yet; make one with: tokenferry serve")
        return key

    def _ours(self) -> Publications:
        if self._publications is None:
            raise UsageError("profiles are published from a home of files alone")
        return self._publications


def _folder() -> ProfileFolder:
    return ProfileFolder.from_environment(os.environ, Path.home())


def _described(publication: Publication, standing: PublicationStatus) -> Published:
    """Add the token in its credentials file, if that is still ours."""
    if standing.state in {"changed", "removed"}:
        return Published(publication, standing)
    try:
        path = publication.credentials
        token = parse_credentials(read_private_file(path), str(path))
    except (TokenferryError, FileNotFoundError):
        token = None
    if token is None:
        return Published(publication, standing)
    return Published(publication, standing, token.secret.fingerprint, token.expires_at)


def _reason(fault: Exception) -> str:
    return str(fault) if isinstance(fault, TokenferryError) else type(fault).__name__
