"""More workers, more streams, and a flood of unknown keys."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median

from bench import cpu
from bench.cases import Case, Row, Section, run_cases
from bench.measure import Run, measure
from bench.plans import burst, paced, plain
from bench.scale.flood import measure_flooded, refused
from bench.scale.growth import growth
from bench.scale.lab import Lab
from bench.values import rate, share, spent

# The same 10,000 chunks per second, in ever more streams.
_STREAMS = ((500, 20), (1000, 10), (2000, 5))
# Longer runs, of which a few suffice.
_MOST_STREAM_ROUNDS = 3
_FIRST_STREAMS = 20
_CUSTOMERS_REQUESTS_PER_SECOND = 50.0


def workers(lab: Lab) -> Section:
    """Measure one and two workers, with twice the connections for two."""
    seconds = lab.seconds(4.0, 2.0)
    cases = []
    for count in (1, 2):
        target = lab.start(f"workers{count}", workers=count)
        name = f"{count} worker{'s' * (count > 1)}"
        cases.append(
            Case(f"{name}, 16 tokens", target, plain(32 * count, seconds, bare_proxy=False))
        )
        cases.append(Case(f"{name}, stream", target, burst(seconds, bare_proxy=False)))
    title = "workers, each on a core of its own: answers of 16 tokens, streams back to back"
    section = run_cases(lab.system, "workers", title, cases, lab.rounds, lab.watch)
    requests, streams = (0, 2), (1, 3)
    section.add("gateway's CPU per request", "us", spent("target", "requests"), requests)
    section.add("PostgreSQL's CPU per request", "us", spent("postgres", "requests"), requests)
    section.add("requests per second", "1/s", rate("requests"), requests)
    section.add("gateway's CPU per chunk", "us", spent("target", "chunks"), streams)
    section.add("chunks per second", "1/s", rate("chunks"), streams)
    return section


def streams(lab: Lab) -> Section:
    """Measure up to 2,000 paced streams on one worker."""
    window = lab.seconds(6.0, 2.0)
    target = lab.start("streams")
    # Load what is loaded at first use: that memory does not grow with the number of streams.
    measure(lab.system, target, plain(4, 0.5, bare_proxy=False))
    measure(lab.system, target, paced(_FIRST_STREAMS, 0.5, bare_proxy=False))
    idle_kib = cpu.pss_kib(target.service.pid)
    cases = [
        Case(f"{count:,} x {pace}/s", target, paced(count, window, pace=pace, bare_proxy=False))
        for count, pace in _STREAMS
    ]
    rounds = min(lab.rounds, _MOST_STREAM_ROUNDS)
    title = "paced streams on one worker"
    section = run_cases(lab.system, "streams", title, cases, rounds, lab.watch)
    section.add("gateway's CPU per chunk", "us", Run.window_micros)
    section.add("PostgreSQL's CPU per chunk, with start and end", "us", spent("postgres", "chunks"))
    section.add("chunks late, p50", "ms", share("lateness_ms", "p50"))
    section.add("chunks late, p99", "ms", share("lateness_ms", "p99"))
    memory = [
        [(run.open_kib - idle_kib) / count for run in runs]
        for (count, _), runs in zip(_STREAMS, section.runs, strict=True)
    ]
    section.rows.append(Row("memory per open stream", "KiB", memory))
    return section


def flood(lab: Lab) -> Section:
    """Measure a customer alone, a flood of unknown keys alone, and both together.

    The limits per address are too high to be reached, as for a flood from very many addresses.
    """
    seconds = lab.seconds(5.0, 3.0)
    target = lab.start("flood")
    customer = plain(8, seconds, _CUSTOMERS_REQUESTS_PER_SECOND, bare_proxy=False)
    attack = refused(plain(32, seconds, bare_proxy=False))
    lasting = replace(attack, seconds=seconds + 0.5)
    together = partial(measure_flooded, lasting)
    cases = [
        Case("customer alone", target, customer),
        Case("flood alone", target, attack),
        Case("both", target, customer, together),
    ]
    title = (
        f"a customer's {_CUSTOMERS_REQUESTS_PER_SECOND:.0f} requests/s, and a flood of unknown keys"
    )
    section = run_cases(lab.system, "flood", title, cases, lab.rounds, lab.watch)
    customers, floods = (0, 2), (1, 2)
    section.add("customer's answer, p50", "ms", share("latency_ms", "p50"), customers)
    section.add("customer's answer, p99", "ms", share("latency_ms", "p99"), customers)
    section.rows.append(_refusals_per_second(section))
    section.add("gateway's CPU per refusal", "us", spent("target", "requests"), floods[:1])
    section.add("PostgreSQL's CPU per refusal", "us", spent("postgres", "requests"), floods[:1])
    section.rows.append(_customers_cost(section))
    section.add("gateway's cores", "cores", lambda run: run.spent.target / run.seen["seconds"])
    return section


def _refusals_per_second(section: Section) -> Row:
    _, alone, both = section.runs
    together = [run.seen["refused"] / run.seen["flood_seconds"] for run in both]
    return Row(
        "refusals per second", "1/s", [[], [rate("requests")(run) for run in alone], together]
    )


def _customers_cost(section: Section) -> Row:
    """Return the CPU per request of the customer: in both, of all without that of the refusals."""
    cost = spent("target", "requests")
    alone, refusals, both = section.runs
    refusal = median(map(cost, refusals))
    rest = [run.micros("target", "requests") - refusal * _refusals_per_request(run) for run in both]
    return Row("gateway's CPU per customer's request", "us", [list(map(cost, alone)), [], rest])


def _refusals_per_request(run: Run) -> float:
    return float(run.seen["refused"]) / max(1, int(run.seen["requests"]))


SCENARIOS: dict[str, Callable[[Lab], Section]] = {
    "workers": workers,
    "streams": streams,
    "flood": flood,
    "growth": growth,
}
