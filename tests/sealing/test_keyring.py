"""Backends of the `keyring` library as stand-ins: which are taken, and what becomes of what they do."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import keyring
import keyring.backends.chainer
import keyring.backends.fail
import keyring.backends.null
import pytest
from keyring.errors import KeyringLocked, PasswordDeleteError

from leaks import leaks
from tokenferry.errors import ConfigError, NeedsUnlock, StorageFailed
from tokenferry.sealing import SealKey, SystemKeyring

KEY = SealKey.new()
Use = Callable[[object], None]


class Backend:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, name: str) -> str | None:
        return self.kept.get((service, name))

    def set_password(self, service: str, name: str, password: str) -> None:
        self.kept[service, name] = password

    def delete_password(self, service: str, name: str) -> None:
        if self.kept.pop((service, name), None) is None:
            raise PasswordDeleteError


def backend(module: str, base: type[Backend] = Backend, name: str = "Keyring") -> Any:
    """One that says it is of this module."""
    return type(name, (base,), {"__module__": module, "__qualname__": name})()


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    def use(one: object) -> None:
        monkeypatch.setattr(keyring, "get_keyring", lambda: one)

    return use


@pytest.mark.parametrize(
    "module",
    ["keyring.backends.macOS", "keyring.backends.kwallet", "keyring.backends.libsecret", "keyring.backends.Windows"],
)
def test_a_real_keyring_keeps_a_key_by_its_id(use: Use, module: str) -> None:
    one = backend(module)
    use(one)
    keys = SystemKeyring()
    assert keys.get(KEY.id) is None
    keys.put(KEY)
    assert keys.get(KEY.id) == KEY
    assert list(one.kept) == [("tokenferry sealing key", KEY.id)]
    keys.remove(KEY.id)
    keys.remove(KEY.id)
    assert keys.get(KEY.id) is None


REFUSED: dict[str, Any] = {
    "keyrings.alt.file.PlaintextKeyring": backend("keyrings.alt.file", name="PlaintextKeyring"),
    "keyrings.alt.file.EncryptedKeyring": backend("keyrings.alt.file", name="EncryptedKeyring"),
    "keyring.backends.null.Keyring": keyring.backends.null.Keyring(),  # type: ignore[no-untyped-call]  # theirs
    "keyring.backends.fail.Keyring": keyring.backends.fail.Keyring(),  # type: ignore[no-untyped-call]  # theirs
    "somebody.Keyring": backend("somebody"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_keyring_of_the_system_is_refused_by_name_and_gets_nothing(use: Use, name: str) -> None:
    use(REFUSED[name])
    for call in (SystemKeyring().name, lambda: SystemKeyring().put(KEY), lambda: SystemKeyring().get(KEY.id)):
        with pytest.raises(ConfigError, match=name.replace(".", r"\.")) as caught:
            call()
        assert "TOKENFERRY_SEAL_KEY_FILE" in str(caught.value)
        assert not leaks(caught.value, KEY.secret.reveal())
    assert getattr(REFUSED[name], "kept", {}) == {}


def chained(monkeypatch: pytest.MonkeyPatch, *backends: object) -> object:
    monkeypatch.setattr(keyring.backends.chainer.ChainerBackend, "backends", backends)
    return keyring.backends.chainer.ChainerBackend()  # type: ignore[no-untyped-call]  # theirs


def test_a_chain_is_as_good_as_its_worst(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    good, plain = backend("keyring.backends.macOS"), REFUSED["keyrings.alt.file.PlaintextKeyring"]
    use(chained(monkeypatch, good, plain))
    with pytest.raises(ConfigError, match=r"keyrings\.alt\.file\.PlaintextKeyring"):
        SystemKeyring().put(KEY)
    assert good.kept == plain.kept == {}
    use(chained(monkeypatch, good, backend("keyring.backends.kwallet")))
    SystemKeyring().put(KEY)
    assert len(good.kept) == 1
    use(chained(monkeypatch))
    with pytest.raises(ConfigError, match="chainer"):
        SystemKeyring().name()


@pytest.fixture
def silence() -> Iterator[threading.Event]:
    """What a keyring waits for that never answers."""
    event = threading.Event()
    yield event
    event.set()


def test_a_keyring_that_does_not_answer_is_not_waited_for(use: Use, silence: threading.Event) -> None:
    class Silent(Backend):
        def get_password(self, service: str, name: str) -> str | None:
            silence.wait()
            return None

    use(backend("keyring.backends.kwallet", Silent))
    with pytest.raises(NeedsUnlock, match=r"did not answer within 0\.05 seconds"):
        SystemKeyring(seconds=0.05).get(KEY.id)


@pytest.mark.parametrize(
    ("fault", "words"), [(KeyringLocked("tfs_"), "is locked"), (OSError("tfs_"), r"can't be used \(OSError\)")]
)
def test_what_a_locked_or_broken_keyring_raises_is_reported_without_its_words(
    use: Use, fault: Exception, words: str
) -> None:
    class Raising(Backend):
        def get_password(self, service: str, name: str) -> str | None:
            raise fault

    use(backend("keyring.backends.kwallet", Raising))
    with pytest.raises(NeedsUnlock, match=words) as caught:
        SystemKeyring().get(KEY.id)
    assert "tfs_" not in str(caught.value)


def test_a_keyring_that_forgets_is_reported_before_anything_is_sealed(use: Use) -> None:
    class Forgetful(Backend):
        def set_password(self, service: str, name: str, password: str) -> None:
            pass

    use(backend("keyring.backends.kwallet", Forgetful))
    with pytest.raises(StorageFailed, match="doesn't return it"):
        SystemKeyring().put(KEY)


def test_another_key_under_that_id_is_none(use: Use) -> None:
    one = backend("keyring.backends.kwallet")
    one.kept["tokenferry sealing key", KEY.id] = SealKey.new().secret.reveal()
    use(one)
    assert SystemKeyring().get(KEY.id) is None
    one.kept["tokenferry sealing key", KEY.id] = "ä pass phrase"
    assert SystemKeyring().get(KEY.id) is None
