"""What the REST API answers is what its own description says, whatever is sent: schemathesis reads the description."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from admin.rig import Api, running_api
from admin.test_app import PATHS
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]


@pytest.fixture
def api(home: Home, tokenferry_sandbox: Sandbox) -> Iterator[Api]:
    with running_api(home, tokenferry_sandbox.url) as api:
        yield api


@pytest.mark.parametrize(("path", "method"), [(path, one) for path in PATHS for one in sorted(PATHS[path])])
def test_whatever_is_sent_the_answer_is_one_that_is_described(api: Api, path: str, method: str) -> None:
    api.log_in("work")
    headers = {"authorization": f"Bearer {api.admin}"}
    described = schemathesis.openapi.from_url(f"{api.url}/openapi.json", headers=headers)

    @given(case=described[path][method.upper()].as_strategy())
    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    def check(case: "Case[Any]") -> None:
        case.call_and_validate(checks=CHECKS, headers=headers)

    check()
