"""Logging in: the address on this machine that the browser comes back to, what is pasted, and the exchange."""

from tokenferry.login._api_key import make_api_key
from tokenferry.login._browser import open_browser
from tokenferry.login._device import DeviceLogin
from tokenferry.login._login import LIMIT, Addresses, LoginFlow, Wishes, redirect_for_paste
from tokenferry.login._paste import Paste
from tokenferry.login._profile import identified

__all__ = [
    "LIMIT",
    "Addresses",
    "DeviceLogin",
    "LoginFlow",
    "Paste",
    "Wishes",
    "identified",
    "make_api_key",
    "open_browser",
    "redirect_for_paste",
]
