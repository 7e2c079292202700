from tokenferry.broker import Revocation
from tokenferry.cli._output import note


def tell_revocation(revocation: Revocation) -> None:
    """Say why a login may live on that was to be ended."""
    if revocation.reason:
        note(f"its login could not be ended at the provider, where it lives on until it expires: {revocation.reason}")
