"""The load generator: a process that reads one ``Plan`` as a JSON line and runs it.

It connects, warms up with a few requests, prints ``{"event": "ready"}`` and waits for a line.
Then it runs the plan and prints events, one JSON object per line: ``steady`` when all paced
streams run, ``window`` when the measured window ends, ``done`` with the results.
"""

import json
import os
import resource
import sys
import time

from bench.client import Client, Line, Plan

_ANSWER_SECONDS = 20.0
_WARM_UP_SECONDS = 0.3
_SETTLING_SECONDS = 0.5


def say(event: str, **more: object) -> None:
    """Send an event to the controlling process."""
    sys.stdout.write(json.dumps({"event": event, **more}) + "\n")
    sys.stdout.flush()


def closed_loop(client: Client, lines: list[Line], seconds: float) -> None:
    """Send on every connection as soon as it is answered."""
    stop = time.monotonic() + seconds
    give_up = stop + _ANSWER_SECONDS
    busy = len(lines)
    for line in lines:
        client.send(line)
    while busy and time.monotonic() < give_up:
        for line in client.turn(give_up):
            if time.monotonic() < stop:
                client.send(line)
            else:
                busy -= 1
    if busy:
        client.result.errors["no answer"] += busy
    for line in lines:
        if line.answer is not None:
            client.give_up(line)


def open_loop(client: Client, lines: list[Line], seconds: float, rate: float) -> None:
    """Send requests at a fixed rate, waiting only while no connection is free."""
    free = list(lines)
    start = time.monotonic()
    give_up = start + seconds + _ANSWER_SECONDS
    for index in range(int(seconds * rate)):
        due = start + index / rate
        while (now := time.monotonic()) < due or (not free and now < give_up):
            free.extend(client.turn(due if free else give_up))
        if free:
            client.send(free.pop(0))
    while len(free) < len(lines) and time.monotonic() < give_up:
        free.extend(client.turn(give_up))
    if len(free) < len(lines):
        client.result.errors["no answer"] += len(lines) - len(free)


def once_each(client: Client, lines: list[Line], side: Line | None) -> None:
    """Run one paced stream per connection; the measured window is where all of them run."""
    plan = client.plan
    start = time.monotonic()
    settled = start + plan.ramp_seconds + _SETTLING_SECONDS
    marks = [("steady", settled), ("window", settled + plan.seconds)]
    give_up = marks[1][1] + _ANSWER_SECONDS
    started, ended, side_due = 0, 0, settled if side else give_up
    while ended < len(lines) and (now := time.monotonic()) < give_up:
        next_start = start + plan.ramp_seconds * started / len(lines)
        if started < len(lines) and now >= next_start:
            client.send(lines[started])
            started += 1
            continue
        if marks and now >= marks[0][1]:
            say(marks.pop(0)[0], chunks=len(client.result.lateness))
        if side and side.answer is None and now >= side_due and marks:
            client.send(side)
            side_due += 1.0
        due = [side_due] if side and side.answer is None and marks else []
        due += [next_start] if started < len(lines) else []
        due += [marks[0][1] if marks else give_up]
        ended += sum(line is not side for line in client.turn(min(due)))
    if ended < len(lines):
        client.result.errors["stream did not end"] += len(lines) - ended


def quantiles(values: list[float]) -> dict[str, float]:
    """Return median, 99th percentile and maximum, in milliseconds."""
    if not values:
        return {}
    ordered = sorted(values)
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    last = len(ordered) - 1
    return {name: round(ordered[round(last * share)] * 1e3, 3) for name, share in shares.items()}


def main() -> None:
    """Run the plan given on standard input."""
    plan = Plan(**json.loads(sys.stdin.readline()))
    if plan.cpu is not None:
        os.sched_setaffinity(0, {plan.cpu})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    client = Client(plan)
    lines = [client.main_line() for _ in range(plan.connections)]
    side = client.side_line() if plan.side_body else None
    if not plan.once:
        client.warming = True
        closed_loop(client, lines, _WARM_UP_SECONDS)
        client.warming = False
    say("ready")
    sys.stdin.readline()
    started = time.monotonic()
    if plan.once:
        once_each(client, lines, side)
    elif plan.rate:
        open_loop(client, lines, plan.seconds, plan.rate)
    else:
        closed_loop(client, lines, plan.seconds)
    result = client.result
    say(
        "done",
        requests=result.requests,
        chunks=result.chunks,
        seconds=time.monotonic() - started,
        errors=dict(result.errors.most_common(5)),
        reconnects=result.reconnects,
        latency_ms=quantiles(result.latencies),
        side_latency_ms=quantiles(result.side_latencies),
        lateness_ms=quantiles(result.lateness),
    )


if __name__ == "__main__":
    main()
