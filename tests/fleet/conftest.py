from pathlib import Path

import pytest

from fleet.rig import TwoHosts


@pytest.fixture
def fleet(tmp_path: Path) -> TwoHosts:
    return TwoHosts(tmp_path)
