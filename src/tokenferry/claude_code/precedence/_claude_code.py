"""The order of Claude Code, as versions 2.1.197 and 2.1.329 were seen to have it."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from tokenferry.claude_code import ClaudeCodeHome, ClaudeCodeLogin, parse
from tokenferry.claude_code.precedence._claude_settings import HELPER, ClaudeSettings, claude_settings
from tokenferry.claude_code.precedence._machine import Machine
from tokenferry.claude_code.precedence._profile import DEFAULT_URL, ProfileState, judge
from tokenferry.claude_code.precedence._sdk import (
    ACTIVE_PROFILE,
    FEDERATION,
    active_name,
    credential_headers,
    federation,
    profile_folder,
)
from tokenferry.claude_code.precedence._values import (
    ENVIRONMENT,
    Chain,
    CredentialOrigin,
    Held,
    absent,
    plain_url,
    ranked,
)
from tokenferry.errors import TokenferryError
from tokenferry.secret import Fields
from tokenferry.stores.anthropic_profiles import PROFILE_VARIABLE

CLOUD: Final = "cloud provider"
LOGIN: Final = "login"
CLAUDE_CODES_DEFAULT: Final = "Claude Code's default"
_AUTH_TOKEN: Final = "ANTHROPIC_AUTH_TOKEN"  # noqa: S105  # a variable's name
_API_KEY: Final = "ANTHROPIC_API_KEY"
_OAUTH_TOKEN: Final = "CLAUDE_CODE_OAUTH_TOKEN"  # noqa: S105  # a variable's name
_BASE_URL: Final = "ANTHROPIC_BASE_URL"
_HEADERS: Final = "ANTHROPIC_CUSTOM_HEADERS"
_SOCKET: Final = "ANTHROPIC_UNIX_SOCKET"
CLOUD_PROVIDERS: Final = (
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_ANTHROPIC_AWS",
    "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD",
    "CLAUDE_CODE_USE_MANTLE",
    "CLAUDE_CODE_USE_VERTEX",
)
"""The variables that make Claude Code use a cloud provider, in its order."""
_YES: Final = frozenset(("1", "true", "yes", "on"))
_SCOPE: Final = "user:inference"
_PROFILE_MARGIN: Final = 60
_VENDOR: Final = "anthropic.com"


def claude_code_chain(machine: Machine) -> Chain:
    """What Claude Code sends when it starts in the machine's folder with the machine's environment."""
    settings = claude_settings(machine)
    # It ignores blanks around the values of variables.
    trimmed = Fields((name, value.strip()) for name, value in settings.environ.items())
    seen = replace(machine, environ=trimmed)
    profiles = {
        PROFILE_VARIABLE: _named_profile(seen, settings),
        ACTIVE_PROFILE: _active_profile(seen),
    }
    sources = ranked(
        (
            _cloud(seen, settings),
            _variable(seen, settings, _AUTH_TOKEN),
            _variable(seen, settings, _API_KEY),
            _helper(settings),
            _variable(seen, settings, _OAUTH_TOKEN),
            profiles[PROFILE_VARIABLE][0],
            federation(seen),
            _login(seen),
            profiles[ACTIVE_PROFILE][0],
        )
    )
    winner = next((source for source in sources if source.state in {"used", "fails"}), None)
    pinned = profiles[winner.name][1] if winner and winner.name in profiles else None
    chain = _addressed(seen, settings, sources, winner, pinned)
    return replace(chain, warnings=(*settings.faults, *_warnings(seen, settings, chain, pinned)))


def _cloud(machine: Machine, settings: ClaudeSettings) -> CredentialOrigin:
    chosen = [name for name in CLOUD_PROVIDERS if machine.environ.get(name, "").lower() in _YES]
    if not chosen:
        return absent(CLOUD, ENVIRONMENT, f"none of {', '.join(CLOUD_PROVIDERS)} is set")
    return CredentialOrigin(
        CLOUD, settings.origin(chosen[0]), "used", f"{chosen[0]} is set, and it has credentials of its own"
    )


def _variable(machine: Machine, settings: ClaudeSettings, name: str) -> CredentialOrigin:
    value = machine.variable(name)
    where = settings.origin(name)
    if value is None:
        return absent(name, where, "it is set but empty" if name in machine.environ else "it is not set")
    return CredentialOrigin(name, where, "used", "it is set", Held.of(value))


def _helper(settings: ClaudeSettings) -> CredentialOrigin:
    if settings.helper is None:
        return absent(HELPER, "settings.json", "no settings file has it")
    whose = "a command of tokenferry's" if is_ours(settings.helper) else "a command, which isn't run here"
    return CredentialOrigin(HELPER, settings.helper_from, "used", f"it is set to {whose}")


def is_ours(helper: str) -> bool:
    """Return whether an apiKeyHelper asks tokenferry."""
    return "tokenferry" in helper and " token" in helper


def _named_profile(machine: Machine, settings: ClaudeSettings) -> tuple[CredentialOrigin, str | None]:
    name = machine.variable(PROFILE_VARIABLE)
    if name is None:
        return absent(PROFILE_VARIABLE, ENVIRONMENT, "it is not set"), None
    state = judge(machine, profile_folder(machine), name, is_strict=False)
    set_by = f"{settings.origin(PROFILE_VARIABLE)} names profile {name!r}"
    return _profile(machine, PROFILE_VARIABLE, state, set_by), state.base_url


def _active_profile(machine: Machine) -> tuple[CredentialOrigin, str | None]:
    name = active_name(machine)
    folder = profile_folder(machine)
    if name is None:
        return absent(ACTIVE_PROFILE, str(folder.pointer), f"{folder.pointer} is not UTF-8"), None
    state = judge(machine, folder, name, is_strict=False)
    if state.is_missing:
        return absent(ACTIVE_PROFILE, str(folder.path), f"there is no profile {name!r}"), None
    return _profile(machine, ACTIVE_PROFILE, state, f"the active profile is {name!r}"), state.base_url


def _profile(machine: Machine, name: str, state: ProfileState, because: str) -> CredentialOrigin:
    if state.stop or state.is_hollow:
        return CredentialOrigin(
            name, state.where, "unusable", f"{because}, which is passed over: {state.stop or state.fault}"
        )
    if state.fault:
        return CredentialOrigin(name, state.where, "fails", f"{because}, and {state.fault}")
    held = state.held
    if held and held.expires_at is not None and held.expires_at <= machine.now + _PROFILE_MARGIN:
        reason = f"{because}, whose token has expired; Claude Code asks for a new login"
        return CredentialOrigin(name, state.where, "fails", reason, held, (), state.refresh)
    reason = f"{because}; its token is {state.obtains}" if state.obtains else because
    return CredentialOrigin(name, state.where, "used", reason, held, state.problems, state.refresh)


def _login(machine: Machine) -> CredentialOrigin:
    try:
        home = ClaudeCodeHome.from_environment(machine.environ, machine.home)
        where, login = _read_login(machine, home)
    except TokenferryError as fault:
        return CredentialOrigin(LOGIN, "Claude Code's folder", "unusable", str(fault))
    token = login.token
    if token is None:
        reason = str(login.error(where) or "it can't be read").partition(";")[0]
        return absent(LOGIN, where, reason.removeprefix(f"{where} ").removeprefix(f"{where}: "))
    held = replace(Held.of(token.secret.reveal(), token.expires_at), digest=token.secret.sha256)
    refresh = token.refresh and token.refresh.sha256
    if token.scopes and _SCOPE not in token.scopes:
        return CredentialOrigin(LOGIN, where, "unusable", f"its scopes lack {_SCOPE}", held, (), refresh)
    if token.expires_at is None or token.expires_at > machine.now:
        return CredentialOrigin(LOGIN, where, "used", "Claude Code is logged in", held, (), refresh)
    if refresh is None:
        return CredentialOrigin(LOGIN, where, "fails", "it has expired, and has no refresh token", held)
    reason = "it has expired, and Claude Code renews it when it starts, whatever it then uses"
    return CredentialOrigin(LOGIN, where, "used", reason, held, (), refresh)


def _read_login(machine: Machine, home: ClaudeCodeHome) -> tuple[str, ClaudeCodeLogin]:
    """Its login and where that is. Raises the errors of the Keychain."""
    if machine.keychain is not None:
        content = machine.keychain(home)
        if content is not None:
            return "the Keychain", parse(content)
    seen = machine.look(home.credentials)
    return str(home.credentials), parse(seen.content if seen.kind == "file" else None)


def _addressed(
    machine: Machine,
    settings: ClaudeSettings,
    sources: tuple[CredentialOrigin, ...],
    winner: CredentialOrigin | None,
    pinned: str | None,
) -> Chain:
    if winner is not None and winner.name == CLOUD:
        return Chain("claude-code", sources, "the cloud provider's", winner.where)
    url, url_from = DEFAULT_URL, CLAUDE_CODES_DEFAULT
    if named := machine.variable(_BASE_URL):
        url, url_from = named, settings.origin(_BASE_URL)
    elif pinned and winner:
        url, url_from = pinned, f"the profile in {winner.where}"
    return Chain("claude-code", sources, plain_url(url), url_from, _sends(machine, sources, winner))


def _sends(machine: Machine, sources: tuple[CredentialOrigin, ...], winner: CredentialOrigin | None) -> dict[str, str]:
    """The source of each of the two headers. If both a key and a token are set, both are sent."""
    if winner is None or winner.state != "used":
        return {}
    own = dict.fromkeys(credential_headers(machine.environ.get(_HEADERS, "")), _HEADERS)
    found = {source.name: source.name for source in sources if source.state in {"used", "shadowed"}}
    is_login = winner.name not in {_AUTH_TOKEN, _API_KEY, HELPER}
    bearer = [own.get("authorization"), winner.name] if is_login else [found.get(_AUTH_TOKEN), found.get(HELPER)]
    key = [own.get("x-api-key")] + ([] if is_login else [found.get(_API_KEY), found.get(HELPER)])
    named = {
        "authorization": next(filter(None, (*bearer, own.get("authorization"))), None),
        "x-api-key": next(filter(None, key), None),
    }
    return {header: name for header, name in named.items() if name is not None}


def _warnings(machine: Machine, settings: ClaudeSettings, chain: Chain, pinned: str | None) -> Iterator[str]:
    winner = chain.winner
    if winner is None or winner.name == CLOUD:
        return
    if socket := machine.variable(_SOCKET):
        yield f"requests go through the Unix socket {socket}, which ANTHROPIC_UNIX_SOCKET names"
    is_elsewhere = not _is_vendors(chain.base_url)
    if is_elsewhere and winner.name in {_OAUTH_TOKEN, LOGIN, FEDERATION}:
        yield (
            f"the token of your {winner.name} is sent to {chain.base_url}, for no other credential is given; set one "
            "that is meant for that host, as tokenferry setup claude-code does"
        )
    if winner.name in {PROFILE_VARIABLE, ACTIVE_PROFILE} and chain.base_url != (
        own := plain_url(pinned or DEFAULT_URL)
    ):
        yield f"the profile's token is for {own}, and is sent to {chain.base_url}"
    if winner.name == HELPER and "--gateway" in (settings.helper or "") and not is_elsewhere:
        yield (
            f"apiKeyHelper gives the gateway's key, and {chain.base_url} doesn't know it; fix it with: "
            "tokenferry setup claude-code"
        )
    if winner.held and winner.held.kind == "client key" and not is_elsewhere:
        yield f"a key of tokenferry's gateway is sent to {chain.base_url}; set ANTHROPIC_BASE_URL to the gateway's"
    if _HEADERS in chain.sends.values():
        yield "ANTHROPIC_CUSTOM_HEADERS holds a credential, and stands in place of what is found here; take it out"


def _is_vendors(url: str) -> bool:
    try:
        host = (urlsplit(url).hostname or "").rstrip(".").lower()
    except ValueError:
        return False
    return host == _VENDOR or host.endswith(f".{_VENDOR}")
