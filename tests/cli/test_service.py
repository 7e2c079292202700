"""`tokenferry service` on a machine whose systemctl is a stand-in on PATH, with a throw-away HOME."""

import os
import sys
from pathlib import Path

import pytest

from cli.harness import Outcome, tokenferry
from service.standin import StandIn
from tokenferry.settings import Home

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return StandIn(tmp_path / "bin", "systemctl")


@pytest.fixture
def unit() -> Path:
    return Path.home() / ".config" / "systemd" / "user" / "tokenferry.service"


def service(*arguments: str, **variables: str) -> Outcome:
    return tokenferry("service", *arguments, **variables)


def test_it_is_installed_shown_changed_and_removed(home: Home, systemctl: StandIn, unit: Path) -> None:
    first = service("install")
    assert first.code == 0, first.err
    assert f"wrote {unit}" in first.out
    assert f"+Environment=TOKENFERRY_HOME={home.path}" in first.out
    assert "loginctl enable-linger" in first.err
    assert systemctl.calls()[-1] == "--user restart tokenferry.service"
    systemctl.answers(is_active={"out": "active\n"}, is_enabled={"out": "enabled\n"})
    again = service("install")
    assert (again.code, again.out) == (0, f"the service runs already, as {unit} says\n")
    known = {"manager": "systemd", "path": str(unit)}
    assert service("install", "--json").json == known | {"changed": False, "running": True, "to_run": []}
    planned = service("install", "--serve", "--dry-run", "--json").json
    assert planned["to_run"][-1] == "systemctl --user restart tokenferry.service"
    assert (planned["changed"], planned["running"]) == (False, False)
    shown = service("status", "--json")
    assert shown.code == 0
    assert shown.json == {
        "manager": "systemd",
        "path": str(unit),
        "installed": True,
        "current": True,
        "enabled": "enabled",
        "active": "active",
        "running": True,
        "renewer": None,
    }
    other = service("install", "--serve")
    assert other.code == 0
    assert [line.split()[-1] for line in other.out.splitlines() if line[1:].startswith("ExecStart=")] == [
        "--watch",
        "serve",
    ]
    assert service("uninstall").code == 0
    assert not unit.exists()
    assert service("uninstall").out == f"no service is installed in {unit}\n"


def test_a_dry_run_does_nothing(systemctl: StandIn, unit: Path) -> None:
    outcome = service("install", "--dry-run")
    assert outcome.code == 0
    assert "+Restart=on-failure" in outcome.out
    assert "would run: systemctl --user enable tokenferry.service" in outcome.out
    assert not unit.exists()
    assert systemctl.calls() == []
    service("install")
    systemctl.calls()
    assert "would run: systemctl --user stop tokenferry.service" in service("uninstall", "--dry-run").out
    assert unit.exists()
    assert systemctl.calls() == []


def test_without_a_session_it_says_what_to_type(systemctl: StandIn, unit: Path) -> None:
    systemctl.answers(__user={"code": 1, "err": "Failed to connect to bus: No medium found\n"})
    outcome = service("install")
    assert outcome.code == 1
    assert "Failed to connect to bus: No medium found; run these commands where it runs:" in outcome.err
    assert outcome.out.splitlines()[-3:] == [
        "systemctl --user daemon-reload",
        "systemctl --user enable tokenferry.service",
        "systemctl --user restart tokenferry.service",
    ]
    assert unit.exists()
    shown = service("status")
    assert shown.code == 1
    assert "no answer, unknown state" in shown.out


def test_another_programs_unit_is_left_alone(systemctl: StandIn, unit: Path) -> None:
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/usr/bin/true\n")
    unit.chmod(0o644)
    for words in (["install"], ["uninstall"]):
        outcome = service(*words)
        assert outcome.code == 1
        assert "was not made by tokenferry" in outcome.one_line()
    assert service("status").code == 1
    assert unit.read_text() == "[Service]\nExecStart=/usr/bin/true\n"


def test_no_secret_is_written(systemctl: StandIn, unit: Path) -> None:
    secret = "hunter2-hunter2"
    outcome = service(
        "install", HTTPS_PROXY=f"http://me:{secret}@127.0.0.1:1", ANTHROPIC_API_KEY=f"sk-ant-api03-{secret}"
    )
    assert outcome.code == 0
    assert "HTTPS_PROXY holds a login" in outcome.err
    assert outcome.hides(secret)
    assert secret not in unit.read_text()


def test_a_home_with_a_tilde_is_written_in_full(systemctl: StandIn, unit: Path) -> None:
    assert service("install", TOKENFERRY_HOME="~/other").code == 0
    assert f"Environment=TOKENFERRY_HOME={Path(os.environ['HOME']) / 'other'}" in unit.read_text()


def test_without_a_home_the_places_are_passed_on(systemctl: StandIn, unit: Path, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    assert service("install", TOKENFERRY_HOME="", XDG_DATA_HOME=data).code == 0
    assert f"Environment=XDG_DATA_HOME={data}" in unit.read_text()


def test_the_service_reads_the_configuration_that_is_named(home: Home, systemctl: StandIn, unit: Path) -> None:
    home.path.mkdir(exist_ok=True)
    file = home.path / "other.toml"
    file.touch(0o600)
    assert service("install", "--config", str(file)).code == 0
    assert f"Environment=TOKENFERRY_CONFIG={file}" in unit.read_text()
    assert service("status", "--config", str(file), "--json").json["current"] is True
    assert service("status", "--json").json["current"] is False


def test_a_keeper_that_swaps_is_installed_as_one(systemctl: StandIn, unit: Path) -> None:
    assert service("install", "--switch-claude-code").code == 0
    [line] = [line for line in unit.read_text().splitlines() if line.startswith("ExecStart=")]
    assert line.endswith(" refresh --watch --switch-claude-code")
    assert service("status", "--json").json["current"] is True
    both = service("install", "--switch-claude-code", "--serve")
    assert both.code == 2
    assert "leave one of them out" in both.one_line()
