"""Writes our settings into another program's settings file, and undoes that."""

import contextlib
import json
from collections.abc import Mapping
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from tokenferry.clients._settings_file import SettingsFile
from tokenferry.clients._settings_text import HiddenText, Keys, SettingsText
from tokenferry.clients._shown_change import shown_change
from tokenferry.credentials import CLIENT_KEY_PREFIXES
from tokenferry.errors import CorruptFile, TokenferryError, UsageError
from tokenferry.secret import Fields, parse_object
from tokenferry.settings import Home
from tokenferry.stores import FileLock, read_private_file, remove_file, replace_private_file

_VERSION: Final = 2
_LOCK_WAIT: Final = 10.0
_NAME_DIGITS: Final = 16


class ReplacedSetting(Struct, frozen=True):
    """A setting of ours: the text before and the text that we wrote; None for no setting."""

    keys: Keys
    before: HiddenText | None
    after: HiddenText | None


class UndoRecord(Struct, frozen=True):
    """How to undo a setup.

    `original` is the text from before (None: no file). It is restored whole while the file has the sha256 that was
    written. Otherwise each setting is restored, and `sections` and `folders` that were made for them are removed if
    they are empty.
    """

    replaced: tuple[ReplacedSetting, ...]
    original: HiddenText | None
    written: str
    sections: tuple[Keys, ...] = ()
    folders: tuple[str, ...] = ()

    def find(self, keys: Keys) -> ReplacedSetting | None:
        return next((one for one in self.replaced if one.keys == keys), None)


class SetupPlan(Struct, frozen=True):
    """A planned change. `left` names settings that aren't restored, with the reason; `note` is for a person."""

    file: SettingsFile
    before: HiddenText | None
    after: HiddenText | None
    record: UndoRecord | None
    left: tuple[str, ...] = ()
    note: str = ""
    emptied: tuple[str, ...] = ()
    """Folders that are removed with the file if they become empty."""

    @property
    def changes_something(self) -> bool:
        return self.before != self.after

    def diff(self) -> list[str]:
        """Give the change with secrets hidden."""
        replaced = self.record.replaced if self.record else ()
        values = [self.file.syntax.decode(one.after) for one in replaced if one.after]
        strings = chain.from_iterable(value if isinstance(value, list) else [value] for value in values)
        ours = {str(one) for one in strings if not str(one).startswith(CLIENT_KEY_PREFIXES)}
        old, new = (None if text is None else self.file.parse(text) for text in (self.before, self.after))
        return shown_change(old, new, str(self.file.path), ours)


class ClientSetup:
    """Our settings in one settings file of another program. The replaced ones are stored in the home, 0600."""

    def __init__(self, file: SettingsFile, home: Home, name: str) -> None:
        self.file = file
        self._home = home
        digest = sha256(str(self.file.real).encode("utf-8", "surrogateescape")).hexdigest()
        self._record = home.setup / f"{name}-{digest[:_NAME_DIGITS]}.json"

    @property
    def is_done(self) -> bool:
        """Tell whether a setup is recorded. The settings file is not opened."""
        return self._record.exists()

    def plan(self, wanted: Mapping[Keys, Any], *, holds_key: bool = False) -> SetupPlan:
        """Plan the change to these settings; None for a setting that must be absent.

        Raises `CorruptFile`, and `UnsafeFile` also if a key would be written to a file that others can read.
        """
        if holds_key:
            self.file.check_private()
        known, before = self._known(), self.file.read()
        document = self.file.parse(before)
        replaced: list[ReplacedSetting] = []
        try:
            if known is None:
                original = before
            elif before is not None and _digest(before) == known.written:
                original = known.original
            else:  # the file was changed since: what the user did to it is to stay
                original, _ = self._taken_back(known, before)
            base = self.file.parse(original)
            for keys, value in wanted.items():
                after = None if value is None else document.encode(value)
                replaced.append(ReplacedSetting(keys, base.raw(keys), after))
                if not self._same(document.raw(keys), after):
                    document = _put(document, keys, after)
            paths = [keys[:length] for keys in wanted for length in range(len(keys) - 1, 0, -1)]
            sections = tuple(path for path in dict.fromkeys(paths) if not base.has_section(path))
        except ValueError as fault:
            raise self.file.unusable(fault) from None
        is_new = before is None or document.text != self.file.parse(before).text
        text = document.text if is_new else before
        folders = known.folders if known else self._missing_folders()
        record = UndoRecord(tuple(replaced), original, _digest(text or ""), sections, folders)
        return SetupPlan(self.file, before, text, record)

    def plan_undo(self) -> SetupPlan:
        """Plan how to restore the replaced settings, if they are still as we wrote them.

        Raises `UsageError` without a recorded setup, `UnsafeFile`, `CorruptFile`.
        """
        known, before = self._known(), self.file.read()
        if known is None:
            raise UsageError(f"tokenferry has no record of a setup in {self.file.path}, so there is nothing to undo")
        if before is not None and _digest(before) == known.written:
            return SetupPlan(self.file, before, known.original, None, emptied=known.folders)
        try:
            after, changed = self._taken_back(known, before)
        except ValueError as fault:
            raise self.file.unusable(fault) from None
        left = tuple(f"{'.'.join(one.keys)} was changed since, so it is left as it is" for one in changed)
        record = UndoRecord(changed, after, "", known.sections, known.folders) if changed else None
        note = f"{self.file.path} was changed since the setup, so only tokenferry's settings are taken out of it"
        return SetupPlan(
            self.file, before, after, record, left, note if before != after else "", () if changed else known.folders
        )

    def carry_out(self, plan: SetupPlan) -> None:
        """Make the change. Raises `Conflict` if the file was changed since the plan, `StorageFailed`."""
        with FileLock(self.file.real, self._home.locks).held(_LOCK_WAIT):
            if plan.record is not None and not plan.left:
                self._write_on_record(plan, plan.record)
                return
            if plan.changes_something:
                self.file.write(plan.after, expected=plan.before)
            if plan.after is None:
                for folder in plan.emptied:
                    with contextlib.suppress(OSError):
                        Path(folder).rmdir()
            self._put_on_record(plan.record)

    def _taken_back(
        self, known: UndoRecord, before: HiddenText | None
    ) -> tuple[HiddenText | None, tuple[ReplacedSetting, ...]]:
        """Give the text without our settings, and those that were changed since. Raises `ValueError`."""
        document = self.file.parse(before)
        changed: list[ReplacedSetting] = []
        for one in known.replaced:
            present = document.raw(one.keys)
            if self._same(present, one.after):
                document = document if self._same(present, one.before) else _put(document, one.keys, one.before)
            elif not self._same(present, one.before):
                changed.append(one)
        for section in sorted(known.sections, key=len, reverse=True):
            if document.is_empty(section):
                document = document.without(section)
        if before is None or (known.original is None and document.is_empty(())):
            return None, tuple(changed)
        return document.text, tuple(changed)

    def _same(self, raw: str | None, other: str | None) -> bool:
        if raw is None or other is None:
            return raw is other
        decode = self.file.syntax.decode
        return bool(decode(raw) == decode(other))

    def _missing_folders(self) -> tuple[str, ...]:
        """Give the folders to create for the file, the innermost first."""
        return tuple(str(folder) for folder in self.file.real.parents if not folder.exists())

    def _write_on_record(self, plan: SetupPlan, record: UndoRecord) -> None:
        """Record the replaced settings before the write, so that an interrupted setup can be undone."""
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


def _put(document: SettingsText, keys: Keys, raw: HiddenText | None) -> SettingsText:
    return document.without(keys) if raw is None else document.with_value(keys, raw)


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _to_bytes(record: UndoRecord) -> bytes:
    replaced = [Fields(keys=list(one.keys), before=one.before, after=one.after) for one in record.replaced]
    fields = Fields(
        version=_VERSION,
        original=record.original,
        written=record.written,
        sections=[list(keys) for keys in record.sections],
        folders=list(record.folders),
        replaced=replaced,
    )
    return json.dumps(fields, indent=1).encode("ascii") + b"\n"


def _from_fields(fields: Fields) -> UndoRecord | None:
    try:
        replaced = tuple(
            ReplacedSetting(tuple(map(str, one["keys"])), _hidden(one["before"]), _hidden(one["after"]))
            for one in fields["replaced"]
        )
        if fields["version"] == 1:  # which kept the settings alone
            original = HiddenText() if fields["had_file"] else None
            return UndoRecord(replaced, original, "", () if fields["had_env"] else (("env",),))
        if fields["version"] != _VERSION:
            return None
        sections = tuple(tuple(map(str, keys)) for keys in fields["sections"])
        folders = tuple(map(str, fields["folders"]))
        return UndoRecord(replaced, _hidden(fields["original"]), str(fields["written"]), sections, folders)
    except (KeyError, TypeError):
        return None


def _hidden(text: object) -> HiddenText | None:
    return None if text is None else HiddenText(text)
