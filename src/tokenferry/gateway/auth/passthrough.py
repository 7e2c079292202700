"""The client's own credential, which is passed only to its vendor."""

from tokenferry.credentials import API_KEY_PREFIX, CLIENT_KEY_PREFIXES, ApiKey
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.gateway.http.headers import EncodedCredential, Header
from tokenferry.gateway.http.request_head import RequestHead
from tokenferry.secret import Secret


def own_credential(head: RequestHead) -> Secret | None:
    """Give the credential that a client sends beside its key; None without one, or for a key of this gateway.

    Raises `GatewayError` for two credentials, and for one with characters that no header may hold.
    """
    if not head.keys:
        return None
    try:
        found = {Secret(value) for value in map(_value, head.credentials) if value}
    except ValueError:
        raise _refusal("the credential beside x-tokenferry-key has characters that no header may hold") from None
    found = {one for one in found if not one.reveal().startswith(CLIENT_KEY_PREFIXES)}
    if len(found) > 1:
        raise _refusal("two credentials were sent beside x-tokenferry-key; send only one")
    return found.pop() if found else None


def presented_own(head: RequestHead) -> EncodedCredential | None:
    """Give the client's own credential in its header: Anthropic's API keys in x-api-key, others as sent."""
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
