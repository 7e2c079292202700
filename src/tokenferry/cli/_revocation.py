from tokenferry.broker import Revocation
from tokenferry.cli._output import note


def tell_revocation(revocation: Revocation) -> None:
    """Note that a login could not be revoked, and why."""
    if revocation.reason:
        note(f"its login could not be revoked at the provider, and is valid until it expires: {revocation.reason}")
