"""A release: a commit gives the same bytes twice, and the wheel works on the oldest Python and the newest here."""

import shutil
import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

import tokenferry
from e2e.conftest import Tell
from e2e.parties import COMMAND, lacking

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = spec_from_file_location("release", ROOT / "scripts" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_a_commit_gives_the_same_bytes_twice_and_they_work(release: ModuleType, tmp_path: Path, tell: Tell) -> None:
    first, second = (release.build(tmp_path / name, epoch="1790000000") for name in ("one", "two"))
    assert {path.suffix for path in first} == {".whl", ".gz"}
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    (wheel,) = (path for path in first if path.suffix == ".whl")
    for number, python in enumerate(release.pythons()):
        (folder := tmp_path / str(number)).mkdir()
        tell(f"release: the wheel works on Python {release.install(python, wheel, tokenferry.__version__, folder)}")


def test_the_manual_page_and_the_completions_are_sound(tmp_path: Path) -> None:
    page = tmp_path / "tokenferry.1"
    page.write_bytes(subprocess.run([COMMAND, "help", "man"], capture_output=True, check=True).stdout)
    if shutil.which("groff") is None:
        lacking("groff")
    drawn = subprocess.run(
        ["groff", "-man", "-Tutf8", "-P-cbou", "-ww", page], capture_output=True, text=True, check=True
    )
    assert drawn.stderr == ""
    assert "--min-ttl SECONDS" in drawn.stdout.replace("\N{HYPHEN}", "-").replace("\N{MINUS SIGN}", "-")
    for shell in ("bash", "zsh", "fish"):
        variables = {"_TOKENFERRY_COMPLETE": f"source_{shell}", "PATH": "/usr/bin:/bin"}
        made = subprocess.run([COMMAND], env=variables, capture_output=True, text=True, check=True).stdout
        assert "tokenferry" in made
        if shutil.which(shell):
            subprocess.run([shell, "-n"], input=made, text=True, check=True)
