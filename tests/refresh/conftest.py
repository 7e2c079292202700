from collections.abc import Iterator

import pytest

from refresh.rig import Rig
from tokenferry.settings import Home


@pytest.fixture
def rig(home: Home) -> Iterator[Rig]:
    rig = Rig(home)
    yield rig
    rig.close()
