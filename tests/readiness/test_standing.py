import pytest
from msgspec.structs import replace

from tokenferry.credentials import ApiKey, FederatedToken, Federation, OAuthToken, SetupToken
from tokenferry.readiness._standing import standing
from tokenferry.refresh import RefreshAttempt, RefreshFailure
from tokenferry.secret import Secret
from tokenferry.stores import Account, Document, ProcessIdentity

NOW = 1_800_000_000
REFRESH = Secret("fake-refresh")
ALIVE = ProcessIdentity.own()
GONE = replace(ALIVE, boot="another boot")


def login(left: int | None = 3600, refresh: Secret | None = REFRESH, **changes: object) -> Document:
    token = OAuthToken(Secret("fake-access"), refresh, None if left is None else NOW + left)
    account = Account("work", "sandbox", "oauth")
    return Document(account, replace(token, **changes), machine="here")


def attempt(process: ProcessIdentity = GONE, token: Secret = REFRESH, **changes: object) -> RefreshAttempt:
    made = RefreshAttempt("id", token.sha256, NOW - 10, process)
    return replace(made, **changes)


def failure(kind: str, until: int = 0, token: Secret = REFRESH) -> RefreshFailure:
    return RefreshFailure(kind, token.sha256, NOW - 10, "HTTP 503", until=NOW + until)  # type: ignore[arg-type]  # as above


def refusal(kind: str, until: int = 0, access: str = "fake-access") -> RefreshFailure:
    return replace(failure(kind, until), refused=Secret(access).sha256)


OTHER = Secret("another-refresh")
ODD = OAuthToken(Secret("access-with-an-odd-refresh"))
CASES = {
    "fresh": (login(), None, None, "fresh", "fresh, expires in 60 min"),
    "unknown expiry": (login(None), None, None, "expired", "its expiry is unknown, refreshed at its next use"),
    "expired": (login(-5), None, None, "expired", "refreshed at its next use"),
    "expired for good": (login(-5, None), None, None, "needs-login", "no refresh token"),
    "refresh token expired": (login(refresh_expires_at=NOW - 1), None, None, "needs-login", "works for 60 min"),
    "denied": (login(-5), None, failure("needs-login"), "needs-login", "HTTP 503"),
    "denied in the journal": (login(-5), attempt(state="denied"), None, "needs-login", "dead"),
    "somebody else's failure": (login(), None, failure("needs-login", token=OTHER), "fresh", ""),
    "refreshing": (login(-5), attempt(ALIVE), None, "refreshing", "is refreshing it"),
    "killed": (login(-5), attempt(GONE), None, "uncertain", "answer to its last refresh was lost"),
    "uncertain": (login(), attempt(ALIVE, state="uncertain"), None, "uncertain", "works for 60 min"),
    "uncertain twice": (login(-5), attempt(state="uncertain", tries=2), None, "needs-login", "two refreshes"),
    "retried in vain": (login(-5), attempt(state="closed", tries=2), None, "uncertain", ""),
    "answered": (login(-5), attempt(answer=OAuthToken(Secret("x"))), None, "expired", "refreshed at its next use"),
    "odd": (login(), attempt(state="uncertain", answer=ODD), None, "uncertain", "needs login when it expires: "),
    "odd twice": (login(), attempt(state="uncertain", answer=ODD, tries=2), None, "needs-login", "works for 60 min"),
    "an older attempt": (login(), attempt(token=OTHER), None, "fresh", ""),
    "backing off": (login(-5), None, failure("failed", 90), "backing-off", "backing off for 90 s: HTTP 503"),
    "backed off": (login(-5), None, failure("failed", -1), "expired", ""),
    "refused and not renewed": (login(), None, refusal("needs-login"), "needs-login", "needs login: HTTP 503"),
    "refused and backing off": (login(), None, refusal("failed", 90), "backing-off", "backing off for 90 s: HTTP 503"),
    "refused a while ago": (login(), None, refusal("failed", -1), "refused", "tokenferry login work"),
    "another was refused": (login(), None, refusal("failed", -1, access="older"), "fresh", ""),
    "copied": (replace(login(), machine="there"), None, None, "copied", "tokenferry account confirm work"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_logins_state_follows_from_what_lies_beside_it(case: str) -> None:
    document, tried, judged, state, text = CASES[case]
    found = standing(document, tried, judged, "here", NOW)
    assert found[0] == state
    assert text in found[1]
    if case.startswith("refused"):
        assert "works" not in found[1]


def test_another_programs_token_family_is_not_refreshed() -> None:
    document = login(-5)
    theirs = replace(document, account=replace(document.account, owner="ant"))
    assert standing(theirs, None, None, "here", NOW) == ("expired", "expired; ant refreshes it")


def test_a_workloads_token_expires_backs_off_and_never_needs_a_login() -> None:
    def found(left: int, judged: RefreshFailure | None = None) -> tuple[str, str]:
        token = FederatedToken(Secret("fake-access"), expires_at=NOW + left, federation=Federation("/identity"))
        return standing(Document(Account("ci", "sandbox", "federated"), token), None, judged, "here", NOW)

    assert found(3600) == ("fresh", "fresh, expires in 60 min")
    assert found(-5) == ("expired", "expired, refreshed at its next use")
    assert found(60, failure("failed", 90))[0] == "backing-off"
    assert found(-5, failure("needs-login"))[0] == "expired"  # of the login that had this name before


def test_keys_and_setup_tokens_are_ready_until_they_expire() -> None:
    key = Document(Account("work", "anthropic", "api-key"), ApiKey(Secret("k")))
    assert standing(key, None, None, "here", NOW) == ("fresh", "fresh")
    token = SetupToken(Secret("sk-ant-oat01-" + "s" * 90), expires_at=NOW + 86_400 * 30)
    setup = Document(Account("work", "claude-max", "setup-token"), token)
    assert standing(setup, None, None, "here", NOW) == ("fresh", "fresh, expires in 30 d")
    assert standing(setup, None, None, "here", NOW + 86_400 * 31)[0] == "needs-login"
