"""`command` of a provider or an account: where its key comes from."""

import pytest

from config.written import Write, problems

MINE = '[[providers]]\nname = "mine"\nbase_url = "https://llm.example.com"\n'


def test_a_command_is_read_with_how_long_its_key_holds(write: Write) -> None:
    config = write(f'{MINE}command = ["op", "read", "op://x"]\n[accounts.x]\nprovider = "mine"\ncommand = ["/bin/y"]\n')
    mine, other = config.providers["mine"], config.pool.accounts["x"]
    assert (mine.command, mine.command_ttl) == (("op", "read", "op://x"), 300.0)
    assert (other.provider, other.command, other.command_ttl) == ("mine", ("/bin/y",), 300.0)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('command = "op read x"', "providers.mine.command must be a list of strings"),
        ('command = ["./op"]', "providers.mine.command must begin with the name of a program"),
        ('command = ["op"]\napi_key = "$KEY"', "providers.mine.command and api_key say the same thing"),
        ('command = ["op"]\ncommand_ttl = "0s"', "providers.mine.command_ttl must be a duration from 1s"),
        ('[accounts.x]\ncommand = ["op"]', "accounts.x.provider is missing"),
        ('[accounts.x]\nprovider = "other"\ncommand = ["op"]', "accounts.x.provider names 'other'"),
    ],
)
def test_a_wrong_declaration_is_a_fault(write: Write, text: str, fault: str) -> None:
    found = problems(write, f"{MINE}{text}\n")
    assert any(one.startswith(fault) for one in found), found
