import os
import shutil
import subprocess
from pathlib import Path

import pytest

from service.standin import StandIn
from tokenferry.errors import Conflict, UnsafeFile
from tokenferry.service import Program, Service, Systemd, Undone, manager_here, render_unit

PROGRAM = Program(("/opt/tokenferry/bin/tokenferry", "keep"), {"TOKENFERRY_HOME": "/home/me/tf"})
SERVING = Program(("/opt/tokenferry/bin/tokenferry", "serve"), {}, serves=True)
RUNNING = {"is_active": {"out": "active\n"}, "is_enabled": {"out": "enabled\n"}}
NO_BUS = {word: {"code": 1, "err": "Failed to connect to bus: No medium found\n"} for word in ("--user",)}
START = ["--user daemon-reload", "--user enable tokenferry.service", "--user restart tokenferry.service"]
QUESTIONS = ["--user is-enabled tokenferry.service", "--user is-active tokenferry.service"]


@pytest.fixture
def systemctl(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path / "bin", "systemctl")


@pytest.fixture
def manager(tmp_path: Path, systemctl: StandIn) -> Systemd:
    return Systemd(tmp_path / "units", systemctl=str(systemctl.path))


@pytest.fixture
def service(manager: Systemd) -> Service:
    return Service(manager)


# -- the unit


def test_the_unit_runs_the_program_and_is_started_again_when_it_fails() -> None:
    lines = render_unit(PROGRAM).splitlines()
    assert lines[0].startswith("# Made by: tokenferry service install")
    assert "ExecStart=/opt/tokenferry/bin/tokenferry keep" in lines
    assert "Environment=TOKENFERRY_HOME=/home/me/tf" in lines
    assert {"Restart=on-failure", "NoNewPrivileges=yes", "UMask=0077", "WantedBy=default.target"} <= set(lines)


def test_words_survive_what_systemd_does_to_them() -> None:
    program = Program(("/opt/a b/$x/tokenferry", 'say "%h"', "$HOME", "\\n"), {"A": "50% of\n$x"})
    unit = render_unit(program)
    assert 'ExecStart="/opt/a b/$x/tokenferry" "say \\"%%h\\"" "$$HOME" "\\\\n"' in unit
    assert 'Environment="A=50%% of\\n$x"' in unit


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("name", ["tokenferry", "token ferry 100%"])
def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    unit = tmp_path / "tokenferry.service"
    unit.write_text(render_unit(Program((str(path), "keep"), {"TOKENFERRY_HOME": str(tmp_path / "a $b%")})))
    environ = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(unit)], capture_output=True, text=True, env=environ, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_units_lie_where_the_user_keeps_configuration(tmp_path: Path) -> None:
    def path(**environ: str) -> str:
        return str(manager_here(environ, tmp_path, platform="linux").path.relative_to(tmp_path))

    assert path() == path(XDG_CONFIG_HOME="relative") == ".config/systemd/user/tokenferry.service"
    assert path(XDG_CONFIG_HOME=str(tmp_path / "c")) == "c/systemd/user/tokenferry.service"


# -- install


def test_it_writes_the_unit_and_starts_it(service: Service, manager: Systemd, systemctl: StandIn) -> None:
    plan = service.plan_install(PROGRAM)
    assert [line[1:] for line in plan.diff()[3:]] == render_unit(PROGRAM).splitlines()
    assert not manager.path.exists()
    assert systemctl.calls() == []
    assert service.carry_out(plan) is None
    assert manager.path.read_text() == render_unit(PROGRAM)
    assert manager.path.stat().st_mode & 0o077 == 0
    assert systemctl.calls() == START


def test_again_it_changes_nothing(service: Service, systemctl: StandIn) -> None:
    service.carry_out(service.plan_install(PROGRAM))
    systemctl.answers(**RUNNING)
    systemctl.calls()
    plan = service.plan_install(PROGRAM)
    assert not plan.changes_file
    assert plan.then == ()
    assert systemctl.calls() == QUESTIONS


def test_one_that_does_not_run_is_started(service: Service, systemctl: StandIn) -> None:
    service.carry_out(service.plan_install(PROGRAM))
    systemctl.answers(is_active={"out": "inactive\n", "code": 3})
    systemctl.calls()
    service.carry_out(service.plan_install(PROGRAM))
    assert systemctl.calls() == [*QUESTIONS, *START]


def test_another_program_takes_its_place(service: Service, manager: Systemd, systemctl: StandIn) -> None:
    service.carry_out(service.plan_install(PROGRAM))
    systemctl.answers(**RUNNING)
    systemctl.calls()
    plan = service.plan_install(SERVING)
    assert "-ExecStart=/opt/tokenferry/bin/tokenferry keep" in plan.diff()
    service.carry_out(plan)
    assert manager.path.read_text() == render_unit(SERVING)
    assert systemctl.calls() == START


def test_a_gateway_reads_its_configuration_at_a_reload_and_a_keeper_would_end() -> None:
    assert "\nExecReload=/bin/kill -HUP $MAINPID\n" in render_unit(SERVING)
    assert "ExecReload" not in render_unit(PROGRAM)


def test_another_programs_unit_is_left_alone(service: Service, manager: Systemd, systemctl: StandIn) -> None:
    manager.path.parent.mkdir()
    manager.path.write_text("[Service]\nExecStart=/usr/bin/true\n# Not Made by: tokenferry service install\n")
    manager.path.chmod(0o644)
    before = manager.path.read_text()
    with pytest.raises(Conflict, match="left alone"):
        service.plan_install(PROGRAM)
    with pytest.raises(Conflict, match="left alone"):
        service.plan_uninstall()
    assert manager.path.read_text() == before
    assert systemctl.calls() == []
    assert not service.status([PROGRAM]).is_installed


def test_a_masked_unit_is_left_alone(service: Service, manager: Systemd) -> None:
    manager.path.parent.mkdir()
    manager.path.symlink_to("/dev/null")
    with pytest.raises(UnsafeFile, match="symbolic link"):
        service.plan_install(PROGRAM)
    assert manager.path.is_symlink()


def test_what_changed_since_it_was_planned_is_left_alone(service: Service, manager: Systemd) -> None:
    plan = service.plan_install(PROGRAM)
    service.carry_out(service.plan_install(SERVING))
    with pytest.raises(Conflict, match="another program"):
        service.carry_out(plan)
    assert manager.path.read_text() == render_unit(SERVING)


def test_without_a_session_the_unit_is_written_and_the_commands_are_reported(
    service: Service, manager: Systemd, systemctl: StandIn
) -> None:
    systemctl.answers(**NO_BUS)
    undone = service.carry_out(service.plan_install(PROGRAM))
    assert undone is not None
    assert undone.reason == "Failed to connect to bus: No medium found"
    assert [" ".join(command[1:]) for command in undone.commands] == START
    assert manager.path.exists()
    assert service.plan_install(PROGRAM).then  # tried again when asked again


def test_without_systemctl_it_is_the_same(tmp_path: Path) -> None:
    manager = Systemd(tmp_path, systemctl=str(tmp_path / "nothing"))
    undone = Service(manager).carry_out(Service(manager).plan_install(PROGRAM))
    assert isinstance(undone, Undone)
    assert undone.reason.endswith("is not there")
    assert manager.path.exists()


# -- uninstall and status


def test_it_ends_the_service_and_removes_the_unit(service: Service, manager: Systemd, systemctl: StandIn) -> None:
    service.carry_out(service.plan_install(PROGRAM))
    systemctl.calls()
    assert service.carry_out(service.plan_uninstall()) is None
    assert not manager.path.exists()
    assert systemctl.calls() == [
        "--user daemon-reload",
        "--user stop tokenferry.service",
        "--user disable tokenferry.service",
        "--user daemon-reload",
    ]
    assert not service.plan_uninstall().changes_file


def test_without_a_session_the_unit_and_the_link_to_it_go_all_the_same(
    service: Service, manager: Systemd, systemctl: StandIn
) -> None:
    service.carry_out(service.plan_install(PROGRAM))
    link = manager.path.parent / "default.target.wants" / manager.path.name
    link.parent.mkdir()
    link.symlink_to(manager.path)
    systemctl.answers(**NO_BUS)
    undone = service.carry_out(service.plan_uninstall())
    assert undone is not None
    assert "stop" in undone.commands[1]
    assert not link.is_symlink()
    assert not manager.path.exists()


def test_status_tells_what_is_there_and_what_systemd_says(service: Service, systemctl: StandIn) -> None:
    systemctl.answers(is_enabled={"code": 1}, is_active={"out": "inactive\n", "code": 3})
    nothing = service.status([PROGRAM])
    assert (nothing.is_installed, nothing.is_current, nothing.state.is_running) == (False, False, False)
    service.carry_out(service.plan_install(SERVING))
    systemctl.answers(**RUNNING)
    found = service.status([PROGRAM, SERVING])
    assert (found.is_installed, found.is_current, found.state.is_running) == (True, True, True)
    assert (found.state.enabled, found.state.active) == ("enabled", "active")
    assert not service.status([PROGRAM]).is_current
