"""The wheel: what is in it, and that it works where it alone is installed."""

import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from wheels import ROOT, build_wheel, build_wheel_of_sdist, check_installed, install_alone

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_it_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    source = ROOT / "src"
    files = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert names == {name for name in files if "__pycache__" not in name and ".egg-info" not in name}
    assert {"tokenferry/providers/builtin.toml", "tokenferry/py.typed"} <= names


def test_a_source_distribution_gives_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(build_wheel_of_sdist(tmp_path)) as other:
        assert {name: one.read(name) for name in one.namelist()} == {
            name: other.read(name) for name in other.namelist()
        }


def test_it_holds_every_page_as_it_is(wheel: Path) -> None:
    prefix = "tokenferry/cli/pages/"
    held = {name.removeprefix(prefix): data for name, data in contents(wheel).items() if name.startswith(prefix)}
    assert held == {page.name: page.read_bytes() for page in (ROOT / "docs").glob("*.md")}, (
        "link each page of docs/ from src/tokenferry/cli/pages"
    )


def test_it_tells_its_licence_and_needs(wheel: Path, project: dict[str, Any]) -> None:
    info = f"tokenferry-{project['version']}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"{info}/METADATA").decode()
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    extras = sum(map(len, project["optional-dependencies"].values()))
    assert metadata.count("\nRequires-Dist: ") == len(project["dependencies"]) + extras
    assert f"\nRequires-Python: {project['requires-python']}\n" in metadata


def test_it_works_where_it_alone_is_installed(wheel: Path, project: dict[str, Any], tmp_path: Path) -> None:
    python = install_alone(wheel, tmp_path / "venv")
    check_installed(python, tmp_path, project["version"])
