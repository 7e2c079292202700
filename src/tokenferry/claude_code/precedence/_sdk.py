"""The order of the official SDKs, as version 2 of the one for Python has it."""

from pathlib import Path
from typing import Final

from tokenferry.claude_code.precedence._machine import Machine
from tokenferry.claude_code.precedence._profile import (
    DEFAULT_URL,
    TOKEN_PATH,
    ProfileState,
    cleartext_fault,
    identity_fault,
    identity_file_fault,
    judge,
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
from tokenferry.stores.anthropic_profiles import DEFAULT_PROFILE, FOLDER_VARIABLE, PROFILE_VARIABLE, ProfileFolder

ACTIVE_PROFILE: Final = "active profile"
FEDERATION: Final = "workload identity"
FEDERATION_VARIABLES: Final = ("ANTHROPIC_FEDERATION_RULE_ID", "ANTHROPIC_ORGANIZATION_ID")
_NO_CLIENT: Final = "no client can be made"
_NO_REQUEST: Final = "every request fails"
_IDENTITY: Final = "ANTHROPIC_IDENTITY_TOKEN"
_IDENTITY_FILE: Final = "ANTHROPIC_IDENTITY_TOKEN_FILE"


def sdk_chain(machine: Machine) -> Chain:
    """What a client made without arguments sends: `anthropic.Anthropic()`."""
    profiles = {
        PROFILE_VARIABLE: _named_profile(machine),
        ACTIVE_PROFILE: _active_profile(machine),
    }
    constructor = "whatever a program passes to the client itself goes before all of these, and can't be seen from here"
    sources = ranked(
        (
            CredentialOrigin("constructor arguments", "the program", "unseen", constructor),
            variable(machine, "ANTHROPIC_API_KEY"),
            variable(machine, "ANTHROPIC_AUTH_TOKEN"),
            profiles[PROFILE_VARIABLE][0],
            federation(machine),
            profiles[ACTIVE_PROFILE][0],
        )
    )
    winner = next((source for source in sources if source.state in {"used", "fails"}), None)
    pinned = profiles[winner.name][1] if winner and winner.name in profiles else None
    url, url_from = _address(machine, pinned, winner)
    sends = {"authorization": winner.name} if winner and winner.state == "used" else {}
    return Chain("sdk", sources, plain_url(url), url_from, sends, tuple(_warnings(machine, winner, pinned, url)))


def _address(machine: Machine, pinned: str | None, winner: CredentialOrigin | None) -> tuple[str, str]:
    if (named := machine.environ.get("ANTHROPIC_BASE_URL")) is not None:
        return named, "ANTHROPIC_BASE_URL"
    if pinned and winner:
        return pinned, f"the profile in {winner.where}"
    return DEFAULT_URL, "the SDK's default"


def _warnings(machine: Machine, winner: CredentialOrigin | None, pinned: str | None, url: str) -> list[str]:
    warnings: list[str] = []
    if machine.environ.get("ANTHROPIC_BASE_URL") == "":
        warnings.append("ANTHROPIC_BASE_URL is set but empty, so no request finds its way; unset it")
    warnings += [
        f"ANTHROPIC_CUSTOM_HEADERS sets {name}, which is sent instead of or beside what is found here; take it out"
        for name in credential_headers(machine.environ.get("ANTHROPIC_CUSTOM_HEADERS", ""))
    ]
    if pinned and winner and pinned != url.rstrip("/"):
        warnings.append(
            f"the profile in {winner.where} is for {plain_url(pinned)}, and its token is sent to {plain_url(url)}"
        )
    if winner and winner.held and winner.held.kind == "client key" and "ANTHROPIC_BASE_URL" not in machine.environ:
        warnings.append("a key of tokenferry's gateway is about to be sent elsewhere; set ANTHROPIC_BASE_URL, too")
    return warnings


def credential_headers(lines: str) -> list[str]:
    """The credential headers that ANTHROPIC_CUSTOM_HEADERS sets, in lower case."""
    pairs = [line.partition(":") for line in lines.split("\n")]
    named = {name.strip().lower() for name, colon, value in pairs if colon and value.strip()}
    return [name for name in ("authorization", "x-api-key") if name in named]


def variable(machine: Machine, name: str, where: str = ENVIRONMENT) -> CredentialOrigin:
    """A variable that holds the credential itself."""
    value = machine.variable(name)
    if value is None:
        empty = "it is set but empty, which counts as not set" if name in machine.environ else "it is not set"
        return absent(name, where, empty)
    problems: tuple[str, ...] = ()
    if value != value.strip() or not value.isascii() or not value.isprintable():
        problems = (f"{name} holds blanks or characters that no header takes, so requests fail; set it again",)
    return CredentialOrigin(name, where, "used", "it is set", Held.of(value), problems)


def _named_profile(machine: Machine) -> tuple[CredentialOrigin, str | None]:
    name = machine.variable(PROFILE_VARIABLE)
    if name is None:
        return absent(PROFILE_VARIABLE, ENVIRONMENT, "it is not set"), None
    state = _judge(machine, name)
    if state.stop or state.fault:
        return _failing(PROFILE_VARIABLE, state, f"it names profile {name!r}, and"), state.base_url
    return _working(PROFILE_VARIABLE, state, f"it names profile {name!r}"), state.base_url


def _active_profile(machine: Machine) -> tuple[CredentialOrigin, str | None]:
    folder = profile_folder(machine)
    pointed = pointed_name(machine)
    if pointed is None:
        reason = f"{_NO_CLIENT}: {folder.pointer} is not UTF-8"
        return CredentialOrigin(ACTIVE_PROFILE, str(folder.pointer), "fails", reason), None
    name = pointed or DEFAULT_PROFILE
    chosen_by = f"{folder.pointer} names profile {name!r}" if pointed else f"{name!r} is the profile of that name"
    is_chosen = bool(pointed) or machine.variable(FOLDER_VARIABLE) is not None
    state = _judge(machine, name)
    if state.is_missing and not is_chosen:
        return absent(ACTIVE_PROFILE, str(folder.path), "there is none"), None
    unsafe = cleartext_fault(machine.variable("ANTHROPIC_BASE_URL") or DEFAULT_URL)
    if state.stop and not is_chosen and (not unsafe or _is_unfindable(machine, folder)):
        reason = f"it is passed over without a word: {state.stop}"
        return CredentialOrigin(ACTIVE_PROFILE, state.where, "unusable", reason), None
    if state.stop or state.fault:
        return _failing(ACTIVE_PROFILE, state, f"{chosen_by}, and"), state.base_url
    return _working(ACTIVE_PROFILE, state, chosen_by), state.base_url


def _is_unfindable(machine: Machine, folder: ProfileFolder) -> bool:
    """Whether the SDK never opens the default profile's file, and so checks no address either."""
    path = folder.path / "configs" / f"{DEFAULT_PROFILE}.json"
    seen = machine.look(path)
    return seen.kind != "file" or not seen.real.is_relative_to(folder.path.resolve())


def pointed_name(machine: Machine) -> str | None:
    """The name in active_config, empty without one; None if the file isn't UTF-8."""
    pointer = machine.look(profile_folder(machine).pointer)
    try:
        return pointer.content.decode("utf-8").strip() if pointer.kind == "file" else ""
    except UnicodeDecodeError:
        return None


def active_name(machine: Machine) -> str | None:
    """The active profile if ANTHROPIC_PROFILE names none; None if active_config isn't UTF-8."""
    pointed = pointed_name(machine)
    return DEFAULT_PROFILE if pointed == "" else pointed


def profile_folder(machine: Machine) -> ProfileFolder:
    """The folder of profiles; a relative one is in the working directory."""
    named = machine.variable(FOLDER_VARIABLE)
    if named:
        return ProfileFolder(machine.folder / named)
    return ProfileFolder.from_environment({}, machine.home)


def _judge(machine: Machine, name: str) -> ProfileState:
    state = judge(machine, profile_folder(machine), name)
    url = machine.variable("ANTHROPIC_BASE_URL")
    if not state.stop and url and (fault := cleartext_fault(url)):
        return ProfileState(state.where, stop=f"ANTHROPIC_BASE_URL: {fault}")
    return state


def _failing(name: str, state: ProfileState, because: str) -> CredentialOrigin:
    when = _NO_CLIENT if state.stop else _NO_REQUEST
    return CredentialOrigin(name, state.where, "fails", f"{because} {when}: {state.stop or state.fault}")


def _working(name: str, state: ProfileState, because: str) -> CredentialOrigin:
    reason = f"{because}; its token is {state.obtains}" if state.obtains else because
    return CredentialOrigin(name, state.where, "used", reason, state.held, state.problems, state.refresh)


def federation(machine: Machine) -> CredentialOrigin:
    """The variables of workload identity, which count only together."""
    path, literal = machine.variable(_IDENTITY_FILE), machine.variable(_IDENTITY)
    missing = [name for name in FEDERATION_VARIABLES if machine.variable(name) is None]
    if not path and not literal:
        missing.append(f"{_IDENTITY}[_FILE]")
    if missing:
        are_all_missing = len(missing) == len(FEDERATION_VARIABLES) + 1
        reason = "its variables are not set" if are_all_missing else f"it lacks {' and '.join(missing)}"
        return absent(FEDERATION, ENVIRONMENT, reason)
    url = machine.variable("ANTHROPIC_BASE_URL") or DEFAULT_URL
    if fault := cleartext_fault(url):
        return CredentialOrigin(FEDERATION, ENVIRONMENT, "fails", f"its variables are set, and {_NO_CLIENT}: {fault}")
    if path:
        fault = identity_file_fault(machine.look(machine.folder / path))
    else:
        fault = identity_fault(literal or "", _IDENTITY)
    if fault:
        return CredentialOrigin(FEDERATION, ENVIRONMENT, "fails", f"its variables are set, and {_NO_REQUEST}: {fault}")
    given = str(Path(path)) if path else _IDENTITY
    reason = f"its token is exchanged at {plain_url(url).rstrip('/')}{TOKEN_PATH} for the identity token in {given}"
    return CredentialOrigin(FEDERATION, ENVIRONMENT, "used", reason)
