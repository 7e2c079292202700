from tokenferry.gateway.telemetry.counters import BUCKETS, ModelLabels, RequestCounters
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.limits import OTHER
from tokenferry.streaming import TokenUsage


def record(**fields: object) -> RequestRecord:
    made = RequestRecord("tf_1", "POST", "/v1/messages", status=200)
    served = {"provider": "p", "account": "a", "model": "claude-opus-4-5", "upstream_status": 200, "first_byte": 0.2}
    for name, value in {**served, **fields}.items():
        setattr(made, name, value)
    return made


def test_requests_are_counted_by_route_and_status() -> None:
    tally = RequestCounters()
    tally.add(record(duration=0.3, bytes_in=5, bytes_out=7, usage=TokenUsage(10, 20, None, 3)))
    tally.add(record(duration=1000.0, bytes_in=1, usage=TokenUsage(1, 2)))
    tally.add(record(status=429, upstream_status=429, error="rate_limit_error", model="claude-opus-9"))
    tally.add(record(status=401, provider=None, account=None, model=None, error="authentication_error"))
    assert list(tally.routes) == [("p", "a", "claude-opus"), ("", "", "")]
    series = tally.routes["p", "a", "claude-opus"]
    assert series.statuses == {200: 2, 429: 1}
    assert series.tokens == [11, 22, 0, 0, 3]
    assert sum(series.durations.counts) == 3
    assert series.durations.counts[-1] == 1
    assert series.durations.counts[BUCKETS.index(0.5)] == 1
    assert tally.errors == {("p", "rate_limit_error"): 1, ("", "authentication_error"): 1}
    assert (tally.bytes_in, tally.bytes_out) == (6, 7)


def test_a_request_without_an_answer_has_no_first_byte() -> None:
    tally = RequestCounters()
    tally.add(record(first_byte=None, status=499))
    assert sum(tally.routes["p", "a", "claude-opus"].first_bytes.counts) == 0


def test_neither_models_nor_errors_make_endless_series() -> None:
    tally = RequestCounters()
    for number in range(2000):
        name = "x" * (number % 40) + chr(97 + number % 26)
        tally.add(record(model=f"claude-{name}", status=404, upstream_status=404, error=f"kind_{number}"))
    assert list(tally.routes) == [("p", "a", "other")]
    assert len(tally.errors) == 257


def test_no_client_makes_families_by_asking_for_them() -> None:
    families = ModelLabels()
    assert {families.of(f"claude-{'x' * n}", is_served=False) for n in range(1, 1000)} == {OTHER}
    assert families.of("claude-sonnet-4-5", is_served=True) == "claude-sonnet"
    assert families.of("claude-sonnet-9", is_served=False) == "claude-sonnet"
    assert families.of(None, is_served=True) == ""


def test_there_are_only_so_many_families() -> None:
    families = ModelLabels()
    names = {families.of(f"model-{'x' * n}", is_served=True) for n in range(1, 1000)}
    assert len(names) == 33
    assert OTHER in names


def test_nor_are_endless_names_remembered() -> None:
    families = ModelLabels()
    for number in range(5000):
        families.of(f"claude-sonnet-{number}", is_served=True)
    assert len(families._names) <= 1024


def test_cache_writes_are_counted_by_lifetime_and_keys_only_on_request() -> None:
    tally = RequestCounters()
    written = TokenUsage(1, 2, 70, 4, 50)
    tally.add(record(client="laptop", usage=written))
    assert not tally.keys
    tally.counts_keys = True
    for number in range(102):
        tally.add(record(client=f"key-{number}", usage=written))
    assert tally.keys["key-0"].requests == 1
    assert tally.keys["key-0"].tokens == [1, 2, 20, 50, 4]
    assert (len(tally.keys), tally.keys[OTHER].requests) == (101, 2)
