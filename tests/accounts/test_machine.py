import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tokenferry.accounts import machine_id


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    sources = tmp_path / "machine-id", tmp_path / "dbus-id"
    monkeypatch.setattr("tokenferry.accounts._machine._SOURCES", sources)
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(nodename="laptop"))
    return sources


def test_a_machine_keeps_its_name() -> None:
    assert machine_id() == machine_id()
    assert re.fullmatch("[0-9a-f]{16}", machine_id())


def test_the_machine_s_own_id_is_named_but_not_shown(sources: tuple[Path, Path]) -> None:
    sources[0].write_text("0123456789abcdef0123456789abcdef\n")
    first = machine_id()
    assert first not in sources[0].read_text()
    sources[0].write_text("1123456789abcdef0123456789abcdef\n")
    assert machine_id() != first


def test_without_one_the_next_source_and_then_the_host_s_name_counts(
    sources: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_name = machine_id()
    sources[0].write_text(" \n")
    assert machine_id() == by_name
    sources[1].write_bytes(b"0123\xff")
    assert machine_id() != by_name
    sources[1].unlink()
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(nodename="other"))
    assert machine_id() != by_name
