import stat
from pathlib import Path

import pytest

from claude_code.rig import ACCOUNT, document, holding, renewed, write
from leaks import shows
from tokenferry.claude_code import ClaudeCodeHome, ClaudeCodeStore, parse
from tokenferry.claude_code._last_grant import LastGrant
from tokenferry.credentials import OAuthToken


@pytest.fixture
def file(locks: Path) -> Path:
    return locks / "x.granted"


def bare(token: OAuthToken) -> OAuthToken:
    """What Claude Code's document says of it."""
    fields = {"accessToken": token.secret.reveal(), "refreshToken": token.refresh and token.refresh.reveal()}
    found = parse(document(fields)).token
    assert found is not None
    return found


def reported(token: OAuthToken) -> tuple[object, ...]:
    return (token.email, token.obtained_at, token.lifetime, token.source)


def test_another_process_knows_what_the_grant_said(file: Path) -> None:
    LastGrant(file).keep(renewed())
    assert reported(LastGrant(file).complete(bare(renewed()))) == reported(renewed())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secrets = [secret.reveal() for secret in (renewed().secret, renewed().refresh) if secret]
    assert shows(file.read_text(), *secrets) == []


def test_it_says_nothing_of_other_tokens(file: Path) -> None:
    grant = LastGrant(file)
    grant.keep(renewed())
    assert reported(grant.complete(bare(renewed(2)))) == (None, None, None, None)
    assert reported(LastGrant(file).complete(bare(renewed(refresh=None)))) == (None, None, None, None)
    LastGrant(file).keep(renewed(2))
    assert reported(grant.complete(bare(renewed(2)))) == reported(renewed(2))
    assert reported(grant.complete(bare(renewed()))) == (None, None, None, None)


@pytest.mark.parametrize("content", ["", "{", "{}", '{"tokens": 1}', '{"tokens": "x", "obtained_at": "1"}'])
def test_a_spoilt_note_counts_as_none(file: Path, content: str) -> None:
    file.parent.mkdir(mode=0o700)
    file.write_text(content)
    file.chmod(0o600)
    assert LastGrant(file).complete(bare(renewed())) == bare(renewed())


def test_without_a_disk_this_process_knows_still(locks: Path) -> None:
    locks.write_text("no folder")
    grant = LastGrant(locks / "x.granted")
    grant.keep(renewed())
    assert reported(grant.complete(bare(renewed()))) == reported(renewed())
    assert LastGrant(locks / "x.granted").complete(bare(renewed())) == bare(renewed())


def test_a_renewed_login_is_known_to_be_of_a_grant_in_every_process(claude: ClaudeCodeHome, locks: Path) -> None:
    write(claude.credentials, document())
    ours, others = (ClaudeCodeStore(ACCOUNT, claude, locks) for _ in range(2))
    generation = others.read("mine").generation
    with ours.exclusive("mine", 5):
        ours.swap("mine", generation, holding(renewed()))
    credential = others.read("mine").credential
    assert isinstance(credential, OAuthToken)
    assert reported(credential) == reported(renewed())
