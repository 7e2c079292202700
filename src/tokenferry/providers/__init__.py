from tokenferry.providers._declare import builtin_providers, declare
from tokenferry.providers._provider import KIND_OF_AUTH_TYPE, AuthType, Provider, logs_in_at_subscription
from tokenferry.providers._table import Setting, SettingKind, Table, is_loopback, url_fault

__all__ = [
    "KIND_OF_AUTH_TYPE",
    "AuthType",
    "Provider",
    "Setting",
    "SettingKind",
    "Table",
    "builtin_providers",
    "declare",
    "is_loopback",
    "logs_in_at_subscription",
    "url_fault",
]
