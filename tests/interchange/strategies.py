"""Credentials and documents of every kind, for the properties of the formats."""

from typing import Any

from hypothesis import strategies as st

from tokenferry.credentials import OAuthToken
from tokenferry.secret import Secret

_VISIBLE = st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\"'`=")
SECRETS = st.text(_VISIBLE, min_size=1, max_size=40)
"""Without what surrounds a value elsewhere: quotes, and the "=" after a name."""

TIMES = st.integers(min_value=20_000_000, max_value=4_102_444_800)
NAMES = st.text(min_size=1, max_size=20)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


_MAYBE_TIMES: st.SearchStrategy[int | None] = st.none() | TIMES
_MAYBE_EMAILS: st.SearchStrategy[str | None] = st.none() | st.emails()


def tokens(
    email: st.SearchStrategy[str | None] = _MAYBE_EMAILS, expires_at: st.SearchStrategy[int | None] = _MAYBE_TIMES
) -> st.SearchStrategy[OAuthToken]:
    return st.builds(
        OAuthToken,
        SECRETS.map(Secret),
        st.none() | SECRETS.map(Secret),
        expires_at=expires_at,
        scopes=st.lists(st.text("abc:_", min_size=1), max_size=3).map(tuple),
        subscription_type=st.none() | NAMES,
        rate_limit_tier=st.none() | NAMES,
        email=email,
        account_id=st.none() | NAMES,
        organization_id=st.none() | NAMES,
        obtained_at=st.none() | TIMES,
        lifetime=st.none() | st.integers(1, 365 * 86_400),
        refresh_expires_at=st.none() | TIMES,
        source=st.none() | NAMES,
    )
