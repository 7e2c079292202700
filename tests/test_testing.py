import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

TESTS = """
def test_one(tokenferry_sandbox):
    tokenferry_sandbox.fault("hang", times=None)
    tokenferry_sandbox.advance(10**6)
    tokenferry_sandbox.settings("alice", token_lifetime=1)
    bundle = tokenferry_sandbox.issue("alice")
    tokenferry_sandbox.revoke("alice", "api-key")
    test_one.bundle = bundle

def test_two(tokenferry_sandbox):
    import time, urllib.request
    assert urllib.request.urlopen(tokenferry_sandbox.url + "/api/hello", timeout=20).status == 200
    assert abs(tokenferry_sandbox.now() - time.time()) < 60
    bundle = tokenferry_sandbox.issue("alice")
    assert bundle["expires_at"] > time.time() + 1000
    assert bundle["access_token"] == test_one.bundle["access_token"]
    assert tokenferry_sandbox.counters()["totals"]["requests"] == 1
"""


def run_pytest(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    (folder / "test_users.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *options, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_the_fixture_is_there_for_who_asks_for_it_and_fresh_for_every_test(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["tokenferry.testing"]')
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_the_plugin_loads_itself_in_no_other_project() -> None:
    assert [point.value for point in entry_points(group="pytest11") if point.value.startswith("tokenferry")] == []


def test_loading_the_plugin_imports_no_sandbox() -> None:
    script = "import sys, tokenferry.testing; print([m for m in sys.modules if m.startswith('tokenferry.')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "['tokenferry.testing']\n"
