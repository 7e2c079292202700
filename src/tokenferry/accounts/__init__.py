from tokenferry.accounts._book import AccountBook, Listing
from tokenferry.accounts._entry import read_credential
from tokenferry.accounts._implicit import CONFIGURATION, ENVIRONMENT, accounts_from_environment, accounts_from_keys
from tokenferry.accounts._machine import machine_id

__all__ = [
    "CONFIGURATION",
    "ENVIRONMENT",
    "AccountBook",
    "Listing",
    "accounts_from_environment",
    "accounts_from_keys",
    "machine_id",
    "read_credential",
]
