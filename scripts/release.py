"""`make release`: build wheel and sdist twice, compare them, and put them with their companions into dist/.

The build uses only committed files, so a commit gives the same bytes on every machine. Then the wheel is installed with
its pinned and hashed requirements, on the oldest supported Python and the newest one here.
"""

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, metadata, requires
from io import BytesIO
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from wheels import check_installed, make_environment  # noqa: E402  # shared with the tests

_BUILD: Final = (
    "import sys; from flit_core import buildapi; buildapi.build_wheel(sys.argv[1]); buildapi.build_sdist(sys.argv[1])"
)
_SHELLS: Final = {"bash": "tokenferry.bash", "zsh": "_tokenferry", "fish": "tokenferry.fish"}
_OLDEST: Final = 11
_NEWEST: Final = 20
_CYCLONEDX: Final = "1.6"


def build(into: Path, *, commit: str = "HEAD", epoch: str) -> list[Path]:
    """Build wheel and sdist from a commit, in a new folder each time."""
    content = _run("git", "archive", "--format=tar", commit)
    with tempfile.TemporaryDirectory() as tree:
        with tarfile.open(fileobj=BytesIO(content)) as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)  # since 3.11.4
            archive.extractall(tree)
        into.mkdir(parents=True, exist_ok=True)
        variables = os.environ | {"SOURCE_DATE_EPOCH": epoch}
        subprocess.run([sys.executable, "-c", _BUILD, str(into)], cwd=tree, env=variables, check=True)
    return sorted(into.iterdir())


def bill_of_materials(version: str, wheel: bytes, epoch: int) -> str:
    """The SBOM in CycloneDX JSON: every pinned package of an installation, and the packages that need it."""
    digest = sha256(wheel).hexdigest()
    root = f"pkg:pypi/tokenferry@{version}"
    pins = dict(_pins())
    references = {name: f"pkg:pypi/{name}@{pinned}" for name, (pinned, _) in pins.items()}
    needs = {references[name]: _needed(requires(name) if _is_here(name) else [], references) for name in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": _CYCLONEDX,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, digest)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": "tokenferry",
                "version": version,
                "purl": root,
                "licenses": [{"license": {"id": project["license"]}}],
                "hashes": [{"alg": "SHA-256", "content": digest}],
            },
        },
        "components": [_component(name, pins[name], references[name]) for name in sorted(pins)],
        "dependencies": [
            {"ref": root, "dependsOn": _needed(project["dependencies"], references)},
            *({"ref": one, "dependsOn": needs[one]} for one in sorted(needs)),
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def _component(name: str, pin: tuple[str, list[str]], reference: str) -> dict[str, Any]:
    version, files = pin
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": reference,
        "name": name,
        "version": version,
        "purl": reference,
        # Only one of them is installed: the machine's wheel, or the source.
        "properties": [{"name": "tokenferry:accepted-sha256", "value": one} for one in files],
    }
    if _is_here(name) and "License-Expression" in (about := metadata(name)):
        found["licenses"] = [{"expression": about["License-Expression"]}]
    return found


def _pins() -> Iterator[tuple[str, tuple[str, list[str]]]]:
    for line in (ROOT / "requirements" / "run.txt").read_text("utf-8").replace("\\\n", "").splitlines():
        name, version = re.split(r"==|[ ;]", line)[:2]
        yield name, (version, re.findall(r"sha256:(\w+)", line))


def _is_here(name: str) -> bool:
    try:
        metadata(name)
    except PackageNotFoundError:  # a package for another platform
        return False
    return True


def _needed(requirements: list[str] | None, references: Mapping[str, str]) -> list[str]:
    names = (re.match(r"[\w.-]+", one) for one in requirements or () if "extra ==" not in one)
    normal = {re.sub(r"[-_.]+", "-", name[0]).lower() for name in names if name}
    return sorted(references[name] for name in normal if name in references)


def notes(version: str) -> str:
    """The version's section of the changelog. Raises `SystemExit` if there is none."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    found = re.search(rf"^## {re.escape(version)}\b[^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise SystemExit(f"CHANGELOG.md has no section for {version}; give it one: ## {version}, with the date")
    return found[1].strip() + "\n"


def pythons() -> list[Path]:
    """The oldest supported Python and the newest one on PATH or from pyenv."""
    person = Path(pwd.getpwuid(os.getuid()).pw_dir)  # a test has another HOME
    found: dict[str, Path] = {}
    for minor in range(_OLDEST, _NEWEST):
        name = f"python3.{minor}"
        on_path = shutil.which(name)
        places = [*person.glob(f".pyenv/versions/3.{minor}.*/bin/{name}"), *([Path(on_path)] if on_path else [])]
        for path in places:
            done = subprocess.run([path, "-c", "import ensurepip, venv"], capture_output=True, check=False)
            if not done.returncode:
                found[name] = path
    oldest, *_, newest = (*found, *found)
    return [found[name] for name in dict.fromkeys((oldest, newest))]


def install(python: Path, wheel: Path, version: str, folder: Path) -> str:
    """Install the wheel alone and run it; give the version of the Python."""
    inside = make_environment(folder / "venv", python=python, pip=True)
    pip = (str(inside), "-m", "pip", "--quiet", "--disable-pip-version-check", "install")
    _run(*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(ROOT / "requirements" / "run.txt"))
    _run(*pip, "--no-deps", "--no-index", str(wheel))
    _run(*pip[:-1], "check")
    check_installed(inside, folder, version)
    return _run(str(inside), "-c", "import platform; print(platform.python_version())").decode().strip()


def _run(*command: str, **variables: str) -> bytes:
    return subprocess.run(command, cwd=ROOT, env=os.environ | variables, stdout=subprocess.PIPE, check=True).stdout


def main() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    changes = notes(version)
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or _run("git", "log", "-1", "--format=%ct").decode().strip()
    dist = ROOT / "dist"
    for old in dist.glob("*"):
        old.unlink()
    first = build(dist, epoch=epoch)
    with tempfile.TemporaryDirectory() as again:
        for one, other in zip(first, build(Path(again), epoch=epoch), strict=True):
            if one.read_bytes() != other.read_bytes():
                raise SystemExit(f"{one.name} was built twice and differs")
    (wheel,) = dist.glob("*.whl")
    (dist / "NOTES.md").write_text(changes)
    (dist / "tokenferry.cdx.json").write_text(bill_of_materials(version, wheel.read_bytes(), int(epoch)))
    command = str(Path(sys.executable).with_name("tokenferry"))
    (dist / "tokenferry.1").write_bytes(_run(command, "help", "man"))
    for shell, name in _SHELLS.items():
        (dist / name).write_bytes(_run(command, _TOKENFERRY_COMPLETE=f"source_{shell}").lstrip())
    files = sorted(path for path in dist.iterdir())
    (dist / "SHA256SUMS").write_text("".join(f"{sha256(one.read_bytes()).hexdigest()}  {one.name}\n" for one in files))
    for python in pythons():
        with tempfile.TemporaryDirectory() as folder:
            print("installed and tried on Python", install(python, wheel, version, Path(folder)))
    print(*(f"dist/{one.name}" for one in [*files, dist / "SHA256SUMS"]), sep="\n")


if __name__ == "__main__":
    main()
