"""Where state or ledger of a test is kept: in a file; under `make e2e` in PostgreSQL, too, unless it needs `file`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenferry.state import Database

VERSIONS: tuple[str, ...] = ()
if os.environ.get("TOKENFERRY_E2E"):
    from e2e.postgres import VERSIONS, postgres_servers

    __all__ = ["postgres_servers"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "place" in metafunc.fixturenames:
        servers = () if "file" in metafunc.fixturenames else VERSIONS
        places = [pytest.param(f"postgres-{one}", marks=pytest.mark.e2e) for one in servers]
        metafunc.parametrize("place", ["file", *places], indirect=True)


@pytest.fixture
def file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder / f"{_area(request)}.db"


@pytest.fixture
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(place: str, request: pytest.FixtureRequest) -> "Iterator[Path | Database]":
    """What a `State` or a `Ledger` is opened over."""
    if place == "file":
        yield request.getfixturevalue("file")
        return
    from tokenferry.postgres import PostgresDatabase  # noqa: PLC0415  # an extra

    with request.getfixturevalue("postgres_servers").connections(place.rpartition("-")[2]) as connections:
        yield PostgresDatabase(connections, _area(request))


def _area(request: pytest.FixtureRequest) -> "Literal['state', 'ledger']":
    return "ledger" if request.path.parent.name == "ledger" else "state"
