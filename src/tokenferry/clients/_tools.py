"""The tools that tokenferry can connect: the places of their settings, and the values to write there."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from msgspec import Struct

from tokenferry.clients._env_text import EnvText
from tokenferry.clients._formats import CLIENT_FORMATS, SERVED, ApiFormat
from tokenferry.clients._json_text import JsoncText, JsonText
from tokenferry.clients._settings_text import Keys, SettingsText
from tokenferry.clients._toml_text import TomlText
from tokenferry.errors import UsageError
from tokenferry.secret import Concealing

API_KEY_HELPER: Final[Keys] = ("apiKeyHelper",)
BASE_URL: Final[Keys] = ("env", "ANTHROPIC_BASE_URL")


class GatewayAccess(Concealing, frozen=True):
    """How a tool on this machine reaches the gateway.

    `command` prints the key; `key_file` (0600) holds it. `key` is for a tool that can do with neither.
    """

    hidden: ClassVar = ("key",)

    url: str
    command: tuple[str, ...]
    key_file: Path
    key: str = ""


class ToolFile(Concealing, frozen=True):
    """One settings file of a tool, and its required values; None for a setting that must be absent."""

    hidden: ClassVar = ("wanted",)

    path: Path
    syntax: type[SettingsText]
    wanted: Mapping[Keys, Any]
    holds_key: bool = False
    """Whether it contains the key itself, so that no other user may read the file."""
    others: tuple[Path, ...] = ()
    """Other places of the tool's settings, where they may have been written before."""

    def names(self, path: Path) -> bool:
        """Tell whether one of the settings names this path."""
        return any(str(path) in str(value) for value in self.wanted.values())

    def lines(self) -> str:
        """Give the file with only these settings."""
        settings = self.syntax(self.syntax.EMPTY)
        for keys, value in self.wanted.items():
            if value is not None:
                settings = settings.with_value(keys, settings.encode(value))
        return settings.text.strip()


class Tool(Struct, frozen=True):
    """A tool whose settings tokenferry writes. `program` is its command, which is looked up on PATH."""

    name: str
    title: str
    program: str
    api_format: ApiFormat
    files: Callable[[Mapping[str, str], Path, GatewayAccess], tuple[ToolFile, ...]]
    """Give its files, from the environment, the home directory and the gateway's address. Opens nothing."""
    arguments: Callable[[str], tuple[str, ...]] = lambda _: ()
    """Arguments that lead it to the gateway for one session, if it doesn't read its format's variables."""


def _shell(command: tuple[str, ...]) -> str:
    return shlex.join(command)


def _claude_code(environ: Mapping[str, str], person: Path, access: GatewayAccess) -> tuple[ToolFile, ...]:
    # https://code.claude.com/docs/en/settings and /llm-gateway
    path = Path(environ.get("CLAUDE_CONFIG_DIR") or person / ".claude").absolute() / "settings.json"
    return (ToolFile(path, JsonText, {API_KEY_HELPER: _shell(access.command), BASE_URL: access.url}),)


_CODEX: Final = ("model_providers", "tokenferry")


def _codex_settings(url: str) -> dict[Keys, Any]:
    # https://developers.openai.com/codex/config-advanced, "Custom model providers". Its web search runs at the vendor's
    # servers, so that requests which offer it can't be translated.
    return {
        ("model_provider",): "tokenferry",
        ("web_search",): "disabled",
        (*_CODEX, "name"): "tokenferry",
        (*_CODEX, "base_url"): f"{url}{CLIENT_FORMATS['openai-responses'].path}",
        (*_CODEX, "wire_api"): "responses",
    }


def _codex_arguments(url: str) -> tuple[str, ...]:
    settings = _codex_settings(url) | {(*_CODEX, "env_key"): CLIENT_FORMATS["openai-responses"].key}
    return tuple(part for keys, value in settings.items() for part in ("-c", f"{'.'.join(keys)}={json.dumps(value)}"))


def _codex(environ: Mapping[str, str], person: Path, access: GatewayAccess) -> tuple[ToolFile, ...]:
    wanted = (
        _codex_settings(access.url)
        | {  # `auth` must stand alone
            (*_CODEX, "env_key"): None,
            (*_CODEX, "experimental_bearer_token"): None,
            (*_CODEX, "requires_openai_auth"): None,
            (*_CODEX, "auth", "command"): access.command[0],
            (*_CODEX, "auth", "args"): list(access.command[1:]),
        }
    )
    folder = Path(environ.get("CODEX_HOME") or person / ".codex").absolute()
    return (ToolFile(folder / "config.toml", TomlText, wanted),)


def _opencode(environ: Mapping[str, str], person: Path, access: GatewayAccess) -> tuple[ToolFile, ...]:
    # https://opencode.ai/v1/docs/config and /providers ("Base URL", "{file:…}"); OpenCode 2 reads this file, too
    # (https://opencode.ai/v2/docs/migrate-v1). Of the two files the .jsonc is read last.
    folder = Path(environ.get("XDG_CONFIG_HOME") or person / ".config").absolute() / "opencode"
    paths = (folder / "opencode.jsonc", folder / "opencode.json")
    options = ("provider", "anthropic", "options")
    wanted: dict[Keys, Any] = {
        (*options, "baseURL"): f"{access.url}/v1",
        (*options, "apiKey"): f"{{file:{access.key_file}}}",
    }
    path, other = paths if paths[0].exists() else reversed(paths)
    return (ToolFile(path, JsoncText, wanted, others=(other,)),)


def _gemini_cli(environ: Mapping[str, str], person: Path, access: GatewayAccess) -> tuple[ToolFile, ...]:
    # https://geminicli.com/docs/reference/configuration: settings.json and .env in one folder. Without the selected
    # type the address alone picks a way of logging in that it then refuses (google-gemini/gemini-cli#27550).
    folder = Path(environ.get("GEMINI_CLI_HOME") or person).absolute() / ".gemini"
    gemini = CLIENT_FORMATS["gemini"]
    wanted: dict[Keys, Any] = {(gemini.base_url,): access.url, (gemini.key,): access.key}
    return (
        ToolFile(folder / "settings.json", JsoncText, {("security", "auth", "selectedType"): "gemini-api-key"}),
        ToolFile(folder / ".env", EnvText, wanted, holds_key=True),
    )


TOOLS: Final[Mapping[str, Tool]] = {
    tool.name: tool
    for tool in (
        Tool("claude-code", "Claude Code", "claude", "anthropic", _claude_code),
        Tool("codex", "Codex", "codex", "openai-responses", _codex, _codex_arguments),
        Tool("opencode", "OpenCode", "opencode", "anthropic", _opencode),
        Tool("gemini-cli", "Gemini CLI", "gemini", "gemini", _gemini_cli),
    )
}


def started(command: Sequence[str], url: str) -> list[str]:
    """Give the command for one session at the gateway with this address, with the arguments that its program needs."""
    tool = next((one for one in TOOLS.values() if one.program == Path(command[0]).name), None)
    return [command[0], *(() if tool is None else tool.arguments(url)), *command[1:]]


class PrintedTool(Struct, frozen=True):
    """A tool that is connected by hand: the settings by format, the preferred one first.

    In the lines {url} is the gateway's address, {command} prints the key, and {key} is a shell's call of it. `source`
    is the page that describes this.
    """

    name: str
    title: str
    source: str
    templates: Mapping[ApiFormat, str]

    def lines(self, access: GatewayAccess) -> list[str]:
        """Give the lines for the first format that is served. Raises `UsageError` if none is."""
        command = _shell(access.command)
        template = self.templates[check_served(self.title, *self.templates)]
        return template.format(url=access.url, command=command, key=f"$({command})").splitlines()


def _exports(base_url: str, key: str, path: str = "") -> str:
    return f'export {base_url}={{url}}{path}\nexport {key}="{{key}}"'


PRINTED_TOOLS: Final[Mapping[str, PrintedTool]] = {
    tool.name: tool
    for tool in (
        PrintedTool(
            "aider",
            "aider",
            "https://github.com/Aider-AI/aider/issues/1182",
            {
                "anthropic": _exports("ANTHROPIC_API_BASE", "ANTHROPIC_API_KEY") + "\naider --model sonnet",
                "openai": _exports("OPENAI_API_BASE", "OPENAI_API_KEY", "/v1"),
            },
        ),
        PrintedTool(
            "anthropic-sdk",
            "Anthropic's SDKs",
            "https://platform.claude.com/docs/en/api/client-sdks",
            {"anthropic": _exports("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN")},
        ),
        PrintedTool(
            "cline",
            "Cline",
            "https://docs.cline.bot/provider-config/anthropic",
            {
                "anthropic": "# In Cline's settings, under API Configuration:\nAPI Provider: Anthropic\n"
                "Use custom base URL: {url}\nAnthropic API Key: (what this prints: {command})",
            },
        ),
        PrintedTool(
            "continue",
            "Continue",
            "https://github.com/continuedev/continue/issues/13048",
            {
                "anthropic": "# ~/.continue/config.yaml\nmodels:\n  - name: Claude through tokenferry\n"
                "    provider: anthropic\n    model: claude-sonnet-4-5\n    apiBase: {url}/v1/\n"
                "    apiKey: ${{{{ secrets.TOKENFERRY_KEY }}}}\n\n"
                "# then, in a shell: its secrets, which only you may read\n"
                '(umask 077; echo "TOKENFERRY_KEY={key}" >> ~/.continue/.env)',
            },
        ),
        PrintedTool(
            "cursor",
            "Cursor",
            # Cursor's servers call the address, so that it must be reachable from the internet.
            "https://cursor.com/docs/settings/api-keys",
            {
                "openai": "# In Cursor's settings, under Models:\nOverride OpenAI Base URL: {url}/v1\n"
                "OpenAI API Key: (what this prints: {command})"
            },
        ),
        PrintedTool(
            "gemini-sdk",
            "Google's Gen AI SDKs",
            "https://ai.google.dev/gemini-api/docs/libraries",
            {"gemini": _exports("GOOGLE_GEMINI_BASE_URL", "GEMINI_API_KEY")},
        ),
        PrintedTool(
            "goose",
            "goose",
            "https://block.github.io/goose/docs/getting-started/providers",
            {"anthropic": f"export GOOSE_PROVIDER=anthropic\n{_exports('ANTHROPIC_HOST', 'ANTHROPIC_API_KEY')}"},
        ),
        PrintedTool(
            "langchain",
            "LangChain",
            "https://reference.langchain.com/python/langchain-anthropic/ChatAnthropic",
            {
                "anthropic": _exports("ANTHROPIC_API_URL", "ANTHROPIC_API_KEY"),
                "openai": _exports("OPENAI_API_BASE", "OPENAI_API_KEY", "/v1"),
            },
        ),
        PrintedTool(
            "openai-sdk",
            "OpenAI's SDKs",
            "https://github.com/openai/openai-python#configuring-the-http-client",
            {"openai": _exports("OPENAI_BASE_URL", "OPENAI_API_KEY", "/v1")},
        ),
        PrintedTool(
            "zed",
            "Zed",
            "https://github.com/zed-industries/zed/pull/34602",
            {
                "anthropic": "// ~/.config/zed/settings.json\n"
                '"language_models": {{\n  "anthropic": {{"api_url": "{url}"}}\n}}\n\n'
                '# then start it from a shell:\nANTHROPIC_API_KEY="{key}" zed',
            },
        ),
    )
}


def check_served(title: str, *formats: ApiFormat) -> ApiFormat:
    """Give the first of these formats that the gateway serves. Raises `UsageError` if it serves none."""
    for one in formats:
        if one in SERVED:
            return one
    spoken = " or ".join(CLIENT_FORMATS[one].title for one in formats)
    raise UsageError(f"{title} speaks the format {spoken}, which the gateway does not serve yet; nothing was written")
