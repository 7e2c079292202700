"""Leading Claude Code to tokenferry by its settings, and taking that back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from tokenferry.claude_code.setup._file import SettingsFile
from tokenferry.claude_code.setup._text import HiddenText, JsonText, Keys
from tokenferry.claude_code.setup._view import shown_change
from tokenferry.errors import CorruptFile, TokenferryError, UsageError
from tokenferry.secret import Fields, parse_object
from tokenferry.settings import Home
from tokenferry.stores import FileLock, read_private_file, remove_file, replace_private_file

API_KEY_HELPER: Final[Keys] = ("apiKeyHelper",)
BASE_URL: Final[Keys] = ("env", "ANTHROPIC_BASE_URL")

_ENV: Final[Keys] = ("env",)
_VERSION: Final = 1
_LOCK_WAIT: Final = 10.0
_NAME_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class ReplacedSetting:
    """A setting of ours: what stood there before and what we put there, as it was typed; None for nothing."""

    keys: Keys
    before: HiddenText | None
    after: HiddenText | None


@dataclass(frozen=True, slots=True)
class UndoRecord:
    """What was replaced in a settings file, and whether the file and its section `env` were there before."""

    replaced: tuple[ReplacedSetting, ...]
    had_file: bool
    had_env: bool

    def find(self, keys: Keys) -> ReplacedSetting | None:
        return next((one for one in self.replaced if one.keys == keys), None)


@dataclass(frozen=True, slots=True)
class SetupPlan:
    """A change that was thought out and not made yet. `left` says what isn't taken back, and why."""

    file: SettingsFile
    before: HiddenText | None
    after: HiddenText | None
    record: UndoRecord | None
    left: tuple[str, ...] = ()

    @property
    def changes_something(self) -> bool:
        return self.before != self.after

    def diff(self) -> list[str]:
        """The change as it may be shown."""
        ours = [json.loads(one.after) for one in self.record.replaced if one.after] if self.record else []
        return shown_change(self.before, self.after, str(self.file.path), ours)


class ClaudeCodeSetup:
    """Our settings in one settings file of Claude Code. What they replaced is kept in the home, 0600."""

    def __init__(self, path: Path, home: Home) -> None:
        self.file = SettingsFile.at(path)
        self._home = home
        digest = sha256(str(self.file.real).encode("utf-8", "surrogateescape")).hexdigest()
        self._record = home.setup / f"claude-code-{digest[:_NAME_DIGITS]}.json"

    def plan(self, wanted: Mapping[Keys, str | None]) -> SetupPlan:
        """Think out how the file comes to say this; None stands for a setting that must not be there.

        Raises `UnsafeFile`, `CorruptFile`.
        """
        known, before = self._known(), self.file.read()
        document = self.file.parse(before)
        replaced: list[ReplacedSetting] = []
        try:
            had_env = known.had_env if known else document.raw(_ENV) is not None
            for keys, value in wanted.items():
                present = document.raw(keys)
                after = None if value is None else HiddenText(json.dumps(value))
                old = known.find(keys) if known else None
                is_ours = old is not None and _same(present, old.after)
                replaced.append(ReplacedSetting(keys, old.before if old and is_ours else present, after))
                document = document if _same(present, after) else _put(document, keys, after)
        except ValueError as fault:
            raise self.file.unusable(fault) from None
        had_file = known.had_file if known else before is not None
        is_new = before is None or document.text != self.file.parse(before).text
        return SetupPlan(
            self.file, before, document.text if is_new else before, UndoRecord(tuple(replaced), had_file, had_env)
        )

    def plan_undo(self) -> SetupPlan:
        """Think out how to restore what was replaced, where it is still as we wrote it.

        Raises `UsageError` when nothing is on record, `UnsafeFile`, `CorruptFile`.
        """
        known, before = self._known(), self.file.read()
        if known is None:
            raise UsageError(f"tokenferry has no record of a setup in {self.file.path}, so there is nothing to undo")
        document = self.file.parse(before)
        changed: list[ReplacedSetting] = []
        try:
            for one in known.replaced:
                present = document.raw(one.keys)
                if _same(present, one.after):
                    document = document if _same(present, one.before) else _put(document, one.keys, one.before)
                elif not _same(present, one.before):
                    changed.append(one)
            env = document.raw(_ENV)
            if not known.had_env and env is not None and json.loads(env) == {}:
                document = document.without(_ENV)
        except ValueError as fault:
            raise self.file.unusable(fault) from None
        after: HiddenText | None = document.text if before is not None else None
        if not known.had_file and json.loads(document.text) == {}:
            after = None
        left = tuple(f"{'.'.join(one.keys)} was changed since, so it is left as it is" for one in changed)
        record = UndoRecord(tuple(changed), known.had_file, known.had_env) if changed else None
        return SetupPlan(self.file, before, after, record, left)

    def carry_out(self, plan: SetupPlan) -> None:
        """Make the change. Raises `Conflict` if the file isn't what was planned for any more, `StorageFailed`."""
        with FileLock(self.file.real, self._home.locks).held(_LOCK_WAIT):
            if plan.record is not None and not plan.left:
                self._write_on_record(plan, plan.record)
                return
            if plan.changes_something:
                self.file.write(plan.after, expected=plan.before)
            self._put_on_record(plan.record)

    def _write_on_record(self, plan: SetupPlan, record: UndoRecord) -> None:
        """What is replaced is on record before it is, so that a setup that is cut short can be undone."""
        known = self._known()
        self._put_on_record(record)
        if plan.changes_something:
            try:
                self.file.write(plan.after, expected=plan.before)
            except TokenferryError:
                self._put_on_record(known)
                raise

    def _put_on_record(self, record: UndoRecord | None) -> None:
        if record is None:
            remove_file(self._record)
        else:
            replace_private_file(self._record, _to_bytes(record))

    def _known(self) -> UndoRecord | None:
        try:
            fields = parse_object(read_private_file(self._record))
        except FileNotFoundError:
            return None
        record = None if fields is None else _from_fields(fields)
        if record is None:
            raise CorruptFile(f"{self._record} can't be understood; remove it, and undo the setup by hand")
        return record


def _put(document: JsonText, keys: Keys, raw: HiddenText | None) -> JsonText:
    return document.without(keys) if raw is None else document.with_value(keys, raw)


def _same(raw: str | None, other: str | None) -> bool:
    if raw is None or other is None:
        return raw is other
    return bool(json.loads(raw) == json.loads(other))


def _to_bytes(record: UndoRecord) -> bytes:
    replaced = [Fields(keys=list(one.keys), before=one.before, after=one.after) for one in record.replaced]
    fields = Fields(version=_VERSION, had_file=record.had_file, had_env=record.had_env, replaced=replaced)
    return json.dumps(fields, indent=1).encode("ascii") + b"\n"


def _from_fields(fields: Fields) -> UndoRecord | None:
    if fields.get("version") != _VERSION:
        return None
    try:
        replaced = tuple(
            ReplacedSetting(tuple(map(str, one["keys"])), _hidden(one["before"]), _hidden(one["after"]))
            for one in fields["replaced"]
        )
        return UndoRecord(replaced, bool(fields["had_file"]), bool(fields["had_env"]))
    except (KeyError, TypeError, ValueError):
        return None


def _hidden(raw: object) -> HiddenText | None:
    if raw is None:
        return None
    json.loads(str(raw))  # what is restored must be JSON
    return HiddenText(raw)
