"""Builds the wheel and tries it in an environment where nothing of the source tree can be imported."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import time
import urllib.request
import zipfile
from collections.abc import Mapping
from configparser import ConfigParser
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
_PATIENCE: Final = 120.0
_BUILD: Final = "import sys; from flit_core import buildapi; print(buildapi.build_wheel(sys.argv[1]))"


def build_wheel(folder: Path, tree: Path = ROOT) -> Path:
    """Build it as an installer would, from a source tree."""
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, str(folder)], cwd=tree, capture_output=True, text=True, check=True
    )
    return folder / done.stdout.split()[-1]


def build_wheel_of_sdist(folder: Path) -> Path:
    """Build the source distribution, unpack it elsewhere, and build the wheel from that."""
    done = subprocess.run(
        [sys.executable, "-c", _BUILD.replace("wheel", "sdist"), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    with tarfile.open(folder / done.stdout.split()[-1]) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # from 3.11.4 on
        archive.extractall(folder)
        root = folder / archive.getnames()[0].partition("/")[0]
    return build_wheel(folder, root)


def make_environment(folder: Path, *, python: Path = Path(sys.executable), pip: bool = False) -> Path:
    """An empty virtual environment; gives its Python."""
    options = [] if pip else ["--without-pip"]
    subprocess.run([str(python), "-m", "venv", *options, str(folder)], check=True, timeout=_PATIENCE)
    return folder / "bin" / "python"


def site_packages(python: Path) -> Path:
    return Path(_output(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())


def install_alone(wheel: Path, folder: Path) -> Path:
    """Install a wheel into a new environment, beside the dependencies of this one; gives the Python there."""
    python = make_environment(folder)
    target = site_packages(python)
    scripts = ConfigParser()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
        (names,) = [name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]
        scripts.read_string(archive.read(names).decode())
    module, _, function = scripts["console_scripts"]["tokenferry"].partition(":")
    command = python.with_name("tokenferry")
    command.write_text(f"#!{python}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    command.chmod(0o755)
    # Path files in those folders, which could lead to the source tree, are not followed.
    (target / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return python


def check_installed(python: Path, folder: Path, version: str) -> None:
    """The commands work, and what runs is what was installed: a round trip from a fake provider to a token."""
    command = str(python.with_name("tokenferry"))
    origin = _output(str(python), "-c", "import tokenferry; print(tokenferry.__file__)", cwd=folder).strip()
    assert Path(origin).parent == site_packages(python) / "tokenferry"
    variables = _environment(folder)
    assert version in _output(command, "--version", variables=variables)
    assert json.loads(_output(command, "account", "list", "--json", variables=variables)) == []
    assert "failover" in _output(command, "help", "pool", variables=variables)

    port_file = folder / "port"
    with subprocess.Popen(
        [command, "sandbox", "--port", "0", "--port-file", str(port_file)],
        env=_clean(variables),
        stdout=subprocess.DEVNULL,
    ) as sandbox:
        try:
            deadline = time.monotonic() + _PATIENCE
            while not port_file.exists():
                assert sandbox.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            url = f"http://127.0.0.1:{int(port_file.read_text())}"
            config = folder / "home" / "config.toml"
            config.write_text(f'[[providers]]\nname = "sandbox"\nbase_url = "{url}"\n')
            config.chmod(0o600)
            login = _fetch(f"{url}/_sandbox/issue?account=alice&expires_in=-3600")
            _output(command, "account", "add", "alice", "--provider", "sandbox", stdin=login, variables=variables)
            token = _output(command, "token", variables=variables)
            assert token.startswith("sk-ant-oat")
            assert token.strip() not in login
            assert json.loads(_fetch(f"{url}/_sandbox/counters"))["accounts"]["alice"]["refreshes"] == 1
            assert "alice" in _output(command, "account", "list", variables=variables)
        finally:
            sandbox.terminate()
            assert sandbox.wait(_PATIENCE) == 0


def _environment(folder: Path) -> dict[str, str]:
    home = folder / "home"
    home.mkdir(mode=0o700)
    return {"TOKENFERRY_HOME": str(home)}


def _clean(variables: Mapping[str, str]) -> dict[str, str]:
    """Nothing that leads Python to the source tree."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    return {**kept, **variables}


def _output(
    *arguments: str, cwd: Path | None = None, stdin: str = "", variables: Mapping[str, str] | None = None
) -> str:
    done = subprocess.run(
        arguments,
        cwd=cwd,
        input=stdin,
        env=_clean(variables or {}),
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def _fetch(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=_PATIENCE) as answer:
        text: str = answer.read().decode()
    return text
