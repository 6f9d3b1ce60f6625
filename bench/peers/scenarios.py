"""The same client requests to every server: plain answers, bursts, as many paced streams as go."""

from collections.abc import Sequence
from dataclasses import replace

from bench import cpu
from bench.cases import Case, Row, Section, Watch, run_cases
from bench.client import Plan
from bench.measure import Run, measure
from bench.plans import burst, paced, plain
from bench.system import System
from bench.targets import Target
from bench.values import rate, share, spent

PACE = 20
# 500 is as much as the load generator checks on one core.
STEPS = (10, 25, 50, 100, 200, 500)
MOST_LATE_MS = 250.0


def same_request(plan: Plan) -> Plan:
    """Return a plan whose answers may hold more than promptly's, such as llama-server's timings."""
    return replace(plan, bare_proxy=True)


def plain_answers(
    system: System, targets: Sequence[Target], rounds: int, seconds: float, watch: Watch
) -> Section:
    """Measure answers of 16 tokens, not streamed, 32 connections."""
    memory = [[cpu.pss_kib(target.service.pid) / 1024] for target in targets]
    plan = same_request(plain(32, seconds, bare_proxy=False))
    cases = [Case(target.name, target, plan) for target in targets]
    title = "answers of 16 tokens, 32 connections"
    section = run_cases(system, "plain", title, cases, rounds, watch)
    section.rows.append(
        multiples(section.add("CPU per request", "us", spent("target", "requests")))
    )
    stores = [index for index, target in enumerate(targets) if target.name == "promptly"]
    postgres, redis = spent("postgres", "requests"), spent("redis", "requests")
    section.add("PostgreSQL's CPU per request", "us", postgres, stores)
    section.add("Redis's CPU per request", "us", redis, stores)
    section.add("requests per second", "1/s", rate("requests"))
    section.rows.append(Row("memory before the first request", "MiB", memory))
    return section


def burst_streams(
    system: System, targets: Sequence[Target], rounds: int, seconds: float, watch: Watch
) -> Section:
    """Measure streams of 256 chunks back to back, 8 connections."""
    plan = same_request(burst(seconds, bare_proxy=False))
    cases = [Case(target.name, target, plan) for target in targets]
    title = "streams of 256 chunks back to back, 8 connections"
    section = run_cases(system, "burst", title, cases, rounds, watch)
    section.rows.append(multiples(section.add("CPU per chunk", "us", spent("target", "chunks"))))
    section.add("chunks per second", "1/s", rate("chunks"))
    return section


def paced_streams(
    system: System, targets: Sequence[Target], window: float, watch: Watch
) -> Section:
    """Find the most streams of 20 chunks per second that each server carries, and their cost."""
    found = [most_streams(system, target, window, watch) for target in targets]
    title = f"streams of {PACE} chunks/s, as many as arrive (99 % within {MOST_LATE_MS:.0f} ms)"
    section = Section("paced", title, [target.name for target in targets])
    section.runs = [[run] if run else [] for _, run in found]
    counts = [[float(count)] for count, _ in found]
    section.rows.append(Row(f"streams, of {', '.join(map(str, STEPS))}", "", counts))
    cost = section.add("CPU per chunk, with start and end", "us", spent("target", "chunks"))
    full = [[1e6 / (PACE * micros) for micros in found] for found in cost.samples]
    section.rows.append(Row("  streams that fill a core at this cost", "", full))
    section.add("chunks late, p99", "ms", share("lateness_ms", "p99"))
    return section


def most_streams(
    system: System, target: Target, window: float, watch: Watch
) -> tuple[int, Run | None]:
    """Return the largest number of streams that the server carries, and its run."""
    best: tuple[int, Run | None] = (0, None)
    for count in STEPS:
        run = measure(
            system, target, same_request(paced(count, window, pace=PACE, bare_proxy=False))
        )
        watch(target, run)
        if not carries(run):
            break
        best = (count, run)
    return best


def carries(run: Run) -> bool:
    """Return whether all streams were right, and their chunks in time."""
    return not run.errors and share("lateness_ms", "p99")(run) <= MOST_LATE_MS


def multiples(row: Row) -> Row:
    """Return a row's figures as multiples of the first server's, round by round."""
    first = row.samples[0]
    ratios = [[x / one for x, one in zip(each, first, strict=True)] for each in row.samples]
    return Row("  as a multiple of the first", "x", ratios)
