import plistlib
from pathlib import Path

import pytest

from service.standin import StandIn
from tokenferry.errors import Conflict, UsageError
from tokenferry.service import Launchd, Program, Service, manager_here, render_agent

PROGRAM = Program(("/opt/a b/tokenferry", "keep"), {"TOKENFERRY_HOME": "/Users/me/<tf>"})
START = ["bootout gui/501/tokenferry", "enable gui/501/tokenferry"]


@pytest.fixture
def launchctl(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path / "bin", "launchctl")


@pytest.fixture
def manager(tmp_path: Path, launchctl: StandIn) -> Launchd:
    return Launchd(tmp_path, uid=501, launchctl=str(launchctl.path))


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def service(manager: Launchd, slept: list[float]) -> Service:
    return Service(manager, sleep=slept.append)


def test_the_agent_says_what_to_run_and_that_it_is_kept_alive(tmp_path: Path) -> None:
    raw = render_agent(PROGRAM, tmp_path / "log")
    agent = plistlib.loads(raw)
    assert agent["ProgramArguments"] == list(PROGRAM.command)
    assert agent["EnvironmentVariables"] == dict(PROGRAM.environment)
    assert agent["RunAtLoad"] is True
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["Umask"] == 0o077
    assert b"<!-- Made by: tokenferry service install -->" in raw


def test_it_is_installed_started_and_removed(service: Service, manager: Launchd, launchctl: StandIn) -> None:
    assert service.carry_out(service.plan_install(PROGRAM)) is None
    assert manager.path.name == "tokenferry.plist"
    bootstrap = f"bootstrap gui/501 {manager.path}"
    assert launchctl.calls() == [*START, bootstrap]
    launchctl.answers(print={"out": "gui/501/tokenferry = {\n\tstate = running\n}\n"})
    plan = service.plan_install(PROGRAM)
    assert (plan.changes_file, plan.then) == (False, ())
    status = service.status([PROGRAM])
    assert (status.is_installed, status.is_current, status.state.is_running) == (True, True, True)
    launchctl.calls()
    assert service.carry_out(service.plan_uninstall()) is None
    assert launchctl.calls() == ["bootout gui/501/tokenferry"]
    assert not manager.path.exists()


def test_the_first_start_has_nothing_to_end_and_a_late_end_is_waited_for(
    service: Service, launchctl: StandIn, slept: list[float]
) -> None:
    launchctl.answers(bootout={"code": 3}, bootstrap={"code": 5, "fails": 2})
    assert service.carry_out(service.plan_install(PROGRAM)) is None
    assert slept == [1.0, 1.0]


def test_without_a_graphical_session_the_commands_are_reported(
    service: Service, manager: Launchd, launchctl: StandIn
) -> None:
    launchctl.answers(bootstrap={"code": 125, "err": "Bootstrap failed: 125: Domain does not support specified action"})
    undone = service.carry_out(service.plan_install(PROGRAM))
    assert undone is not None
    assert undone.reason.startswith("Bootstrap failed: 125")
    assert [command[1] for command in undone.commands] == ["bootstrap"]
    assert manager.path.exists()
    assert not service.status([PROGRAM]).state.is_running


def test_another_programs_agent_is_left_alone(service: Service, manager: Launchd) -> None:
    manager.path.parent.mkdir(parents=True)
    manager.path.write_bytes(plistlib.dumps({"Label": "tokenferry"}))
    manager.path.chmod(0o644)
    with pytest.raises(Conflict, match="left alone"):
        service.plan_install(PROGRAM)


def test_the_platform_says_which_manager_there_is(tmp_path: Path) -> None:
    assert manager_here({}, tmp_path, platform="darwin").name == "launchd"
    assert manager_here({}, tmp_path, platform="linux").name == "systemd"
    with pytest.raises(UsageError, match="refresh --due"):
        manager_here({}, tmp_path, platform="freebsd14")
