"""Logging in: the address on this machine that the browser comes back to, what is pasted, and the exchange."""

from tokenferry.login._browser import open_browser
from tokenferry.login._login import LIMIT, Addresses, Login, Wishes
from tokenferry.login._paste import Paste

__all__ = ["LIMIT", "Addresses", "Login", "Paste", "Wishes", "open_browser"]
