"""The system's keyring as the place of a key: a real one, asked for five seconds at most, and never with a prompt."""

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
    """Keeps keys by their id. Every method raises `NeedsUnlock` for a keyring that is locked, absent or silent.

    Raises `ConfigError` for a backend that isn't the operating system's: those known to keep secrets in clear, to
    keep nothing, or to ask on a terminal are among them.
    """

    def __init__(self, *, seconds: float = _SECONDS) -> None:
        self._seconds = seconds

    def name(self) -> str:
        """What the keyring is called."""
        return self._within(lambda: _REAL[type(_backend()).__module__])

    def get(self, key: str) -> SealKey | None:
        """The key of that id; None where the keyring is open and holds none."""
        found = self._within(lambda: _get(key))
        return found if found is not None and found.id == key else None

    def put(self, key: SealKey) -> None:
        """Keep it, and see that it is there. Raises `StorageFailed` if it isn't."""
        self._within(lambda: _open().set_password(_SERVICE, key.id, key.secret.reveal()))
        if self.get(key.id) != key:
            raise StorageFailed(f"the keyring took the key and doesn't give it back; {_FILE_INSTEAD}")

    def remove(self, key: str) -> None:
        """Forget the key of that id; one that is missing is fine."""

        def remove() -> None:
            from keyring.errors import PasswordDeleteError  # noqa: PLC0415  # see `_backend`

            with contextlib.suppress(PasswordDeleteError):
                _open().delete_password(_SERVICE, key)

        self._within(remove)

    def _within(self, work: Callable[[], _Value]) -> _Value:
        """Do it on a thread that is left behind when it doesn't come back in time: a prompt may wait for ever."""
        done: list[_Value] = []
        faults: list[TokenferryError] = []

        def run() -> None:
            try:
                done.append(work())
            except TokenferryError as fault:
                faults.append(fault)
            except Exception as fault:  # noqa: BLE001  # what a backend and the bus below it raise is theirs
                faults.append(_told(fault))

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


def _told(fault: Exception) -> TokenferryError:
    """Say it by the kind alone: a text of a library may quote what it was given."""
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
    """Raise `NeedsUnlock` for a locked collection: the library would open a prompt, where no person may be."""
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
