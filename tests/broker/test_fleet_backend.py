"""A host is known by its spill folder and by the namespace of its process ids."""

from pathlib import Path

from tokenferry.broker._fleet_backend import host_name


def test_a_host_has_one_name_and_no_other_host_has_it(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine" / "spill", tmp_path / "other" / "spill"
    assert host_name(mine) == host_name(mine)
    assert host_name(mine).partition(":")[0] != host_name(other).partition(":")[0]
    assert (mine / "host").stat().st_mode & 0o777 == 0o600
    assert host_name(mine).endswith(Path("/proc/self/ns/pid").readlink().name)
