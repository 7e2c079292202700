import pytest

from config.written import Write, notes, problems
from tokenferry.settings import AlertSettings


def test_nothing_is_posted_unless_it_is_asked_for(write: Write) -> None:
    assert write("").alerts == AlertSettings()
    assert write("[alerts]").alerts.webhook is None


@pytest.mark.parametrize("url", ["https://hooks.example.com/a?key=b", "http://127.0.0.1:9/x", "http://localhost/x"])
def test_https_and_this_machine_may_be_posted_to(write: Write, url: str) -> None:
    alerts = write(f'[alerts]\nwebhook = "{url}"\non = ["budget"]').alerts
    assert alerts.webhook is not None
    assert alerts.webhook.reveal() == url
    assert alerts.on == ("budget",)
    assert url not in repr(alerts)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('webhook = "http://hooks.example.com/x"', "alerts.webhook must begin with https://; plain http is for this"),
        ('webhook = "ftp://127.0.0.1/x"', "alerts.webhook must begin with https://"),
        ('webhook = "https://me:pass@hooks.example.com"', "alerts.webhook must not hold a user name or password"),
        ('webhook = "https://hooks.example.com/a b"', "alerts.webhook must be a URL in ASCII without blanks"),
        ('webhook = "https://[::1/"', "alerts.webhook must be a URL in ASCII"),
        ('on = ["login"]', "alerts.on names 'login'; it may name needs-login, exhausted, budget"),
        ('url = "https://hooks.example.com"', "alerts.url is not a known key"),
    ],
)
def test_a_wrong_value_is_named_by_its_key(write: Write, text: str, problem: str) -> None:
    (found,) = problems(write, f"[alerts]\n{text}")
    assert found.startswith(problem)
    assert "pass" not in found.removeprefix(problem)


def test_a_webhook_may_be_in_a_variable(write: Write) -> None:
    missing = write('[alerts]\nwebhook = "$HOOK"', {})
    assert missing.alerts.webhook is None
    assert any("alerts.webhook names HOOK, which is not set" in reported for reported in missing.warnings)
    known = write('[alerts]\nwebhook = "$HOOK"', {"HOOK": "https://hooks.example.com/s3cret"})
    assert known.alerts.webhook is not None
    assert known.alerts.webhook.reveal().endswith("/s3cret")
    assert known.warnings == ()


def test_a_secret_that_cannot_sign_is_a_warning(write: Write) -> None:
    assert "alerts.secret_file signs nothing, for there is no webhook" in notes(write('[alerts]\nsecret_file = "key"'))
    (note,) = notes(write('[alerts]\nwebhook = "https://hooks.example.com"\nsecret_file = "key"'))
    assert note.endswith("which does not exist, so no alert is delivered")
