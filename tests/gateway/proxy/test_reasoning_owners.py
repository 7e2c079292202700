import json

from hypothesis import given, strategies

from tokenferry.gateway.proxy.reasoning_owners import ReasoningOwners, thoughts_in
from tokenferry.wire import without_sealed


def items(*thoughts: str) -> bytes:
    return json.dumps(
        {"input": [{"type": "reasoning", "id": one, "encrypted_content": one} for one in thoughts]}
    ).encode()


@given(
    strategies.lists(
        strategies.tuples(strategies.sampled_from("ab"), strategies.sampled_from(["one", "two"])), max_size=12
    ),
    strategies.booleans(),
)
def test_no_account_is_sent_a_thought_of_another(turns: list[tuple[str, str]], is_named: bool) -> None:  # noqa: FBT001
    """Conversations keep all of their history, and each answer adds a thought of the account that gave it."""
    owners = ReasoningOwners()
    history: dict[str, list[tuple[str, str]]] = {"one": [], "two": []}
    for number, (account, conversation) in enumerate(turns):
        known = conversation if is_named else "key"
        body = items(*(thought for thought, _ in history[conversation]))
        thoughts = thoughts_in(body)
        foreign = owners.foreign(known, account, thoughts, is_named=is_named)
        sent = thoughts_in(without_sealed(body, foreign=foreign))
        its_own = {hash(thought.encode()) for thought, owner in history[conversation] if owner == account}
        assert set(sent) <= its_own
        if is_named and {owner for _, owner in history[conversation]} <= {account}:
            assert sent == thoughts
        owners.answered(known, account, sent)
        history[conversation].append((f"thought-{number}", account))


def test_what_was_before_the_process_began_is_no_accounts() -> None:
    assert ReasoningOwners().foreign("one", "a", [1, 2], is_named=True) == frozenset()


def test_items_behind_a_thought_that_is_taken_out_lose_their_ids_up_to_the_next_thought() -> None:
    call = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"}
    kept = {"type": "reasoning", "id": "rs_2", "encrypted_content": "mine"}
    body = {"input": [{"type": "reasoning", "id": "rs_1", "encrypted_content": "theirs"}, call, kept, call]}
    found = json.loads(without_sealed(json.dumps(body).encode(), foreign={hash(b"theirs")}))
    bare = {name: value for name, value in call.items() if name != "id"}
    assert found["input"] == [bare, kept, call]
