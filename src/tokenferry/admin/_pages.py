"""The few keyless pages. They load nothing and run no script."""

from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Final

from starlette.responses import HTMLResponse

_STYLE: Final = (
    "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:38rem;margin:4rem auto;padding:0 1.5rem;color:#222;"
    "background:#fff}h1{font-size:1.5rem}code{display:block;padding:.8rem;background:#eee;border-radius:.3rem;"
    "overflow-wrap:anywhere;user-select:all}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}code{background:#303030}}"
)
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode('ascii')}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page(status: int, title: str, *paragraphs: str, code: str | None = None) -> HTMLResponse:
    """Render a page of plain text, optionally with a text to copy."""
    parts = [f"<p>{escape(text)}</p>" for text in paragraphs]
    if code is not None:
        parts.append(f"<code>{escape(code)}</code>")
    content = (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>tokenferry: {escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{escape(title)}</h1>{''.join(parts)}</html>\n"
    )
    return HTMLResponse(content, status, {"content-security-policy": _POLICY})
