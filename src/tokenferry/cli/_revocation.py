from tokenferry.broker import Revocation
from tokenferry.cli._output import note


def tell_revocation(revocation: Revocation) -> None:
    """Say why a login may live on that was to be ended."""
    if revocation.reason:
        note(f"its login could not be revoked at the provider, and is valid until it expires: {revocation.reason}")
