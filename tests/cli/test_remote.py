"""`tokenferry serve` for other machines, in a network of its own that leads nowhere."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.harness import COMMAND, PATIENCE, Outcome, eventually, tokenferry
from namespaces import namespace
from tokenferry.policy_statement import state
from tokenferry.settings import Home

Login = Callable[..., dict[str, Any]]


def serve(*arguments: str, port_file: Path | None = None) -> Outcome:
    """Serve, and end it once it listens."""
    more = () if port_file is None else ("--port-file", str(port_file))
    command = [*namespace("-rn"), COMMAND, "serve", "--port", "0", *arguments, *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    if port_file is not None:
        eventually(lambda: port_file.exists() or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE)
    return Outcome(process.returncode, out, err)


def test_it_needs_a_key_for_others_and_says_what_it_opens(home: Home, tmp_path: Path) -> None:
    outcome = serve("--host", "0.0.0.0")
    assert outcome.code == 3
    assert "--allow-remote" in outcome.one_line()
    outcome = serve("--host", "0.0.0.0", "--allow-remote")
    assert outcome.code == 3
    assert "tokenferry key create NAME" in outcome.one_line()
    assert tokenferry("key", "create", "laptop").code == 0
    outcome = serve("--host", "0.0.0.0", "--allow-remote", port_file=tmp_path / "port")
    assert outcome.code == 0, outcome.err
    assert "listening on http://0.0.0.0:" in outcome.out
    assert "open to other machines" in outcome.err
    assert "laptop" in outcome.err
    assert "without TLS" in outcome.err
    assert "allowed_hosts" in outcome.err


def test_the_policy_own_is_for_this_machine_alone(home: Home) -> None:
    tokenferry("key", "create", "laptop")
    state(home.statement, 1_700_000_000)
    outcome = serve("--host", "0.0.0.0", "--allow-remote")
    assert outcome.code == 7
    assert "tokenferry policy set claude-code-only" in outcome.one_line()
