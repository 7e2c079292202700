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
    """Give the process's client context, which trusts `ca_file`, and SSL_CERT_FILE, SSL_CERT_DIR or the system's roots.

    It blocks, longer the first time and after a change of the file. Raises `DialError` if certificates can't be read.
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
    import httpx2  # noqa: PLC0415  # slow to import, and not needed if a context is given

    try:
        # It uses truststore where the system has an interface for it. Elsewhere truststore would read all roots again
        # for every connection.
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
