"""`make demo`: an expired login, renewed on the way of real SDK messages; `make serve` (--stay): and it stays."""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from anthropic import Anthropic

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / ".demo"
HOME = DEMO / "home"
TOKENFERRY = str(Path(sys.executable).with_name("tokenferry"))
MODEL = "claude-sonnet-5-5"
PATIENCE = 30.0


def main() -> int:
    """Run the demonstration; the exit code is 0 if everything went as told."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stay", action="store_true", help="keep the sandbox and the gateway running until Ctrl-C")
    stays = parser.parse_args().stay
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir(mode=0o700)
    HOME.mkdir(mode=0o700)
    with contextlib.ExitStack() as stack:
        say("A provider to play with: OAuth server and Messages API, both fake, both on this machine")
        sandbox = stack.enter_context(running("sandbox"))
        (HOME / "config.toml").write_text(
            f'[[providers]]\nname = "sandbox"\nbase_url = "{sandbox}"\n', encoding="utf-8"
        )

        say("A login that expired an hour ago (its refresh token still works)")
        login = fetch(f"{sandbox}/_sandbox/issue?account=alice&expires_in=-3600")
        run("account", "add", "alice", "--provider", "sandbox", stdin=login)
        run("account", "list")

        say("The gateway")
        gateway = stack.enter_context(running("serve"))
        key = run("token", "--gateway", quiet=True).strip()

        say("The anthropic SDK, knowing nothing but the gateway's address and key")
        converse(Anthropic(base_url=gateway, auth_token=key))

        say("What happened on the way")
        run("account", "list")
        counters = json.loads(fetch(f"{sandbox}/_sandbox/counters"))["accounts"]["alice"]
        told = {name: counters[name] for name in ("refreshes", "reuses", "families_revoked", "requests")}
        print(f"  the provider counted: {', '.join(f'{name} {count}' for name, count in told.items())}")
        is_right = told["refreshes"] == 1 and told["reuses"] == 0
        if stays:
            stay(gateway, sandbox)
    if not is_right:
        print("\nThe provider should have counted one refresh and no reuse; please report this.", file=sys.stderr)
        return 1
    if not stays:
        print(NEXT)
    return 0


NEXT = """
Next:
  make serve                          the same gateway and sandbox, and they stay
  make test                           everything that Python alone can show
  . .venv/bin/activate                then, with accounts of your own:
  tokenferry account add work --provider anthropic
  tokenferry run -- claude            a program that needs no key of its own
  README.md                           recipes: Claude Code, SDKs, curl, apiKeyHelper"""


def converse(client: Anthropic) -> None:
    """One plain and one streamed message."""
    question = "Which way across the river?"
    print(f"  plain:    {question}")
    answer = client.messages.create(model=MODEL, max_tokens=200, messages=[{"role": "user", "content": question}])
    print(f"            {''.join(block.text for block in answer.content if block.type == 'text')}")
    question = "And back again, word by word?"
    print(f"  streamed: {question}\n            ", end="")
    with client.messages.stream(
        model=MODEL, max_tokens=200, messages=[{"role": "user", "content": question}]
    ) as stream:
        for text in stream.text_stream:
            print(text, end="", flush=True)
    print()


def stay(gateway: str, sandbox: str) -> None:
    """Say how to use what is running, and wait for Ctrl-C."""
    print(f"""
The gateway and the sandbox stay until Ctrl-C. In another terminal:
  . .venv/bin/activate
  export TOKENFERRY_HOME={HOME.relative_to(ROOT)}
  curl {gateway}/v1/messages -H "x-api-key: $(tokenferry token --gateway)" \\
    -H 'anthropic-version: 2023-06-01' -H 'content-type: application/json' \\
    -d '{{"model": "{MODEL}", "max_tokens": 50, "messages": [{{"role": "user", "content": "Hello"}}]}}'
  curl {sandbox}/_sandbox/              what the sandbox can be told to do""")
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def say(title: str) -> None:
    """Announce a step."""
    print(f"\n\033[1m{title}\033[0m" if sys.stdout.isatty() else f"\n{title}", flush=True)


def run(*arguments: str, stdin: str = "", quiet: bool = False) -> str:
    """Show and run a tokenferry command; give what it printed."""
    done = subprocess.run(
        [TOKENFERRY, *arguments], input=stdin, env=environment(), text=True, stdout=subprocess.PIPE, check=True
    )
    if not quiet:
        print(f"  $ tokenferry {' '.join(arguments)}")
        print("".join(f"    {line}\n" for line in done.stdout.splitlines()), end="", flush=True)
    return done.stdout


@contextlib.contextmanager
def running(command: str) -> Iterator[str]:
    """Run `tokenferry COMMAND` on a free port for a block; give its URL."""
    port_file = DEMO / f"{command}.port"
    log = DEMO / f"{command}.log"
    arguments = [TOKENFERRY, command, "--port", "0", "--port-file", str(port_file)]
    with (
        log.open("wb") as output,
        subprocess.Popen(arguments, env=environment(), stdout=output, stderr=output) as process,
    ):
        try:
            deadline = time.monotonic() + PATIENCE
            while not port_file.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"tokenferry {command} did not start:\n{log.read_text(encoding='utf-8')}")
                time.sleep(0.05)
            url = f"http://127.0.0.1:{int(port_file.read_text(encoding='ascii'))}"
            print(f"  $ tokenferry {command}\n    {url}   (log: {log.relative_to(ROOT)})", flush=True)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def fetch(url: str) -> str:
    """GET from the sandbox, past any proxy of the environment."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
    return text


def environment() -> dict[str, str]:
    """The environment, less whatever speaks of other credentials, with the demo's home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC_", "CLAUDE_"))}
    return {**kept, "HOME": str(DEMO), "TOKENFERRY_HOME": str(HOME)}


if __name__ == "__main__":
    for name in [name for name in os.environ if name.startswith("ANTHROPIC_") or name.lower().endswith("_proxy")]:
        del os.environ[name]
    os.environ["HOME"] = str(DEMO)
    sys.exit(main())
