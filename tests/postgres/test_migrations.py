"""The migrations of the shared database; `make e2e` runs them."""

from pathlib import Path

import tokenferry

FOLDER = Path(tokenferry.__path__[0]) / "postgres" / "migrations"


def test_each_migration_has_a_number_of_its_own_without_a_gap() -> None:
    names = sorted(path.name for path in FOLDER.glob("*.sql"))
    assert [int(name[:4]) for name in names] == [*range(1, len(names) + 1)]
    assert len(names) >= 5
