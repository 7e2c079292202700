"""CPU of `tokenferry token` in various homes, and of starting up: `python -m bench token`."""  # noqa: A005  # run with -m it shadows nothing

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tokenferry.settings import Home
from tokenferry.state import GatewayRegistration, State, local_key

RUNS: Final = int(os.environ.get("BENCH_RUNS", "15"))
MOST_TOKEN: Final = 4.0
MOST_START: Final = 12.0
MOST_IMPORT_MS: Final = 25.0

PYTHON: Final = sys.executable
COMMAND: Final = str(Path(sys.executable).with_name("tokenferry"))
BARE, BARE_IMPORT = "python -c pass", "import tokenferry"
CONFIGURATIONS: Final = {
    "[server], [policy]": '[server]\nport = 13456\n[policy]\nsubscriptions = "claude-code-only"\n',
    "[pool]": '[pool]\nstrategy = "round-robin"\n',
    "[[providers]] of one's own": '[[providers]]\nname = "mine"\nprovider_type = "openai"\nbase_url = "https://mine.example"\n',
    "[[models]], [router]": """
[[models]]
name = "fast"
mappings = [{ provider = "sandbox", actual_model = "sandbox-1" }]
[router]
default = "fast"
[[router.rules]]
name = "long"
model = "fast"
min_bytes = 60000
""",
}


def cpu(command: list[str], environment: dict[str, str]) -> float:
    """User and system time of one run, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def make_home(path: Path, config: str = "", *accounts: str) -> dict[str, str]:
    """Create a home with fresh fake OAuth logins; give the environment that names it."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC_", "TOKENFERRY_"))
    }
    environment |= {"TOKENFERRY_HOME": str(path), "HOME": str(path)}
    for account in accounts or ("bench",):
        tokens = {"access_token": f"fake-{account}-{'a' * 90}", "refresh_token": f"fake-{account}-r"}
        login = {**tokens, "expires_at": int(time.time()) + 28_800}
        run(environment, "account", "add", account, "--provider", "sandbox", given=json.dumps(login))
    if config:
        (path / "config.toml").write_text(config)
        (path / "config.toml").chmod(0o600)
    return environment


def run(environment: dict[str, str], *arguments: str, given: str = "") -> None:
    subprocess.run([COMMAND, *arguments], env=environment, input=given.encode(), check=True, capture_output=True)


@contextlib.contextmanager
def cases(folder: Path) -> Iterator[dict[str, tuple[list[str], dict[str, str]]]]:
    """A command and its environment, by title."""
    plain = make_home(folder / "plain")
    found = {
        BARE: ([PYTHON, "-c", "pass"], plain),
        BARE_IMPORT: ([PYTHON, "-c", "import tokenferry"], plain),
        "token": ([COMMAND, "token"], plain),
        "token --env": ([COMMAND, "token", "--env"], plain),
    }
    for number, (name, config) in enumerate(CONFIGURATIONS.items()):
        found[f"token, {name}"] = ([COMMAND, "token"], make_home(folder / str(number), config))
    keyed = make_home(folder / "keyed", '[[providers]]\nname = "anthropic"\napi_key = "$BENCH_KEY"\n')
    found["token, api_key = $VARIABLE"] = [COMMAND, "token", "anthropic"], keyed | {"BENCH_KEY": "sk-ant-api03-bench"}
    used = make_home(folder / "used", "", "one", "two", "three")
    run(used, "use", "two")
    State(Home(folder / "used").state).close()
    found["token, one of three in use"] = [COMMAND, "token"], used
    sealed = make_home(folder / "sealed") | {"TOKENFERRY_SEAL_KEY_FILE": str(folder / "sealing-key")}
    run(sealed | {"TMPDIR": "/var/tmp"}, "encryption", "enable")  # secrets don't belong in the temporary folder
    found["token, sealed by a key file"] = [COMMAND, "token"], sealed
    home = Home(folder / "plain")
    local_key(home)
    registration = GatewayRegistration(home, url="http://127.0.0.1:13456")
    found["token --gateway"] = [COMMAND, "token", "--gateway"], plain
    found["token, worked out"] = [COMMAND, "token", "--config", str(folder / "0" / "config.toml")], plain
    found["--help"] = [COMMAND, "--help"], plain
    found["status"] = [COMMAND, "status"], used
    try:
        yield found
    finally:
        registration.end()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, cases(Path(folder)) as found:
        for command, environment in found.values():
            cpu(command, environment)  # fills the cache
        rounds = [{name: cpu(*one) for name, one in found.items()} for _ in range(RUNS)]
    print(f"medians of {RUNS} rounds, in which each case ran once")
    for name in found:
        milliseconds = statistics.median(one[name] for one in rounds) * 1e3
        ratio = statistics.median(one[name] / one[BARE] for one in rounds)
        print(f"{name:36} {milliseconds:7.1f} ms CPU   {ratio:6.2f} x bare")
    print(f"the budgets: token {MOST_TOKEN:g} x, --help and status {MOST_START:g} x, the import {MOST_IMPORT_MS:g} ms")


if __name__ == "__main__":
    main()
