import pytest
from msgspec.structs import replace

from leaks import shows
from tokenferry.accounts import Accounts, Found, Offer, check_again, make_offers
from tokenferry.credentials import ApiKey, OAuthToken, SetupToken
from tokenferry.errors import Conflict, UsageError
from tokenferry.interchange import Entry
from tokenferry.providers import builtin_providers
from tokenferry.secret import Fields, Secret
from tokenferry.stores import Account, Document, MemoryStore

NOW = 1_800_000_000
KEY = ApiKey(Secret("sk-ant-api03-" + "Kk1" * 30))
SETUP = SetupToken(Secret("sk-ant-oat01-" + "Ss1" * 30))
TOKEN = OAuthToken(
    Secret("sk-ant-oat01-" + "Aa1" * 30),
    Secret("sk-ant-ort01-" + "Rr1" * 30),
    expires_at=NOW + 3600,
    email="me@m.example",
)
CLAUDE_CODE = Account("claude-code", "claude-max", "oauth", owner="claude-code", store="claude-code")


def found(
    credential: ApiKey | SetupToken | OAuthToken | None = TOKEN,
    *,
    source: str = "pool",
    where: str = "pool.json",
    hint: str = "me@m.example",
    key: str = "me@m.example",
    provider: str | None = "claude-max",
    fault: str = "",
    account: Account | None = None,
    is_unread: bool = False,
) -> Found:
    return Found(source, where, Entry(key, credential, fault, provider), hint, account, is_unread)


def offers(*ones: Found, store: MemoryStore | None = None, beside: tuple[Found, ...] = ()) -> list[Offer]:
    return make_offers(ones, Accounts(store or MemoryStore()), builtin_providers(), NOW, attached=beside)


def only(*ones: Found, store: MemoryStore | None = None, beside: tuple[Found, ...] = ()) -> Offer:
    return offers(*ones, store=store, beside=beside)[-1]


def test_a_chain_is_taken_over_and_a_key_copied() -> None:
    chain, key, setup, view = offers(
        found(),
        found(KEY, hint="key", provider="anthropic"),
        found(SETUP, hint="setup"),
        found(OAuthToken(Secret("access-alone"))),
    )
    assert [one.action for one in (chain, key, setup, view)] == ["take-over", "store", "store", "store"]
    assert "must stop using this login" in chain.note
    assert "no refresh token" in view.note
    assert chain.account == Account("me@m.example", "claude-max", "oauth", created_at=NOW)


def test_a_login_that_is_used_where_it_is_is_attached() -> None:
    offer = only(found(source="claude-code", account=CLAUDE_CODE, hint="claude-code"))
    assert offer.action == "attach"
    assert offer.account == replace(CLAUDE_CODE, created_at=NOW)
    assert "stays Claude Code's" in offer.note


@pytest.mark.parametrize("there", [TOKEN, OAuthToken(TOKEN.secret), OAuthToken(Secret("renewed"), TOKEN.refresh)])
def test_a_login_that_is_here_is_not_offered_again(there: OAuthToken) -> None:
    store = MemoryStore(Document(Account("mine", "claude-max", "oauth"), there))
    offer = only(found(), store=store)
    assert (offer.action, offer.present, offer.note) == ("none", "mine", "already here as mine")


def test_the_used_up_token_of_a_login_that_was_taken_over_is_never_offered_again() -> None:
    first = only(found())
    moved_on = OAuthToken(Secret("another-access"), Secret("another-refresh"))
    document = Document(Account("mine", "claude-max", "oauth"), moved_on, unknown=Fields(origin=first.origin))
    offer = only(found(), store=MemoryStore(document))
    assert (offer.action, offer.note) == ("none", "used up: taken over before, as mine")


def test_of_two_copies_of_a_login_one_is_offered() -> None:
    first, second = offers(found(), found(source="bundle", where="b.json"))
    assert (first.action, second.action) == ("take-over", "none")
    assert second.note == "the same login as in pool.json"


def test_a_copy_of_a_login_that_is_used_where_it_is_is_not_taken_over() -> None:
    beside = found(source="claude-code", where="Claude Code's", account=CLAUDE_CODE)
    assert only(beside, found()).action == "none"
    offer = only(found(), beside=(beside,))
    assert (offer.action, offer.note) == (
        "none",
        "the same login as in Claude Code's, which is attached instead of copied",
    )


def test_nothing_is_taken_over_that_may_be_a_copy_of_what_can_t_be_looked_at() -> None:
    hidden = found(None, source="claude-code", fault="has mode 0644", is_unread=True)
    for offer in (only(hidden, found()), only(found(), beside=(hidden,))):
        assert offer.action == "none"
        assert "may be a copy" in offer.note
    assert only(hidden, found(KEY, provider="anthropic")).action == "store"


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"expires_at": NOW, "refresh": None}, "expired, and there is no refresh token"),
        ({"expires_at": NOW, "refresh_expires_at": NOW}, "expired, and its refresh token, too"),
        ({"secret": Secret("tfk_key-of-a-gateway")}, "a key of tokenferry's own gateway"),
    ],
)
def test_what_is_dead_or_our_own_is_shown_and_never_imported(change: dict[str, object], note: str) -> None:
    offer = only(found(replace(TOKEN, **change)))
    assert (offer.action, offer.note, offer.account) == ("none", note, None)


def test_an_expired_login_with_a_refresh_token_is_alive() -> None:
    assert only(found(replace(TOKEN, expires_at=0))).action == "take-over"
    assert only(found(replace(SETUP, expires_at=NOW))).action == "none"


def test_a_provider_must_be_known() -> None:
    assert "--provider P" in only(found(provider=None)).note
    assert "'nobody' is not declared" in only(found(provider="nobody")).note
    (offer,) = make_offers(
        [found(provider=None)], Accounts(MemoryStore()), builtin_providers(), NOW, provider="sandbox"
    )
    assert offer.account is not None
    assert offer.account.provider == "sandbox"


def test_names_are_allowed_ones_and_each_is_one_account_s() -> None:
    store = MemoryStore(Document(Account("Key", "anthropic", "api-key"), ApiKey(Secret("x"))))
    hints = ["key", "key", "a b/../c\n", "…", ".hidden", "x" * 100, "X" * 100]
    keys = [
        found(ApiKey(Secret(f"sk-ant-api03-{number}")), hint=hint, provider="anthropic")
        for number, hint in enumerate(hints)
    ]
    names = [offer.account.name for offer in offers(*keys, store=store) if offer.account]
    assert names[:5] == ["key-2", "key-3", "a-b-..-c", "imported", "hidden"]
    assert [len(name) for name in names[5:]] == [64, 64]
    assert len({name.casefold() for name in names}) == len(names)


def test_a_name_is_for_one() -> None:
    book = Accounts(MemoryStore(Document(Account("taken", "anthropic", "api-key"), ApiKey(Secret("x")))))
    two = [found(), found(KEY, provider="anthropic")]
    with pytest.raises(UsageError, match="can name one"):
        make_offers(two, book, builtin_providers(), NOW, name="mine")
    with pytest.raises(UsageError, match="exists already"):
        make_offers(two[:1], book, builtin_providers(), NOW, name="Taken")
    with pytest.raises(UsageError, match="can't be an account's name"):
        make_offers(two[:1], book, builtin_providers(), NOW, name="a/b")
    (offer,) = make_offers(two[:1], book, builtin_providers(), NOW, name="mine")
    assert offer.account is not None
    assert offer.account.name == "mine"


def test_what_changed_since_it_was_offered_is_not_imported() -> None:
    offer = only(found())
    assert check_again(offer, offers(found())) == offer
    for later in (
        offers(),
        offers(found(replace(TOKEN, secret=Secret("renewed"), refresh=Secret("by-somebody")))),
        offers(found(), store=MemoryStore(Document(Account("mine", "claude-max", "oauth"), TOKEN))),
    ):
        with pytest.raises(Conflict, match=r"pool\.json was changed since"):
            check_again(offer, later)


def test_a_limit_is_reported_while_it_lasts() -> None:
    limits = ((False, None), (True, None), (True, NOW + 60), (True, NOW))
    ones = [
        Found(
            "pool",
            "p",
            Entry(str(n), ApiKey(Secret(f"k{n}")), provider="anthropic", is_limited=is_, limited_until=at),
            "k",
        )
        for n, (is_, at) in enumerate(limits)
    ]
    told = [(offer.is_limited, offer.limited_until) for offer in offers(*ones)]
    assert told == [(False, None), (True, None), (True, NOW + 60), (False, None)]


def test_an_offer_shows_no_secret() -> None:
    offer = only(found())
    assert TOKEN.refresh is not None
    text = f"{offer!r} {offer.to_json()}"
    assert not shows(text, TOKEN.secret.reveal(), TOKEN.refresh.reveal())
    assert offer.to_json()["fingerprint"] == TOKEN.secret.fingerprint
    assert only(found(None, fault="broken")).to_json()["name"] is None
