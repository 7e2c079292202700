from pathlib import Path

import pytest

from tokenferry.errors import NeedsLogin, UnsafeFile
from tokenferry.oauth import OAuthEndpoints
from tokenferry.refresh import read_client_secret


def test_a_public_client_has_none() -> None:
    assert read_client_secret(OAuthEndpoints()) is None


def test_a_confidential_client_has_its_own_in_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("client-secret\n")
    path.chmod(0o600)
    endpoints = OAuthEndpoints(client_secret_file=str(path))
    found = read_client_secret(endpoints)
    assert found is not None
    assert found.reveal() == "client-secret"
    path.chmod(0o644)
    with pytest.raises(UnsafeFile):
        read_client_secret(endpoints)
    path.chmod(0o600)
    path.write_text("two words")
    with pytest.raises(NeedsLogin, match=f"{path} holds no usable client secret"):
        read_client_secret(endpoints)
    path.unlink()
    with pytest.raises(NeedsLogin, match="correct client_secret_file"):
        read_client_secret(endpoints)
