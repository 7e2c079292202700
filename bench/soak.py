"""Days of a gateway in minutes: memory, descriptors and threads under mixed load while the provider's clock runs ahead.

Each turn moves the sandbox's clock by 8 hours, so every access token is rejected and refreshed once. Between turns
clients send, stream, disconnect and use bad keys; the provider fails, limits and cuts off. SOAK_MINUTES=30 runs longer.
"""

import asyncio
import contextlib
import json
import os
import random
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any

import httpx2

from bench._relays import ROOT, TOKENFERRY, _await_file, _environ

MINUTES = float(os.environ.get("SOAK_MINUTES", "3"))
CLIENTS = 12
TURN = 75.0
"""Seconds between moves of the clock. A token that is less than a minute old isn't refreshed again."""
STEP = 8 * 3600
PICTURE = ROOT / "docs" / "images" / "soak.svg"
BODY = {"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "hello " * 200}]}
FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "status", "path": "/v1/messages", "status": 529, "type": "overloaded_error"},
    {"kind": "status", "path": "/v1/messages", "status": 500, "type": "api_error"},
    {"kind": "cut", "path": "/v1/messages"},
)


def control(url: str, call: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/_sandbox/{call}", data, {"content-type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        return json.loads(answer.read())


def sample(pid: int) -> tuple[float, int, int]:
    """Resident MiB, descriptors and threads."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return (
        int(status["VmRSS"].split()[0]) / 1024,
        sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        int(status["Threads"]),
    )


async def client(url: str, key: str, until: float, counts: dict[str, int], rng: random.Random) -> None:
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=60) as http:
        while time.monotonic() < until:
            wish = rng.choice(("plain", "plain", "stream", "stream", "leave", "bad key"))
            with contextlib.suppress(httpx2.HTTPError):
                if wish == "plain":
                    answer = await http.post("/v1/messages", json=BODY, headers=headers)
                    wish = f"{wish} {answer.status_code}"
                elif wish == "bad key":
                    await http.post("/v1/messages", json=BODY, headers=headers | {"x-api-key": "tfk_none"})
                else:
                    async with http.stream(
                        "POST", "/v1/messages", json=BODY | {"stream": True}, headers=headers
                    ) as answer:
                        async for _ in answer.aiter_bytes():
                            if wish == "leave":
                                break
                    wish = f"{wish} {answer.status_code}"
            counts[wish] = counts.get(wish, 0) + 1
            await asyncio.sleep(rng.uniform(0, 0.02))


async def soak(
    gateway: str, sandbox: str, key: str, pid: int
) -> tuple[list[tuple[float, float, int, int]], dict[str, int]]:
    begin, samples, counts = time.monotonic(), list[tuple[float, float, int, int]](), dict[str, int]()
    until, rng, hours = begin + MINUTES * 60, random.Random(1), 0.0
    clients = [asyncio.create_task(client(gateway, key, until, counts, random.Random(n))) for n in range(CLIENTS)]
    turn = begin + TURN
    while (now := time.monotonic()) < until:
        if now >= turn:
            turn += TURN
            hours += STEP / 3600
            await asyncio.to_thread(control, sandbox, "clock", {"advance": STEP})
        with contextlib.suppress(OSError):
            await asyncio.to_thread(control, sandbox, "faults", rng.choice(FAULTS))
        samples.append((hours + (now - begin) / 3600, *sample(pid)))
        await asyncio.sleep(1)
    await asyncio.gather(*clients)
    return samples, counts


def plot(samples: list[tuple[float, float, int, int]]) -> str:
    """Three lines over the provider's hours, each from zero to its maximum."""
    width, height, gap = 680, 90, 34
    rows = []
    for number, (name, column) in enumerate((("memory, MiB", 1), ("descriptors", 2), ("threads", 3))):
        top, most = 24 + number * (height + gap), max(one[column] for one in samples)
        points = " ".join(
            f"{40 + width * place / (len(samples) - 1):.0f},{top + height * (1 - one[column] / most):.0f}"
            for place, one in enumerate(samples)
        )
        rows.append(
            f'<text x="40" y="{top - 6}">{name}: at most {most:.0f}, at the end {samples[-1][column]:.0f}</text>'
            f'<path d="M40 {top}V{top + height}H{40 + width}" fill="none" stroke="#8b949e"/>'
            f'<polyline points="{points}" fill="none" stroke="#1f6feb" stroke-width="1.5"/>'
        )
    total = 3 * (height + gap) + 30
    said = f"{samples[-1][0]:.0f} hours of the provider's clock, in {MINUTES:g} minutes"
    last = f'<text x="40" y="{total - 8}">{said}</text>'
    style = "<style>text{font:12px sans-serif;fill:#6e7781}</style>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 740 {total}">{style}{"".join(rows)}{last}</svg>\n'


def main() -> None:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        (folder / "home").mkdir(mode=0o700)
        environ = _environ(folder)

        def begin(command: str) -> tuple[str, int]:
            port, log = folder / f"{command}.port", folder / f"{command}.log"
            arguments = [TOKENFERRY, command, "--port", "0", "--port-file", str(port)]
            process = stack.enter_context(subprocess.Popen(arguments, env=environ, stdout=log.open("wb"), stderr=-2))
            stack.callback(process.terminate)
            _await_file(port, process, log)
            return f"http://127.0.0.1:{int(port.read_text())}", process.pid

        sandbox, _ = begin("sandbox")
        config = folder / "home" / "config.toml"
        config.write_text(
            f'[[providers]]\nname = "sandbox"\nbase_url = "{sandbox}"\n'
            f'[pool]\nstrategy = "round-robin"\n[log]\nfile = "{folder}/access.log"\n'
        )
        config.chmod(0o600)
        for account in ("alice", "bob", "carol"):
            add = [TOKENFERRY, "account", "add", account, "--provider", "sandbox"]
            login = json.dumps(control(sandbox, "issue", {"account": account, "expires_in": STEP}))
            subprocess.run(add, input=login, env=environ, text=True, check=True, stdout=subprocess.DEVNULL)
        gateway, pid = begin("serve")
        key = subprocess.check_output([TOKENFERRY, "token", "--gateway"], env=environ, text=True).strip()
        samples, counts = asyncio.run(soak(gateway, sandbox, key, pid))
        refreshes = sum(one["refreshes"] for one in control(sandbox, "counters")["accounts"].values())
    PICTURE.write_text(plot(samples))
    print(*(f"{number:8} {what}" for what, number in sorted(counts.items())), f"{refreshes:8} refreshes", sep="\n")
    # The first third fills pools and caches.
    warm = samples[len(samples) // 3 :]
    half = len(warm) // 2
    for what, column in (("MiB", 1), ("descriptors", 2), ("threads", 3)):
        first, second = (median(one[column] for one in part) for part in (warm[:half], warm[half:]))
        print(f"{what:12} {first:8.1f} in the first half, {second:8.1f} in the second")


if __name__ == "__main__":
    main()
