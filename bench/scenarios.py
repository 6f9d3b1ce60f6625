"""The scenarios, one function each.

CPU per request or chunk is all CPU time that the process tree used during a run, including before
the first and after the last answer, divided by the number of correct answers or their chunks.
"""

from collections.abc import Callable

from bench import bodies, cpu, plans
from bench.client import Plan
from bench.measure import Run, measure
from bench.report import Figure
from bench.rounds import Bench
from bench.targets import Target
from bench.values import rate, share, spent

# Few, because the memory that they leave to the next streams is not counted for those.
_FIRST_STREAMS = 20


def plain_requests(bench: Bench) -> list[Figure]:
    """Measure answers of 16 tokens, not streamed, 32 connections."""
    seconds = bench.seconds(4.0, 2.0)
    pair = bench.interleave(
        "plain", lambda target: plans.plain(32, seconds, bare_proxy=target.bare_proxy)
    )
    request = pair.figure(
        "plain_cpu", "CPU per request of 16 tokens", "us", spent("target", "requests"), 50
    )
    postgres = pair.alone(
        "plain_postgres",
        "  PostgreSQL's CPU per request",
        "us",
        spent("postgres", "requests"),
        reference=request,
    )
    redis = pair.alone(
        "plain_redis", "  Redis's CPU per request", "us", spent("redis", "requests"), request
    )
    postgres.limit = 30
    answered = pair.figure("plain_rate", "  requests per second", "1/s", rate("requests"))
    return [request, postgres, redis, answered]


def burst_streams(bench: Bench) -> list[Figure]:
    """Measure streams of 256 chunks back to back, 8 connections."""
    seconds = bench.seconds(4.0, 2.0)
    pair = bench.interleave(
        "burst", lambda target: plans.burst(seconds, bare_proxy=target.bare_proxy)
    )
    cost = spent("target", "chunks")
    return [
        pair.figure("burst_cpu", "CPU per chunk, back to back", "us", cost, 3.5),
        pair.figure("burst_rate", "  chunks per second", "1/s", rate("chunks")),
    ]


def paced_streams(bench: Bench) -> list[Figure]:
    """Measure 500 streams of 20 chunks per second."""
    streams = 500
    window = bench.seconds(6.0, 2.0)
    idle = {}
    for target in bench.targets:
        # Load what is loaded at first use, and unshare what is shared with the master until then:
        # that memory does not grow with the number of streams.
        bare = target.bare_proxy
        measure(bench.system, target, plans.plain(4, 0.5, bare_proxy=bare))
        measure(bench.system, target, plans.paced(_FIRST_STREAMS, 0.5, bare_proxy=bare))
        idle[target.name] = cpu.pss_kib(target.service.pid)
    pair = bench.interleave(
        "paced", lambda target: plans.paced(streams, window, bare_proxy=target.bare_proxy)
    )

    def memory(run: Run) -> float:
        return (run.open_kib - idle[run.target]) / streams

    cost, postgres = spent("target", "chunks"), spent("postgres", "chunks")
    late = share("lateness_ms", "p99")
    return [
        pair.figure("paced_cpu", "CPU per chunk, 500 streams of 20/s", "us", cost, 3.5),
        pair.figure(
            "paced_window_cpu", "  the same without start and end", "us", Run.window_micros
        ),
        pair.alone("paced_postgres", "  PostgreSQL's CPU per chunk", "us", postgres),
        pair.absolute("paced_late", "  lateness of chunks, p99", "ms", late, 50, judged=False),
        pair.absolute("paced_memory", "  memory per open stream", "KiB", memory, 64),
    ]


def refusals(bench: Bench) -> list[Figure]:
    """Measure 401s for well-formed but unknown keys; nginx relays a request instead."""
    seconds = bench.seconds(3.0, 1.5)

    def plan(target: Target) -> Plan:
        asked = plans.plain(32, seconds, bare_proxy=target.bare_proxy)
        if not target.bare_proxy:
            asked.status, asked.unknown_keys = 401, 4096
        return asked

    pair = bench.interleave("refusal", plan)
    postgres = spent("postgres", "requests")
    return [
        pair.figure("refusal_cpu", "CPU of a 401", "us", spent("target", "requests"), 25),
        pair.alone("refusal_postgres", "  PostgreSQL's CPU of a 401", "us", postgres),
    ]


def latency(bench: Bench) -> list[Figure]:
    """Measure the time to a whole answer of 16 tokens at 20 requests per second."""
    seconds = bench.seconds(5.0, 3.0)
    pair = bench.interleave(
        "latency", lambda target: plans.plain(8, seconds, 20.0, bare_proxy=target.bare_proxy)
    )
    figures = []
    for quantile in ("p50", "p99"):
        figure = pair.absolute(
            f"latency_{quantile}",
            f"latency at 20 requests/s, {quantile}",
            "ms",
            share("latency_ms", quantile),
            judged=quantile == "p50",
        )
        added = figure.gateway - (figure.nginx or 0.0)
        figures += [figure, Figure(f"added_{quantile}", "  added by the gateway", "ms", added)]
    figures[0].errors = pair.wrong
    return figures


def big_bodies(bench: Bench) -> list[Figure]:
    """Measure 1 MB chats, and how late 50 paced streams are while one is posted every second."""
    seconds = bench.seconds(4.0, 2.0)

    def alone(target: Target) -> Plan:
        bare = target.bare_proxy
        return Plan(0, "", bodies.megabyte().decode(), 4, seconds=seconds, bare_proxy=bare)

    cost = bench.interleave("big_cpu", alone).absolute(
        "big_cpu",
        "CPU of a prompt of 1 MB",
        "ms",
        lambda run: run.micros("target", "requests") / 1000,
        25,
    )
    window = bench.seconds(6.0, 2.0)
    side = bodies.megabyte().decode()
    pair = bench.interleave(
        "big", lambda target: plans.paced(50, window, side, bare_proxy=target.bare_proxy)
    )
    worst, late = share("lateness_ms", "max"), share("lateness_ms", "p99")
    answer = share("side_latency_ms", "p50")
    return [
        cost,
        pair.absolute(
            "big_late_max", "lateness with 1 MB bodies, largest", "ms", worst, 20, judged=False
        ),
        pair.absolute("big_late_p99", "  p99", "ms", late, judged=False),
        pair.absolute("big_answer", "  time to answer a 1 MB body, p50", "ms", answer),
    ]


# The paced streams come first, because their memory is measured relative to a hardly used process.
SCENARIOS: dict[str, Callable[[Bench], list[Figure]]] = {
    "paced": paced_streams,
    "plain": plain_requests,
    "burst": burst_streams,
    "refusal": refusals,
    "latency": latency,
    "big": big_bodies,
}
