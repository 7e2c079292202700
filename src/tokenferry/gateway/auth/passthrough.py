"""A credential of the client's own, which is passed on to its vendor and never elsewhere."""

from tokenferry.credentials import API_KEY_PREFIX, CLIENT_KEY_PREFIXES, ApiKey
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.gateway.http.headers import EncodedCredential, Header
from tokenferry.gateway.http.request_head import RequestHead
from tokenferry.secret import Secret


def own_credential(head: RequestHead) -> Secret | None:
    """The credential that a client sends beside its key; None for none, or for a key of this gateway.

    Raises `GatewayError` for two, and for one that could not be sent.
    """
    if not head.keys:
        return None
    try:
        found = {Secret(value) for value in map(_value, head.credentials) if value}
    except ValueError:
        raise _refusal("the credential beside x-tokenferry-key holds what no header can") from None
    found = {one for one in found if not one.reveal().startswith(CLIENT_KEY_PREFIXES)}
    if len(found) > 1:
        raise _refusal("two credentials were sent beside x-tokenferry-key; send the one that is meant")
    return found.pop() if found else None


def presented_own(head: RequestHead) -> EncodedCredential | None:
    """The client's own credential, where the client put it; an API key of the vendor's where it belongs."""
    secret = own_credential(head)
    if secret is None:
        return None
    is_key = secret.reveal().startswith(API_KEY_PREFIX)
    is_bearer = not is_key and any(one[0] == b"authorization" and _value(one) for one in head.credentials)
    return EncodedCredential(ApiKey(secret, header="authorization" if is_bearer else "x-api-key"))


def _value(header: Header) -> str:
    name, value = header
    if name == b"authorization":
        scheme, _, value = value.partition(b" ")
        if scheme.lower() != b"bearer":
            return ""
    return value.strip().decode("latin-1")


def _refusal(message: str) -> GatewayError:
    return GatewayError(400, "invalid_request_error", message, cause="own_credential")
