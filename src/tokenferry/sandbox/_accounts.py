import uuid
from dataclasses import dataclass, field
from types import MappingProxyType

from tokenferry.sandbox._mint import fixed

SCOPES = (
    "org:create_api_key",
    "user:profile",
    "user:inference",
    "user:sessions:claude_code",
    "user:mcp_servers",
    "user:file_upload",
)
DEFAULT_SCOPES = SCOPES[:3]
SETUP_SCOPE = "user:inference"
SETUP_LIFETIME = 31_536_000  # seconds: one year

ACCESS_PREFIX = "sk-ant-oat01-"
REFRESH_PREFIX = "sk-ant-ort01-"
KEY_PREFIX = "sk-ant-api03-"
LONG_LIVED_PREFIX = "gho_"


@dataclass(frozen=True)
class Account:
    name: str
    full_name: str
    subscription: str | None = None
    can_login: bool = True
    can_create_keys: bool = False
    email: str = field(init=False)
    uuid: str = field(init=False)
    organization_uuid: str = field(init=False)
    organization_name: str = field(init=False)
    api_key: str = field(init=False, repr=False)
    setup_token: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        derived = {
            "email": f"{self.name}@example.com",
            "uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.name}.account.sandbox")),
            "organization_uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.name}.organization.sandbox")),
            "organization_name": f"{self.full_name}'s organization",
            "api_key": f"{KEY_PREFIX}sandbox-{self.name}-{fixed(f'api key of {self.name}', 72)}",
            "setup_token": f"{ACCESS_PREFIX}sandbox-{self.name}-setup-{fixed(f'setup token of {self.name}', 80)}",
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)


ACCOUNTS = MappingProxyType(
    {
        account.name: account
        for account in (
            Account("alice", "Alice Adams", subscription="max"),
            Account("bob", "Bob Brown", subscription="pro"),
            Account("carol", "Carol Clark", can_create_keys=True),
            Account("dave", "Dave Dunn", can_login=False),
        )
    },
)


def find(name_or_email: str) -> Account | None:
    return ACCOUNTS.get(name_or_email.removesuffix("@example.com"))
