"""Keys in the system's keyring: only in a real one, without a prompt, within five seconds."""

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tokenferry.errors import ConfigError, NeedsUnlock, StorageFailed, TokenferryError
from tokenferry.sealing._key import SealKey

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

logger = logging.getLogger(__name__)

_Value = TypeVar("_Value")

_SERVICE: Final = "tokenferry sealing key"
_SECONDS: Final = 5.0
_SECRET_SERVICE: Final = "keyring.backends.SecretService"  # noqa: S105  # a module
_REAL: Final = {
    _SECRET_SERVICE: "Secret Service",
    "keyring.backends.libsecret": "Secret Service",
    "keyring.backends.kwallet": "KWallet",
    "keyring.backends.macOS": "macOS Keychain",
    "keyring.backends.Windows": "Windows Credential Locker",
}
_CHAINER: Final = "keyring.backends.chainer"
_FILE_INSTEAD: Final = "name a key file with TOKENFERRY_SEAL_KEY_FILE instead"


class SystemKeyring:
    """Stores keys by their id. Every method raises `NeedsUnlock` for a keyring that is locked, absent or unresponsive.

    Raises `ConfigError` for a backend that isn't the operating system's, such as one that stores secrets in clear
    text, stores nothing, or asks on a terminal.
    """

    def __init__(self, *, seconds: float = _SECONDS) -> None:
        self._seconds = seconds

    def name(self) -> str:
        """The keyring's name."""
        return self._within(lambda: _REAL[type(_backend()).__module__])

    def get(self, key: str) -> SealKey | None:
        """The key of that id; None if the keyring is open and has no such key."""
        found = self._within(lambda: _get(key))
        return found if found is not None and found.id == key else None

    def put(self, key: SealKey) -> None:
        """Store it, and read it again. Raises `StorageFailed` if it isn't there."""
        self._within(lambda: _open().set_password(_SERVICE, key.id, key.secret.reveal()))
        if self.get(key.id) != key:
            raise StorageFailed(f"the keyring accepted the key but doesn't return it; {_FILE_INSTEAD}")

    def remove(self, key: str) -> None:
        """Remove the key of that id, if it is there."""

        def remove() -> None:
            from keyring.errors import PasswordDeleteError  # noqa: PLC0415  # see `_backend`

            with contextlib.suppress(PasswordDeleteError):
                _open().delete_password(_SERVICE, key)

        self._within(remove)

    def _within(self, work: Callable[[], _Value]) -> _Value:
        """Do it on a thread, and abandon that after the time limit: a prompt may wait forever."""
        done: list[_Value] = []
        faults: list[TokenferryError] = []

        def run() -> None:
            try:
                done.append(work())
            except TokenferryError as fault:
                faults.append(fault)
            except Exception as fault:  # noqa: BLE001  # a backend and its bus may raise anything
                faults.append(_translated(fault))

        thread = threading.Thread(target=run, name="tokenferry-keyring", daemon=True)
        thread.start()
        thread.join(self._seconds)
        if faults:
            raise faults[0]
        if not done:
            raise NeedsUnlock(
                f"the system's keyring did not answer within {self._seconds:g} seconds; unlock it, and try again"
            )
        return done[0]


def _translated(fault: Exception) -> TokenferryError:
    """Translate it by its kind alone, because the library's text may quote the secret."""
    kind = type(fault).__name__
    if kind in {"KeyringLocked", "LockedException", "PromptDismissedException"}:
        return _locked()
    return NeedsUnlock(f"the system's keyring can't be used ({kind}); see that it runs, and try again")


def _locked() -> NeedsUnlock:
    return NeedsUnlock("the system's keyring is locked; unlock it, and try again")


def _get(key: str) -> SealKey | None:
    found = _open().get_password(_SERVICE, key)
    return None if found is None else SealKey.parse(found)


def _open() -> "KeyringBackend":
    """The backend, if it is unlocked."""
    backend = _backend()
    if type(backend).__module__ == _SECRET_SERVICE:
        _check_unlocked(backend)
    return backend


def _backend() -> "KeyringBackend":
    """The backend that the `keyring` library would use, if it is a real one. Raises `ConfigError`."""
    import keyring  # noqa: PLC0415  # brings 100 ms, for those alone whose key is stored in one

    backend = keyring.get_keyring()
    if type(backend).__module__ == _CHAINER:
        chained: list[KeyringBackend] = list(backend.backends)  # type: ignore[attr-defined]  # that one has them
        for one in chained:
            _check_real(one, " (one of several that are chained)")
        if chained:
            return chained[0]
    _check_real(backend)
    return backend


def _check_real(backend: object, remark: str = "") -> None:
    kind = type(backend)
    if kind.__module__ in _REAL:
        return
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__ == "keyring.backends.fail":
        raise ConfigError(f"there is no keyring on this system ({name}); {_FILE_INSTEAD}")
    real = ", ".join(dict.fromkeys(_REAL.values()))
    raise ConfigError(
        f"the keyring backend {name}{remark} is none of the operating system's ({real}), so it may keep the key in "
        f"clear or not at all; choose another one, or {_FILE_INSTEAD}"
    )


def _check_unlocked(backend: Any) -> None:
    """Raise `NeedsUnlock` for a locked collection: the library would open a prompt that maybe no person sees."""
    import secretstorage  # noqa: PLC0415  # the library's own, on Linux alone

    with contextlib.closing(secretstorage.dbus_init()) as bus:
        try:
            named = getattr(backend, "preferred_collection", None)
            collection = secretstorage.Collection(bus, named) if named else secretstorage.Collection(bus)
            if collection.is_locked():
                raise _locked()
        except secretstorage.exceptions.ItemNotFoundException:
            raise NeedsUnlock(
                "the Secret Service has no default collection (keyring) to put a key into; make one, or "
                f"{_FILE_INSTEAD}"
            ) from None
