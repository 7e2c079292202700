import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from tokenferry.errors import CorruptFile, UnsafeFile
from tokenferry.settings import Home
from tokenferry.state import (
    LOCAL_KEY_NAME,
    SqliteDatabase,
    State,
    is_local_key,
    local_key,
    local_key_name,
    read_local_key,
)


def test_it_is_made_once_in_a_private_file(home: Home) -> None:
    assert read_local_key(home) is None
    secret = local_key(home)
    assert stat.S_IMODE(home.local_key.stat().st_mode) == 0o600
    assert home.local_key.read_text() == secret.reveal() + "\n"
    assert local_key(home) == read_local_key(home) == secret
    with State(home.state) as state:
        key = state.keys.verify(secret.reveal())
        assert key is not None
        assert (key.name, key.admin) == (LOCAL_KEY_NAME, False)
        assert len(state.keys.list()) == 1


def test_a_lost_file_makes_a_new_key_and_the_old_one_worthless(home: Home) -> None:
    old = local_key(home)
    home.local_key.unlink()
    new = local_key(home)
    with State(home.state) as state:
        assert state.keys.verify(old.reveal()) is None
        assert state.keys.verify(new.reveal()) is not None


def test_a_lost_state_learns_the_key_again(home: Home) -> None:
    secret = local_key(home)
    home.state.unlink()
    assert local_key(home) == secret
    with State(home.state) as state:
        assert state.keys.verify(secret.reveal()) is not None


def test_a_revoked_key_is_replaced_never_revived(home: Home) -> None:
    with State(home.state) as state:
        old = local_key(home, state)
        state.keys.revoke(LOCAL_KEY_NAME)
        new = local_key(home, state)
        assert new != old
        assert state.keys.verify(old.reveal()) is None
        assert read_local_key(home) == new


def test_an_admin_key_in_the_file_is_replaced(home: Home) -> None:
    with State(home.state) as state:
        _, admin = state.keys.create("root", role="admin")
        home.local_key.touch(0o600)
        home.local_key.write_text("tfk_" + "x" * 42 + "\n")
        with pytest.raises(CorruptFile, match="remove it"):
            local_key(home, state)
        home.local_key.write_text(admin.reveal())
        with pytest.raises(CorruptFile):
            local_key(home, state)


@pytest.mark.parametrize("content", [b"", b"a b", b"\xff\xfe"])
def test_a_file_without_a_key_is_reported_and_left(home: Home, content: bytes) -> None:
    home.local_key.touch(0o600)
    home.local_key.write_bytes(content)
    with pytest.raises(CorruptFile, match=str(home.local_key)):
        local_key(home)
    assert home.local_key.read_bytes() == content


def test_a_file_that_others_can_read_is_refused(home: Home) -> None:
    local_key(home)
    home.local_key.chmod(0o644)
    with pytest.raises(UnsafeFile, match="chmod"):
        read_local_key(home)


def test_hosts_that_share_a_state_have_a_local_key_each(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqliteDatabase, "is_shared", True)
    other = Home(tmp_path / "other")
    with State(home.state) as state:
        secrets = {}
        for host, its_home in (("web-1.example", home), ("web 2", other)):
            monkeypatch.setattr("os.uname", lambda host=host: SimpleNamespace(nodename=host))
            secrets[host] = local_key(its_home, state)
            assert local_key(its_home, state) == secrets[host]
        keys = [state.keys.verify(secret.reveal()) for secret in secrets.values()]
        assert [key.name.partition("+")[0] for key in keys if key is not None] == ["local@web-1.example", "local@web-2"]
        assert all(key is not None and is_local_key(key) for key in keys)


def test_homes_of_one_host_leave_each_others_local_key_alone(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqliteDatabase, "is_shared", True)
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(nodename="n" * 80))
    homes = (home, Home(tmp_path / "other"))
    with State(home.state) as state:
        secrets = [local_key(each, state) for each in homes]
        assert [local_key(each, state) for each in homes] == secrets
        keys = [state.keys.verify(secret.reveal()) for secret in secrets]
        assert [key and key.name for key in keys] == [local_key_name(each, state) for each in homes]
        assert [key and key.labels for key in keys] == [{"tokenferry/host": "n" * 48}] * 2
        homes[0].local_key.unlink()
        local_key(homes[0], state)
        assert state.keys.verify(secrets[0].reveal()) is None, "its own lost key is worthless"
        assert state.keys.verify(secrets[1].reveal()) is not None
