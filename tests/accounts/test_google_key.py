"""Tokens of Google's by google-auth: a service account's grant at the sandbox, and what goes wrong before."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tokenferry.accounts._google_key import GoogleKey, GoogleKeySettings
from tokenferry.accounts._key_sources import key_sources, key_sources_of
from tokenferry.credentials import ApiKey
from tokenferry.errors import KeyCommandFailed
from tokenferry.providers import Provider
from tokenferry.sandbox import Sandbox

File = Callable[..., Path]


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kinds = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, *kinds).decode()


@pytest.fixture
def google() -> None:
    pytest.importorskip("google.auth", reason="an extra")


@pytest.fixture
def file(tmp_path: Path, tokenferry_sandbox: Sandbox, private_key: str) -> File:
    """A service account's file, of an account of the sandbox."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "service-account.json"
        fields = {
            "type": "service_account",
            "project_id": "p",
            "private_key_id": "1",
            "private_key": private_key,
            "client_email": "carol@p.iam.gserviceaccount.com",
            "token_uri": f"{tokenferry_sandbox.url}/google/token",
        }
        path.write_text(json.dumps(fields | changes))
        return path

    return write


def source(path: Path | str, now: Callable[[], float] | None = None) -> GoogleKey:
    settings = GoogleKeySettings("vertex", "vertex", str(path))
    return GoogleKey(settings) if now is None else GoogleKey(settings, now)


def key_of(one: GoogleKey) -> ApiKey:
    key = one.document().credential
    assert isinstance(key, ApiKey)
    return key


def refusal(one: GoogleKey) -> str:
    with pytest.raises(KeyCommandFailed) as caught:
        one.document()
    return str(caught.value)


@pytest.mark.usefixtures("google")
def test_a_service_accounts_grant_gives_a_token_that_is_kept_until_shortly_before_its_end(
    file: File, tokenferry_sandbox: Sandbox
) -> None:
    one = source(file())
    key = key_of(one)
    assert key == key_of(one)
    assert key.secret.reveal() not in repr(one) + repr(one.document())
    assert tokenferry_sandbox.counters()["accounts"]["carol"]["exchanges"] == 1
    pending = one.pending(key.secret)  # the provider refused it
    assert pending is not None
    pending.wait(10)
    assert key_of(one) != key
    assert tokenferry_sandbox.counters()["accounts"]["carol"]["exchanges"] == 2


@pytest.mark.usefixtures("google")
def test_another_token_is_fetched_five_minutes_before_the_end(file: File, tokenferry_sandbox: Sandbox) -> None:
    import time  # noqa: PLC0415  # google-auth reads the clock itself

    ahead = [0.0]
    one = source(file(), lambda: time.time() + ahead[0])
    first = key_of(one)
    ahead[0] = 28_800 - 310
    assert key_of(one) == first
    ahead[0] = 28_800 - 290
    assert key_of(one) != first


@pytest.mark.usefixtures("google")
def test_a_workloads_identity_token_is_exchanged(tokenferry_sandbox: Sandbox, tmp_path: Path) -> None:
    """Workload identity federation: the file says where the platform puts the identity token."""
    (tmp_path / "identity").write_text(tokenferry_sandbox.identity_token("carol"))
    pool = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x"
    fields = {"type": "external_account", "audience": pool, "token_url": f"{tokenferry_sandbox.url}/google/token"}
    fields |= {"subject_token_type": "urn:ietf:params:oauth:token-type:jwt"}
    path = tmp_path / "workload.json"
    path.write_text(json.dumps(fields | {"credential_source": {"file": str(tmp_path / "identity")}}))
    assert key_of(source(path)).until is not None
    assert tokenferry_sandbox.counters()["accounts"]["carol"]["exchanges"] == 1
    (tmp_path / "identity").unlink()
    assert "name another file in google_credentials" in refusal(source(path))


@pytest.mark.usefixtures("google")
def test_default_means_what_googles_libraries_find(
    file: File, tokenferry_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file()))
    assert key_of(source("default")).until is not None
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    told = refusal(source("default"))
    assert told.startswith(
        "account 'vertex': Google's application default credentials were not found; log in with: gcloud"
    )


@pytest.mark.usefixtures("google")
def test_a_refusal_is_reported_in_the_servers_words_with_a_cure(file: File) -> None:
    told = refusal(source(file(client_email="nobody@p.iam.gserviceaccount.com")))
    assert "were refused: invalid_grant: Invalid JWT" in told
    assert told.endswith("name another file in google_credentials")
    nowhere = refusal(source(file(token_uri="http://127.0.0.1:9/token")))
    assert "gave no token: 127.0.0.1 could not be reached" in nowhere
    assert nowhere.endswith("try again later")


@pytest.mark.usefixtures("google")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't be read: No such file or directory"),
        ("no json", "can't be used"),
        ("[]", "can't be used"),
        ('{"type": "service_account"}', "can't be used"),
        ('{"type": "external_account_authorized_user"}', "can't be used"),
        ('{"type": "authorized_user", "client_id": "c"}', "can't be used"),
        ('{"type": "external_account", "audience": "a"}', "can't be used"),
    ],
)
def test_an_invalid_file_is_reported_without_its_content(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "credentials.json"
    if content is not None:
        path.write_text(content)
    assert refusal(source(path)) == (
        f"account 'vertex': Google's credentials in {path} {words}; name another file in google_credentials"
    )


def test_without_the_extra_one_sentence_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.auth", None)
    told = refusal(source("default"))
    assert told.endswith("need google-auth, which is not installed; install it with: pip install 'tokenferry[vertex]'")


def test_a_provider_that_names_them_has_an_account_of_its_name() -> None:
    vertex = Provider("vertex", "vertex-claude", "https://x.example", google_credentials="default")
    (wanted,) = key_sources_of([vertex, Provider("o", "o", "https://o.example")], {})
    assert wanted == GoogleKeySettings("vertex", "vertex", "default")
    known = key_sources([wanted], {}, lambda: 0.0)
    assert key_sources([wanted], known, lambda: 0.0)["vertex"] is known["vertex"]
    assert known["vertex"].account.store == "google"
