"""Logging in by browser, pasted code or device code."""

from tokenferry.login._api_key import make_api_key
from tokenferry.login._browser import open_browser
from tokenferry.login._device import DeviceLogin
from tokenferry.login._login import LIMIT, Addresses, LoginFlow, LoginOptions, redirect_for_paste
from tokenferry.login._paste import Paste
from tokenferry.login._profile import identified

__all__ = [
    "LIMIT",
    "Addresses",
    "DeviceLogin",
    "LoginFlow",
    "LoginOptions",
    "Paste",
    "identified",
    "make_api_key",
    "open_browser",
    "redirect_for_paste",
]
