import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tokenferry.errors import TryLater, UnsafeFile
from tokenferry.settings import Home
from tokenferry.state import GatewayRegistration, gateway_records, reachable_url, running_gateway

URL = "http://127.0.0.1:13456"


def test_without_a_gateway_there_is_no_record(home: Home) -> None:
    assert gateway_records(home) == []
    with pytest.raises(TryLater, match="start it with: tokenferry serve"):
        running_gateway(home)


def test_a_record_is_private_and_there_while_the_gateway_runs(home: Home) -> None:
    registration = GatewayRegistration(home, url=URL)
    try:
        assert stat.S_IMODE(registration.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(home.gateways.stat().st_mode) == 0o700
        found = running_gateway(home)
        assert (found.url, found.socket, found.pid, found.address) == (URL, None, os.getpid(), URL)
        assert found.listens_at(URL)
        assert not found.listens_at("http://127.0.0.1:13457")
    finally:
        registration.end()
    assert gateway_records(home) == []
    registration.end()


def test_several_gateways_have_a_record_each_and_the_oldest_comes_first(home: Home) -> None:
    path = home.path / "gateway.sock"
    both = [GatewayRegistration(home, url=URL), GatewayRegistration(home, socket=path)]
    os.utime(both[0].path, (1_000, 1_000))
    assert [record.address for record in gateway_records(home)] == [URL, f"unix:{path}"]
    both[0].end()
    assert running_gateway(home).socket == path
    both[1].end()


def test_the_socket_goes_before_the_port(home: Home) -> None:
    registration = GatewayRegistration(home, url=URL, socket=Path("/x/gateway.sock"))
    found = running_gateway(home)
    assert (found.address, found.url) == ("unix:/x/gateway.sock", URL)
    assert found.listens_at(URL)
    assert found.listens_at("unix:/x/gateway.sock")
    registration.end()


def test_a_killed_gateways_record_is_stale_and_the_next_gateway_removes_it(home: Home) -> None:
    program = (
        "import os, signal, pathlib; from tokenferry.settings import Home;"
        "from tokenferry.state import GatewayRegistration;"
        f"kept = GatewayRegistration(Home(pathlib.Path({str(home.path)!r})), url={URL!r});"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    [record] = gateway_records(home)
    assert (record.is_running, record.url) == (False, URL)
    with pytest.raises(TryLater, match=r"13456 \(process \d+\) was killed"):
        running_gateway(home)
    registration = GatewayRegistration(home, url=URL)
    assert [one.path for one in gateway_records(home)] == [registration.path]
    registration.end()


def test_neither_forked_workers_nor_programs_hold_the_record(home: Home) -> None:
    registration = GatewayRegistration(home, url=URL)
    reader, writer = os.pipe()
    ready, forked = os.pipe()
    worker = os.fork()
    if worker == 0:
        os.close(writer)
        os.write(forked, b"x")
        os.read(reader, 1)
        os._exit(0)
    assert os.read(ready, 1)  # until then the child shares the lock
    program = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        descriptor = registration._descriptor
        assert descriptor is not None
        assert not os.get_inheritable(descriptor)
        registration.forget()  # as a process does that dies
        [record] = gateway_records(home)
        assert not record.is_running
    finally:
        os.close(writer)
        os.waitpid(worker, 0)
        program.kill()
        program.wait()
        for descriptor in (reader, ready, forked):
            os.close(descriptor)


def test_a_worker_that_ends_leaves_the_record_to_its_gateway(home: Home) -> None:
    registration = GatewayRegistration(home, url=URL)
    worker = os.fork()
    if worker == 0:
        registration.end()
        os._exit(0)
    os.waitpid(worker, 0)
    assert running_gateway(home).url == URL
    registration.end()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 2, "pid": "x", "url": 1, "socket": []}'])
def test_what_is_no_record_is_no_gateway(home: Home, content: str) -> None:
    registration = GatewayRegistration(home, url=URL)
    registration.path.write_text(content)
    [record] = gateway_records(home)
    assert (record.is_running, record.url, record.socket, record.pid) == (False, None, None, None)
    registration.end()


def test_a_record_that_others_could_write_is_refused(home: Home) -> None:
    registration = GatewayRegistration(home, url=URL)
    registration.path.chmod(0o666)
    with pytest.raises(UnsafeFile):
        running_gateway(home)
    registration.end()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:13456"),
        ("0.0.0.0", "http://127.0.0.1:13456"),
        ("::", "http://[::1]:13456"),
        ("192.0.2.1", "http://192.0.2.1:13456"),
    ],
)
def test_this_machine_reaches_a_gateway_of_every_address_by_its_own(host: str, url: str) -> None:
    assert reachable_url(host, 13456) == url
