"""The description of the API. tests/e2e/test_api_description.py shows whether the API keeps to it."""

from admin.rig import Api, refused

PATHS = {
    "/api/oauth/authorize": {"post"},
    "/api/oauth/exchange": {"post"},
    "/api/oauth/tokens": {"get"},
    "/api/oauth/tokens/refresh": {"post"},
    "/api/oauth/tokens/delete": {"post"},
    "/api/oauth/tokens/{id}": {"delete"},
    "/api/accounts": {"get", "post"},
    "/api/status": {"get"},
    "/api/accounts/{id}": {"patch", "delete"},
    "/api/accounts/{id}/api-keys": {"post"},
    "/api/cooldowns": {"get"},
    "/api/cooldowns/{name}": {"delete"},
    "/api/limits": {"get"},
    "/api/keys": {"get", "post"},
    "/api/keys/{id}": {"patch", "delete"},
    "/oauth/callback": {"get"},
    "/login": {"get"},
    "/oauth/authorize": {"get"},
}


def test_it_has_these_paths_and_no_other(api: Api) -> None:
    description = api.get("/openapi.json").json()
    assert {path: set(operations) for path, operations in description["paths"].items()} == PATHS


def test_no_operation_is_said_to_answer_422_and_all_but_the_pages_want_a_key(api: Api) -> None:
    for path, operations in api.get("/openapi.json").json()["paths"].items():
        for operation in operations.values():
            assert "422" not in operation["responses"]
            assert ("security" in operation) is path.startswith("/api/")


def test_the_description_needs_the_key_and_there_are_no_pages_of_the_frameworks(api: Api) -> None:
    assert api.get("/openapi.json", key="no").status_code == 401
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
        assert api.get(path).status_code == 404


def test_nothing_but_the_pages_is_answered_without_a_key(api: Api) -> None:
    for path, methods in PATHS.items():
        for method in methods:
            answer = api.call(method.upper(), path, key="")
            if path.startswith("/api/"):
                assert "key" in refused(answer, 401)
            else:
                assert answer.headers["content-type"].startswith("text/html")


def test_an_unknown_path_and_a_wrong_method_are_reported_in_the_same_shape(api: Api) -> None:
    assert "/openapi.json" in refused(api.get("/api/nothing"), 404)
    assert "/openapi.json" in refused(api.get("/api/status/"), 404)
    answer = api.call("PUT", "/api/accounts", {})
    assert refused(answer, 405) == "this path takes GET, POST only"
    assert answer.headers["allow"] == "GET, POST"
