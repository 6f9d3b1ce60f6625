"""Prompts as tokens, of which slots keep the last one, and the memory for those that slots lose."""

from bisect import bisect_right
from dataclasses import dataclass

BYTES_PER_TOKEN = 4
# The server's default (`--slot-prompt-similarity`), and its rule for what is worth saving.
SIMILARITY = 0.1
KEEP = 0.5
# A saved prompt is loaded only if at least this share of it is of use.
LOAD_KEEP = 0.25


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text of four bytes a token, and the offsets of `weight` further tokens each."""

    text: bytes = b""
    marks: tuple[int, ...] = ()
    weight: int = 1

    @property
    def tokens(self) -> int:
        return -(-len(self.text) // BYTES_PER_TOKEN) + self.weight * len(self.marks)

    def shared(self, other: "Prompt") -> int:
        """Return how many tokens both begin with."""
        size = _common_bytes(self.text, other.text)
        if size == len(self.text) == len(other.text):
            return min(self.tokens, other.tokens)
        count = min(bisect_right(prompt.marks, size) for prompt in (self, other))
        return size // BYTES_PER_TOKEN + self.weight * count

    def followed_by(self, answer: bytes) -> "Prompt":
        return Prompt(self.text + answer, self.marks, self.weight)

    def first(self, tokens: int) -> "Prompt":
        """Return about the first `tokens` tokens, for a prompt that was not processed further."""
        size = len(self.text) * tokens // max(self.tokens, 1)
        return Prompt(self.text[:size], self.marks[: bisect_right(self.marks, size)], self.weight)


def _common_bytes(one: bytes, other: bytes) -> int:
    """Return the length of the common beginning, by comparisons of whole pieces."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    # The first `low` bytes are equal, the first `high` are not.
    while high - low > 1:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low


@dataclass(frozen=True, slots=True)
class Kept:
    """A processed prompt with its answer, and the owner's name that the request gave."""

    prompt: Prompt = Prompt()
    owner: str = ""


class PromptMemory:
    """Prompts that slots have lost, across all slots (`--cache-ram`); the oldest make room."""

    def __init__(self, mebibytes: int) -> None:
        self._limit = mebibytes * 1024 * 1024
        self._saved: list[Kept] = []

    def exchange(self, kept: Kept, wanted: Prompt) -> Kept:
        """Save a slot's prompt, and return the best for `wanted`: a saved one, or the slot's."""
        if not self._limit:
            return kept
        self._save(kept)
        best = kept
        keep, similarity = _fit(kept.prompt, wanted)
        for entry in self._saved:
            entry_keep, entry_similarity = _fit(entry.prompt, wanted)
            better = entry_keep > keep and entry_similarity > similarity
            if better and entry_keep >= LOAD_KEEP:
                best, keep, similarity = entry, entry_keep, entry_similarity
        if best is not kept:
            self._saved.remove(best)
        return best

    def clear(self) -> None:
        self._saved.clear()

    def _save(self, kept: Kept) -> None:
        text = kept.prompt.text
        if not text or any(entry.prompt.text.startswith(text) for entry in self._saved):
            return
        self._saved = [entry for entry in self._saved if not text.startswith(entry.prompt.text)]
        self._saved.append(kept)
        while sum(len(entry.prompt.text) for entry in self._saved) > self._limit:
            del self._saved[0]


def _fit(prompt: Prompt, wanted: Prompt) -> tuple[float, float]:
    """Return which share of `prompt` is of use, and of `wanted` is there."""
    shared = prompt.shared(wanted)
    return shared / max(prompt.tokens, 1), shared / max(wanted.tokens, 1)
