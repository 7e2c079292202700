"""The authorization request and its answer (RFC 6749 4.1, 7636, 9207)."""

import hmac
import secrets
from collections.abc import Iterable
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from msgspec import Struct

from tokenferry.errors import LoginFailed
from tokenferry.oauth._endpoints import OAuthEndpoints
from tokenferry.oauth._pkce import challenge_of, new_verifier
from tokenferry.oauth._token_answer import server_words
from tokenferry.secret import Fields, Secret

_STATE_BYTES: Final = 32
_MOST_PARAMETERS: Final = 20
_REASONS: Final = {
    "access_denied": "the login was refused",
    "temporarily_unavailable": "the provider can't log people in now; try again later",
    "server_error": "the provider failed; try again later",
}


class AuthorizationCode(Struct, frozen=True):
    """The code of an approved login, and the redirect URI that it came through."""

    code: Secret
    redirect_uri: str


class Authorization(Struct, frozen=True):
    """A started login: its state, its verifier and the endpoints that its answer must match."""

    endpoints: OAuthEndpoints
    scopes: tuple[str, ...]
    verifier: Secret
    state: Secret

    @classmethod
    def begin(cls, endpoints: OAuthEndpoints, scopes: Iterable[str] | None = None) -> "Authorization":
        """Start a login for these scopes, by default those declared. `endpoints` must have an authorization_endpoint.

        The state is independent of the verifier, and hexadecimal because some pages mangle other characters.
        """
        scopes = endpoints.scopes if scopes is None else tuple(scopes)
        return cls(endpoints, scopes, new_verifier(), Secret(secrets.token_hex(_STATE_BYTES)))

    def url(self, redirect_uri: str) -> str:
        """Return the address where the person logs in."""
        assert self.endpoints.authorization_endpoint is not None
        parameters = Fields(
            self.endpoints.authorize_parameters,
            client_id=self.endpoints.client_id,
            response_type="code",
            redirect_uri=redirect_uri,
            scope=" ".join(self.scopes),
            code_challenge=challenge_of(self.verifier),
            code_challenge_method="S256",
            state=self.state.reveal(),
        )
        query = urlencode({key: value for key, value in parameters.items() if value})
        return f"{self.endpoints.authorization_endpoint}?{query}"

    def read_redirect(self, query: str, redirect_uri: str) -> AuthorizationCode | None:
        """Read the query of the redirect to `redirect_uri`; None if it doesn't answer this login.

        Raises `LoginFailed` when the login was refused, or another issuer answered.
        """
        given = answer_parameters(query)
        del query  # a traceback shows the locals of this frame
        return self._read(given, redirect_uri)

    def read_pasted(self, text: str, redirects: Iterable[str]) -> AuthorizationCode | None:
        """Read a pasted `CODE#STATE`, or the address of the page that a login ended at, which is one of `redirects`.

        None if it doesn't answer this login. Raises `LoginFailed` as `read_redirect` does.
        """
        if "://" in text:
            page = text.strip().partition("?")[0]
            given = answer_parameters(text.strip().partition("?")[2].partition("#")[0])
            del text  # a traceback shows the locals of this frame
            return self._read(given, page) if page in redirects else None
        code, _, state = text.partition("#")
        redirect_uri = self.endpoints.redirect_uri
        if redirect_uri is None or not self._is_ours(state.strip()):
            return None
        return _code(code.strip(), redirect_uri)

    def _read(self, given: Fields, redirect_uri: str) -> AuthorizationCode | None:
        if not self._is_ours(given.get("state", "")):
            return None
        self._check_issuer(given.get("iss"))
        if "error" in given:
            raise LoginFailed(self._refusal(given))
        return _code(given.get("code", ""), redirect_uri)

    def _is_ours(self, state: str) -> bool:
        digest = sha256(state.encode("utf-8", "surrogatepass")).hexdigest()
        return hmac.compare_digest(digest, self.state.sha256)

    def _check_issuer(self, issuer: str | None) -> None:
        endpoints = self.endpoints
        if issuer is None:
            if endpoints.names_issuer:
                raise LoginFailed(
                    f"the answer to the login doesn't name its issuer, as those of {endpoints.issuer} must; "
                    "it was not accepted; log in again"
                )
            return
        if endpoints.issuer is not None:
            is_expected = issuer == endpoints.issuer
        else:
            is_expected = _origin(issuer) in {
                _origin(endpoints.authorization_endpoint),
                _origin(endpoints.token_endpoint),
            }
        if not is_expected:
            raise LoginFailed(
                f"the answer to the login is from {server_words('', issuer, self._secrets)!r}, not from "
                f"{endpoints.issuer or _origin(endpoints.authorization_endpoint)}; it was not accepted"
            )

    def _refusal(self, given: Fields) -> str:
        error = str(given["error"])
        words = server_words(error, str(given.get("error_description", "")), self._secrets)
        return f"{_REASONS.get(error, 'the provider refused the login')} ({words})"

    @property
    def _secrets(self) -> tuple[Secret, ...]:
        return self.verifier, self.state


def pasted_state(text: str) -> str:
    """Return the state in a pasted `CODE#STATE` or address, unchecked; empty without one."""
    if "://" in text:
        return str(answer_parameters(text.strip().partition("?")[2].partition("#")[0]).get("state", ""))
    return text.partition("#")[2].strip()


def answer_parameters(query: str) -> Fields:
    """Parse the parameters of an answer; empty if one occurs twice (RFC 6749 3.1)."""
    try:
        pairs = parse_qsl(query, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        return Fields()
    given = Fields(pairs)
    return given if len(given) == len(pairs) else Fields()


def _code(text: str, redirect_uri: str) -> AuthorizationCode | None:
    try:
        return AuthorizationCode(Secret(text), redirect_uri)
    except ValueError:
        return None


def _origin(url: str | None) -> str:
    try:
        parts = urlsplit(url or "")
        port = parts.port
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}" + (f":{port}" if port else "")
