import contextlib
import ssl
from pathlib import Path

import pytest
import trustme

from tokenferry.errors import ConfigError, UnsafeFile
from tokenferry.gateway import renew_tls, server_tls

ISSUED = trustme.CA().issue_cert("127.0.0.1")
OTHER = trustme.CA().issue_cert("127.0.0.1")
ISSUED_BY, OTHER_BY = (ssl.PEM_cert_to_DER_cert(one.cert_chain_pems[0].bytes().decode()) for one in (ISSUED, OTHER))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "cert.pem"
    path.write_bytes(b"".join(blob.bytes() for blob in ISSUED.cert_chain_pems))
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    path.touch(0o600)
    path.write_bytes(ISSUED.private_key_pem.bytes())
    return path


def test_old_versions_are_not_spoken(certificate: Path, key: Path) -> None:
    assert server_tls(certificate, key).minimum_version is ssl.TLSVersion.TLSv1_2


def test_links_are_followed_to_files_that_are_safe(certificate: Path, key: Path, tmp_path: Path) -> None:
    link = tmp_path / "live.pem"
    link.symlink_to(key)
    server_tls(certificate, link)
    key.chmod(0o640)
    with pytest.raises(UnsafeFile, match=f"chmod 0600 '{key}'"):
        server_tls(certificate, link)


def test_a_certificate_that_others_could_write_is_refused(certificate: Path, key: Path) -> None:
    certificate.chmod(0o666)
    with pytest.raises(UnsafeFile, match=str(certificate)):
        server_tls(certificate, key)


def test_what_is_missing_is_named(certificate: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.pem not found; .* tls_cert and tls_key under \[server\]$"):
        server_tls(certificate, tmp_path / "missing.pem")
    with pytest.raises(ConfigError, match=r"missing\.pem not found; .* --tls-cert and --tls-key$"):
        server_tls(certificate, tmp_path / "missing.pem", by_option=True)


@pytest.mark.parametrize("content", [b"", b"no key", OTHER.private_key_pem.bytes()])
def test_what_makes_no_certificate_is_told(certificate: Path, key: Path, content: bytes) -> None:
    key.write_bytes(content)
    with pytest.raises(ConfigError, match="make no TLS certificate"):
        server_tls(certificate, key)


def test_a_password_is_not_asked_for(certificate: Path, key: Path) -> None:
    key.write_text(
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
        "DEK-Info: AES-128-CBC,00000000000000000000000000000000\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"
    )
    with pytest.raises(ConfigError, match=r"protected by a password; .* tls_key under"):
        server_tls(certificate, key)
    with pytest.raises(ConfigError, match=r"protected by a password; .* --tls-key$"):
        server_tls(certificate, key, by_option=True)


def test_what_belongs_not_together_leaves_the_former_certificate(certificate: Path, key: Path) -> None:
    context = server_tls(certificate, key)
    key.write_bytes(OTHER.private_key_pem.bytes())
    with pytest.raises(ConfigError, match="make no TLS certificate"):
        renew_tls(context, certificate, key)
    assert shown(context) == ISSUED_BY
    certificate.write_bytes(b"".join(blob.bytes() for blob in OTHER.cert_chain_pems))
    renew_tls(context, certificate, key)
    assert shown(context) == OTHER_BY


def shown(context: ssl.SSLContext) -> bytes:
    """The certificate that a client is shown, in DER."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    client = trusting.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    found = client.getpeercert(binary_form=True)
    assert found is not None
    return found
