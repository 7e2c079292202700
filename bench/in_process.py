"""A request through the gateway in the program's own process, compared with httpx2: CPU, memory, import."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import httpx2

import tokenferry
from bench._relays import Origin, running_origin
from tokenferry.credentials import ApiKey
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.stores import Account, Document, FileStore

ROUNDS: Final = 7
REQUESTS: Final = 400
SIZE: Final = 2048
BODY: Final = {"model": "claude-x", "max_tokens": 50, "messages": [{"role": "user", "content": "x" * SIZE}]}
HEADERS: Final = {"anthropic-version": "2023-06-01", "x-answer": f"document {SIZE}", "x-api-key": "sk-ant-api03-fake"}


def main() -> None:
    """Print CPU per request, in a plain program and on asyncio, then memory and import times."""
    with tempfile.TemporaryDirectory() as folder, running_origin() as origin:
        home = _home(Path(folder) / "home", origin)
        url = f"http://127.0.0.1:{origin.port}/v1/messages"
        with httpx2.Client(headers=HEADERS) as bare, tokenferry.httpx_client(home=home, headers=HEADERS) as ours:
            before = _resident()
            both = {"httpx2": bare, "through tokenferry": ours}
            for client in both.values():
                client.post(url, json=BODY).raise_for_status()
            after = _resident()
            _print_row("Client", {name: min(_cpu(client, url) for _ in range(ROUNDS)) for name, client in both.items()})
        _print_row("AsyncClient, 16 at once", asyncio.run(_async_cpu(home, url)))
    print(f"memory of the gateway in the process: {after - before:.1f} MiB")
    print(f"import and first client: {_import_seconds('import httpx2; httpx2.Client()'):.2f} s for httpx2", end=", ")
    print(f"{_import_seconds('import tokenferry; tokenferry.httpx_client()'):.2f} s for tokenferry.httpx_client()")


def _home(path: Path, origin: Origin) -> Home:
    home = Home(path)
    document = Document(Account("bench", "bench", "api-key"), ApiKey(Secret("sk-ant-api03-bench")))
    FileStore(home).swap("bench", None, document)
    home.config.touch(0o600)
    declared = (
        f'[[providers]]\nname = "bench"\nprovider_type = "anthropic"\nbase_url = "http://127.0.0.1:{origin.port}"\n'
    )
    home.config.write_text(declared, encoding="utf-8")
    return home


def _cpu(client: httpx2.Client, url: str) -> float:
    """Seconds of CPU per request, over all threads."""
    began = time.process_time()
    for _ in range(REQUESTS):
        client.post(url, json=BODY)
    return (time.process_time() - began) / REQUESTS


async def _async_cpu(home: Home, url: str) -> dict[str, float]:
    found = {}
    ours = tokenferry.async_httpx_client(home=home, headers=HEADERS)
    for name, client in {"httpx2": httpx2.AsyncClient(headers=HEADERS), "through tokenferry": ours}.items():
        async with client:
            await client.post(url, json=BODY)
            runs = []
            for _ in range(ROUNDS):
                began = time.process_time()
                for _ in range(REQUESTS // 16):
                    await asyncio.gather(*(client.post(url, json=BODY) for _ in range(16)))
                runs.append((time.process_time() - began) / (REQUESTS // 16 * 16))
            found[name] = min(runs)
    return found


def _print_row(title: str, found: dict[str, float]) -> None:
    bare, ours = found.values()
    print(f"{title}: httpx2 {bare * 1e6:.0f} us, through tokenferry {ours * 1e6:.0f} us ({(ours - bare) * 1e6:+.0f})")


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def _import_seconds(source: str) -> float:
    command = [sys.executable, "-c", source]
    runs = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        subprocess.run(command, check=True)
        runs.append(time.perf_counter() - began)
    return min(runs)
