"""What threads, event loops, forks and the end of the process do to a refresh in flight, and what they can't."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from msgspec.structs import replace

from refresh.rig import NAME, PATIENCE, Rig, answer, document, sandbox_login, token, value, wait_for
from tokenferry.broker import Broker
from tokenferry.errors import LockTimeout, NeedsLogin, RefreshFailed, TokenferryError
from tokenferry.refresh import FileJournal, MemoryJournal, RefreshEngine, RefreshRequest, Result, _engine
from tokenferry.sandbox import Sandbox
from tokenferry.settings import Home, RefreshSettings
from tokenferry.stores import FileStore, ProcessIdentity

CROWD = 1000
FORKS = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # the very thing that is tested


async def wait_for_waiters(broker: Broker, count: int) -> None:
    for _ in range(1_000_000):
        if broker.statistics(NAME).waiters == count:
            return
        await asyncio.sleep(0)
    pytest.fail("they don't wait")


def test_a_thousand_tasks_on_one_loop_make_one_grant_and_park_no_thread(rig: Rig) -> None:
    rig.put(token())
    rig.endpoint.gate.clear()
    broker = rig.broker()
    before = set(threading.enumerate())

    async def crowd() -> set[str]:
        tasks = [asyncio.create_task(broker.aresolve(NAME)) for _ in range(CROWD)]
        await wait_for_waiters(broker, CROWD)
        names = {thread.name for thread in set(threading.enumerate()) - before}
        assert {name for name in names if not name.startswith("asyncio_")} == {
            "tokenferry-watch",
            f"tokenferry-grant-{NAME}",
        }
        await asyncio.to_thread(lambda: None)  # those of asyncio have read the account, and are free again
        rig.endpoint.gate.set()
        return {value(credential) for credential in await asyncio.gather(*tasks)}

    assert asyncio.run(crowd()) == {"access-1"}
    assert rig.endpoint.requests == 1
    assert broker.statistics(NAME).waiters == 0


def test_a_thousand_resolves_on_many_threads_make_one_grant(rig: Rig) -> None:
    rig.put(token())
    rig.endpoint.gate.clear()
    broker = rig.broker()
    with ThreadPoolExecutor(64) as pool:
        waiting = [pool.submit(broker.resolve, NAME) for _ in range(CROWD)]
        wait_for(lambda: broker.statistics(NAME).waiters == 64)
        rig.endpoint.gate.set()
        assert {value(each.result(PATIENCE)) for each in waiting} == {"access-1"}
    assert rig.endpoint.requests == 1
    assert broker.statistics(NAME) == replace(broker.statistics(NAME), grants=1, waiters=0, failures={})


def test_threads_loops_and_brokers_mixed_make_one_grant(rig: Rig) -> None:
    rig.put(token())
    rig.endpoint.gate.clear()
    brokers = [rig.broker() for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        sync = [pool.submit(broker.resolve, NAME) for broker in brokers]
        loops = [pool.submit(asyncio.run, broker.aresolve(NAME)) for broker in brokers]
        assert rig.endpoint.entered.wait(PATIENCE)
        rig.endpoint.gate.set()
        assert {value(each.result(PATIENCE)) for each in (*sync, *loops)} == {"access-1"}
    assert rig.endpoint.requests == 1


def test_all_who_wait_get_an_error_of_their_own(rig: Rig) -> None:
    rig.put(token())
    rig.endpoint.script.append(answer(503, {"retry-after": "7"}))
    rig.endpoint.gate.clear()
    broker = rig.broker()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(broker.resolve, NAME) for _ in range(8)]
        wait_for(lambda: broker.statistics(NAME).waiters == 8)
        rig.endpoint.gate.set()
        errors = [each.exception(PATIENCE) for each in waiting]
    assert len({id(error) for error in errors}) == 8
    for error in errors:
        assert isinstance(error, RefreshFailed)
        assert error.retry_after == 7
        assert error.__context__ is None
        assert 0 < depth(error) < 15
    assert rig.endpoint.requests == 1


def depth(error: BaseException) -> int:
    trace, found = error.__traceback__, 0
    while trace is not None:
        trace, found = trace.tb_next, found + 1
    return found


def test_cancelling_every_task_that_waits_does_not_end_the_grant(rig: Rig) -> None:
    rig.put(token())
    rig.endpoint.gate.clear()
    broker = rig.broker()

    async def impatient() -> None:
        tasks = [asyncio.create_task(broker.aresolve(NAME)) for _ in range(3)]
        await wait_for_waiters(broker, 3)
        for task in tasks:
            task.cancel()
        gone = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in gone)

    asyncio.run(impatient())
    assert rig.endpoint.entered.wait(PATIENCE)
    rig.endpoint.gate.set()
    assert value(broker.resolve(NAME)) == "access-1"
    assert rig.endpoint.requests == 1


def test_a_loop_that_is_closed_under_a_waiter_harms_no_other(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.put(token())
    rig.endpoint.gate.clear()
    broker = rig.broker()
    loop = asyncio.new_event_loop()
    task = loop.create_task(broker.aresolve(NAME))
    loop.run_until_complete(wait_for_waiters(broker, 1))
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    rig.endpoint.gate.set()
    assert value(broker.resolve(NAME)) == "access-1"
    assert rig.endpoint.requests == 1
    assert not caplog.records


def test_a_caller_that_waits_too_long_gets_an_error_and_the_grant_goes_on(rig: Rig) -> None:
    rig.put(token())
    rig.endpoint.gate.clear()
    broker = rig.broker(settings=RefreshSettings(wait=0.05))
    with pytest.raises(TokenferryError, match="still in flight"):
        broker.resolve(NAME)
    with pytest.raises(TokenferryError, match="still in flight"):
        asyncio.run(broker.aresolve(NAME))
    rig.endpoint.gate.set()
    wait_for(lambda: rig.store.read(NAME).generation == 2)
    assert value(broker.resolve(NAME)) == "access-1"
    assert rig.endpoint.requests == 1


def test_drain_waits_for_the_flight_and_begins_no_other(rig: Rig) -> None:
    rig.put(token())
    rig.endpoint.gate.clear()
    broker = rig.broker()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(broker.resolve, NAME)
        assert rig.endpoint.entered.wait(PATIENCE)
        assert broker._engine.in_flight() == (NAME,)
        assert not broker.drain(0.01)
        rig.endpoint.gate.set()
        assert broker.drain(PATIENCE)
        assert value(waiting.result(PATIENCE)) == "access-1"
    rig.clock.advance(90_000)
    with pytest.raises(RefreshFailed, match="while this process ends"):
        broker.resolve(NAME)
    assert rig.endpoint.requests == 1


@pytest.mark.parametrize("is_granted", [True, False])
def test_a_renewal_is_announced_before_the_waiters_go_on_and_again_after_them(rig: Rig, *, is_granted: bool) -> None:
    rig.put(token())
    if not is_granted:
        rig.endpoint.script.append(answer(400, error="invalid_grant"))
    events: list[tuple[str, str, bool]] = []
    engine = RefreshEngine(
        store=rig.store,
        journal=MemoryJournal(),
        context=rig.broker()._engine._context,
        send=rig.endpoint,
        renewed=lambda name: events.append(("renewed", name, flight.future.done())),
        settled=lambda name: events.append(("settled", name, flight.future.done())),
    )
    rig.endpoint.gate.clear()
    flight = engine.start(RefreshRequest(NAME))
    rig.endpoint.gate.set()
    assert engine.drain(PATIENCE)
    assert events == ([("renewed", NAME, False), ("settled", NAME, True)] if is_granted else [])


def test_a_flight_that_found_another_grant_logs_none_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tokenferry")
    _engine._log(NAME, Result(document(token(3600)), granted=False), None)
    assert caplog.records == []
    _engine._log(NAME, Result(document(token(3600)), granted=True), None)
    assert [record.getMessage() for record in caplog.records if "was refreshed" in record.getMessage()] != []


def test_each_refresh_is_one_line_at_level_info_without_a_secret(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tokenferry")
    rig.put(token())
    broker = rig.broker()
    granted = broker.resolve(NAME)
    broker.resolve(NAME)
    broker.invalidate(NAME, granted.secret)
    rig.clock.advance(100)
    rig.endpoint.script.append(answer(400, error="invalid_grant"))
    with pytest.raises(NeedsLogin):
        broker.resolve(NAME)
    refreshed, refused, failed = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    fingerprint = granted.secret.fingerprint
    assert refreshed == f"account work was refreshed; its access token is {fingerprint}, until 2027-01-15 16:00:00 UTC"
    assert refused == f"account work: the provider refused the token or key {fingerprint}"
    assert failed.startswith("account work was not refreshed: ")
    failure = broker.journal.failure(NAME)
    assert failure is not None
    assert (failure.kind, failure.refused) == ("needs-login", granted.secret.sha256)
    assert "access-1" not in caplog.text


def test_a_defect_below_reaches_the_waiters_and_leaves_no_flight_or_lock_behind(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.put(token())

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    broker = rig.broker(send=broken)
    with pytest.raises(ZeroDivisionError):
        broker.resolve(NAME)
    assert "ZeroDivisionError, which is a defect in tokenferry" in caplog.text
    assert broker.statistics(NAME).failures == {"internal_error": 1}
    with rig.store.exclusive(NAME, 0):
        pass


@FORKS
def test_a_process_forked_in_the_middle_of_a_flight_waits_for_it_and_then_resolves_by_itself(rig: Rig) -> None:
    """The child has no flight, no lock and no watch of its parent, and takes its attempts for nobody's but its own."""
    rig.put(token())
    rig.endpoint.gate.clear()
    broker = rig.broker()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(broker.resolve, NAME)
        assert rig.endpoint.entered.wait(PATIENCE)
        child = fork(lambda: _child_resolves(broker, rig))
        with pytest.raises(LockTimeout, match=f"process {os.getpid()}"):
            rig.store.lock(NAME).acquire(0.1)
        rig.endpoint.gate.set()
        assert value(waiting.result(PATIENCE)) == "access-1"
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert rig.store.read(NAME).generation == 2


def _child_resolves(broker: Broker, rig: Rig) -> None:
    world = broker._engine._context
    assert world.process == ProcessIdentity.own()
    assert broker.statistics(NAME).waiters == 0
    rig.endpoint.gate.set()  # of the child's own copy, which must not be asked at all
    assert value(broker.resolve(NAME)) == "access-1"
    assert rig.endpoint.requests == 1, "the child made a grant of its own"
    assert broker.drain(PATIENCE), "the child waits for what its parent does"


@FORKS
def test_a_forked_child_sees_what_others_change(rig: Rig) -> None:
    rig.put(token(left=3600))
    broker = rig.broker()
    assert value(broker.resolve(NAME)) == "access-0"

    def child() -> None:
        assert value(broker.resolve(NAME)) == "access-0"
        rig.put(token(left=3600, number=8))
        wait_for(lambda: value(broker.resolve(NAME)) == "access-8")

    assert os.waitstatus_to_exitcode(os.waitpid(fork(child), 0)[1]) == 0
    wait_for(lambda: value(broker.resolve(NAME)) == "access-8")


def fork(work: Callable[[], None]) -> int:
    """Run it in a forked child, which ends with 0 if nothing was raised."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException as error:  # noqa: BLE001  # the parent's pytest must not run on in the child
        os.write(2, f"in the child: {error!r}\n".encode())
    finally:
        os._exit(code)


def run_child(script: str, sandbox: Sandbox, home: Home, **options: Any) -> "subprocess.Popen[str]":
    """A Python process over this home, with the sandbox's `broker` made for it."""
    before = (
        "from msgspec.structs import replace\n"
        "from tokenferry.broker import Broker\n"
        "from tokenferry.errors import *\n"
        "from tokenferry.providers import builtin_providers\n"
        f"sandbox = replace(builtin_providers()['sandbox'], base_url={sandbox.url!r})\n"
        "broker = Broker(providers={'sandbox': sandbox})\n"
    )
    environment = {**os.environ, "TOKENFERRY_HOME": str(home.path)}
    return subprocess.Popen(
        [sys.executable, "-c", before + script],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_process_that_ends_with_a_grant_in_flight_completes_and_publishes_it(
    tokenferry_sandbox: Sandbox, home: Home
) -> None:
    store = FileStore(home)
    old = sandbox_login(store, tokenferry_sandbox, expires_in=100)  # in the advisory window: nobody waits for it
    tokenferry_sandbox.fault("hang", path="/v1/oauth/token")
    child = run_child("broker.resolve('alice'); print('ending', flush=True)", tokenferry_sandbox, home)
    assert child.stdout
    assert child.stdout.readline() == "ending\n"
    wait_for(lambda: tokenferry_sandbox.counters()["in_flight"])
    tokenferry_sandbox.clear()
    out, err = child.communicate(timeout=PATIENCE)
    assert (child.returncode, out, err) == (0, "", "")
    assert tokenferry_sandbox.counters()["accounts"]["alice"]["refreshes"] == 1
    assert store.read("alice").credential.secret != old.secret
    assert FileJournal(home.journal).attempt("alice") is None


def test_no_grant_begins_while_the_interpreter_shuts_down(tokenferry_sandbox: Sandbox, home: Home) -> None:
    sandbox_login(FileStore(home), tokenferry_sandbox)
    script = (
        "import atexit\n"
        "def late():\n"
        "    try: broker.resolve('alice')\n"
        "    except RefreshFailed as fault: print(fault, flush=True)\n"
        "atexit.register(late)\n"
    )
    out, err = run_child(script, tokenferry_sandbox, home).communicate(timeout=PATIENCE)
    assert out == "account 'alice' is not refreshed while this process ends\n", err
    assert err == ""
    assert tokenferry_sandbox.counters()["totals"]["refreshes"] == 0


def test_many_processes_make_one_grant(tokenferry_sandbox: Sandbox, home: Home) -> None:
    sandbox_login(FileStore(home), tokenferry_sandbox)
    script = (
        "print('ready', flush=True); input()\n"
        "print(broker.resolve('alice').secret.fingerprint, broker.statistics('alice').grants)\n"
    )
    children = [run_child(script, tokenferry_sandbox, home) for _ in range(6)]
    for child in children:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin
        child.stdin.write("\n")
        child.stdin.flush()
    lines = [child.communicate(timeout=PATIENCE)[0].split() for child in children]
    assert len({fingerprint for fingerprint, _ in lines}) == 1
    assert sum(int(grants) for _, grants in lines) == 1
    counts = tokenferry_sandbox.counters()["accounts"]["alice"]
    assert (counts["refreshes"], counts["reuses"]) == (1, 0)


def test_processes_that_wait_while_one_has_to_come_later_send_nothing(tokenferry_sandbox: Sandbox, home: Home) -> None:
    sandbox_login(FileStore(home), tokenferry_sandbox)
    tokenferry_sandbox.fault(
        "status", status=503, headers={"retry-after": "600"}, path="/v1/oauth/token", account="alice", times=0
    )
    script = (
        "print('ready', flush=True); input()\n"
        "try: broker.resolve('alice')\n"
        "except RefreshFailed as fault: print(round(fault.retry_after, -1))\n"
    )
    children = [run_child(script, tokenferry_sandbox, home) for _ in range(4)]
    for child in children:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
    answers = [child.communicate("\n", timeout=PATIENCE) for child in children]
    assert answers == [("600.0\n", "")] * 4
    asked = [each for each in tokenferry_sandbox.requests() if each["path"] == "/v1/oauth/token"]
    assert len(asked) == 1
