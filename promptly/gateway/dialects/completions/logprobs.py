"""Logprobs in the format of OpenAI's text completions, converted from chat completions' format."""

import codecs
from typing import Any


class Logprobs:
    """Turns upstream's entries into four lists, for one choice from its start.

    `text_offset` counts characters within the choice's text. A token that is only part of a
    character is shown as `bytes:\\xe6\\x97`, so that such tokens stay distinct.
    """

    def __init__(self, alternatives: int) -> None:
        self._alternatives = alternatives
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def read(self, entries: list[dict[str, Any]]) -> dict[str, list[Any]]:
        """Return `tokens`, `token_logprobs`, `top_logprobs` and `text_offset` of these entries."""
        tokens, chosen, top, offsets = [], [], [], []
        for entry in entries:
            token = _shown(entry)
            tokens.append(token)
            chosen.append(entry["logprob"])
            # The likeliest come first. Special tokens have no text: only their likeliest is kept.
            alternatives: dict[str, float] = {}
            for other in (entry.get("top_logprobs") or [])[: self._alternatives]:
                alternatives.setdefault(_shown(other), other["logprob"])
            # Always include the chosen token, as OpenAI does.
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
