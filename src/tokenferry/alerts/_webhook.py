"""Delivers an alert: a POST of JSON, to https or this machine alone, signed if there is a secret."""

import hmac
import json
import socket
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from tokenferry.errors import TokenferryError
from tokenferry.settings import AlertSettings
from tokenferry.stores import read_private_file

if TYPE_CHECKING:
    from tokenferry.alerts._alerts import Alert

SIGNATURE: Final = "x-tokenferry-signature"
_TIMEOUT: Final = 10.0
_MULTIPLE_CHOICES: Final = 300


def sign(secret: bytes, at: int, body: bytes) -> str:
    """The signature's header: `t=TIME,v1=HEX`, an HMAC-SHA256 of the time (seconds since 1970 UTC), a dot and the body.

    A receiver computes the same, and refuses a time that is minutes away.
    """
    digest = hmac.new(secret, b"%d.%b" % (at, body), sha256).hexdigest()
    return f"t={at},v1={digest}"


def send_alert(settings: AlertSettings, alert: "Alert", now: float) -> str | None:
    """POST it, and wait 10 seconds at most for the answer; a redirect is not followed.

    Gives the reason where the webhook has not taken it. That names its host alone, for its path may be a secret.
    """
    import httpx2  # noqa: PLC0415  # 80 ms that only an alert should cost

    assert settings.webhook is not None
    content = {
        "kind": alert.kind,
        "subject": alert.subject,
        "message": alert.message,
        "at": int(now),
        "host": socket.gethostname(),
    }
    body = json.dumps(content).encode("ascii")
    headers = {"content-type": "application/json", "user-agent": "tokenferry"}
    parts = urlsplit(settings.webhook.reveal())
    try:
        if settings.secret_file is not None:
            headers[SIGNATURE] = sign(read_private_file(settings.secret_file).strip(), int(now), body)
        with httpx2.Client(timeout=_TIMEOUT, trust_env=parts.scheme == "https", follow_redirects=False) as client:
            answer = client.post(settings.webhook.reveal(), content=body, headers=headers)
    except (httpx2.HTTPError, OSError, TokenferryError) as fault:
        reason = str(fault) if isinstance(fault, TokenferryError) else type(fault).__name__
        return f"the webhook at {parts.hostname} could not be asked ({reason})"
    is_taken = answer.status_code < _MULTIPLE_CHOICES
    return None if is_taken else f"the webhook at {parts.hostname} answered {answer.status_code}"
