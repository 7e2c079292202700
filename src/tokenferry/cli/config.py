import json
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer

from tokenferry.audit import note_change
from tokenferry.broker import settle_default_provider
from tokenferry.cli._editor import edit_file
from tokenferry.cli._input import confirmed
from tokenferry.cli._output import note, redacted, say, say_json, say_lines
from tokenferry.cli._services import client_keys
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.config import (
    Effective,
    Examined,
    check_writable,
    examine,
    examine_content,
    json_schema,
    nearest_setting,
    read_content,
    template,
    write_content,
)
from tokenferry.config_changes import check_use, propose_change, write_change
from tokenferry.errors import ConfigError, TokenferryError, UsageError
from tokenferry.settings import Home
from tokenferry.stores import create_private_file

app = new_app(
    "Check, show and change config.toml.",
    "tokenferry config init",
    "tokenferry config check",
    "tokenferry config show",
    "tokenferry config set server.port 8080",
)

File: TypeAlias = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The configuration file; by default the home's config.toml."),
]

_WIDEST: Final = 60


@app.command("check", epilog=examples("tokenferry config check", "tokenferry config check --config new.toml"))
def check(*, config: File = None, as_json: JSON = False) -> int:
    """List every fault with its line. The exit code is 3 if there is any."""
    home, path = _find(config)
    try:
        examined = examine(path, statement=home.statement)
    except ConfigError as fault:
        if not as_json:
            raise
        say_json({"path": str(path), "exists": True, "problems": [str(fault)], "warnings": []})
        return fault.exit_code
    problems = examined.problems
    try:
        examined.raise_problems()
        check_use(home, examined.config, client_keys(home), warn=note)
    except ConfigError as fault:
        if not as_json:
            raise
        problems = fault.problems
    if as_json:
        say_json(
            {
                "path": str(path),
                "exists": examined.exists,
                "problems": list(map(redacted, problems)),
                "warnings": list(examined.config.warnings),
            }
        )
        return ConfigError.exit_code if problems else 0
    _must_exist(examined, config)
    for warning in examined.config.warnings:
        note(warning)
    say(f"{path} is valid" if examined.exists else f"there is no {path}, so the defaults apply")
    return 0


@app.command(
    "show",
    epilog=examples(
        "tokenferry config show",
        "tokenferry config show --all                with all built-in providers",
        "tokenferry config show --json | jq '.settings[] | select(.source != \"default\")'",
    ),
)
def show(
    *,
    config: File = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Include built-in providers that the file doesn't name.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Show every key, its value and its source. A secret appears as a fingerprint, or as (hidden)."""
    home, path = _find(config)
    examined = examine(path, statement=home.statement)
    _must_exist(examined, config)
    examined.raise_problems()
    settings = [one for one in examined.effective() if everything or one.source != "built-in"]
    if as_json:
        say_json(
            {
                "path": str(path),
                "exists": examined.exists,
                "settings": [_to_json(one) for one in settings],
                "warnings": list(examined.config.warnings),
            }
        )
        return
    width = max(len(_line(one)) for one in settings)
    say_lines(f"{_line(one).ljust(min(width, _WIDEST))}  # {_origin(one, path)}" for one in settings)


@app.command("get", epilog=examples("tokenferry config get server.port", "tokenferry config get router --json"))
def get(
    key: Annotated[str, typer.Argument(metavar="KEY", help="A setting or a section.", show_default=False)],
    *,
    config: File = None,
    as_json: JSON = False,
) -> None:
    """Print a setting, or the settings of a section."""
    home, path = _find(config)
    examined = examine(path, statement=home.statement)
    _must_exist(examined, config)
    examined.raise_problems()
    found = {one.path: one for one in examined.effective()}
    if key in found:
        value = found[key].shown
        if as_json:
            say_json(value)
        else:
            say(redacted(value if isinstance(value, str) else "" if value is None else json.dumps(value)))
        return
    section = {path.removeprefix(f"{key}."): one for path, one in found.items() if path.startswith(f"{key}.")}
    if not section:
        raise nearest_setting(key, examined)
    if as_json:
        say_json({name: one.shown for name, one in section.items()})
    else:
        say_lines(_line(one) for one in section.values() if one.value is not None)


@app.command(
    "set",
    epilog=examples(
        "tokenferry config set server.port 8080",
        "tokenferry config set router.providers anthropic,idp",
        "tokenferry config set server.tls_cert gateway.pem server.tls_key gateway.key",
        "tokenferry config set providers.idp.base_url https://llm.example.com",
    ),
)
def set_(
    pairs: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY VALUE...", help="A setting and its value; may be repeated.", show_default=False),
    ] = None,
    *,
    removed: Annotated[list[str] | None, typer.Option("--unset", metavar="KEY", hidden=True)] = None,
    config: File = None,
) -> None:
    """Change settings, all or none; comments stay.

    The result is checked before it is written, and a running gateway follows. Write a list with commas, or as TOML.
    """
    given: list[tuple[str, str | None]] = [*_pairs(pairs or []), *((name, None) for name in removed or [])]
    if not given:
        raise UsageError("no setting was given; name a setting and its value, such as: server.port 8080")
    _change(config, given)


@app.command("unset", epilog=examples("tokenferry config unset server.port", "tokenferry config unset pool.strategy"))
def unset(
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="The settings.", show_default=False)],
    *,
    config: File = None,
) -> None:
    """Remove settings, all or none, so that their defaults apply."""
    _change(config, [(name, None) for name in keys])


def _change(file: Path | None, given: Sequence[tuple[str, str | None]]) -> None:
    home, path = _find(file)
    change = propose_change(path, given)
    write_change(home, change)
    examined = change.new
    for warning in examined.config.warnings:
        note(warning)
    for problem in examined.problems:
        note(f"{path} is still invalid: {problem}")
    effective = {one.path: one for one in examined.effective()}
    say_lines(_line(effective[name]) if name in effective else f"{name} is no longer set" for name, _ in given)


@app.command("init", epilog=examples("tokenferry config init", "tokenferry config init --config new.toml"))
def init(*, config: File = None) -> None:
    """Write a config.toml with every key, commented out.

    Each key has its default and a sentence on what it does. An existing file is never overwritten.
    """
    home, path = _find(config)
    check_writable(path)
    if read_content(path) is not None:
        raise UsageError(f"{path} already exists, and is not overwritten; see its keys with: tokenferry config show")
    write_content(path, template().encode("utf-8"), None, home.locks)
    note_change(home, "config.init", path.name)
    say(f"wrote {path}; every key in it is commented out")


@app.command("schema", epilog=examples("tokenferry config schema", "tokenferry config schema >tokenferry.schema.json"))
def schema() -> None:
    """Print the JSON Schema of config.toml, for editors."""
    say_json(json_schema())


@app.command("edit", epilog=examples("tokenferry config edit", "VISUAL='code --wait' tokenferry config edit"))
def edit(*, config: File = None) -> None:
    """Change config.toml in your editor ($VISUAL, $EDITOR, else vi).

    You edit a copy, which replaces the file if it is valid. If not, you can edit again, or find your text in the copy.
    """
    home, path = _find(config)
    check_writable(path)
    before = read_content(path)
    copy = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.toml")
    start = template().encode("utf-8") if before is None else before
    create_private_file(copy, start)
    try:
        content = _edited(copy, path)
        if content != start:
            settle_default_provider(home)
            write_content(path, content, before, home.locks)
            note_change(home, "config.edit", path.name)
            say(f"changed {path}")
        else:
            say("nothing was changed")
    except TokenferryError as fault:
        if _holds(copy, start):
            copy.unlink()
        elif copy.exists():
            note(f"your text is in {copy}")
        raise fault from None
    copy.unlink()


def _holds(copy: Path, content: bytes) -> bool:
    try:
        return read_content(copy) == content
    except TokenferryError:
        return False


def _edited(copy: Path, path: Path) -> bytes:
    """The copy's content once it is valid."""
    while True:
        if code := edit_file(copy):
            raise TokenferryError(f"the editor ended with exit code {code}, so nothing was changed")
        content = read_content(copy)
        if content is None:
            raise TokenferryError(f"the editor left nothing in {copy}, so nothing was changed")
        try:
            examined = examine_content(content, path)
            examined.raise_problems()
        except ConfigError as fault:
            if not sys.stdin or not sys.stdin.isatty():
                raise
            note(str(fault))
            if not confirmed("Edit it again?", flag="--yes"):
                raise ConfigError(f"{path} is unchanged") from None
        else:
            for warning in examined.config.warnings:
                note(warning)
            return content


def _find(config: Path | None) -> tuple[Home, Path]:
    home = Home.from_environment()
    return home, (config or home.config).absolute()


def _must_exist(examined: Examined, config: Path | None) -> None:
    if config is not None and not examined.exists:
        raise ConfigError(f"{examined.path} not found; name an existing file with --config, or leave it out")


def _pairs(given: Sequence[str]) -> list[tuple[str, str | None]]:
    if len(given) % 2:
        raise UsageError(f"{given[-1][:80]!r} has no value; give settings and values in turn")
    return list(zip(given[::2], given[1::2], strict=True))


def _line(one: Effective) -> str:
    """The setting as a line of the file."""
    value = one.shown
    if isinstance(value, dict):
        pairs = ", ".join(f"{json.dumps(name)} = {json.dumps(text)}" for name, text in value.items())
        return redacted(f"{one.path} = {{{pairs}}}")
    return redacted(f"{one.path} = {json.dumps('' if value is None else value, ensure_ascii=False)}")


def _origin(one: Effective, path: Path) -> str:
    match one.source:
        case "config.toml":
            origin = f"{path}:{one.line}" if one.line else str(path)
        case "statement":
            origin = "stated, with: tokenferry policy set own-use"
        case "default" if one.value is None:
            origin = "not set"
        case _:
            origin = one.source
    origin += f"; from the variable {one.variable}" if one.variable else ""
    return origin if one.fingerprint is None else f"{origin}; names a key with fingerprint {one.fingerprint}"


def _to_json(one: Effective) -> dict[str, Any]:
    value = one.shown
    if isinstance(value, str):
        value = redacted(value)
    further = {"line": one.line, "variable": one.variable, "fingerprint": one.fingerprint}
    found = {name: each for name, each in further.items() if each is not None}
    return {"path": one.path, "value": value, "source": one.source, **found}
