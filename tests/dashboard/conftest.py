from collections.abc import Iterator

import pytest

from admin.rig import Api, running_api
from dashboard.person import Person
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home


@pytest.fixture
def sandbox(tokenferry_sandbox: Sandbox) -> Sandbox:
    return tokenferry_sandbox


@pytest.fixture
def api(home: Home, sandbox: Sandbox) -> Iterator[Api]:
    with running_api(home, sandbox.url) as api:
        yield api


@pytest.fixture
def boss(api: Api) -> Person:
    """Somebody who has signed in with an admin key."""
    person = Person(api)
    assert person.sign_in(api.admin).status_code == 303
    return person
