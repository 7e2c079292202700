"""The variables by which the real Claude Code picks a provider, read from its binary."""

import mmap
import re

import pytest

from e2e.parties import MODULES, lacking
from tokenferry.claude_code.precedence import CLOUD_PROVIDERS
from tokenferry.clients import client_environment

pytestmark = pytest.mark.e2e

# Features of that name that pick no provider.
FEATURES = {
    "CLAUDE_CODE_USE_CCR_V2",
    "CLAUDE_CODE_USE_COWORK_PLUGINS",
    "CLAUDE_CODE_USE_NATIVE_FILE_SEARCH",
    "CLAUDE_CODE_USE_POWERSHELL_TOOL",
}
GATEWAY = "CLAUDE_CODE_USE_GATEWAY"


@pytest.fixture(scope="module")
def variables() -> set[str]:
    """What looks like the name of a variable of its own, or of its vendor's SDKs."""
    path = MODULES / "@anthropic-ai/claude-code-linux-x64/claude"
    if not path.is_file():
        lacking("the npm package @anthropic-ai/claude-code-linux-x64")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as binary:
        found = re.findall(rb"\b(?:CLAUDE_CODE|ANTHROPIC)_[A-Z0-9_]*[A-Z0-9]\b", binary)
    return {name.decode() for name in set(found)}


def left(variables: set[str]) -> set[str]:
    """Those that a program has under `run`."""
    child = client_environment(dict.fromkeys(variables, "shadow"), "http://127.0.0.1:1", "tfk_x")
    return {name for name, value in child.items() if value == "shadow"}


def test_run_takes_out_every_variable_by_which_the_client_picks_a_provider(variables: set[str]) -> None:
    found = {name for name in variables if name.startswith("CLAUDE_CODE_USE_")} - FEATURES
    assert found == {*CLOUD_PROVIDERS, GATEWAY}
    assert not left(found)


def test_run_takes_out_every_credential_and_address_of_a_provider_that_the_client_reads(variables: set[str]) -> None:
    clouds = re.compile("ANTHROPIC_(AWS|BEDROCK|FOUNDRY|GOOGLE_CLOUD|VERTEX)_")
    tokens = re.compile("CLAUDE_CODE_(OAUTH|API_KEY|GATEWAY|SESSION)[A-Z_]*(TOKEN|FILE_DESCRIPTOR)$")
    found = {name for name in variables if clouds.match(name) or tokens.match(name)}
    assert {"ANTHROPIC_FOUNDRY_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"} <= found
    assert not left(found)
