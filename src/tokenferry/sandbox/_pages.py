from collections.abc import Iterable
from html import escape

from tokenferry.sandbox._accounts import ACCOUNTS
from tokenferry.sandbox._http import Answer

_HEADERS = [
    ("content-type", "text/html; charset=utf-8"),
    ("cache-control", "no-store"),
    # No form-action: browsers apply it to the redirect that answers the form, which goes to the client's port.
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
]


def page(title: str, body: str, status: int = 200) -> Answer:
    """A whole page around `body`, which is HTML already."""
    text = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><h1>{escape(title)}</h1>{body}"
    )
    return Answer(status, list(_HEADERS), text.encode())


def message(title: str, text: str, status: int = 200) -> Answer:
    return page(title, f"<p>{escape(text)}</p>", status)


def choice(title: str, text: str, action: str, hidden: Iterable[tuple[str, str]], extra: str = "") -> Answer:
    """A form with a button for each account that can log in, and a button to refuse."""
    fields = "".join(f'<input type=hidden name="{escape(name)}" value="{escape(value)}">' for name, value in hidden)
    buttons = "".join(
        f'<p><button name=account value="{account.name}">{escape(f"{account.full_name}, {account.email}")}</button>'
        for account in ACCOUNTS.values()
        if account.can_login
    )
    deny = "<p><button name=deny value=1>Deny</button>"
    form = f'<form method=post action="{escape(action)}">{fields}{extra}{buttons}{deny}</form>'
    return page(title, f"<p>{escape(text)}</p>{form}")


def code_page(code: str) -> Answer:
    return page(
        "Sandbox login", f"<p>Copy this into the program that asked for it:</p><pre id=code>{escape(code)}</pre>"
    )
