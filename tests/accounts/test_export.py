import json
import os
import stat
import tempfile
from pathlib import Path

import pytest
from msgspec.structs import replace

from leaks import leaks
from tokenferry.accounts import Target, exported, refuse_temporary, write_export
from tokenferry.accounts import _export as module
from tokenferry.credentials import ApiKey, Credential, OAuthToken, SetupToken
from tokenferry.errors import Conflict, StorageFailed, UnsafeFile, UsageError
from tokenferry.interchange import detect, parse
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import Disk

KEY = ApiKey(Secret("sk-ant-api03-" + "Kk1" * 30))
SETUP = SetupToken(Secret("sk-ant-oat01-" + "Ss1" * 30))
REFRESH = Secret("sk-ant-ort01-" + "Rr1" * 30)
TOKEN = OAuthToken(Secret("sk-ant-oat01-" + "Aa1" * 30), REFRESH, expires_at=1_800_000_000, email="me@mail.example")
OAUTH_TARGETS: tuple[Target, ...] = ("bundle", "claude-code", "pool", "profile", "ccm")


@pytest.fixture(autouse=True)
def _temporary_folder_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def write(path: Path, target: Target, credential: Credential, home: Home, *, with_chain: bool = False) -> None:
    write_export(path, target, credential, key=None, with_chain=with_chain, locks=home.locks)


def refresh_in(raw: bytes, target: Target) -> list[Secret | None]:
    return [getattr(entry.credential, "refresh", None) for entry in parse(raw, target)]


@pytest.mark.parametrize("target", OAUTH_TARGETS)
def test_the_view_has_the_access_token_and_its_expiry_and_no_chain(target: Target) -> None:
    raw = exported(target, TOKEN)
    assert detect(raw) == target
    (entry,) = parse(raw, target)
    assert entry.credential is not None
    assert (entry.credential.secret, entry.credential.expires_at) == (TOKEN.secret, TOKEN.expires_at)
    assert REFRESH.reveal().encode() not in raw
    assert refresh_in(exported(target, TOKEN, with_chain=True), target) == [REFRESH]


@pytest.mark.parametrize("credential", [KEY, SETUP])
def test_keys_and_setup_tokens_go_into_plain_formats_alone(credential: Credential) -> None:
    for target in OAUTH_TARGETS:
        with pytest.raises(UsageError, match="use env or key-file"):
            exported(target, credential)
    assert credential.secret.reveal().encode() in exported("env", credential)
    assert exported("key-file", credential) == f"{credential.secret.reveal()}\n".encode()


def test_a_chain_needs_a_login_that_has_one_and_a_format_that_holds_it() -> None:
    for target, credential in (("env", TOKEN), ("key-file", TOKEN), ("bundle", KEY)):
        with pytest.raises(UsageError, match="leave --with-refresh-token out"):
            exported(target, credential, with_chain=True)  # type: ignore[arg-type]  # a literal of the tuple
    with pytest.raises(UsageError, match="nothing to hand over"):
        exported("bundle", replace(TOKEN, refresh=None), with_chain=True)


def test_a_file_is_made_private_and_never_written_over(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "new" / "login.json"
    before = os.umask(0)
    try:
        write(path, "bundle", TOKEN, home)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    content = path.read_bytes()
    with pytest.raises(UsageError, match="is not written over") as caught:
        write(path, "key-file", KEY, home)
    assert path.read_bytes() == content
    assert [one.name for one in path.parent.iterdir()] == ["login.json"]
    assert not leaks(caught.value, KEY.secret.reveal())


def test_a_link_to_nowhere_is_something_that_is_there(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "link"
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is not written over"):
        write(path, "bundle", TOKEN, home)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("target", ["pool", "ccm"])
def test_into_a_shared_file_the_account_is_put_and_the_rest_stays(target: Target, home: Home, tmp_path: Path) -> None:
    path = tmp_path / "shared.json"
    write(path, target, replace(TOKEN, email="you@mail.example"), home)
    first = json.loads(path.read_bytes())
    renewed = replace(TOKEN, secret=Secret("renewed"), email="you@mail.example")
    write(path, target, renewed, home)
    second = json.loads(path.read_bytes())
    assert second != first
    assert b"renewed" in path.read_bytes()
    assert len(parse(path.read_bytes(), target)) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_shared_file_that_can_t_be_understood_is_left_as_it_is(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "pool.json"
    path.write_text("no JSON")
    path.chmod(0o600)
    with pytest.raises(UsageError, match="is left as it is"):
        write(path, "pool", TOKEN, home)
    assert path.read_text() == "no JSON"
    path.chmod(0o644)
    with pytest.raises(UnsafeFile, match="has mode 0644"):
        write(path, "pool", TOKEN, home)


def test_a_later_change_by_another_program_is_not_overwritten(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pool.json"
    write(path, "pool", TOKEN, home)

    def meddled(*arguments: object, **options: object) -> bytes:
        path.write_text('{"accounts": {}}')
        return exported(*arguments, **options)  # type: ignore[arg-type]  # passed on as they are

    monkeypatch.setattr(module, "exported", meddled)
    with pytest.raises(Conflict, match="changed by another program"):
        write(path, "pool", TOKEN, home)
    assert path.read_text() == '{"accounts": {}}'


def test_nothing_goes_under_the_temporary_folder(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "temporary" / "deep"
    folder.mkdir(parents=True)
    (tmp_path / "door").symlink_to(folder)
    for path in (folder / "login.json", tmp_path / "door" / "login.json"):
        with pytest.raises(UnsafeFile, match="under the temporary folder"):
            write(path, "bundle", TOKEN, home)
    refuse_temporary(tmp_path / "temporary-not")


def test_a_full_disk_leaves_no_file_and_says_so(home: Home, tmp_path: Path) -> None:
    class Full(Disk):
        def fsync(self, descriptor: int) -> None:
            raise OSError(28, "No space left on device")

    path = tmp_path / "login.json"
    with pytest.raises(StorageFailed, match="No space left") as caught:
        write_export(path, "bundle", TOKEN, key=None, with_chain=True, locks=home.locks, disk=Full())
    assert [one for one in tmp_path.iterdir() if "login" in one.name] == []
    assert not leaks(caught.value, REFRESH.reveal())
