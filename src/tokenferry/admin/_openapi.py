"""The description of the API (OpenAPI 3.1), made from the table of operations and the types of their actions."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any, Final, get_args

import msgspec

from tokenferry.actions import Refused
from tokenferry.admin._operations import OPERATIONS, Operation
from tokenferry.secret import Secret

DESCRIPTION: Final = "/openapi.json"
_REF: Final = "#/components/schemas/{name}"
_WORDS: Final = {
    400: "The request, its state or its code is not valid.",
    401: "No key, or a bad one.",
    403: "The key is not an admin key, policy forbids it, or the request is from a page of another site.",
    404: "Nothing has that name.",
    409: "It conflicts with the present state: the name is taken, or the login is dead.",
    413: "The body is larger than 1 MiB.",
    415: "The body is not JSON.",
    421: "The Host is not this gateway's.",
    429: "Too many bad keys.",
    500: "A file can't be read or written, or there is a defect.",
    503: "Nothing is lost; the same request may succeed later.",
}
_ABOUT: Final = (
    "Send an admin key (`tokenferry key create NAME --role admin`) as a Bearer token or in x-api-key; a viewer key is "
    "enough for GET. Times are RFC 3339, in UTC. Secrets are shown as fingerprints."
)
_HTML: Final = {"content": {"text/html": {"schema": {"type": "string"}}}}
_PARAMETERS: Final = [
    {"name": name, "in": "query", "schema": {"type": "string"}, "description": text}
    for name, text in (
        ("login", "The state of a login whose address a person opens."),
        ("state", "Of the provider's answer, as all that follow."),
        ("code", ""),
        ("iss", "RFC 9207."),
        ("error", ""),
        ("error_description", ""),
    )
]
_HELP: Final = {
    "get": {
        "operationId": "login_page",
        "summary": "Say how to log in again.",
        "responses": {"200": {"description": "A page.", **_HTML}},
    }
}
_PAGES: Final[Mapping[str, object]] = {
    "/oauth/callback": {
        "get": {
            "operationId": "callback",
            "summary": "Redirect a browser to the provider, and finish the login that it returns with.",
            "parameters": _PARAMETERS,
            "responses": {
                "200": {"description": "A page that shows the login's result.", **_HTML},
                "303": {"description": "The redirect to the provider."},
                **{
                    str(status): {"description": "A page that says why the login failed.", **_HTML}
                    for status in (400, 403, 404, 409, 500, 503)
                },
            },
        }
    },
    "/login": _HELP,
    "/oauth/authorize": {"get": _HELP["get"] | {"operationId": "authorize_page"}},
}


@cache
def description() -> Mapping[str, Any]:
    """The whole document."""
    types = [kind for one in OPERATIONS for kind in (one.takes, one.gives) if kind is not None]
    _, schemas = msgspec.json.schema_components([Refused, *types], schema_hook=_schema, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method.lower()] = _described(one)
    return {
        "openapi": "3.1.0",
        "info": {"title": "tokenferry", "description": _ABOUT, "version": version("tokenferry")},
        "paths": {**paths, **_PAGES},
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _described(one: Operation) -> dict[str, Any]:
    summary, _, more = (one.action.__doc__ or "").strip().partition("\n")
    answers = {one.status: "Done."} | ({200: "What the account held was replaced."} if one.status != 200 else {})  # noqa: PLR2004  # OK
    if one.method == "POST" and one.path == "/api/keys":
        answers.pop(200)
    found: dict[str, Any] = {
        "operationId": one.action.__name__.lstrip("_") + ("_by_id" if "{" in one.path and "tokens" in one.path else ""),
        "summary": summary,
        "description": " ".join(more.split()),
        "security": [{"bearer": []}, {"header": []}],
        "responses": {str(status): _answer(text, one.gives) for status, text in answers.items()}
        | {str(status): _answer(text, Refused) for status, text in _WORDS.items()},
    }
    if name := re.search(r"\{(\w+)\}", one.path):
        found["parameters"] = [{"name": name[1], "in": "path", "required": True, "schema": {"type": "string"}}]
    if one.takes is not None:
        content = {"application/json": {"schema": {"$ref": _REF.format(name=one.takes.__name__)}}}
        found["requestBody"] = {"required": not one.may_be_empty, "content": content}
    return found


def _answer(text: str, kind: Any) -> dict[str, Any]:
    inner = get_args(kind)
    schema: dict[str, Any] = {"$ref": _REF.format(name=(inner[0] if inner else kind).__name__)}
    if inner:
        schema = {"type": "array", "items": schema}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _schema(kind: type) -> dict[str, Any]:
    if kind is not Secret:
        raise NotImplementedError
    return {"type": "string", "format": "password", "minLength": 1, "maxLength": 16_384}
