import re
import stat

import pytest

from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.state import gateway_id, login_secret


def test_it_is_made_once_at_random_in_a_private_file(home: Home) -> None:
    made = gateway_id(home)
    assert re.fullmatch("[0-9a-f]{16}", made)
    assert gateway_id(home) == made
    assert stat.S_IMODE(home.gateway_id.stat().st_mode) == 0o600
    home.gateway_id.unlink()
    assert gateway_id(home) != made


def test_what_is_no_id_is_replaced(home: Home) -> None:
    gateway_id(home)
    home.gateway_id.write_bytes(b"x\r\nevil: 1\n")
    assert re.fullmatch("[0-9a-f]{16}", gateway_id(home))


def test_where_it_cannot_be_kept_there_still_is_one(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    home.gateway_id.mkdir(parents=True)
    assert re.fullmatch("[0-9a-f]{16}", gateway_id(home))
    assert "this process alone" in caplog.text


def test_gateways_of_a_home_finish_logins_with_the_same_secret(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    made = login_secret(home)
    assert login_secret(home) == made
    assert len(made.reveal()) == 64
    assert stat.S_IMODE(home.login_secret.stat().st_mode) == 0o600
    home.login_secret.write_bytes(b"0" * 63)
    assert login_secret(home) not in (made, Secret("0" * 63))
    home.login_secret.unlink()
    home.login_secret.mkdir()
    assert login_secret(home) != login_secret(home)
    assert made.reveal() not in caplog.text
