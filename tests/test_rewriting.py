import importlib.util
from pathlib import Path

import pytest
from _pytest.assertion import rewrite as of_pytest

from rewriting import rewrite


def test_what_is_made_of_a_test_file_beforehand_is_what_pytest_imports(
    tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    file = tmp_path / "test_of_one.py"
    file.write_text("def fails(found):\n    assert found == 2\n")
    rewrite([file], pytestconfig)
    monkeypatch.delattr(of_pytest, "_rewrite_test")
    state = pytestconfig.stash[of_pytest.assertstate_key]
    assert state.hook is not None
    spec = importlib.util.spec_from_file_location(file.stem, file, loader=state.hook)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    state.hook.exec_module(module)
    with pytest.raises(AssertionError, match="assert 1 == 2"):
        module.fails(1)
