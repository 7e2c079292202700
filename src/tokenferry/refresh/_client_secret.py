from pathlib import Path

from tokenferry.errors import NeedsLogin
from tokenferry.oauth import OAuthEndpoints
from tokenferry.secret import Secret
from tokenferry.stores import read_private_file


def read_client_secret(endpoints: OAuthEndpoints) -> Secret | None:
    """Read the client secret of a confidential client; None for a public one. Raises `NeedsLogin`, `UnsafeFile`."""
    if endpoints.client_secret_file is None:
        return None
    path = Path(endpoints.client_secret_file).expanduser()
    try:
        return Secret(read_private_file(path).decode("ascii", "replace").strip())
    except FileNotFoundError:
        raise NeedsLogin(
            f"{path} not found; put the client secret there, or correct client_secret_file under [providers.oauth]"
        ) from None
    except ValueError as fault:
        raise NeedsLogin(f"{path} holds no usable client secret: {fault}") from None
