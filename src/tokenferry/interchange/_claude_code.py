from typing import Any

from tokenferry.credentials import OAuthToken
from tokenferry.errors import UsageError
from tokenferry.interchange._entry import Entry
from tokenferry.secret import Fields


def parse_claude_code(raw: bytes) -> tuple[Entry, ...]:
    """Read the login in a credentials document of Claude Code. Raises `UsageError` for another format."""
    from tokenferry.claude_code import parse  # noqa: PLC0415  # few have such a file, and it brings subprocess

    login = parse(raw)
    if login.state == "unparsable":
        raise UsageError(login.fault)
    if login.state in {"logged-out", "section-missing"}:
        return (Entry("", fault="logged out", provider="claude-max"),)
    return (Entry("", login.token, provider="claude-max"),)


def looks_like_claude_code(value: Any) -> bool:
    """Return whether a JSON value can be such a document."""
    return isinstance(value, Fields) and "claudeAiOauth" in value


def render_claude_code(token: OAuthToken) -> bytes:
    """Give a new document with this login, secrets revealed."""
    from tokenferry.claude_code import parse, put_in  # noqa: PLC0415  # see above

    return put_in(parse(None), token)
