import ssl
from pathlib import Path

from tokenferry.errors import ConfigError
from tokenferry.stores import read_private_file


def renew_tls(context: ssl.SSLContext, certificate: Path, key: Path, *, by_option: bool = False) -> None:
    """Have a listener's TLS go by what the files hold now; connections that stand go on. Raises as `server_tls`."""
    server_tls(
        certificate, key, by_option=by_option
    )  # a context that takes one file of two that don't belong together would be of no use
    context.load_cert_chain(certificate.resolve(), key.resolve())


def server_tls(certificate: Path, key: Path, *, by_option: bool = False) -> ssl.SSLContext:
    """TLS 1.2 or later for a listener, from PEM files: the certificate with its chain, and the key, which must be 0600.

    `by_option` tells whether the command line named them, and not `[server]`.
    Raises `ConfigError`, and `UnsafeFile` if others could read the key or write either.
    """
    certificate, key = certificate.resolve(), key.resolve()
    named_key = "--tls-key" if by_option else "tls_key under [server]"
    names = "--tls-cert and --tls-key" if by_option else "tls_cert and tls_key under [server]"
    for path, readable_by_others in ((certificate, True), (key, False)):
        try:
            read_private_file(path, readable_by_others=readable_by_others)
        except FileNotFoundError:
            raise ConfigError(f"{path} not found; name existing files with {names}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])

    def refuse() -> str:
        raise ConfigError(f"{key} is protected by a password; name a key without one with {named_key}")

    try:
        context.load_cert_chain(certificate, key, password=refuse)
    except (ssl.SSLError, ValueError) as fault:
        reason = getattr(fault, "reason", None) or "no PEM"
        raise ConfigError(
            f"{certificate} and {key} make no TLS certificate ({reason}); name PEM files that belong together"
        ) from None
    return context
