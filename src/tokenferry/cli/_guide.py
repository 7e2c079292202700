"""`tokenferry setup`: list keys, logins and tools on this machine, and ask what to do with each."""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct

from tokenferry.accounts import Offer, Presence, Surroundings, find_presences, make_offers, read_presence
from tokenferry.broker import Broker
from tokenferry.cli._connect import access_to, connect, files_in_place, files_with, is_connected
from tokenferry.cli._home import find, open_broker
from tokenferry.cli._input import answer
from tokenferry.cli._output import note, say, say_json, say_lines
from tokenferry.cli._readiness import readiness
from tokenferry.cli._table import Column, table
from tokenferry.cli.import_ import import_one, report, tilde
from tokenferry.clients import CLIENT_FORMATS, SERVED, TOOLS, Tool, ToolFile
from tokenferry.config import Config
from tokenferry.errors import NeedsTerminal, TokenferryError
from tokenferry.settings import Home
from tokenferry.state import gateway_records
from tokenferry.stores import Account, Attaching, Attachments, Document

ToolState = Literal["connected", "can be connected", "not served yet"]

_YES: Final = {"y", "yes"}


class FoundTool(Struct, frozen=True):
    """A tool on this machine."""

    tool: Tool
    files: tuple[ToolFile, ...]
    state: ToolState

    @property
    def means(self) -> str:
        if self.state == "connected":
            return f"connected; take it back with: tokenferry setup {self.tool.name} --undo"
        if self.state == "not served yet":
            return f"left as it is: the gateway does not serve {CLIENT_FORMATS[self.tool.api_format].title} yet"
        return "send its requests to the gateway; the change is shown first"

    def to_json(self) -> dict[str, Any]:
        paths = [str(file.path) for file in self.files]
        return {"tool": self.tool.name, "files": paths, "state": self.state, "means": self.means}


class Guide:
    """What was found, and the question for each."""

    def __init__(self, home: Home, config: Config, broker: Broker) -> None:
        self._home = home
        self._config = config
        self._broker = broker
        self._around = Surroundings(os.environ, Path.home(), home.locks, os.environ.get("USER", ""))
        self.presences = list(find_presences(self._around, self._documents(), self._attached()))
        self.tools = list(self._tools())

    def _documents(self) -> Iterator[Document]:
        store = self._broker.book.store
        own = store.files if isinstance(store, Attaching) else store
        for name in own.names():
            try:
                yield own.read(name)
            except TokenferryError:
                continue  # `doctor` reports it

    def _attached(self) -> Iterator[Account]:
        attachments = Attachments(self._home.attached)
        for name in attachments.names():
            with contextlib.suppress(TokenferryError):
                if (account := attachments.read(name)) is not None:
                    yield account

    def _tools(self) -> Iterator[FoundTool]:
        for tool in TOOLS.values():
            files = files_in_place(tool, self._home)
            if shutil.which(tool.program) is None and not any(file.path.parent.is_dir() for file in files):
                continue
            state: ToolState = "can be connected" if tool.api_format in SERVED else "not served yet"
            yield FoundTool(tool, files, "connected" if is_connected(tool, files, self._home) else state)

    def show(self) -> None:
        if not self.presences and not self.tools:
            say("found no key, no login and no tool that tokenferry knows")
            return
        rows = [(one.title, tilde(one.where), tilde(_means(one))) for one in self.presences]
        rows += [(one.tool.title, tilde(str(one.files[0].path)), tilde(one.means)) for one in self.tools]
        table((Column("found"), Column("where"), Column("what could be done", folds=True)), rows)

    def questions(self) -> list[str]:
        """The questions that a terminal would ask."""
        asked = [_question(one) for one in self.presences if one.action != "none" and not one.accounts]
        return asked + [_tool_question(one) for one in self.tools if one.state == "can be connected"]

    def ask(self) -> None:
        for presence in self.presences:
            if presence.action != "none" and not presence.accounts and _agrees(_question(presence)):
                try:
                    self._take_in(presence)
                except TokenferryError as fault:
                    note(f"{tilde(presence.where)} is left as it is: {fault}")
        tools = [one for one in self.tools if one.state == "can be connected"]
        if tools and (reason := readiness(self._broker, self._config).reason):
            # A tool that works today would stop working.
            note(f"tools are not connected, because the gateway can't serve any request yet: {reason}")
            return
        for found in tools:
            if _agrees(_tool_question(found)):
                self._connect(found)

    def _take_in(self, presence: Presence) -> None:
        def look() -> list[Offer]:
            found, beside = read_presence(presence, self._around)
            return make_offers(found, self._broker.book, self._broker.providers, time.time(), attached=beside)

        offers = look()
        if not offers:
            note(f"{tilde(presence.where)} holds no key and no login")
        for offer in offers:
            if offer.account is None:
                note(f"{tilde(offer.where)} {offer.key}: {offer.note}".replace(" :", ":"))
            elif offer.action != "take-over" or _types_name(
                offer, presence.stops or "every other program that uses it"
            ):
                result = import_one(self._broker, self._home, offer, look)
                report(self._broker, [offer], {0: result}, say_done=say)

    def _connect(self, found: FoundTool) -> None:
        tool = found.tool
        try:
            access = access_to(self._home, self._config)
            connect(tool, files_with(tool, access), self._home, dry_run=False, yes=False)
        except TokenferryError as fault:
            note(f"{tool.title} is left as it is: {fault}")
            note(f"see the lines to add by hand: tokenferry setup {tool.name} --print")

    def next_steps(self) -> list[str]:
        lines = []
        if not self._broker.book.names():
            lines.append("tokenferry account add work --provider anthropic   store an API key")
        if not any(record.is_running for record in gateway_records(self._home)):
            lines.append("tokenferry serve                                   start the gateway")
        return [
            "",
            "Next:",
            *(f"  {line}" for line in lines),
            "  tokenferry status                                  show accounts and gateway",
        ]


def guide(*, as_json: bool) -> int:
    """Look around, show, ask; give the exit code. Raises `NeedsTerminal` if there are questions and no terminal."""
    home, config = find()
    found = Guide(home, config, open_broker(home, config))
    if as_json:
        say_json(
            {
                "found": [one.to_json() for one in found.presences],
                "tools": [one.to_json() for one in found.tools],
                "questions": found.questions(),
            }
        )
        return 0
    found.show()
    questions = found.questions()
    if questions and (sys.stdin is None or not sys.stdin.isatty()):
        say_lines(["", "In a terminal you would be asked:", *(f"  {tilde(question)}" for question in questions)])
        raise NeedsTerminal("nothing was read and nothing was changed; run this in a terminal: tokenferry setup")
    found.ask()
    say_lines(found.next_steps())
    return 0


def _means(presence: Presence) -> str:
    if not presence.accounts:
        return presence.means
    more = f"; for what else is in it: tokenferry import {presence.where}" if presence.action == "take-over" else ""
    return f"already here as {', '.join(presence.accounts)}{more}"


def _question(presence: Presence) -> str:
    """The question about a place; yes allows opening it."""
    where = presence.where
    if presence.action == "take-over":
        return f"Look into {where}, and compare it with the logins that stay in place? This takes nothing over."
    if presence.action == "attach":
        return f"Attach {presence.title} in {where}? It stays where it is."
    return f"Store a copy of what is in {where}?"


def _tool_question(found: FoundTool) -> str:
    paths = " and ".join(str(file.path) for file in found.files)
    return f"Connect {found.tool.title}? {paths} is read, and the change is shown before it is made."


def _agrees(question: str) -> bool:
    return answer(f"{tilde(question)} [y/N] ") in _YES


def _types_name(offer: Offer, stops: str) -> bool:
    """Whether the user types the account's name, which hands its login to tokenferry."""
    assert offer.account is not None
    name = offer.account.name
    note(
        f"{tilde(offer.where)} holds the login {name}; once it is tokenferry's, {stops} must not use it: stop it first"
    )
    if answer(f"Type {name} to take it over, or press Enter to leave it: ") == name.lower():
        return True
    note(f"{name} is left where it is")
    return False
