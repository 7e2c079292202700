"""A browser without JavaScript: it keeps the session's cookie, follows links and sends the forms that it finds."""

import re
from collections.abc import Mapping
from html import unescape
from urllib.parse import urlencode

import httpx2

from admin.rig import PATIENCE, Api

SAME: dict[str, str] = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


class Person:
    def __init__(self, api: Api) -> None:
        self.api = api
        self.host = api.origin.partition("//")[2]
        self.cookie = ""

    def send(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, content: str | None = None
    ) -> httpx2.Response:
        """One request; no redirect is followed."""
        sent = {"host": self.host, **SAME, **(headers or {})}
        if self.cookie:
            sent["cookie"] = self.cookie
        with httpx2.Client(base_url=self.api.url, timeout=PATIENCE, trust_env=False) as client:
            answer = client.request(method, path, headers={k: v for k, v in sent.items() if v}, content=content)
        for cookie in answer.headers.get_list("set-cookie"):
            self.cookie = cookie.partition(";")[0] if "Max-Age=0" not in cookie else ""
        return answer

    def open(self, path: str, **headers: str) -> httpx2.Response:
        return self.send("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> httpx2.Response:
        more = {"origin": self.api.origin, "content-type": "application/x-www-form-urlencoded", **(headers or {})}
        return self.send("POST", path, headers=more, content=urlencode(form))

    def sign_in(self, key: str) -> httpx2.Response:
        return self.post("/dashboard/sign-in", {"key": key})

    def act(self, page: str, action: str, **fields: str) -> httpx2.Response:
        """Fill in the form of a page that leads to this action, send it, and follow where that leads."""
        answer = self.post(action, {**hidden(self.open(page).text, action), **fields})
        return self.open(answer.headers["location"]) if answer.status_code == 303 else answer


def hidden(page: str, action: str) -> dict[str, str]:
    """The hidden fields of the form of this action. Fails if the page has none."""
    for form in re.findall(r"<form[^>]*>.*?</form>", page, re.DOTALL):
        if f'action="{action}"' in form:
            fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', form)
            return {unescape(name): unescape(value) for name, value in fields}
    raise AssertionError(f"the page has no form for {action}")
