"""The refresh journal: the attempt in progress with its answer, and the last failure, by account."""

import contextlib
import json
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.credentials import OAuthToken, credential_from_json
from tokenferry.errors import Conflict, CorruptFile, StorageFailed, UsageError
from tokenferry.sealing import BrokenSeal, SealKey, close_box, open_box
from tokenferry.secret import Fields, HiddenBytes, parse_object
from tokenferry.settings import Home
from tokenferry.stores import DISK, Disk, ProcessIdentity, Seal, remove_file, remove_leftovers, replace_private_file

AttemptState: TypeAlias = Literal["begun", "open", "answered", "uncertain", "denied", "closed", "orphaned"]
VerdictKind: TypeAlias = Literal["failed", "uncertain", "needs-login"]

_HEADER: Final = 4096
_NOTE: Final = _HEADER - 32
"""The offset of the time of sending; its room is allocated with the file."""
_ROOM: Final = 60 * 1024
_PURPOSE: Final = "answer"
_MARKS: Final[dict[bytes, AttemptState]] = {
    b"B": "begun",
    b"O": "open",
    b"A": "answered",
    b"U": "uncertain",
    b"D": "denied",
    b"C": "closed",
}


class RefreshAttempt(Struct, frozen=True):
    """One presentation of one refresh token, written to disk before it is sent.

    `token` is the sha256 of the refresh token; `at`, in seconds since 1970 UTC, is when the first presentation with
    unknown outcome was sent, which may be this one; `tries` counts the presentations whose outcome is unknown, this one
    included unless it is `begun` or `closed`.

    While it is `begun` no byte of the request has left; `open` means that bytes may have. `answered` means that the
    answer's refresh token could not be read: once its access token is published the attempt is `uncertain`, and keeps
    its answer. `orphaned` belongs to an unreachable host, which may be gone or may come back.
    """

    id: str
    token: str
    at: float
    process: ProcessIdentity
    tries: int = 1
    state: AttemptState = "open"
    answer: OAuthToken | None = None

    @classmethod
    def begin(cls, token: str, at: float, process: ProcessIdentity, tries: int) -> "RefreshAttempt":
        return cls(secrets.token_hex(8), token, at, process, tries, "begun")

    @property
    def presentations(self) -> int:
        """The number of presentations with an unknown outcome that the server may have seen."""
        return self.tries - (self.state in {"begun", "closed"})

    @property
    def may_be_spent(self) -> bool:
        """Whether the server may have seen the refresh token in a presentation whose outcome is unknown."""
        return self.presentations > 0


class RefreshFailure(Struct, frozen=True):
    """How the last failed grant ended, bound to the refresh token (sha256) that it presented.

    `until` is when the token may be presented again; times in seconds since 1970 UTC. `refused` is the access token
    (sha256) whose refusal by the provider caused the grant, if one did.
    """

    kind: VerdictKind
    token: str
    at: float
    reason: str
    until: float = 0.0
    failures: int = 1
    refused: str | None = None


class Journal(Protocol):
    """Stores attempts and failures by account. Only the holder of the account's lock writes.

    A lock may be lost without notice, so `begin` compares: it raises `Conflict` and writes nothing unless the attempt
    on record has the id `replaces` (None: no attempt).
    """

    def attempt(self, name: str) -> RefreshAttempt | None: ...
    def begin(self, name: str, attempt: RefreshAttempt, *, replaces: str | None = None) -> None: ...
    def sending(self, name: str, attempt: RefreshAttempt, at: float) -> None: ...
    def answer(self, name: str, attempt: RefreshAttempt, token: OAuthToken) -> None: ...
    def mark(self, name: str, attempt: RefreshAttempt, state: AttemptState) -> None: ...
    def close(self, name: str, attempt: RefreshAttempt) -> None: ...
    def failure(self, name: str) -> RefreshFailure | None: ...
    def record_failure(self, name: str, failure: RefreshFailure | None) -> None: ...
    def totals(self, name: str) -> Mapping[str, int]: ...
    def forget(self, name: str) -> None: ...


class FileJournal:
    """The journal as two 0600 files per account.

    NAME.attempt is made at its full size before the request is sent, so that marking it and writing the answer into
    it need no more space: one mark byte, the attempt, from byte 4064 on the time of sending, and from byte 4096 on the
    answer after its checksum, sealed if the home is. NAME.verdict is a small JSON document without tokens: the failure
    in force, and counts of refreshes by outcome. The folder is in the home.
    """

    def __init__(self, folder: Path, *, disk: Disk = DISK, seal: Seal | None = None) -> None:
        home = Home(folder.parent)
        self._folder = folder
        self._disk = disk
        self._seal = seal or (Seal.of(home) if disk is DISK else Seal(home, disk=disk))
        self._begun: dict[str, tuple[str, SealKey | None]] = {}

    def attempt(self, name: str) -> RefreshAttempt | None:
        """Return the attempt on record. Raises `CorruptFile`, `UnsafeFile`, and for a sealed answer `NeedsUnlock`."""
        path = self._attempt(name)
        try:
            raw = self._disk.read(path)
        except FileNotFoundError:
            return None
        state = _MARKS.get(raw[:1])
        fields = parse_object(raw[1:_NOTE].rstrip(b"\0 \n"))
        noted = raw[_NOTE:_HEADER].strip(b"\0 ")
        body = _read_body(raw[_HEADER:])
        del raw  # a traceback shows the locals of this frame
        try:
            assert state is not None
            assert fields is not None
            answer = _token(self._opened(name, fields, body))
            whose = int(fields["pid"]), str(fields["start"]), str(fields["boot"])
            process = ProcessIdentity(*whose, instance=str(fields.get("instance", "")))
            tries = int(fields["tries"])
            at = float(noted) if tries == 1 and noted else float(fields["at"])
            attempt = RefreshAttempt(fields["id"], str(fields["token"]), at, process, tries, state, answer)
        except (AssertionError, KeyError, TypeError, ValueError):  # also a broken seal
            attempt = None
        if attempt is None:
            raise CorruptFile(
                f"{path} can't be understood; it may hold the only copy of a renewed token, so keep it; log in again: "
                f"tokenferry login {name}"
            )
        return attempt

    def begin(self, name: str, attempt: RefreshAttempt, *, replaces: str | None = None) -> None:
        """Put the attempt on disk, with room for its answer.

        In a sealed home this also loads the key that will seal the answer. Raises `Conflict`, `StorageFailed`,
        `NeedsUnlock`, `SealKeyLost`; then nothing may be sent.
        """
        check_replaced(name, self._recorded(name), replaces)
        self._begun[name] = attempt.id, self._seal.for_writing(self._seal.used(name), is_new=True)
        path = self._attempt(name)
        process = attempt.process
        fields = {"id": attempt.id, "token": attempt.token, "at": attempt.at, "tries": attempt.tries}
        fields |= {"pid": process.pid, "start": process.start, "boot": process.boot}
        fields |= {"instance": process.instance} if process.instance else {}
        mark = next(byte for byte, known in _MARKS.items() if known == attempt.state)
        header = mark + json.dumps(fields).encode("ascii")
        remove_leftovers(path, disk=self._disk)
        replace_private_file(path, header.ljust(_HEADER) + bytes(_ROOM), disk=self._disk)

    def _recorded(self, name: str) -> str | None:
        """Return the id of the attempt on record; "" for an unreadable one."""
        try:
            head = HiddenBytes(self._disk.read(self._attempt(name))[1:_NOTE])
        except FileNotFoundError:
            return None
        return str((parse_object(head.rstrip(b"\0 \n")) or Fields()).get("id", ""))

    def sending(self, name: str, attempt: RefreshAttempt, at: float) -> None:
        """Record that bytes of the request may have left at `at` (seconds since 1970 UTC).

        Raises `StorageFailed`; then none may leave.
        """
        with self._open(name, attempt) as descriptor:
            self._disk.write(descriptor, b"%.3f" % at, _NOTE)
            self._disk.write(descriptor, b"O", 0)
            self._disk.fsync(descriptor)

    def answer(self, name: str, attempt: RefreshAttempt, token: OAuthToken) -> None:
        """Write the answer into its preallocated room. Raises `StorageFailed`."""
        begun, key = self._begun.get(name, (None, None))
        if begun != attempt.id:
            key = self._seal.for_writing(self._seal.used(name), is_new=False)
        content = _write_body(_sealed(token.to_json(), key, _about(name, attempt)))
        with self._open(name, attempt) as descriptor:
            self._disk.write(descriptor, content, _HEADER)
            self._disk.fsync(descriptor)

    def rewrite(self, name: str, key: SealKey | None) -> None:
        """Seal the answer on record with this key, or write it in clear. Raises what `attempt` does."""
        attempt = self.attempt(name)
        if attempt is None or attempt.answer is None:
            return
        content = _sealed(attempt.answer.to_json(), key, _about(name, attempt))
        path = self._attempt(name)
        head = HiddenBytes(self._disk.read(path)[:_HEADER])
        remove_leftovers(path, disk=self._disk)
        whole = HiddenBytes((head + _write_body(content)).ljust(_HEADER + _ROOM, b"\0"))
        replace_private_file(path, whole, disk=self._disk)

    def _opened(self, name: str, head: Fields, body: Fields | None) -> Fields | None:
        """Return the fields of an answer, sealed or not. Raises `BrokenSeal`, `NeedsUnlock`, `SealKeyLost`."""
        if body is None:
            return None
        if "sealed" not in body:
            if self._seal.refuses_clear():
                raise BrokenSeal("it is in clear in a sealed home")
            return body
        key = self._seal.key(str(body["key"]))
        about = {"name": name, "attempt": head["id"], "token": head["token"], "key": key.id}
        return parse_object(open_box(key, str(body["sealed"]), _PURPOSE, about))

    def mark(self, name: str, attempt: RefreshAttempt, state: AttemptState) -> None:
        """Mark how the attempt ended, in its one mark byte. Raises `StorageFailed`."""
        mark = next(byte for byte, known in _MARKS.items() if known == state)
        with self._open(name, attempt) as descriptor:
            self._disk.write(descriptor, mark, 0)
            self._disk.fsync(descriptor)

    def close(self, name: str, attempt: RefreshAttempt) -> None:  # noqa: ARG002  # under a flock there is no other one
        """Remove the attempt, whose outcome is known and stored. Raises `StorageFailed`."""
        remove_file(self._attempt(name), disk=self._disk)

    def failure(self, name: str) -> RefreshFailure | None:
        """Return the failure in force; None also for an unreadable one, since it is only advice."""
        fields = self._history(name).get("last")
        try:
            known = RefreshFailure.__struct_fields__
            return None if fields is None else RefreshFailure(**{key: fields[key] for key in known if key in fields})
        except TypeError:
            return None

    def record_failure(self, name: str, failure: RefreshFailure | None) -> None:
        """Record the failure for all processes; None for a grant that succeeded. Raises `StorageFailed`."""
        last = None if failure is None else {key: getattr(failure, key) for key in RefreshFailure.__struct_fields__}
        totals = Counter(self.totals(name))
        totals["granted" if failure is None else failure.kind] += 1
        data = json.dumps({"last": last, "totals": totals}).encode("ascii") + b"\n"
        path = self._failure(name)
        remove_leftovers(path, disk=self._disk)
        replace_private_file(path, data, disk=self._disk)

    def forget(self, name: str) -> None:
        """Remove the files of a removed account. Raises `StorageFailed`."""
        for path in (self._attempt(name), self._failure(name)):
            remove_leftovers(path, disk=self._disk)
            remove_file(path, disk=self._disk)

    def totals(self, name: str) -> Mapping[str, int]:
        """Count refreshes by outcome, of all processes, since the account was first refreshed here."""
        totals = self._history(name).get("totals")
        counted = totals.items() if isinstance(totals, dict) else ()
        return {kind: count for kind, count in counted if isinstance(count, int)}

    def _history(self, name: str) -> Fields:
        try:
            return parse_object(self._disk.read(self._failure(name))) or Fields()
        except FileNotFoundError:
            return Fields()

    @contextlib.contextmanager
    def _open(self, name: str, attempt: RefreshAttempt) -> Iterator[int]:
        path = self._attempt(name)
        try:
            descriptor = self._disk.open(path)
            try:
                yield descriptor
            finally:
                self._disk.close(descriptor)
        except OSError as fault:
            raise StorageFailed(f"{path} (attempt {attempt.id}) could not be written: {fault.strerror}") from None

    def _attempt(self, name: str) -> Path:
        return self._folder / f"{name}.attempt"

    def _failure(self, name: str) -> Path:
        return self._folder / f"{name}.verdict"


class MemoryJournal:
    """The journal of a store without a disk; it lasts as long as the process."""

    def __init__(self) -> None:
        self._attempts: dict[str, RefreshAttempt] = {}
        self._failures: dict[str, RefreshFailure] = {}
        self._totals: dict[str, Counter[str]] = {}

    def attempt(self, name: str) -> RefreshAttempt | None:
        return self._attempts.get(name)

    def begin(self, name: str, attempt: RefreshAttempt, *, replaces: str | None = None) -> None:
        recorded = self._attempts.get(name)
        check_replaced(name, None if recorded is None else recorded.id, replaces)
        self._attempts[name] = attempt

    def sending(self, name: str, attempt: RefreshAttempt, at: float) -> None:
        self._attempts[name] = replace(attempt, state="open", at=at if attempt.tries == 1 else attempt.at)

    def answer(self, name: str, attempt: RefreshAttempt, token: OAuthToken) -> None:
        self._attempts[name] = replace(self._attempts.get(name, attempt), answer=token)

    def mark(self, name: str, attempt: RefreshAttempt, state: AttemptState) -> None:
        self._attempts[name] = replace(self._attempts.get(name, attempt), state=state)

    def close(self, name: str, attempt: RefreshAttempt) -> None:
        if (recorded := self._attempts.get(name)) is not None and recorded.id == attempt.id:
            del self._attempts[name]

    def failure(self, name: str) -> RefreshFailure | None:
        return self._failures.get(name)

    def record_failure(self, name: str, failure: RefreshFailure | None) -> None:
        self._totals.setdefault(name, Counter())["granted" if failure is None else failure.kind] += 1
        if failure is None:
            self._failures.pop(name, None)
        else:
            self._failures[name] = failure

    def totals(self, name: str) -> Mapping[str, int]:
        return dict(self._totals.get(name, {}))

    def forget(self, name: str) -> None:
        self._attempts.pop(name, None)
        self._failures.pop(name, None)
        self._totals.pop(name, None)


def check_replaced(name: str, recorded: str | None, replaces: str | None) -> None:
    """Raise `Conflict` unless the attempt on record is the one to be replaced; both by id, None for no attempt."""
    if recorded != replaces:
        raise Conflict(f"account {name!r}: another attempt to refresh it is on record; nothing was sent")


def _about(name: str, attempt: RefreshAttempt) -> Fields:
    return Fields(name=name, attempt=attempt.id, token=attempt.token)


def _sealed(content: Fields, key: SealKey | None, about: Fields) -> Fields:
    if key is None:
        return content
    about = Fields(about, key=key.id)
    plain = HiddenBytes(json.dumps(content).encode("ascii"))
    return Fields(key=key.id, sealed=close_box(key, plain, _PURPOSE, about))


def _write_body(content: Fields) -> HiddenBytes:
    body = HiddenBytes(json.dumps(content).encode("ascii"))
    return HiddenBytes(sha256(body).hexdigest().encode("ascii") + b" %d\n" % len(body) + body)


def _read_body(raw: bytes) -> Fields | None:
    """Read the journalled answer; None without one, or if its writing was cut short."""
    head, _, rest = raw.partition(b"\n")
    del raw
    digest, _, length = head.partition(b" ")
    if not length.isdigit():
        return None
    body = rest[: int(length)]
    del rest
    fields = parse_object(body) if sha256(body).hexdigest().encode("ascii") == digest else None
    del body
    return fields


def _token(fields: Fields | None) -> OAuthToken | None:
    if fields is None:
        return None
    try:
        token = credential_from_json("oauth", fields)
    except UsageError:
        return None
    return token if isinstance(token, OAuthToken) else None
