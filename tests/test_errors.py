import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.errors import LOGIN_MARK, NeedsLogin, extract_login_url_from_error

URL = "http://127.0.0.1:13456/login"


@pytest.mark.parametrize(
    "text",
    [
        f"account 'a': its refresh token is dead; log in again with: tokenferry login a. Please log in: {URL}",
        f"Please log in: {URL}.",
        f'a client says: "Please log in: {URL}", and more',
        f"(Please log in: {URL})",
        f"Please log in: {URL}\nand then?",
        f"Please log in: https://elsewhere.example/login; Please log in: {URL}",
        json.dumps({"type": "error", "error": {"message": f"dead. Please log in: {URL}"}}),
        str(RuntimeError({"message": f"Please log in: {URL}"})),
        f"<p>Please log in: {URL}</p>",
    ],
)
def test_the_address_is_read_back_from_whatever_a_program_got(text: str) -> None:
    assert extract_login_url_from_error(text) == URL


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Please log in",
        "Please log in: ",
        "Please log in: claude /login",
        "Please log in: javascript:alert(1)",
        "Please log in: file:///etc/passwd",
        "Please log in: http://",
        "Please log in: https:///",
        "please log in: http://127.0.0.1/",
        f"see {URL}",
    ],
)
def test_without_one_there_is_none(text: str) -> None:
    assert extract_login_url_from_error(text) is None


@given(before=st.text(), after=st.text())
def test_text_around_it_is_no_error(before: str, after: str) -> None:
    found = extract_login_url_from_error(f"{before}Please log in: {URL} {after}")
    assert found is not None
    assert found.startswith("http") or LOGIN_MARK[2:] in after
    extract_login_url_from_error(before)


def test_an_error_that_is_pickled_keeps_its_address() -> None:
    error = pickle.loads(pickle.dumps(NeedsLogin(f"dead{LOGIN_MARK}{URL}")))
    assert extract_login_url_from_error(str(error)) == URL
