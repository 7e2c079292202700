import pytest

from tokenferry.errors import ConfigError
from tokenferry.upstream._origin import parse_origin


@pytest.mark.parametrize(
    ("text", "authority", "port", "prefix"),
    [
        ("https://api.anthropic.com", "api.anthropic.com", 443, b""),
        ("https://API.Anthropic.com:443/", "api.anthropic.com", 443, b""),
        ("https://llm.example:8443/base/path/", "llm.example:8443", 8443, b"/base/path"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", 8080, b""),
        ("http://localhost", "localhost", 80, b""),
        ("http://[::1]:9", "[::1]:9", 9, b""),
        ("https://10.1.2.3", "10.1.2.3", 443, b""),
    ],
)
def test_reads_host_port_and_prefix(text: str, authority: str, port: int, prefix: bytes) -> None:
    origin = parse_origin(text)
    assert (origin.authority, origin.port, origin.prefix) == (authority, port, prefix)
    assert parse_origin(str(origin)) == origin


@pytest.mark.parametrize(
    "text",
    [
        "http://api.anthropic.com",
        "http://10.0.0.1",
        "http://localhost.example.com",
        "ftp://localhost",
        "//localhost",
        "localhost:80",
        "",
        "https://",
        "https://user@host",
        "https://@host",
        "https://user:pass@host",
        "https://host/?q",
        "https://host?",
        "https://host/#f",
        "https://host:0",
        "https://host:",
        "https://host:65536",
        "https://host:port",
        "https://host/a b",
        "https://host/a//b",
        "https://host/../x",
        "https://host\\@evil",
        "https://ho st",
        "https://host\n",
        "https://b\u00fccher.example",
        "https://host.",
        "https://.host",
        "https://-host",
        "https://[::1",
        "https://[fe80::1%25eth0]",
    ],
)
def test_refuses_what_is_no_plain_https_or_loopback_origin(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_origin(text)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "[fe80::1]",
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "0.0.0.0",
        "[::]",
        "224.0.0.1",
        "2852039166",
        "0xa9fea9fe",
        "127.1",
        "169.254.0xa9fe",
    ],
)
def test_refuses_metadata_services_however_they_are_written(host: str) -> None:
    with pytest.raises(ConfigError):
        parse_origin(f"https://{host}")


@pytest.mark.parametrize("text", ["https://user:hunter2@host", "https://host/?key=hunter2", "https://host/#hunter2"])
def test_does_not_repeat_a_secret_in_a_refused_url(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_origin(text)
    assert "hunter2" not in str(caught.value)
