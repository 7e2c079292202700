"""Claude Code's settings files: what each sets, and the resulting environment."""

from codecs import BOM_UTF8
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from tokenferry.claude_code.precedence._json import read_object
from tokenferry.claude_code.precedence._machine import Machine
from tokenferry.claude_code.precedence._values import ENVIRONMENT
from tokenferry.secret import Fields

HELPER: Final = "apiKeyHelper"
FOLDER_VARIABLE: Final = "CLAUDE_CONFIG_DIR"
_FOLDER: Final = ".claude"


class ClaudeSettings(Struct, frozen=True):
    """The effective settings. `origins` says, by variable, where its value is set; `helper` is a command, or None."""

    environ: Mapping[str, str]
    origins: Mapping[str, str]
    helper: str | None
    helper_from: str
    faults: tuple[str, ...]

    def origin(self, variable: str) -> str:
        return self.origins.get(variable, ENVIRONMENT)


def user_settings(machine: Machine) -> Path:
    """This person's settings for all projects."""
    named = machine.variable(FOLDER_VARIABLE)
    return (machine.folder / named if named else machine.home / _FOLDER) / "settings.json"


def personal_settings(machine: Machine) -> Path:
    """This person's settings for this project, at the root of its repository if there is one."""
    folders = (machine.folder, *machine.folder.parents)
    root = next((folder for folder in folders if machine.look(folder / ".git").kind != "absent"), machine.folder)
    return root / _FOLDER / "settings.local.json"


def settings_files(machine: Machine) -> list[Path]:
    """The settings files, the one with the highest precedence first."""
    files = [
        machine.managed,
        personal_settings(machine),
        machine.folder / _FOLDER / "settings.json",
        user_settings(machine),
    ]
    return list(dict.fromkeys(files))


def claude_settings(machine: Machine) -> ClaudeSettings:
    """Read all settings files. One that can't be used is ignored, as Claude Code does."""
    environ = Fields(machine.environ)
    origins: dict[str, str] = {}
    helper: str | None = None
    helper_from = ""
    faults: list[str] = []
    for path in reversed(settings_files(machine)):
        seen = machine.look(path)
        if seen.kind == "absent":
            continue
        settings = read_object(seen.content.removeprefix(BOM_UTF8)) if seen.kind == "file" else seen.fault
        if isinstance(settings, str):
            faults.append(f"{path} counts for nothing: {settings}")
            continue
        variables = settings.get("env")
        for name, value in variables.items() if isinstance(variables, Fields) else ():
            if isinstance(value, str):
                environ[name], origins[name] = value, str(path)
        if isinstance(settings.get(HELPER), str):
            helper, helper_from = settings[HELPER], str(path)
    return ClaudeSettings(environ, origins, helper or None, helper_from, tuple(faults))
