from collections.abc import Iterator

import pytest

from integrations.rig import Rig
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home


@pytest.fixture
def rig(home: Home, tokenferry_sandbox: Sandbox) -> Iterator[Rig]:
    """Alice, logged in with a token that lives; the provider is the sandbox."""
    rig = Rig(home, tokenferry_sandbox)
    yield rig
    rig.close()
