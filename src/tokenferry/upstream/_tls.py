import functools
import os
import ssl
import threading
from collections.abc import Hashable
from pathlib import Path

from tokenferry.upstream._happy_eyeballs import DialError

__all__ = ["client_context"]

_lock = threading.Lock()


def client_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Return the process's client context: SSL_CERT_FILE or SSL_CERT_DIR, else the system's roots, and `ca_file`'s.

    Blocks; the first time, and after the file was changed, for longer. Raises `DialError` for certificates that can't
    be read.
    """
    with _lock:
        return _make(ca_file, _stamp(ca_file))


def _stamp(file: Path | None) -> Hashable:
    try:
        return None if file is None else (file.stat().st_ino, file.stat().st_mtime_ns)
    except OSError:
        return None


@functools.cache
def _make(ca_file: Path | None, _: Hashable) -> ssl.SSLContext:
    import httpx2  # noqa: PLC0415  # slow to import, and of no use where a context is given

    try:
        # It asks truststore where the system has an interface for that, and OpenSSL elsewhere: there truststore
        # would read all roots again for every connection.
        context = httpx2.create_ssl_context()
    except OSError as error:
        named = [f"{name}={os.environ[name]}" for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)]
        places = " and ".join(named) or "the system's store"
        raise DialError(f"the certificates to trust can't be read from {places}; correct or unset it") from error
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            raise DialError(f"no certificates can be read from {ca_file}; correct [upstream] ca_file") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
