import json
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh.rig import LIFETIME, token
from tokenferry.credentials import OAuthToken
from tokenferry.errors import CorruptFile, NeedsUnlock, StorageFailed, UnsafeFile
from tokenferry.refresh import FileJournal, Journal, MemoryJournal, RefreshAttempt, RefreshFailure
from tokenferry.refresh._journal import AttemptState
from tokenferry.sealing import KeyPlace, Marker, SealKey
from tokenferry.secret import Fields, Secret
from tokenferry.settings import Home
from tokenferry.stores import ProcessIdentity, Seal

NAME = "work"
HEADER = 4096
SIZE = 64 * 1024

printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=300)
secrets = printable.map(Secret)
times = st.integers(0, 4_102_444_800)
texts = st.text(max_size=40)
attempts = st.builds(
    RefreshAttempt,
    id=st.from_regex(r"\A[0-9a-f]{16}\Z"),
    token=st.from_regex(r"\A[0-9a-f]{64}\Z"),
    at=times,
    process=st.builds(ProcessIdentity, pid=st.integers(1, 2**22), start=texts, boot=texts),
    tries=st.integers(1, 2),
)
tokens = st.builds(
    OAuthToken,
    secret=secrets,
    refresh=st.none() | secrets,
    expires_at=st.none() | times,
    scopes=st.lists(printable, max_size=4).map(tuple),
    email=st.none() | texts,
    lifetime=st.none() | st.integers(1, LIFETIME),
    unknown=st.dictionaries(st.sampled_from(["x", "y"]), st.none() | st.booleans() | texts).map(Fields),
)
failures = st.builds(
    RefreshFailure,
    kind=st.sampled_from(["failed", "uncertain", "needs-login"]),
    token=st.from_regex(r"\A[0-9a-f]{64}\Z"),
    at=st.floats(0, 4e9),
    reason=texts,
    until=st.floats(0, 4e9),
    failures=st.integers(1, 100),
)
states: st.SearchStrategy[AttemptState] = st.sampled_from(
    ["begun", "open", "answered", "uncertain", "denied", "closed"]
)
ATTEMPT = RefreshAttempt.begin("ab" * 32, 1_800_000_000, ProcessIdentity.own(), 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture(params=["files", "memory"])
def journal(request: pytest.FixtureRequest, folder: Path) -> Journal:
    return FileJournal(folder) if request.param == "files" else MemoryJournal()


class _Fresh:
    """A journal of its own for each example."""

    def __enter__(self) -> FileJournal:
        self._folder = TemporaryDirectory()
        return FileJournal(Path(self._folder.name) / "journal")

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


@given(attempts, tokens, states)
def test_an_attempt_its_answer_and_its_mark_come_back_as_they_were(
    attempt: RefreshAttempt, answer: OAuthToken, state: AttemptState
) -> None:
    with _Fresh() as journal:
        journal.begin(NAME, attempt)
        assert journal.attempt(NAME) == attempt
        journal.answer(NAME, attempt, answer)
        journal.mark(NAME, attempt, state)
        found = journal.attempt(NAME)
        assert found is not None
        assert found.state == state
        assert found.answer == answer
        assert found.process == attempt.process


@given(failures)
def test_a_failure_comes_back_as_it_was(failure: RefreshFailure) -> None:
    with _Fresh() as journal:
        journal.record_failure(NAME, failure)
        assert journal.failure(NAME) == failure


@given(tokens, st.data())
def test_a_torn_answer_counts_as_absent_wherever_it_is_torn(answer: OAuthToken, data: st.DataObject) -> None:
    with _Fresh() as journal:
        journal.begin(NAME, ATTEMPT)
        journal.answer(NAME, ATTEMPT, answer)
        path = journal._attempt(NAME)
        raw = path.read_bytes()
        length = len(raw.rstrip(b"\0")) - HEADER
        cut = HEADER + data.draw(st.integers(0, length - 1))
        path.write_bytes(raw[:cut].ljust(SIZE, b"\0"))
        found = journal.attempt(NAME)
        assert found is not None
        assert found.answer is None


@given(st.binary(max_size=200))
def test_whatever_the_file_holds_it_is_an_attempt_or_corrupt(raw: bytes) -> None:
    with _Fresh() as journal:
        journal.begin(NAME, ATTEMPT)
        journal._attempt(NAME).write_bytes(raw)
        with pytest.raises(CorruptFile, match="it may hold the only copy of a renewed token, so keep it"):
            journal.attempt(NAME)
        journal.record_failure(NAME, RefreshFailure("failed", "", 0.0, ""))
        journal._failure(NAME).write_bytes(raw)
        assert journal.failure(NAME) is None


def test_nothing_is_there_at_first_and_nothing_after_closing(journal: Journal) -> None:
    assert journal.attempt(NAME) is None
    assert journal.failure(NAME) is None
    journal.close(NAME, ATTEMPT)
    journal.record_failure(NAME, None)
    journal.begin(NAME, ATTEMPT)
    failure = RefreshFailure("failed", ATTEMPT.token, 1.0, "why", until=2.0)
    journal.record_failure(NAME, failure)
    assert journal.attempt(NAME) == ATTEMPT
    assert journal.failure(NAME) == failure
    journal.close(NAME, ATTEMPT)
    journal.record_failure(NAME, None)
    assert journal.attempt(NAME) is None
    assert journal.failure(NAME) is None


def test_an_attempt_takes_all_the_room_it_will_ever_need_at_once(folder: Path) -> None:
    journal = FileJournal(folder)
    journal.begin(NAME, ATTEMPT)
    path = folder / f"{NAME}.attempt"
    before = path.stat()
    assert before.st_size == SIZE
    assert before.st_blocks * 512 >= SIZE, "the room is a hole, which a full disk could not fill"
    assert before.st_mode & 0o777 == 0o600
    journal.answer(NAME, ATTEMPT, token())
    journal.mark(NAME, ATTEMPT, "uncertain")
    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_blocks) == (before.st_ino, before.st_size, before.st_blocks)


def test_the_time_of_sending_is_at_byte_4064_where_earlier_versions_look_for_it(folder: Path) -> None:
    journal = FileJournal(folder)
    journal.begin(NAME, ATTEMPT)
    journal.sending(NAME, ATTEMPT, 1_800_000_040)
    raw = journal._attempt(NAME).read_bytes()
    assert raw[4064:4096].rstrip(b"\0 ") == b"1800000040.000"
    assert raw[:1] == b"O"


def test_an_attempt_names_its_refresh_token_by_digest_alone(folder: Path) -> None:
    refresh = token().refresh
    assert refresh is not None
    journal = FileJournal(folder)
    journal.begin(NAME, RefreshAttempt.begin(refresh.sha256, 0, ProcessIdentity.own(), 1))
    raw = (folder / f"{NAME}.attempt").read_bytes()
    assert refresh.sha256.encode() in raw
    assert refresh.reveal().encode() not in raw


def test_writing_into_an_attempt_that_is_gone_is_reported(folder: Path) -> None:
    journal = FileJournal(folder)
    with pytest.raises(StorageFailed, match=rf"{NAME}\.attempt \(attempt {ATTEMPT.id}\) could not be written"):
        journal.mark(NAME, ATTEMPT, "denied")


def test_a_readable_journal_is_refused(folder: Path) -> None:
    journal = FileJournal(folder)
    journal.begin(NAME, ATTEMPT)
    (folder / f"{NAME}.attempt").chmod(0o644)
    with pytest.raises(UnsafeFile, match="chmod 0600"):
        journal.attempt(NAME)


# -- in a sealed home


KEY = SealKey.new()


class _Sealed(_Fresh):
    """The same in a sealed home."""

    def __enter__(self) -> FileJournal:
        super().__enter__()
        return sealed(Path(self._folder.name) / "journal", KEY)


def sealed(folder: Path, *keys: SealKey) -> FileJournal:
    seal = Seal(Home(folder.parent), keys=keys)
    if seal.marker() is None:
        seal.mark(Marker(((KEY.id, KeyPlace(Path("/nowhere/key"))),)))
    return FileJournal(folder, seal=seal)


@given(attempts, tokens, states)
def test_a_sealed_answer_comes_back_as_it_was(attempt: RefreshAttempt, answer: OAuthToken, state: AttemptState) -> None:
    with _Sealed() as journal:
        secret = answer.secret.reveal().encode()
        journal.begin(NAME, attempt)
        by_chance = journal._attempt(NAME).read_bytes().count(secret)
        journal.answer(NAME, attempt, answer)
        journal.mark(NAME, attempt, state)
        raw = journal._attempt(NAME).read_bytes()
        assert len(raw) == SIZE
        assert raw.count(secret) <= by_chance or len(secret) < 8
        found = sealed(journal._folder, KEY).attempt(NAME)
        assert found is not None
        assert (found.state, found.answer) == (state, answer)


def test_without_the_key_nothing_is_begun(folder: Path) -> None:
    sealed(folder, KEY)
    with pytest.raises(NeedsUnlock, match="/nowhere/key"):
        sealed(folder).begin(NAME, ATTEMPT)
    assert not folder.exists()


def test_an_attempt_without_an_answer_needs_no_key_to_be_judged(folder: Path) -> None:
    journal = sealed(folder, KEY)
    journal.begin(NAME, ATTEMPT)
    assert sealed(folder).attempt(NAME) == ATTEMPT
    journal.answer(NAME, ATTEMPT, token())
    with pytest.raises(NeedsUnlock):
        sealed(folder).attempt(NAME)


def test_the_key_is_in_memory_from_the_beginning_to_the_answer(folder: Path) -> None:
    """Whatever becomes of the keyring, the marker and the home's key meanwhile."""
    journal = sealed(folder, KEY)
    journal.begin(NAME, ATTEMPT)
    Seal(Home(folder.parent)).mark(Marker((("0" * 16, KeyPlace(Path("/nowhere/other"))),)))
    journal.answer(NAME, ATTEMPT, token())
    found = sealed(folder, KEY).attempt(NAME)
    assert found is not None
    assert found.answer == token()


def test_an_answer_is_written_even_where_the_home_was_sealed_meanwhile_and_is_locked(folder: Path) -> None:
    """It may be the only copy of a renewed token."""
    FileJournal(folder).begin(NAME, ATTEMPT)
    sealed(folder, KEY)
    locked = sealed(folder)
    locked.answer(NAME, ATTEMPT, token())
    assert b"access-0" in locked._attempt(NAME).read_bytes()


def test_an_answer_that_was_tampered_with_or_moved_is_no_answer_and_no_absent_one(folder: Path) -> None:
    journal = sealed(folder, KEY)
    journal.begin(NAME, ATTEMPT)
    journal.answer(NAME, ATTEMPT, token())
    path = journal._attempt(NAME)
    raw = path.read_bytes()
    other = journal._attempt("other")
    body = raw[HEADER:].partition(b"\n")[2].rstrip(b"\0")
    fields = json.loads(body)
    box = fields["sealed"]
    changed = json.dumps(fields | {"sealed": box[:30] + ("A" if box[30] != "A" else "B") + box[31:]}).encode()
    head = sha256(changed).hexdigest().encode() + b" %d\n" % len(changed)
    for place, content in (
        (path, raw[:HEADER] + head + changed),
        (path, raw.replace(ATTEMPT.token.encode(), b"c" * 64)),
        (path, raw.replace(ATTEMPT.id.encode(), b"d" * 16)),
        (other, raw),
    ):
        place.write_bytes(content)
        place.chmod(0o600)
        with pytest.raises(CorruptFile, match="so keep it"):
            journal.attempt("other" if place is other else NAME)


def test_an_answer_is_sealed_again_and_unsealed_in_place(folder: Path) -> None:
    plain = FileJournal(folder)
    plain.begin(NAME, ATTEMPT)
    plain.answer(NAME, ATTEMPT, token())
    plain.mark(NAME, ATTEMPT, "uncertain")
    before = plain.attempt(NAME)
    seal = Seal(Home(folder.parent), keys=[KEY])
    seal.mark(seal.signed(Marker(((KEY.id, KeyPlace(Path("/nowhere/key"))),), is_complete=False)))
    journal = sealed(folder, KEY)
    journal.rewrite(NAME, KEY)
    raw = journal._attempt(NAME).read_bytes()
    assert len(raw) == SIZE
    assert b"access-0" not in raw
    assert journal.attempt(NAME) == before
    seal.mark(seal.signed(Marker(((KEY.id, KeyPlace()),), is_opening=True)))
    journal.rewrite(NAME, None)
    assert FileJournal(folder, seal=seal).attempt(NAME) == before
    seal.mark(seal.signed(Marker(((KEY.id, KeyPlace()),))))
    with pytest.raises(CorruptFile, match="so keep it"):
        sealed(folder, KEY).attempt(NAME)
    journal.close(NAME, ATTEMPT)
    journal.rewrite(NAME, None)
    assert not journal._attempt(NAME).exists()
