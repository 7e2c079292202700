import os
from pathlib import Path

import pytest

from leaks import leaks
from tokenferry.credentials import Federation
from tokenferry.errors import RefreshFailed
from tokenferry.refresh import read_identity
from tokenferry.secret import Secret

TOKEN = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ3b3JrbG9hZCJ9.the-signature"


def test_it_is_read_again_each_time_also_through_a_link_that_others_may_read(tmp_path: Path) -> None:
    """As Kubernetes puts it there: a symbolic link that is turned to a new file."""
    link = tmp_path / "token"
    for number in range(2):
        file = tmp_path / f"token-{number}"
        file.write_text(f"{TOKEN}-{number}\n")
        file.chmod(0o644)
        link.unlink(missing_ok=True)
        link.symlink_to(file)
        assert read_identity(Federation(str(link))) == Secret(f"{TOKEN}-{number}")


def test_it_is_read_from_a_variable_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    federation = Federation(variable="TF_IDENTITY")
    with pytest.raises(
        RefreshFailed, match="variable TF_IDENTITY holds no usable identity token: it isn't set for this"
    ):
        read_identity(federation)
    monkeypatch.setenv("TF_IDENTITY", f" {TOKEN}\n")
    assert read_identity(federation) == Secret(TOKEN)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "must not be empty"),
        (b"two tokens", "without blanks"),
        (TOKEN.encode() + b"\xff", "printable ASCII"),
        (TOKEN.encode().ljust((16 << 10) + 1, b"x"), "more than 16 KiB"),
    ],
)
def test_what_is_no_token_is_reported_without_showing_it(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(RefreshFailed, match=words) as caught:
        read_identity(Federation(str(path)))
    assert str(path) in str(caught.value)
    assert not leaks(caught.value, TOKEN)


def test_a_token_of_16_kib_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN.ljust(16 << 10, "x"))
    assert read_identity(Federation(str(path))).reveal() == path.read_text()


def test_what_is_no_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, words in (
        ("pipe", "it is not a regular file"),
        ("none", "No such file"),
        (".", "it is not a regular file"),
    ):
        with pytest.raises(RefreshFailed, match=words):
            read_identity(Federation(str(tmp_path / name)))
