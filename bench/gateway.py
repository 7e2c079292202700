"""The gateway in front of the sandbox, against the sandbox directly: CPU per request, and what the gateway adds."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tokenferry.gateway.upstream import Upstream

TOKENFERRY = str(Path(sys.executable).with_name("tokenferry"))
CONNECTIONS = 16
REQUESTS = 2000
ROUNDS = 3
TICKS = os.sysconf("SC_CLK_TCK")
BODY = {"model": "claude-sonnet-5-5", "max_tokens": 50, "messages": [{"role": "user", "content": "x" * 1800}]}


def main() -> None:
    """Print a table: direct and through the gateway, plain and streamed, alternating."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home = folder / "home"
        home.mkdir(mode=0o700)
        environ = {**os.environ, "TOKENFERRY_HOME": str(home), "HOME": str(folder)}
        _, sandbox = stack.enter_context(running("sandbox", folder, environ))
        (home / "config.toml").write_text(f'[[providers]]\nname = "sandbox"\nbase_url = "{sandbox}"\n')
        with urllib.request.urlopen(f"{sandbox}/_sandbox/issue?account=dave&kind=api-key&plain=1") as answer:
            account_key = answer.read().decode().strip()
        command = [TOKENFERRY, "accounts", "add", "dave", "--provider", "sandbox", "--kind", "api-key"]
        subprocess.run(command, input=account_key, env=environ, text=True, check=True, stdout=subprocess.DEVNULL)
        gateway_pid, gateway = stack.enter_context(running("serve", folder, environ))
        client_key = subprocess.check_output([TOKENFERRY, "token", "--gateway"], env=environ, text=True).strip()

        print(f"{'2 kB requests, 16 connections':<32}{'requests/s':>12}{'gateway CPU us':>16}{'p50 ms':>9}")
        for streamed in (False, True):
            rows: dict[str, list[tuple[float, float, float]]] = {"sandbox directly": [], "through the gateway": []}
            for _ in range(ROUNDS):
                for name, url, key in (
                    ("sandbox directly", sandbox, account_key),
                    ("through the gateway", gateway, client_key),
                ):
                    before = cpu_seconds(gateway_pid)
                    seconds, median = asyncio.run(load(url, key, streamed=streamed))
                    cpu = (cpu_seconds(gateway_pid) - before) / REQUESTS * 1e6
                    rows[name].append((REQUESTS / seconds, cpu, median * 1000))
            for name, figures in rows.items():
                rate, cpu, median = (statistics.median(column) for column in zip(*figures, strict=True))
                print(f"{name + (', SSE' if streamed else ''):<32}{rate:>12.0f}{cpu:>16.0f}{median:>9.2f}")


async def load(url: str, key: str, *, streamed: bool) -> tuple[float, float]:
    """Send all requests over the connections; give the seconds taken and the median latency in seconds."""
    upstream = Upstream(url)
    body = json.dumps({**BODY, "stream": streamed}).encode()
    headers = [
        (b"x-api-key", key.encode()),
        (b"anthropic-version", b"2023-06-01"),
        (b"content-type", b"application/json"),
    ]
    latencies: list[float] = []

    async def work() -> None:
        for _ in range(REQUESTS // CONNECTIONS):
            started = time.perf_counter()
            response = await upstream.request("POST", b"/v1/messages", headers, body)
            content = await response.read(1 << 20)
            assert response.status == 200, content
            latencies.append(time.perf_counter() - started)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(work())
    seconds = time.perf_counter() - started
    await upstream.aclose()
    return seconds, statistics.median(latencies)


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used, proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def running(command: str, folder: Path, environ: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Run `tokenferry COMMAND` for a block; give its pid and URL."""
    port_file = folder / f"{command}.port"
    arguments = [TOKENFERRY, command, "--port", "0", "--port-file", str(port_file)]
    with subprocess.Popen(arguments, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not port_file.exists():
                assert process.poll() is None, f"tokenferry {command} did not start"
                time.sleep(0.02)
            yield process.pid, f"http://127.0.0.1:{int(port_file.read_text())}"
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
