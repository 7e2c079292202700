"""Programs that call the gateway: their wire format, their settings, and the variables that they read."""

from tokenferry.clients._env_text import EnvText
from tokenferry.clients._formats import CLIENT_FORMATS, SERVED, ApiFormat, client_environment
from tokenferry.clients._json_text import JsoncText, JsonText
from tokenferry.clients._settings_file import SettingsFile
from tokenferry.clients._settings_text import HiddenText, Keys, SettingsText
from tokenferry.clients._setup import ClientSetup, SetupPlan
from tokenferry.clients._toml_text import TomlText
from tokenferry.clients._tools import (
    API_KEY_HELPER,
    BASE_URL,
    PRINTED_TOOLS,
    TOOLS,
    GatewayAccess,
    PrintedTool,
    Tool,
    ToolFile,
    check_served,
    started,
)

__all__ = [
    "API_KEY_HELPER",
    "BASE_URL",
    "CLIENT_FORMATS",
    "PRINTED_TOOLS",
    "SERVED",
    "TOOLS",
    "ApiFormat",
    "ClientSetup",
    "EnvText",
    "GatewayAccess",
    "HiddenText",
    "JsonText",
    "JsoncText",
    "Keys",
    "PrintedTool",
    "SettingsFile",
    "SettingsText",
    "SetupPlan",
    "TomlText",
    "Tool",
    "ToolFile",
    "check_served",
    "client_environment",
    "started",
]
