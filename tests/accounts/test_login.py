from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tokenferry.accounts import account_for, check_wanted, identity_labels
from tokenferry.credentials import ApiKey, OAuthToken, SetupToken
from tokenferry.errors import UsageError
from tokenferry.secret import Secret
from tokenferry.stores import ACCOUNT_NAME, Account, Document

ME = OAuthToken(Secret("access"), Secret("refresh"), email="me@mail.example", account_id="A", organization_id="O")


def held(token: OAuthToken = ME, provider: str = "idp", **given: str) -> Document:
    return Document(Account("work", provider, "oauth", **given), token)  # type: ignore[arg-type]  # given are texts


def place(login: OAuthToken, wanted: str | None = None, **documents: Document) -> tuple[str, bool]:
    return account_for(login, login.email, "idp", wanted, documents)


@pytest.mark.parametrize(
    "known",
    [
        ME,
        replace(ME, email=None),
        replace(ME, account_id=None),
        replace(ME, account_id=None, organization_id=None, email="ME@mail.example"),
        replace(ME, email="new@mail.example"),
    ],
)
@pytest.mark.parametrize("wanted", [None, "work", "other"])
def test_a_person_who_is_known_by_id_or_address_is_updated_whatever_is_wanted(
    known: OAuthToken, wanted: str | None
) -> None:
    assert place(ME, wanted, work=held(known)) == ("work", True)


def test_of_two_accounts_of_one_person_the_wanted_one_is_updated() -> None:
    assert place(ME, "two", one=held(), two=held()) == ("two", True)
    assert place(ME, None, one=held(), two=held()) == ("one", True)


@pytest.mark.parametrize(
    "other",
    [
        held(replace(ME, account_id="B")),
        held(replace(ME, organization_id="P")),
        held(provider="console"),
        held(store="claude-code", owner="claude-code"),
        held(owner="external"),
    ],
)
def test_another_person_another_provider_and_other_stores_are_not_known(other: Document) -> None:
    assert place(ME, None, work=other) == ("me@mail.example", False)


def test_another_persons_account_is_not_taken_over() -> None:
    for token in (
        replace(ME, account_id="B", email="you@mail.example"),
        replace(ME, account_id=None, email="you@x.example"),
    ):
        with pytest.raises(UsageError, match=r"account 'work' is you@.*this login is me@mail\.example"):
            place(ME, "work", work=held(token))
    assert place(ME, "work", work=held(OAuthToken(Secret("access")))) == ("work", False)


def test_a_new_account_is_called_by_the_address_then_with_the_provider_then_with_a_number() -> None:
    other = held(provider="console")
    assert place(ME) == ("me@mail.example", False)
    assert place(ME, None, **{"ME@mail.example": other}) == ("me@mail.example-idp", False)
    taken = dict.fromkeys(("me@mail.example", "me@mail.example-idp", "me@mail.example-2"), other)
    assert place(ME, None, **taken) == ("me@mail.example-3", False)
    nobody = replace(ME, email=None, account_id="C")
    assert place(nobody) == ("idp", False)
    assert place(nobody, None, idp=other) == ("idp-2", False)


@given(st.text() | st.none(), st.text(min_size=1))
def test_whatever_the_address_is_the_name_is_a_valid_and_free_one(email: str | None, provider: str) -> None:
    login = OAuthToken(Secret("access"), email=email or None)
    documents: dict[str, Document] = {}
    for _ in range(4):
        name, is_known = account_for(login, email, provider, None, documents)
        assert not is_known
        assert ACCOUNT_NAME.fullmatch(name)
        assert name.casefold() not in {one.casefold() for one in documents}
        documents[name] = held(provider="another")


def test_what_a_login_becomes_besides_itself_is_known_by_its_labels() -> None:
    """A setup token can't say whose it is, and is another account than the login of the same person."""
    token = SetupToken(Secret("sk-ant-oat01-" + "x" * 80))
    labels = MappingProxyType(identity_labels(ME))
    documents = {"work": held(), "other": Document(Account("other", "idp", "setup-token"), token)}
    assert account_for(ME, ME.email, "idp", None, documents, kind="setup-token") == ("me@mail.example", False)
    assert account_for(ME, None, "idp", "setup", documents, kind="setup-token") == ("setup", False)
    documents["mine"] = Document(Account("mine", "idp", "setup-token", labels=labels), token)
    assert account_for(ME, ME.email, "idp", None, documents, kind="setup-token") == ("mine", True)
    other = replace(ME, account_id="B", email="other@mail.example")
    with pytest.raises(UsageError, match=r"is me@mail\.example, and this login is other@mail\.example"):
        account_for(other, other.email, "idp", "mine", documents, kind="setup-token")


@pytest.mark.parametrize(
    ("name", "document", "words"),
    [
        ("../work", None, "can't be an account's name"),
        ("WORK", held(), "differs in case alone"),
        ("work", held(provider="console"), "holds an oauth of provider 'console'"),
        ("work", Document(Account("work", "idp", "api-key"), ApiKey(Secret("key"))), "holds an api-key"),
        ("work", held(store="claude-code", owner="claude-code"), "is the login of claude-code"),
        ("work", held(owner="external"), "is the login of external"),
    ],
)
def test_a_name_that_can_not_be_had_is_refused(name: str, document: Document | None, words: str) -> None:
    documents = MappingProxyType({} if document is None else {"work": document})
    with pytest.raises(UsageError, match=words):
        check_wanted(name, "idp", "oauth", documents, documents)


def test_a_name_of_ones_own_or_a_new_one_can_be_had() -> None:
    check_wanted("work", "idp", "oauth", {"work": held()}, ["work"])
    check_wanted("new", "idp", "oauth", {"work": held()}, ["work"])
