from typing import Annotated, TypeAlias

from fastapi import Depends, Request

from tokenferry.state import ClientKey


async def _client_key(request: Request) -> ClientKey:
    key = request.state.client_key
    assert isinstance(key, ClientKey)
    return key


Key: TypeAlias = Annotated[ClientKey, Depends(_client_key)]
"""The admin key that the gateway has checked."""
