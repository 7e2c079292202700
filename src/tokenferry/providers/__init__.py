from tokenferry.providers._declare import (
    ENTERPRISE_URL,
    PLACE_EXAMPLES,
    builtin_providers,
    declare,
    key_shapes,
    names_place,
)
from tokenferry.providers._environment_proxy import ProxyExemption, proxy_exemptions, proxy_variable
from tokenferry.providers._pass_through import indistinct, may_pass_through
from tokenferry.providers._presets import Preset, presets
from tokenferry.providers._provider import (
    KIND_OF_AUTH_TYPE,
    AuthType,
    Provider,
    WireFormat,
    account_of_key,
    logs_in_at_subscription,
)
from tokenferry.providers._table import Fault, Reading, Setting, Table, is_loopback, pattern_fault, url_fault
from tokenferry.providers._vendors import is_builtin_vendor, vendor_hosts

__all__ = [
    "ENTERPRISE_URL",
    "KIND_OF_AUTH_TYPE",
    "PLACE_EXAMPLES",
    "AuthType",
    "Fault",
    "Preset",
    "Provider",
    "ProxyExemption",
    "Reading",
    "Setting",
    "Table",
    "WireFormat",
    "account_of_key",
    "builtin_providers",
    "declare",
    "indistinct",
    "is_builtin_vendor",
    "is_loopback",
    "key_shapes",
    "logs_in_at_subscription",
    "may_pass_through",
    "names_place",
    "pattern_fault",
    "presets",
    "proxy_exemptions",
    "proxy_variable",
    "url_fault",
    "vendor_hosts",
]
