"""A pytest plugin: the fixture `tokenferry_sandbox`, for projects that ask for it.

pytest_plugins = ["tokenferry.testing"]  # in the topmost conftest.py; or: pytest -p tokenferry.testing

def test_my_program(tokenferry_sandbox):
    key = tokenferry_sandbox.api_key("alice")
    client = anthropic.Anthropic(api_key=key, base_url=tokenferry_sandbox.url)
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenferry.sandbox import Sandbox

__all__ = ["tokenferry_sandbox"]


@pytest.fixture(scope="session")
def _tokenferry_sandbox_server() -> "Iterator[Sandbox]":
    from tokenferry.sandbox import Sandbox  # noqa: PLC0415  # most runs use no sandbox

    with Sandbox(seed="tokenferry") as sandbox:
        yield sandbox


@pytest.fixture
def tokenferry_sandbox(_tokenferry_sandbox_server: "Sandbox") -> "Iterator[Sandbox]":
    """A fake provider on loopback, in its first state: `tokenferry.sandbox.Sandbox`.

    One server serves the whole session, and is reset before and after each test. Its tokens are the same in each run.
    """
    _tokenferry_sandbox_server.reset()
    yield _tokenferry_sandbox_server
    _tokenferry_sandbox_server.reset()
