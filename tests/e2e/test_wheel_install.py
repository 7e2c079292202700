"""The wheel in an empty environment, with the pinned and hashed dependencies that pip gets from the package index."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from wheels import ROOT, build_wheel, check_installed, make_environment

pytestmark = pytest.mark.e2e


def test_pip_installs_it_with_its_pinned_needs(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wheel = build_wheel(tmp_path)
    python = make_environment(tmp_path / "venv", pip=True)

    def pip(*arguments: str) -> None:
        variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", *arguments]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    pip("install", "--require-hashes", "--only-binary", ":all:", "-r", str(ROOT / "requirements" / "run.txt"))
    pip("install", "--no-deps", "--no-index", str(wheel))
    pip("check")
    check_installed(python, tmp_path, project["version"])
