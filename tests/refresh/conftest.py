from collections.abc import Iterator

import pytest

from refresh.rig import Rig
from tokenferry.refresh import _flow as flow
from tokenferry.settings import Home


@pytest.fixture
def rig(home: Home) -> Iterator[Rig]:
    rig = Rig(home)
    yield rig
    rig.close()


@pytest.fixture
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "_SIBLING_WAIT", 0.0)
    monkeypatch.setattr(flow, "_REPUBLISH_EVERY", 0.02)
