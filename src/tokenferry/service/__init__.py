"""tokenferry as a service of its user: a systemd unit or a launchd agent."""

from tokenferry.service._launchd import Launchd, render_agent
from tokenferry.service._manager import Manager, Ran, RunState, Step
from tokenferry.service._program import Program, own_command, passed_on
from tokenferry.service._service import InstallPlan, Service, Status, Undone, manager_here
from tokenferry.service._systemd import Systemd, render_unit

__all__ = [
    "InstallPlan",
    "Launchd",
    "Manager",
    "Program",
    "Ran",
    "RunState",
    "Service",
    "Status",
    "Step",
    "Systemd",
    "Undone",
    "manager_here",
    "own_command",
    "passed_on",
    "render_agent",
    "render_unit",
]
