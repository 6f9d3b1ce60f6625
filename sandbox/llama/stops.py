"""Stop strings: where they end an answer, and which text waits until it is clear.

Like the real server, the search runs over thoughts and text as one. Text that may be the beginning
of a stop string is withheld, so its tokens cause no delta until more of it is known.
"""

from dataclasses import dataclass

import orjson

from sandbox.llama.prompt import Body

# Names of the real server's fields that describe an answer's end, by `response_fields`.
FIELDS = ("stop_type", "stopping_word")


@dataclass(frozen=True, slots=True)
class Piece:
    """The text of one token and its kind, `content` or `reasoning`."""

    kind: str
    text: str


def of(body: Body) -> list[str]:
    """Return the request's stop strings; like the real server, ignore what is none."""
    given = body.get("stop")
    found = given if isinstance(given, list) else [given]
    return [stop for stop in found if isinstance(stop, str) and stop]


def cut(pieces: list[Piece | None], stops: list[str]) -> tuple[list[Piece | None], str]:
    """Return the pieces up to the first stop string, without it, and the string; "" if none.

    A piece becomes None where its text is withheld; text still withheld at the end is shown then.
    """
    shown: list[Piece | None] = []
    waiting = ""
    for piece in pieces:
        waiting += piece.text if piece else ""
        kind = piece.kind if piece else "content"
        stop = min((stop for stop in stops if stop in waiting), key=waiting.find, default="")
        if stop:
            before = waiting[: waiting.find(stop)]
            shown.append(Piece(kind, before) if before else None)
            return shown, stop
        if not waiting or any(_may_begin(waiting, stop) for stop in stops):
            shown.append(None)
        else:
            shown.append(Piece(kind, waiting))
            waiting = ""
    if waiting and shown:
        shown[-1] = Piece("content", waiting)
    return shown, ""


def _may_begin(text: str, stop: str) -> bool:
    """Return whether the end of a text is the beginning of a stop string."""
    return any(text.endswith(stop[:length]) for length in range(1, len(stop)))


def report(body: Body, stop_type: str, stop: str) -> bytes:
    """Return the `__verbose` member of the last delta; empty unless the request asks for it."""
    if not body.get("verbose"):
        return b""
    values = {"stop_type": stop_type, "stopping_word": stop}
    wanted = body.get("response_fields") or FIELDS
    named = {name: values[name] for name in wanted if name in values}
    return b',"__verbose":' + orjson.dumps(named)
