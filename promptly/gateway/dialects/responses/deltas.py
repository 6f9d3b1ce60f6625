"""Contents of upstream's chunks that the API has in another form: tool calls and logprobs."""

from typing import Any

import orjson

Json = dict[str, Any]
# Upstream's number of a call, and additions to its id, name and arguments; only the first delta of
# a call has the id and the name.
CallDelta = tuple[int, str, str, str]


def call_delta(call: Json) -> CallDelta:
    """Return a delta of a tool call; raises TypeError for a field of a wrong type."""
    function = call.get("function") or {}
    number, call_id = call.get("index") or 0, call.get("id") or ""
    name, arguments = function.get("name") or "", function.get("arguments") or ""
    if type(number) is not int or not (type(call_id) is type(name) is type(arguments) is str):
        raise TypeError("tool call of a wrong type")
    return number, call_id, name, arguments


def logprobs_inside(logprobs: Json) -> bytes:
    """Return upstream's logprobs as the inside of a JSON array, without its token ids."""
    entries = [
        {**_token(entry), "top_logprobs": [_token(top) for top in entry["top_logprobs"]]}
        for entry in logprobs["content"]
    ]
    return orjson.dumps(entries)[1:-1]


def _token(entry: Json) -> Json:
    return {name: entry[name] for name in ("token", "bytes", "logprob")}
