"""The checks of `tokenferry doctor`. A check changes nothing, and yields a finding for each problem."""

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.accounts import completion, pending_hand_over
from tokenferry.background_refresh import next_renewal, renewer_of
from tokenferry.broker import Broker, FileBackend, interrupted_move
from tokenferry.cli._describe import rows
from tokenferry.cli._home import open_broker
from tokenferry.cli._output import notes_once
from tokenferry.cli._probe import address_of
from tokenferry.cli._sealing import seal_findings
from tokenferry.cli._services import client_keys, services_now
from tokenferry.config import Config, load
from tokenferry.credentials import CLIENT_KEY_PREFIXES, FederatedToken, Federation
from tokenferry.databases import has_ledger, has_state, open_ledger, open_state, postgres, store_settings
from tokenferry.errors import ConfigError, TokenferryError, UsageError
from tokenferry.fleet import shared_key
from tokenferry.gateway import bind
from tokenferry.ledger import UsageReport
from tokenferry.readiness import (
    AccountRow,
    BudgetUse,
    ServiceStatus,
    account_rows,
    budgets_now,
    cure_of,
    expects_service,
    misnamed,
    replacement_of,
)
from tokenferry.refresh import read_identity
from tokenferry.routing import NO_DEFAULT
from tokenferry.settings import BackgroundRefreshSettings, Home, StoreSettings
from tokenferry.state import gateway_records, read_local_key
from tokenferry.stores import Replacing, check_replaceable, check_status, refuse_network_file_system
from tokenferry.units import requests

_LEFT_BEHIND: Final = 60.0
_CLOCK_SLACK: Final = 300.0
_STORE: Final = "[store]"
_PRICED_LATELY: Final = 7 * 86_400.0
_FIRST_YEAR: Final = 1_735_689_600  # 2025-01-01; tokenferry is younger
_LAST_YEAR: Final = 4_102_444_800
_SHADOWS: Final = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "CLAUDE_CODE_OAUTH_TOKEN")


class Finding(Struct, frozen=True):
    """A present or coming problem: where, what, and the command or step that fixes it."""

    what: str
    where: str
    cure: str
    is_note: bool = False
    """Whether it is a problem only in some setups."""


@notes_once()
def examine(home: Home, config: Path | None = None) -> list[Finding]:
    """Every finding, the most fundamental first."""
    now = time.time()
    settings = Config()

    def read_configuration() -> list[Finding]:
        nonlocal settings
        settings, faults = load_or_default(home, config)
        return faults

    checks: tuple[Callable[[], Iterable[Finding]], ...] = (
        lambda: check_files(home, now),
        lambda: check_clock(now),
        read_configuration,
        lambda: check_store(home, settings.store),
        lambda: check_state(home),
        lambda: check_ledger(home, now),
        lambda: check_budgets(home, settings, now),
        lambda: check_seal(home),
        lambda: check_gateways(home, settings),
        lambda: check_accounts(home, settings, now),
        lambda: check_service(home, settings),
    )
    findings = [finding for check in checks for finding in _examined(home, check)]
    return list(dict.fromkeys(findings))


def _examined(home: Home, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of one check. A check that fails yields its failure as a finding, and the others still run."""
    try:
        yield from check()
    except ConfigError as fault:
        if not fault.problems:  # the check has yielded each of them
            yield _of(fault, str(home.config))
    except TokenferryError as fault:
        yield _of(fault, str(home.path))
    except OSError as fault:
        where = str(fault.filename or home.path)
        yield Finding(f"can't be examined: {fault.strerror}", where, f"check its owner and mode: ls -ld '{where}'")
    except Exception as fault:  # noqa: BLE001  # a diagnosis must survive the fault that it looks for
        what = f"could not be examined ({type(fault).__name__}), which is a defect"
        yield Finding(what, str(home.path), "report it with: TOKENFERRY_DEBUG=1 tokenferry -v doctor")


def load_or_default(home: Home, given: Path | None = None) -> tuple[Config, list[Finding]]:
    """The configuration and its faults. If it is unusable: the built-in one."""
    path = given or home.config
    try:
        config = load(path, required=given is not None, statement=home.statement)
    except ConfigError as fault:
        found = [Finding(problem, str(path), f"edit {path}") for problem in fault.problems]
        return Config(), found or [_of(fault, str(path))]
    except TokenferryError as fault:
        return Config(), [_of(fault, str(path))]
    return config, [
        Finding(warning.removeprefix(f"{path}: "), str(path), f"edit {path}") for warning in config.warnings
    ]


def _of(fault: TokenferryError, where: str) -> Finding:
    """A finding made of an error's sentence, which ends with the fix."""
    what, separator, cure = str(fault).removeprefix(f"{where} ").rpartition("; ")
    return Finding(what, where, cure) if separator else Finding(cure, where, "look at it")


def check_files(home: Home, now: float) -> Iterator[Finding]:
    """Check modes, owners and types of all files, leftovers of killed writers, and the file system."""
    if not home.path.exists():
        return
    if not os.access(home.path, os.W_OK):
        what = "can't be written to: tokens are not refreshed, and no gateway starts"
        yield Finding(what, str(home.path), "make it writable, or set TOKENFERRY_HOME to a writable folder")
    for folder in (home.journal, home.locks):
        if folder.is_dir() and not os.access(folder, os.W_OK):
            yield Finding("can't be written to: tokens are not refreshed", str(folder), "make it writable")
    try:
        refuse_network_file_system(home.path)
    except TokenferryError as fault:
        yield _of(fault, str(home.path))
    yield from _check_folder(home, home.path, now)


def _check_folder(home: Home, folder: Path, now: float) -> Iterator[Finding]:
    status = folder.stat()
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid():
        yield Finding(f"belongs to user {status.st_uid}", str(folder), f"chown -R {os.geteuid()} '{folder}'")
    elif mode & 0o077:
        can = "replace the files in it" if mode & 0o022 else "see which accounts there are"
        yield Finding(f"has mode {mode:04o}, so others could {can}", str(folder), f"chmod 0700 '{folder}'")
    elif mode & stat.S_IRWXU != stat.S_IRWXU:
        yield Finding(f"has mode {mode:04o}, so its files can't be used", str(folder), f"chmod 0700 '{folder}'")
    try:
        entries = sorted(folder.iterdir())
    except OSError as fault:
        yield Finding(f"can't be read: {fault.strerror}", str(folder), f"chmod 0700 '{folder}'")
        return
    for path in entries:
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _check_folder(home, path, now)
        else:
            yield from _check_file(home, path, status, now)


def _check_file(home: Home, path: Path, status: os.stat_result, now: float) -> Iterator[Finding]:
    if stat.S_ISLNK(status.st_mode):
        if path == home.config:  # a link is allowed here; the configuration check reports its faults
            return
        cure = f"put the file itself there: cp --remove-destination \"$(readlink -f '{path}')\" '{path}'"
        yield Finding("is a symbolic link, which is not followed", str(path), cure)
        return
    if stat.S_ISSOCK(status.st_mode):
        return
    try:
        check_status(path, status, readable_by_others=path == home.config)
    except TokenferryError as fault:
        yield _of(fault, str(path))
    if ".tmp." in path.name and path.name.startswith(".") and now - status.st_mtime > _LEFT_BEHIND:
        yield Finding("is left over from a killed writer, and may hold a secret", str(path), f"rm '{path}'")
    if status.st_mtime > now + _CLOCK_SLACK:
        yield Finding("has a modification time in the future", str(path), "set the clock: timedatectl")


def check_clock(now: float) -> Iterator[Finding]:
    if not _FIRST_YEAR <= now <= _LAST_YEAR:
        yield Finding(
            f"the clock says {time.strftime('%Y-%m-%d', time.gmtime(now))}", "the system", "set the clock: timedatectl"
        )


def check_store(home: Home, settings: StoreSettings) -> Iterator[Finding]:
    """Check that the shared database is usable, and report what a failover of it would lose."""
    if not settings.url:
        return
    try:
        connections = postgres().ConnectionPool(settings)
        facts, schema = connections.facts(), postgres().schema_status(connections)
    except TokenferryError as fault:
        yield _of(fault, _STORE)
        return
    if unusable := postgres().fault_of(facts, schema, settings):
        what, _, cure = unusable.rpartition("; ")
        yield Finding(f"{connections.name} can't be used: {what}", _STORE, cure)
    if apart := facts.clocks_apart(time.time()):
        yield Finding(apart, _STORE, "set the clock: timedatectl")
    if not unusable:
        for line in shared_key(postgres().PostgresTables(connections)).lines()[1:]:
            yield Finding(line, _STORE, "copy the key's file there, and run there: tokenferry encryption enable")
    if not facts.standbys:
        yield Finding(
            "no standby confirms commits, so a failover may lose the latest changes",
            _STORE,
            "name one in synchronous_standby_names of PostgreSQL",
            is_note=True,
        )
    if names := FileBackend(home).store.names():
        what = f"accounts in files serve nothing while [store] url names a database: {', '.join(names)}"
        yield Finding(what, str(home.accounts), "tokenferry store migrate")


def _place(home: Home, file: Path) -> str:
    return _STORE if store_settings(home).url else str(file)


def check_state(home: Home) -> Iterator[Finding]:
    """Check that client keys and the gateway's local key are readable."""
    if has_state(home):
        try:
            with open_state(home) as state:
                for key in state.keys.list():
                    if key.fault is not None and key.revoked_at is None:
                        yield Finding(
                            f"grants no access, because {key.fault}",
                            f"client key {key.name}",
                            f"tokenferry key revoke {key.id}, and create another",
                        )
        except TokenferryError as fault:
            yield _of(fault, _place(home, home.state))
    try:
        read_local_key(home)
    except TokenferryError as fault:
        yield _of(fault, str(home.local_key))


def check_ledger(home: Home, now: float) -> Iterator[Finding]:
    """Check that the ledger is writable, and that every model in it has a price."""
    if not has_ledger(home):
        return
    try:
        with open_ledger(home) as ledger:
            unpriced = UsageReport(ledger).unpriced(int((now - _PRICED_LATELY) * 1000))
    except TokenferryError as fault:
        yield _of(fault, _place(home, home.ledger))
        return
    for provider, model, count in unpriced:
        yield Finding(
            f"has no known price: {requests(count)} of the last 7 days, counted at $5 and $25 a million tokens",
            f"model {model or '(unnamed)'} of provider {provider}",
            "declare it with [[prices]] in config.toml, then: tokenferry usage reprice --since 7d",
            is_note=True,
        )


def check_budgets(home: Home, config: Config, now: float) -> Iterator[Finding]:
    """Report budgets that reject requests now. Other checks report unreadable files."""
    found: list[BudgetUse] = []
    with contextlib.suppress(TokenferryError):
        found = budgets_now(home, config, now=now)
    for one in found:
        budget = one.counter.budget
        if one.refuses:
            stored = f"tokenferry key set {one.key} --budget …"
            raised = f"edit [[budgets]] in {config.path}" if budget in config.budgets else stored
            what = f"is used up, so requests are refused: {one.sentence(now).partition(': ')[2]}"
            yield Finding(what, f"the budget for {one.subject}", f"wait, or raise it: {raised}", is_note=True)


def check_seal(home: Home) -> Iterator[Finding]:
    """Check that documents are sealed where they should be, and can be opened."""
    try:
        for what, where, cure in seal_findings(home):
            yield Finding(what, where, cure)
    except ConfigError:
        raise  # it concerns another file
    except TokenferryError as fault:
        yield _of(fault, str(home.seal))


def check_gateways(home: Home, config: Config) -> Iterator[Finding]:
    """Report records of killed gateways, and whether the configured gateway runs, or could start."""
    try:
        records = gateway_records(home)
    except TokenferryError as fault:
        yield _of(fault, str(home.gateways))
        return
    for record in records:
        if not record.is_running:
            cure = f"tokenferry serve, which removes it; or: rm '{record.path}'"
            yield Finding(f"is the stale record of a gateway at {record}, which was killed", str(record.path), cure)
    server = config.server
    address = address_of(server)
    if not (server.port and server.tcp) or any(one.is_running and one.listens_at(address) for one in records):
        return
    try:
        bind(server.host, server.port, allow_remote=server.allow_remote).close()
    except ConfigError as fault:
        yield Finding(
            str(fault).partition(";")[0], f"port {server.port}", "stop it, or set another port under [server]"
        )


def check_service(home: Home, config: Config) -> Iterator[Finding]:
    """Report requests that the home's gateway can't serve, and configured names that don't exist.

    In a home where no one expects service, the former is only a note.
    """
    try:
        keys = client_keys(home)
        broker = open_broker(home, config)
        for one in misnamed(config, broker, keys):
            yield Finding(one.what, one.where, one.cure)
        runs = any(one.is_running for one in gateway_records(home))
        is_note = not expects_service(config, keys or (), runs=runs)
        if is_note and not broker.book.listing().accounts and home.path.exists() and not config.models:
            return  # a new home
        for service in services_now(home, config, broker, {row.name: row.state for row in account_rows(broker)}):
            if not service.is_served:
                yield _unserved(service, is_note=is_note or service.cause == NO_DEFAULT)
    except TokenferryError as fault:
        yield _of(fault, str(home.path))


def _unserved(service: ServiceStatus, *, is_note: bool) -> Finding:
    why, separator, cure = service.reason.rpartition("; ")
    if not separator or "tokenferry" not in cure.partition("(")[0]:  # one of several reasons is no cure
        why, cure = service.reason, "tokenferry explain route, which gives the reason for each account"
    what = f"no account serves it, and a client gets {service.status}: {why}"
    return Finding(what, service.subject, cure, is_note)


def check_accounts(home: Home, config: Config, now: float) -> Iterator[Finding]:
    try:
        broker = open_broker(home, config)
        found = rows(broker, now)
    except TokenferryError as fault:
        yield _of(fault, str(home.accounts))
        return
    for row in found:
        yield from _check_account(row, now)
    yield from _check_shared(found)
    yield from check_replacing(broker, found)
    yield from _check_journal(home, {row.name for row in found})
    yield from _check_published(broker, now)
    yield from _check_keeper(home, broker, found, now)
    yield from _check_move(home)
    try:
        active = broker.book.active()
    except TokenferryError as fault:
        yield _of(fault, str(home.active))
    else:
        yield from _check_choice("the account in use", active, found, "tokenferry use NAME")
    yield from _check_environment(found)


def check_replacing(broker: Broker, found: list[AccountRow]) -> Iterator[Finding]:
    """Report files that a refreshed token couldn't be written to: account documents and published profiles."""
    store = broker.book.store
    for row in found:
        if (
            isinstance(store, Replacing)
            and row.document is not None
            and getattr(row.document.credential, "refresh", None)
        ):
            try:
                store.check_replaceable(row.name)
            except TokenferryError as fault:
                yield _of(fault, f"account {row.name}")
    for one in broker.publisher.published():
        try:
            check_replaceable(one.publication.credentials)
        except TokenferryError as fault:
            yield _of(fault, f"profile {one.publication.profile}")


def _check_account(row: AccountRow, now: float) -> Iterator[Finding]:
    where = f"account {row.name}"
    if row.state == "locked":
        return  # `check_seal` reports it once, for the key
    if row.fault is not None:
        found = _of(row.fault, where)
        yield replace(found, what=found.what.removeprefix(f"account {row.name!r}").removeprefix(":").lstrip())
        return
    if row.state in {"needs-login", "uncertain", "copied", "backing-off"}:
        yield Finding(row.text, where, cure_of(row))
    if row.aging is not None and (text := row.aging.text(now)) and row.state != "needs-login":
        renew = f"tokenferry refresh {row.name}; or refresh it in time with: tokenferry service install"
        yield Finding(text, where, renew if row.aging.cause == "refresh-token" else replacement_of(row))
    begun = pending_hand_over(row.document) if row.document else None
    if begun is not None:
        cure = f"{completion(row.name, begun)}; or: tokenferry export {row.name} --take-back"
        yield Finding(f"handing its login over to {begun.path} was cut short, so it isn't refreshed", where, cure)
    if isinstance(row.credential, FederatedToken) and row.credential.federation.file:
        yield from _check_identity(row.credential.federation, where)
    obtained_at = getattr(row.credential, "obtained_at", None)
    if obtained_at is not None and obtained_at > now + _CLOCK_SLACK:
        yield Finding("its token has an issue time in the future", where, "set the clock: timedatectl")


def _check_shared(found: list[AccountRow]) -> Iterator[Finding]:
    """Logins that two accounts have."""
    holders: dict[str, str] = {}
    for row in found:
        refresh = getattr(row.credential, "refresh", None)
        if refresh is not None and (first := holders.setdefault(refresh.sha256, row.name)) != row.name:
            what = f"has the login of account {first}: the first that is refreshed logs the other out"
            yield Finding(what, f"account {row.name}", f"tokenferry account remove {row.name} --keep-remote")


def _check_identity(federation: Federation, where: str) -> Iterator[Finding]:
    """Check a workload's identity token in a file. A variable may be set for other processes alone."""
    try:
        read_identity(federation)
    except TokenferryError as fault:
        yield Finding(str(fault), where, "check the platform, or replace the account with --replace")


def _check_journal(home: Home, names: set[str]) -> Iterator[Finding]:
    """Report refresh journals of removed accounts."""
    for path in sorted(home.journal.glob("*")):
        if path.suffix in {".attempt", ".verdict"} and path.stem not in names:
            yield Finding(f"is left of an account {path.stem!r} that is no more", str(path), f"rm '{path}'")


def _check_published(broker: Broker, now: float) -> Iterator[Finding]:
    """Report profiles that tokenferry published and that programs can't use now."""
    for one in broker.publisher.published():
        profile, source = one.publication.profile, one.publication.account
        where = f"profile {profile}"
        if one.standing.state == "behind":
            yield Finding(
                "is behind its account",
                where,
                f"tokenferry profile publish {source or '--gateway'} --profile {profile}",
            )
        elif one.standing.state != "current":
            yield _of(UsageError(one.standing.text), where)
        elif one.expires_at and one.expires_at <= now:
            yield Finding("holds a token that has expired", where, f"tokenferry refresh {source}")


def _check_keeper(home: Home, broker: Broker, found: list[AccountRow], now: float) -> Iterator[Finding]:
    """Report logins that will end, or whose tokens expire unnoticed, because no renewer runs."""
    if renewer_of(home, now) is not None:
        return
    published = {
        one.publication.account for one in broker.publisher.published() if one.standing.state in {"current", "behind"}
    }
    for row in found:
        if row.document is None or row.state == "needs-login":
            continue
        is_published = row.name in published
        renewal = next_renewal(row.document, is_published=is_published, now=now, settings=BackgroundRefreshSettings())
        if renewal is None:
            continue
        if is_published:
            what = "is published, and no renewer runs, so programs will get an expired token"
        elif renewal.reason == "idle" and renewal.at <= now:
            what = "was last refreshed so long ago that its login will lapse, and no renewer runs"
        else:
            continue
        yield Finding(what, f"account {row.name}", "tokenferry service install")


def _check_move(home: Home) -> Iterator[Finding]:
    """Report an interrupted move of a login to Claude Code."""
    try:
        record = interrupted_move(home)
    except TokenferryError as fault:
        yield _of(fault, str(home.move_to_claude_code))
        return
    if record is not None:
        yield Finding(
            "its move to Claude Code was cut short",
            f"account {record.to}",
            f"tokenferry claude-code switch {record.to}",
        )


def _check_choice(what: str, name: str | None, found: list[AccountRow], cure: str) -> Iterator[Finding]:
    if name is not None and name not in {row.name for row in found}:
        yield Finding(f"{what} is {name!r}, which does not exist", f"account {name}", cure)


def _check_environment(found: list[AccountRow]) -> Iterator[Finding]:
    """Report variables that take precedence over what tokenferry gives to programs."""
    yield from _check_choice(
        "the account that TOKENFERRY_ACCOUNT names",
        os.environ.get("TOKENFERRY_ACCOUNT") or None,
        found,
        "unset TOKENFERRY_ACCOUNT",
    )
    in_files = [row for row in found if row.document is not None and row.document.account.store == "file"]
    for name in _SHADOWS:
        value = os.environ.get(name, "")
        if in_files and value and not value.startswith(CLIENT_KEY_PREFIXES):
            what = "is set, and programs prefer it to what tokenferry gives them"
            yield Finding(what, name, f"unset {name}, and remove it from your shell's start-up files")
