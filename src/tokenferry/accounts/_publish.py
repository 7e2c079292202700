import contextlib
import logging
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.accounts._publication import Content, Publication, digest
from tokenferry.errors import Conflict, TokenferryError, UnsafeFile, UsageError
from tokenferry.settings import Home
from tokenferry.stores import (
    DISK,
    Disk,
    FileLock,
    read_private_file,
    remove_file,
    remove_leftovers,
    replace_private_file,
)
from tokenferry.stores.anthropic_profiles import DEFAULT_PROFILE, ProfileFolder

logger = logging.getLogger(__name__)

State: TypeAlias = Literal["current", "behind", "changed", "removed", "held"]

_LOCK_WAIT: Final = 10.0
_SUFFIX: Final = ".json"
_NAME_DIGITS: Final = 16


class PublicationStatus(Struct, frozen=True):
    """The state of a publication.

    current; behind its account, to be rewritten; changed or removed by another program, so not rewritten; held because
    its account has no token now. `text` is for people.
    """

    state: State
    text: str


class Publications:
    """Our profiles of the official SDKs, by their records in the home.

    A profile has a lock of its own, and its content is rendered under it, so that the last writer wrote the latest
    token. Its digests are recorded before it is written, so that a killed writer's files are recognised as ours. The
    credentials are written before the configuration that names them, and removed after it.
    """

    def __init__(self, home: Home, *, disk: Disk = DISK) -> None:
        self._home = home
        self._disk = disk

    def all(self) -> list[Publication]:
        """Return all, by account and profile; an unreadable record is logged and left out."""
        found: list[Publication] = []
        for name in self._disk.names(self._home.published):
            if name.endswith(_SUFFIX) and not name.startswith("."):
                try:
                    publication = self._read(self._home.published / name)
                except TokenferryError as fault:
                    logger.warning("%s", fault)
                    continue
                if publication is not None:
                    found.append(publication)
        return sorted(found, key=lambda one: (one.account or "", one.profile, str(one.folder.path)))

    def of(self, account: str) -> list[Publication]:
        return [one for one in self.all() if one.account == account]

    def find(self, folder: ProfileFolder, profile: str) -> Publication | None:
        """Return the publication of this profile. Raises `UsageError`, `UnsafeFile`, `CorruptFile`."""
        return self._read(self._record(folder, profile))

    def publish(
        self,
        folder: ProfileFolder,
        profile: str,
        account: str | None,
        render: Callable[[], Content],
        *,
        activate: bool = False,
    ) -> Publication:
        """Write the profile, and make it the active one if `activate` is set or no profile is active.

        Raises `Conflict` for a profile that isn't ours, or was changed since; `UsageError` for one of another account;
        `UnsafeFile`, `StorageFailed`, `LockTimeout`, and what `render` raises.
        """
        with self._locked(folder, profile):
            content = render()
            known = self.find(folder, profile)
            if known is None:
                known = Publication(profile, folder, account, content.base_url)
                self._check_is_free(known)
            elif known.account != account:
                raise UsageError(f"profile {profile!r} is published for {known.source} already; use --profile")
            elif (standing := _standing(known)).state == "changed":
                raise Conflict(f"{standing.text}; nothing was written")
            known = self._write(replace(known, is_complete=False), content)
            with FileLock(folder.pointer, self._home.locks).held(_LOCK_WAIT):
                return self._activate(known, activate)

    def sync(self, publication: Publication, render: Callable[[], Content]) -> PublicationStatus:
        """Rewrite the profile if it is behind, and return its state. Raises what `render` raises."""
        with self._locked(publication.folder, publication.profile):
            known = self.find(publication.folder, publication.profile)
            if known is None or known.account != publication.account:
                return PublicationStatus("removed", f"profile {publication.profile!r} is no longer published")
            content = render()
            standing = _standing(known, content)
            if standing.state == "behind":
                known = self._write(known, content)
                return _standing(known, content)
            return standing

    def look(self, publication: Publication, render: Callable[[], Content]) -> PublicationStatus:
        """Return its state without writing. Raises what `render` raises."""
        standing = _standing(publication, render())
        if standing.state == "current":
            return standing
        with self._locked(publication.folder, publication.profile):  # another process may be writing it
            known = self.find(publication.folder, publication.profile) or publication
            return _standing(known, render())

    def is_behind(self, publication: Publication, content: Content) -> bool:
        """Whether it lacks this content and no other program has changed it; quick, without a lock."""
        return _standing(publication, content).state == "behind"

    def unpublish(self, publication: Publication) -> list[str]:
        """Remove our files; return a sentence about each that is left. Raises `StorageFailed`."""
        folder = publication.folder
        with self._locked(folder, publication.profile):
            known = self.find(folder, publication.profile)
            if known is None:
                return []
            with FileLock(folder.pointer, self._home.locks).held(_LOCK_WAIT):
                left = [*self._deactivate(known)]  # first, so that it never names a removed profile
            left += [*self._remove(known, known.config), *self._remove(known, known.credentials)]
            remove_file(self._record(known.folder, known.profile), disk=self._disk)
            return left

    def _write(self, known: Publication, content: Content) -> Publication:
        config, credentials = content.config(), content.credentials()
        present = [found for path in (known.config, known.credentials) if (found := _found(path))]
        written = tuple(dict.fromkeys((*present, digest(config), digest(credentials))))
        known = replace(known, base_url=content.base_url, written=written)
        self._save(known)
        for path, wanted in ((known.credentials, credentials), (known.config, config)):
            if _found(path) != digest(wanted):
                remove_leftovers(path, disk=self._disk)
                replace_private_file(path, wanted, disk=self._disk)
        if not known.is_complete:
            known = replace(known, is_complete=True)
            self._save(known)
        return known

    def _check_is_free(self, publication: Publication) -> None:
        for path in (publication.config, publication.credentials):
            if path.is_symlink() or path.exists():
                raise Conflict(
                    f"{path} exists already and isn't ours, so nothing was written; name another profile with "
                    "--profile, or remove this one"
                )

    def _activate(self, known: Publication, wanted: bool) -> Publication:  # noqa: FBT001  # reads as what it is
        pointed, profile = known.folder.pointed(), known.profile
        has_default = known.folder.config(DEFAULT_PROFILE).exists()
        if pointed == profile or not (wanted or (pointed is None and not has_default)):
            return known
        if known.folder.pointer.is_symlink():
            raise UnsafeFile(
                f"{known.folder.pointer} is a symbolic link, so the profile is published but not active; write its "
                f"name, {profile}, there yourself"
            )
        known = replace(known, activated=True, replaced=pointed)
        self._save(known)
        self._point(known.folder, profile)
        return known

    def _point(self, folder: ProfileFolder, profile: str) -> None:
        remove_leftovers(folder.pointer, disk=self._disk)
        replace_private_file(folder.pointer, f"{profile}\n".encode(), disk=self._disk)

    def _deactivate(self, known: Publication) -> Iterator[str]:
        pointer = known.folder.pointer
        remove_leftovers(pointer, disk=self._disk)
        if known.folder.pointed() != known.profile or _standing(known).state == "changed":
            return
        if not known.activated or pointer.is_symlink():
            yield f"{pointer} still names profile {known.profile!r}, and was not set by tokenferry"
        elif known.replaced is None:
            remove_file(pointer, disk=self._disk)
        else:
            self._point(known.folder, known.replaced)

    def _remove(self, known: Publication, path: Path) -> Iterator[str]:
        try:
            found = _found(path)
        except UnsafeFile as fault:
            yield f"{path} was left: {fault}"
            return
        if found is None:
            return
        if found in known.written:
            remove_leftovers(path, disk=self._disk)
            remove_file(path, disk=self._disk)
        else:
            yield f"{path} was changed by another program, so it was left"

    def _read(self, record: Path) -> Publication | None:
        try:
            return Publication.from_bytes(self._disk.read(record), record)
        except FileNotFoundError:
            return None

    def _save(self, publication: Publication) -> None:
        record = self._record(publication.folder, publication.profile)
        remove_leftovers(record, disk=self._disk)
        replace_private_file(record, publication.to_bytes(), disk=self._disk)

    def _record(self, folder: ProfileFolder, profile: str) -> Path:
        named = str(folder.config(profile)).encode("utf-8", "surrogateescape")
        return self._home.published / f"{sha256(named).hexdigest()[:_NAME_DIGITS]}{_SUFFIX}"

    @contextlib.contextmanager
    def _locked(self, folder: ProfileFolder, profile: str) -> Iterator[None]:
        with FileLock(folder.config(profile), self._home.locks).held(_LOCK_WAIT):
            yield


def _standing(publication: Publication, content: Content | None = None) -> PublicationStatus:
    """Return its state by its files; without `content` it can't be `behind`."""
    found: list[str | None] = []
    for path in (publication.config, publication.credentials):
        try:
            found.append(_found(path))
        except UnsafeFile as fault:
            return PublicationStatus("changed", str(fault))
        if found[-1] is None and publication.is_complete:
            return PublicationStatus(
                "removed",
                f"{path} was removed by another program; {_again(publication)}, or {_withdraw(publication)}",
            )
        if found[-1] is not None and found[-1] not in publication.written:
            return PublicationStatus("changed", f"{path} was changed by another program; {_withdraw(publication)}")
    wanted = None if content is None else [digest(content.config()), digest(content.credentials())]
    if None in found or (wanted is not None and found != wanted):
        return PublicationStatus("behind", "behind its account; it is rewritten at the account's next use")
    return PublicationStatus("current", "current")


def _found(path: Path) -> str | None:
    """Return the digest of the file, or None. Raises `UnsafeFile` for one that programs would refuse."""
    try:
        return digest(read_private_file(path, readable_by_others=path.parent.name == "configs"))
    except FileNotFoundError:
        return None


def _again(publication: Publication) -> str:
    whose = "--gateway" if publication.account is None else publication.account
    return f"write it again with: tokenferry profile publish {whose} --profile {publication.profile}"


def _withdraw(publication: Publication) -> str:
    return f"stop publishing it with: tokenferry profile unpublish --profile {publication.profile}"
