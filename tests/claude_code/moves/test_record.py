import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from tokenferry.claude_code.moves import MoveFile, MoveRecord
from tokenferry.errors import CorruptFile, UnsafeFile

RECORD = MoveRecord(
    to="bob",
    home="alice",
    step="preparing",
    place="/some/.credentials.json",
    config_dir="/some",
    present="a" * 64,
    coming="b" * 64,
    account_id="uuid",
    organization_id=None,
    at=1_800_000_000,
)


@pytest.fixture
def file(tmp_path: Path) -> MoveFile:
    return MoveFile(tmp_path / "home" / "moves" / "claude-code.json")


def test_it_reads_what_it_wrote_until_it_is_removed(file: MoveFile) -> None:
    assert file.read() is None
    for record in (RECORD, replace(RECORD, step="writing", home=None, present=None)):
        file.write(record)
        assert file.read() == record
        assert file.path.stat().st_mode & 0o777 == 0o600
    file.remove()
    file.remove()
    assert file.read() is None


@pytest.mark.parametrize("change", [{"version": 2}, {"step": "done"}, {"to": None}, {"at": "now"}, {"coming": 1}])
def test_what_it_does_not_know_is_reported_and_left(file: MoveFile, change: dict[str, object]) -> None:
    file.write(RECORD)
    fields = json.loads(file.path.read_bytes()) | change
    file.path.write_text(json.dumps(fields))
    with pytest.raises(CorruptFile, match="claude auth status"):
        file.read()
    file.path.write_text("{")
    with pytest.raises(CorruptFile):
        file.read()
    file.path.chmod(0o644)
    with pytest.raises(UnsafeFile):
        file.read()
    assert file.path.read_text() == "{"
