"""nginx, doing what the gateway does as far as it can: another judge of what HTTP means."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from e2e.parties import eventually, lacking

_BINARY: Final = Path("/usr/sbin/nginx")
_CONFIG: Final = """
{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    client_max_body_size 32m;
    underscores_in_headers on;
    ignore_invalid_headers off;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {upstream};
            proxy_http_version 1.1;
            proxy_buffering off;
            proxy_buffer_size 64k;
            proxy_buffers 4 64k;
            proxy_set_header Connection "";
            proxy_set_header Host $proxy_host;
            proxy_set_header Accept-Encoding identity;
            proxy_set_header x-api-key "{credential}";
            proxy_next_upstream off;
        }}
    }}
}}
"""


@contextlib.contextmanager
def running_nginx(folder: Path, *, upstream: str, credential: str) -> Iterator[int]:
    """Run it before an upstream for a block, putting the credential into each request; give its port."""
    if not _BINARY.is_file():
        lacking("nginx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    folder.mkdir()
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(
        _CONFIG.format(user=user, folder=folder, port=port, upstream=upstream, credential=credential), "latin-1"
    )
    log = folder / "error.log"
    with log.open("ab") as errors, subprocess.Popen([_BINARY, "-c", config], stderr=errors) as process:

        def listens() -> bool:
            assert process.poll() is None, log.read_text()
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        try:
            eventually(listens, "nginx listens")
            yield port
        finally:
            process.terminate()
            process.wait(60)
