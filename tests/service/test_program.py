from pathlib import Path

from tokenferry.service import own_command, passed_on


def test_the_command_is_this_installations_own() -> None:
    command = own_command()
    assert Path(command[0]).is_absolute()
    assert Path(command[0]).is_file()


def test_what_leads_to_files_and_through_the_network_is_passed_on_and_nothing_else() -> None:
    environ = {
        "TOKENFERRY_HOME": "/tf",
        "SSL_CERT_FILE": "/ca.pem",
        "https_proxy": "http://proxy.internal:3128",
        "HTTPS_PROXY": "http://me:secret@proxy.internal:3128",
        "NO_PROXY": "localhost",
        "ANTHROPIC_API_KEY": "sk-ant-api03-secret",
        "TOKENFERRY_ACCOUNT": "work",
        "PATH": "/bin",
        "CLAUDE_CONFIG_DIR": "",
    }
    passed, left_out = passed_on(environ)
    assert set(passed) == {"TOKENFERRY_HOME", "SSL_CERT_FILE", "https_proxy", "NO_PROXY"}
    assert left_out == ["HTTPS_PROXY"]
    assert "secret" not in str(passed)
