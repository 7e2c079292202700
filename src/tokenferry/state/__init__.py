"""What this machine knows besides credentials, in one SQLite file that all processes share."""

from tokenferry.state._database import Database
from tokenferry.state._keys import INFERENCE_PREFIX, ClientKey, ClientKeys
from tokenferry.state._local_key import LOCAL_KEY_NAME, local_key, read_local_key
from tokenferry.state._state import State

__all__ = [
    "INFERENCE_PREFIX",
    "LOCAL_KEY_NAME",
    "ClientKey",
    "ClientKeys",
    "Database",
    "State",
    "local_key",
    "read_local_key",
]
