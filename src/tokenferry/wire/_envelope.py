"""What marks reasoning with its issuer, in the one field of a thinking block that clients keep: its signature."""

from base64 import urlsafe_b64encode
from typing import Final

PREFIX: Final = "tokenferry.reasoning."


def seal(domain: str) -> str:
    """The signature of reasoning by this domain: a provider and a family of its models."""
    return PREFIX + urlsafe_b64encode(domain.encode()).decode("ascii")


def is_of(signature: str, domain: str) -> bool:
    """Tell whether reasoning with this signature came from this domain, so that it may go back there."""
    return signature == seal(domain)
