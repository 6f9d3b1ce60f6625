"""Logprobs as OpenAI's completions have them, made of those that chat completions have."""

import codecs
from typing import Any


class Logprobs:
    """Turns upstream's entries into four lists, for one choice from its beginning on.

    `text_offset` counts characters within the choice's text. A token that is no whole character is
    shown as `bytes:\\xe6\\x97`, so that those that begin alike stay apart.
    """

    def __init__(self, alternatives: int) -> None:
        self._alternatives = alternatives
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def read(self, entries: list[dict[str, Any]]) -> dict[str, list[Any]]:
        """`tokens`, `token_logprobs`, `top_logprobs` and `text_offset` of these entries."""
        tokens, chosen, top, offsets = [], [], [], []
        for entry in entries:
            token = _shown(entry)
            tokens.append(token)
            chosen.append(entry["logprob"])
            # The likeliest first, and of special tokens, which show no text, only that one.
            alternatives: dict[str, float] = {}
            for other in (entry.get("top_logprobs") or [])[: self._alternatives]:
                alternatives.setdefault(_shown(other), other["logprob"])
            # Always with the chosen one, as OpenAI has it.
            top.append(alternatives | {token: entry["logprob"]})
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(bytes(entry["bytes"])))
        return {
            "tokens": tokens,
            "token_logprobs": chosen,
            "top_logprobs": top,
            "text_offset": offsets,
        }


def _shown(entry: dict[str, Any]) -> str:
    data = bytes(entry["bytes"])
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
