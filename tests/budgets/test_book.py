from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from budgets.books import NOW, Key, book_of, read, refused, size, taken
from tokenferry.budgets import BudgetBook, RequestSize
from tokenferry.prices import TokenCounts
from tokenferry.settings import BudgetSettings

KEY = Key()


def dollar_a_day(**more: object) -> BudgetBook:
    book = book_of(BudgetSettings("all", "1usd/day", **more))  # type: ignore[arg-type]
    book.watch([KEY], NOW)
    return book


def test_a_key_of_no_budget_reserves_nothing() -> None:
    assert book_of().reserve(KEY, size(1), NOW, "tf_1") is None
    assert book_of(BudgetSettings("key:other", "0usd/day")).reserve(KEY, size(1), NOW, "tf_1") is None


def test_what_is_reserved_becomes_what_was_used_and_then_what_is_written() -> None:
    book = dollar_a_day()
    read(book)
    (counter,) = book.counters()
    found = taken(book.reserve(KEY, size(300_000), NOW, "tf_1"))
    assert (counter.reserved, counter.unwritten, counter.used) == (300_000, 0, 0)
    book.settle(found, TokenCounts(100_000, 50_000))
    book.settle(found, TokenCounts(100_000, 50_000))
    book.settle_ended()
    assert (counter.reserved, counter.unwritten, counter.used) == (0, 150_000, 150_000)
    read(book, spent=150_000, written=("tf_1",))
    assert (counter.reserved, counter.unwritten, counter.used) == (0, 0, 150_000)


def test_a_request_that_used_nothing_gives_back_all_of_it() -> None:
    book = dollar_a_day()
    read(book)
    book.settle(taken(book.reserve(KEY, size(300_000), NOW, "tf_1")), TokenCounts())
    (counter,) = book.counters()
    assert counter.held == 0


def test_an_estimate_alone_never_refuses_for_it_is_cut_to_what_is_left() -> None:
    book = dollar_a_day()
    read(book, spent=999_999)
    assert taken(book.reserve(KEY, size(5_000_000), NOW, "tf_1")).amounts == [1]


def test_strict_refuses_what_is_estimated_at_more_than_is_left() -> None:
    book = dollar_a_day(strict=True)
    read(book, spent=900_000)
    assert refused(book.reserve(KEY, size(100_001), NOW, "tf_1")).cause == "too_large"
    taken(book.reserve(KEY, size(60_000), NOW, "tf_2"))
    assert refused(book.reserve(KEY, size(60_000), NOW, "tf_3")).cause == "reserved"


def test_while_all_that_is_left_is_reserved_others_are_to_try_again() -> None:
    book = dollar_a_day()
    read(book, spent=900_000)
    found = taken(book.reserve(KEY, size(200_000), NOW, "tf_1"))
    refusal = refused(book.reserve(KEY, size(1), NOW, "tf_2"))
    assert refusal.cause == "reserved"
    assert not refusal.is_final
    book.settle(found, TokenCounts(1))
    taken(book.reserve(KEY, size(1), NOW, "tf_3"))


def test_only_what_the_ledger_has_refuses_for_good() -> None:
    book = dollar_a_day()
    read(book, spent=900_000)
    book.settle(taken(book.reserve(KEY, size(1), NOW, "tf_1")), TokenCounts(200_000))
    book.settle_ended()
    assert refused(book.reserve(KEY, size(1), NOW, "tf_2")).cause == "reserved"
    read(book, spent=1_100_000, written=("tf_1",))
    refusal = refused(book.reserve(KEY, size(1), NOW, "tf_3"))
    assert refusal.cause == "used_up"
    assert refusal.is_final
    assert refusal.counter.percent == 110


def test_a_limit_of_zero_refuses_everything() -> None:
    book = book_of(BudgetSettings("key:laptop", "0usd/total"))
    assert refused(book.reserve(KEY, size(1), NOW, "tf_1")).cause == "used_up"


def test_warn_refuses_nothing_and_counts_all() -> None:
    book = dollar_a_day(mode="warn")
    read(book, spent=5_000_000)
    assert taken(book.reserve(KEY, size(7), NOW, "tf_1")).amounts == [7]


def test_each_of_several_budgets_applies_and_the_longest_wait_is_reported() -> None:
    book = book_of(
        BudgetSettings("all", "1usd/day"),
        BudgetSettings("key:laptop", "1usd/month"),
        BudgetSettings("all", "9usd/week"),
    )
    book.watch([KEY], NOW)
    read(book)
    found = taken(book.reserve(KEY, size(400_000), NOW, "tf_1"))
    assert found.amounts == [400_000] * 3
    assert found.most_consumed.limit == 1_000_000
    read(book, spent=1_000_000)
    assert refused(book.reserve(KEY, size(1), NOW, "tf_2")).counter.budget.limit.period == "month"


def test_what_one_budget_refuses_is_reserved_of_none() -> None:
    book = book_of(BudgetSettings("all", "9usd/day"), BudgetSettings("key:laptop", "0usd/day"))
    refused(book.reserve(KEY, size(1000), NOW, "tf_1"))
    assert [counter.reserved for counter in book.counters()] == [0, 0]
    assert [counter.refusals for counter in book.counters()] == [0, 1]


def test_a_pool_is_shared_and_a_budget_per_key_is_not() -> None:
    other = Key("key_2", "ci")
    shared, apart = book_of(BudgetSettings("all", "1usd/day")), book_of(BudgetSettings("all", "1usd/day", per="key"))
    for book in (shared, apart):
        book.watch([KEY, other], NOW)
        read(book)
        taken(book.reserve(KEY, size(1_000_000), NOW, "tf_1"))
    assert refused(shared.reserve(other, size(1), NOW, "tf_2")).cause == "reserved"
    taken(apart.reserve(other, size(1), NOW, "tf_2"))


def test_tokens_are_input_cache_writes_and_output_but_no_cache_reads() -> None:
    book = book_of(BudgetSettings("all", "1Mtokens/day"))
    book.watch([KEY], NOW)
    read(book)
    book.settle(taken(book.reserve(KEY, size(10), NOW, "tf_1")), TokenCounts(1, 20, 300, 4000, 50_000))
    (counter,) = book.counters()
    assert counter.unwritten == 54_021


def test_a_budget_that_is_stored_with_the_key_holds_beside_those_of_the_configuration() -> None:
    key = Key(budgets=("0usd/day",))
    assert refused(book_of().reserve(key, size(1), NOW, "tf_1")).cause == "used_up"


def test_a_period_begins_with_nothing_used_and_the_one_before_still_settles() -> None:
    midnight = datetime(2026, 11, 30, tzinfo=UTC).timestamp()
    book = book_of(BudgetSettings("all", "1usd/day"))
    book.watch([KEY], midnight - 1)
    read(book)
    late = taken(book.reserve(KEY, size(1_000_000), midnight - 1, "tf_1"))
    early = taken(book.reserve(KEY, size(1_000_000), midnight, "tf_2"))
    assert late.counters != early.counters
    book.watch([KEY], midnight)
    assert len(book.counters()) == 2
    book.settle(late, TokenCounts(3))
    read(book, written=("tf_1",))
    book.watch([KEY], midnight)
    assert [counter.key.start for counter in book.counters()] == [midnight * 1000]


def test_a_clock_that_is_set_back_finds_the_counter_of_its_period() -> None:
    midnight = datetime(2026, 11, 30, tzinfo=UTC).timestamp()
    book = book_of(BudgetSettings("all", "1usd/day"))
    first = taken(book.reserve(KEY, size(1), midnight - 1, "tf_1"))
    taken(book.reserve(KEY, size(1), midnight + 1, "tf_2"))
    assert taken(book.reserve(KEY, size(1), midnight - 1, "tf_3")).counters == first.counters


def test_a_new_amount_counts_from_the_next_request_on() -> None:
    book = dollar_a_day()
    read(book, spent=1_000_000)
    refused(book.reserve(KEY, size(1), NOW, "tf_1"))
    more = book_of(BudgetSettings("all", "2usd/day"))
    book.adopt(counter.budget for counter in (*more.counters_of(KEY, NOW),))
    read(book, spent=1_000_000)
    taken(book.reserve(KEY, size(1), NOW, "tf_2"))


@pytest.mark.parametrize("on_error", ["allow", "refuse"])
def test_without_a_ledger_it_goes_by_what_is_in_memory(on_error: str) -> None:
    book = dollar_a_day(on_error=on_error)
    read(book, spent=500_000)
    book.is_away = True
    book.settle(taken(book.reserve(KEY, size(1), NOW, "tf_1")), TokenCounts(500_000))
    book.settle_ended()
    assert refused(book.reserve(KEY, size(1), NOW, "tf_2")).cause == "used_up"


def test_what_a_ledger_never_said_is_allowed_or_refused_as_on_error_says() -> None:
    allowing, refusing = dollar_a_day(), dollar_a_day(on_error="refuse")
    allowing.is_away = refusing.is_away = True
    taken(allowing.reserve(KEY, size(1), NOW, "tf_1"))
    refusal = refused(refusing.reserve(KEY, size(1), NOW, "tf_1"))
    assert refusal.cause == "unknown"
    assert not refusal.is_final


@pytest.mark.parametrize("refuses_away", [False, True])
def test_one_word_refuses_for_every_budget_while_the_ledger_is_away(*, refuses_away: bool) -> None:
    """Those of keys, too, though their reservations count on; and a reload may take it back."""
    key, outcome = Key(budgets=("1usd/day",)), (taken, refused)
    book = book_of()
    book.adopt([], refuses_away=refuses_away)
    book.watch([key], NOW)
    read(book, others=900_000, holders=2)
    book.is_away = True
    taken(book.reserve(key, size(50_000), NOW, "tf_1"))
    outcome[refuses_away](book.reserve(key, size(800_000), NOW, "tf_2"))
    book.adopt([], refuses_away=not refuses_away)
    outcome[not refuses_away](book.reserve(key, size(800_000), NOW, "tf_3"))


@pytest.mark.parametrize("on_error", ["allow", "refuse"])
@pytest.mark.parametrize("strict", [True, False])
def test_until_the_ledger_was_read_one_request_goes_or_as_many_as_a_sixteenth_is_enough_for(
    on_error: str, *, strict: bool
) -> None:
    """All of the budget may be used up; the ledger's thread, which was woken, says so in a moment."""
    woken = []
    book = book_of(BudgetSettings("all", "1usd/day", on_error=on_error, strict=strict))  # type: ignore[arg-type]
    book.wake = lambda: woken.append(1)
    book.settle(taken(book.reserve(KEY, size(500_000), NOW, "tf_1")), TokenCounts(900_000))
    assert woken
    refusal = refused(book.reserve(KEY, size(1000), NOW, "tf_2"))
    assert (refusal.cause, refusal.is_final) == ("reserved", False)

    several = book_of(BudgetSettings("all", "1usd/day", on_error=on_error, strict=strict))  # type: ignore[arg-type]
    for number in range(3):
        found = taken(several.reserve(KEY, size(20_000), NOW, f"tf_{number}"))
        several.settle(found, TokenCounts(20_000))
    assert refused(several.reserve(KEY, size(20_000), NOW, "tf_4")).cause == "reserved"
    read(several, spent=999_999, written=("tf_0", "tf_1", "tf_2"))
    assert several.reserve(KEY, size(1), NOW, "tf_5")
    read(several, spent=1_000_000)
    assert refused(several.reserve(KEY, size(1), NOW, "tf_6")).cause == "used_up"


def test_of_several_processes_each_has_a_slice_and_one_request_more() -> None:
    book = dollar_a_day()
    read(book, others=500_000, holders=4)
    (counter,) = book.counters()
    assert counter.slice == 62_500
    taken(book.reserve(KEY, size(62_500), NOW, "tf_1"))
    assert refused(book.reserve(KEY, size(1000), NOW, "tf_2")).cause == "reserved"
    read(book, others=500_000, holders=4)
    assert counter.slice > 62_500
    read(book, spent=400_000, others=600_000, holders=4)
    assert refused(book.reserve(KEY, size(1), NOW, "tf_3")).cause == "reserved"


def test_a_process_with_nothing_under_way_sends_one_request_though_others_hold_the_rest() -> None:
    book = dollar_a_day()
    read(book, others=1_000_000, holders=2)
    taken(book.reserve(KEY, size(10), NOW, "tf_1"))
    assert refused(book.reserve(KEY, size(10), NOW, "tf_2")).cause == "reserved"


def test_estimates_follow_the_session_the_recent_outputs_and_max_tokens() -> None:
    book = book_of()
    estimates = book.estimates
    unknown = RequestSize("key_1", "model", "", 4000, None)
    assert estimates.estimate(unknown).tokens == 1000 + 4096
    assert estimates.estimate(replace(unknown, max_tokens=10)).tokens == 1000 + 10
    for output in range(1, 301):
        price = book.estimates._prices["model"]  # what it has learnt
        estimates.learn(replace(unknown, session="s"), TokenCounts(7, output, 900, 0, 50), price)
    assert estimates.estimate(unknown).tokens == 1000 + 290
    known = estimates.estimate(replace(unknown, session="s"))
    assert known.tokens == 7 + 50 + 290
    assert known.billed == 7 + 290 + 90 + 100


def test_a_model_of_unknown_price_is_never_free() -> None:
    assert BudgetBook().estimates.estimate(RequestSize("key_1", "odd", "", 4_000_000, 0)).billed == 5_000_000
