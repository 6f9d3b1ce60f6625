from hypothesis import given
from hypothesis import strategies as st

from sandbox.llama import prompt
from sandbox.llama.prompt_cache import Kept, Prompt, PromptMemory


def text(number: int) -> Prompt:
    return Prompt(str(number).encode() * 100)


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
def test_tokens_in_common(start: bytes, one: bytes, other: bytes) -> None:
    first, second = Prompt(start + one), Prompt(start + other)
    pairs = enumerate(zip(first.text, second.text, strict=False))
    smaller = min(len(first.text), len(second.text))
    size = next((place for place, (a, b) in pairs if a != b), smaller)
    assert first.shared(first) == first.tokens
    if first.text != second.text:
        assert first.shared(second) == second.shared(first) == size // 4


def test_a_conversation_contains_its_beginning() -> None:
    messages = [{"role": "user", "content": "hello there"}]
    before = prompt.of_chat({"messages": messages})
    answered = before.followed_by(b"Good day to you.")
    messages += [
        {"role": "assistant", "content": "Good day to you."},
        {"role": "user", "content": "And now?"},
    ]
    after = prompt.of_chat({"messages": messages})
    # All but the mark of the end of the prompt, which is one of the four bytes of a token at most.
    assert before.tokens - 1 <= before.shared(after) <= before.tokens
    assert answered.shared(after) >= answered.tokens - 1


def test_part_of_a_prompt() -> None:
    messages = [{"role": "user", "content": "word " * 99}] * 9
    whole = prompt.of_chat({"messages": messages})
    part = whole.first(whole.tokens // 3)
    assert abs(part.shared(whole) - whole.tokens // 3) <= 4
    assert whole.first(whole.tokens) == whole


def test_the_memory_gives_back_what_a_slot_has_lost() -> None:
    memory = PromptMemory(1)
    one, other = Kept(text(1), "a"), Kept(text(2), "b")
    assert memory.exchange(one, text(2)) is one
    assert memory.exchange(other, text(1)) is one
    # It is in the slot now, and no longer in the memory.
    assert memory.exchange(Kept(), text(1)) == Kept()


def test_the_memory_is_bounded_and_may_be_off() -> None:
    memory = PromptMemory(1)
    for number in (1, 2):
        memory.exchange(Kept(Prompt(str(number).encode() * 700_000)), Prompt())
    assert memory.exchange(Kept(), Prompt(b"1" * 700_000)) == Kept()
    assert memory.exchange(Kept(), Prompt(b"2" * 700_000)).prompt.tokens == 175_000
    off = PromptMemory(0)
    off.exchange(Kept(text(1)), text(2))
    assert off.exchange(Kept(), text(1)) == Kept()
