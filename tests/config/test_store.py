"""`[store]`: which database several hosts share."""

from pathlib import Path

import pytest

from tokenferry.config import load
from tokenferry.errors import ConfigError
from tokenferry.settings import StoreSettings


def read(tmp_path: Path, text: str) -> StoreSettings:
    path = tmp_path / "config.toml"
    path.write_text(f"[store]\n{text}\n")
    path.chmod(0o600)
    return load(path).store


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('url = "mysql://db/x"', "store.url must begin with postgresql://"),
        ('url = "postgresql://me:hunter2@db/x"', "store.url must not hold a password"),
        ('url = "postgresql://me@db/x?password=hunter2"', "store.url must not hold a password"),
        ('url = "postgresql://me:hunter2/x@db/x"', "store.url must not hold a password"),
        ('url = "postgresql://me:1/hunter2@db/x"', "store.url must not hold a password"),
        ('url = "postgresql://me:hunter2?@db/x"', "store.url must not hold a password"),
        ('url = "postgresql://me:hunter2#@db/x"', "store.url must not hold a password"),
        ('listen_url = "postgresql://me@db/x"', "store.listen_url needs url"),
        ('fleet = "a b"', "store.fleet must be"),
        ('url = "postgresql://db/x"\npool = 0', "store.pool must be"),
    ],
)
def test_what_cannot_be_used_is_named_and_no_password_is_shown(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///x?host=/run/postgresql",
        "postgres://me@one:5432,two:5433/x?target_session_attrs=primary",
        "postgresql://me@[::1]:5432,db/x",
        "postgresql://db",
    ],
)
def test_all_ways_to_name_servers_can_be_used(tmp_path: Path, url: str) -> None:
    assert read(tmp_path, f'url = "{url}"').url == url


def test_what_does_nothing_without_a_database_is_said(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    for url, notes in (("", 1), ('url = "postgresql://me@db/x"\n', 0)):
        path.write_text(f"[store]\n{url}unsealed = true\n")
        path.chmod(0o600)
        warnings = load(path).warnings
        assert len(warnings) == notes
        assert all("does nothing: no url names a database" in one for one in warnings)


def test_that_accounts_are_shared_is_no_longer_a_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"share_accounts is now so wherever .* remove the key"):
        read(tmp_path, "share_accounts = true")


def test_several_hosts_in_one_url_are_taken(tmp_path: Path) -> None:
    url = "postgresql://me@db1,db2:5433/x?target_session_attrs=read-write&sslmode=verify-full"
    assert read(tmp_path, f'url = "{url}"').url == url


def test_folder_and_wait_of_cut_off_refreshes_are_settings(tmp_path: Path) -> None:
    found = read(tmp_path, 'url = "postgresql://me@db/x"\nspill = "disk/spill"\norphan_wait = "5m"')
    assert (found.spill, found.orphan_wait) == (tmp_path / "disk/spill", 300)
