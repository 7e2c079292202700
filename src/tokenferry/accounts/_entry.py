"""Reads the credential that a person types or a program pipes in."""

from typing import Final

from tokenferry.credentials import (
    SETUP_TOKEN_PREFIX,
    ApiKey,
    Credential,
    ExchangedToken,
    FederatedToken,
    Kind,
    SetupToken,
    credential_from_json,
)
from tokenferry.errors import UsageError
from tokenferry.interchange import EXPIRIES, read_expiry, read_secret, read_time
from tokenferry.secret import Fields, HiddenBytes, decode_text, parse_object, parse_secret

_ALIASES: Final = {"account_email": "email", "scope": "scopes", "account_uuid": "account_id"}


def read_credential(raw: bytes, kind: Kind | None, default: Kind) -> Credential:
    """Parse a credential: a bare key or token, or a JSON object for OAuth.

    `kind` defaults to the kind of the prefix, then to `default`. Raises `UsageError`, which never quotes the input.
    """
    text = HiddenBytes(decode_text(raw).strip().encode())
    del raw  # a traceback shows the locals of this frame
    kind = kind or _kind_of(text, default)
    if kind in {FederatedToken.kind, ExchangedToken.kind}:
        del text
        raise UsageError(
            "an exchanged token can't be added; leave out --kind to add the long-lived token, or for a workload run: "
            "tokenferry account add NAME --workload-identity"
        )
    try:
        if kind == "oauth":
            return _oauth(text)
        secret = parse_secret(text.decode("ascii"))
        return SetupToken(secret) if kind == "setup-token" else ApiKey(secret)
    except UnicodeDecodeError:
        fault = "it holds characters that no key has; paste the key alone, without quotes"
    except (ValueError, UsageError) as problem:
        fault = str(problem)
    del text
    raise UsageError(f"the {'login' if kind == 'oauth' else kind} given is not usable: {fault}")


def _kind_of(text: bytes, default: Kind) -> Kind:
    if text.startswith(b"{"):
        return "oauth"
    if text.startswith(SETUP_TOKEN_PREFIX.encode()):
        return "setup-token"
    return "api-key" if default == "oauth" and text.startswith(b"sk-ant-api") else default


def _oauth(text: bytes) -> Credential:
    fields = parse_object(text)
    del text
    if fields is None:
        raise UsageError(
            "an OAuth login is given as one JSON object: "
            '{"access_token": "...", "refresh_token": "...", "expires_at": SECONDS}; it may have expired'
        )
    for alias, name in _ALIASES.items():
        if alias in fields:
            fields.setdefault(name, fields.pop(alias))
    if fields.get("expires_at") is None and (expires_at := read_expiry(fields)) is not None:
        fields = Fields(fields.without(*EXPIRIES), expires_at=expires_at)
    if isinstance(fields.get("obtained_at"), str):
        fields["obtained_at"] = read_time(fields, "obtained_at")
    fields["source"] = fields.get("source") or "added"
    credential = credential_from_json("oauth", fields)
    for name in ("access_token", "refresh_token"):
        read_secret(fields, name)
    return credential
