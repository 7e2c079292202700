from collections.abc import Iterator

import pytest

from admin.rig import Api, running_api
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home


@pytest.fixture
def sandbox(tokenferry_sandbox: Sandbox) -> Sandbox:
    return tokenferry_sandbox


@pytest.fixture
def api(home: Home, sandbox: Sandbox) -> Iterator[Api]:
    with running_api(home, sandbox.url) as api:
        yield api
