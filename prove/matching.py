"""Which charge belongs to which request."""

from collections import defaultdict

from prove.evidence import Charge, Count
from prove.load import Request


def match(
    requests: list[Request], charges: list[Charge], counts: dict[str, list[Count]]
) -> tuple[dict[str, list[Charge]], list[Charge]]:
    """Return the charges of each request by its tag, and those that belong to no request.

    A client that received no headers does not know its request's id. Each key has one request at a
    time, so the charge belongs to the key's last request that began before promptly received it,
    and if it has tokens, was counted by a model server.
    """
    by_id = {request.request_id: request for request in requests if request.request_id}
    nameless: dict[int, list[Request]] = defaultdict(list)
    for request in requests:
        if not request.request_id:
            nameless[request.key_id].append(request)
    matched: dict[str, list[Charge]] = defaultdict(list)
    unmatched: list[Charge] = []
    for charge in sorted(charges, key=lambda charge: charge.started_at):
        found = by_id.get(charge.request_id) or _candidate(nameless[charge.key_id], charge, counts)
        if found is None or found.user_id != charge.user_id:
            unmatched.append(charge)
            continue
        matched[found.tag].append(charge)
        if not found.request_id:
            nameless[charge.key_id].remove(found)
    return matched, unmatched


def _candidate(
    requests: list[Request], charge: Charge, counts: dict[str, list[Count]]
) -> Request | None:
    before = [
        each
        for each in requests
        # An id has whole milliseconds, rounded down.
        if each.started_at <= charge.started_at + 0.001
        and (each.tag in counts or not charge.tokens)
    ]
    return max(before, key=lambda request: request.started_at, default=None)
