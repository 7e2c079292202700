"""CPU of `tokenferry token` for a fresh credential, and of importing tokenferry: `python -m bench token`."""  # noqa: A005  # run with -m it shadows nothing

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

RUNS: Final = 25
MOST_TIMES_BARE: Final = 4.0
MOST_IMPORT_MS: Final = 25.0

PYTHON: Final = [sys.executable]
COMMAND: Final = [str(Path(sys.executable).with_name("tokenferry")), "token"]
BARE, BARE_IMPORT = "python -c pass", "import tokenferry"
PLAIN, CONFIGURED, FULL = "token", "token, with a config.toml", "token, by the broker"


def cpu(command: list[str], environment: dict[str, str]) -> float:
    """The user and system time of one run, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def make_home(path: Path) -> dict[str, str]:
    """A home with one fresh OAuth login that is a fake; the environment that names it."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC_", "TOKENFERRY_"))
    }
    environment |= {"TOKENFERRY_HOME": str(path), "HOME": str(path)}
    login = (
        f'{{"access_token": "fake-{"a" * 100}", "refresh_token": "fake-r", "expires_at": {int(time.time()) + 28_800}}}'
    )
    add = [*COMMAND[:1], "account", "add", "bench", "--provider", "sandbox"]
    subprocess.run(add, env=environment, input=login.encode(), check=True, stdout=subprocess.DEVNULL)
    return environment


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        plain = make_home(Path(folder) / "plain")
        configured = make_home(Path(folder) / "configured")
        config = Path(folder) / "configured" / "config.toml"
        config.write_text(
            '[server]\nport = 13456\n\n[[providers]]\nname = "sandbox"\nbase_url = "http://127.0.0.1:1"\n'
        )
        config.chmod(0o600)
        ways = {
            BARE: ([*PYTHON, "-c", "pass"], plain),
            BARE_IMPORT: ([*PYTHON, "-c", "import tokenferry"], plain),
            PLAIN: (COMMAND, plain),
            CONFIGURED: (COMMAND, configured),
            FULL: ([*COMMAND, "--account", "bench"], plain),
        }
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(RUNS):
            for name, (command, environment) in ways.items():
                best[name] = min(best[name], cpu(command, environment))
    bare = best[BARE]
    for name, seconds in best.items():
        print(
            f"{name:28} {seconds * 1e3:7.1f} ms CPU   {seconds / bare:5.2f} x bare   {(seconds - bare) * 1e3:+7.1f} ms"
        )
    print(f"a fresh token takes {best[PLAIN] / bare:.2f} x bare; the budget is {MOST_TIMES_BARE:g} x")
    print(f"import tokenferry takes {(best[BARE_IMPORT] - bare) * 1e3:.1f} ms; the budget is {MOST_IMPORT_MS:g} ms")


if __name__ == "__main__":
    main()
