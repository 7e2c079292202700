from tokenferry.stores.anthropic_profiles._document import (
    SDK_URL,
    ProfileConfig,
    parse_config,
    parse_credentials,
    render_config,
    render_credentials,
)
from tokenferry.stores.anthropic_profiles._folder import (
    DEFAULT_PROFILE,
    FOLDER_VARIABLE,
    PROFILE_VARIABLE,
    ProfileFolder,
    check_profile_name,
)
from tokenferry.stores.anthropic_profiles._store import (
    FOLDER_LABEL,
    PROFILE_LABEL,
    STORE,
    AnthropicProfileStore,
    profile_account,
)

__all__ = [
    "DEFAULT_PROFILE",
    "FOLDER_LABEL",
    "FOLDER_VARIABLE",
    "PROFILE_LABEL",
    "PROFILE_VARIABLE",
    "SDK_URL",
    "STORE",
    "AnthropicProfileStore",
    "ProfileConfig",
    "ProfileFolder",
    "check_profile_name",
    "parse_config",
    "parse_credentials",
    "profile_account",
    "render_config",
    "render_credentials",
]
