"""Agents whose conversations grow: `python -m bench.agents --help`.

Each agent is an account with one conversation and takes its turns without a pause, in front of
simulated model servers that keep a prompt per slot. Newcomers, each an account of its own, come
meanwhile. Time is scaled: the servers are `--speed` times as fast as READ and WRITE say.
"""

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.agent_load import Load, Turn, take_turn, text_of
from sandbox.checkout import ROOT, Code, checked_out, resolve
from sandbox.llama import SimulatedLlama
from tests.support.books import Account
from tests.support.process_stack import ProcessStack, running
from tests.support.servers import Gateway

# Tokens per second.
READ, WRITE = 2000, 50
OUTPUT_WEIGHT = 2
BATCH_TOKENS = 512

CACHED_SHARE = 0.9
FASTER = 5.0


@dataclass(frozen=True)
class Figures:
    """Results of a run; times are in seconds of the unscaled servers."""

    cached_share: float
    first_token: float
    first_token_p95: float
    largest_difference: float
    newcomer_wait: float
    newcomer_wait_p95: float
    service: float
    seconds: float
    unnamed: int
    named_busy: int


def evaluate(load: Load, records: list[dict[str, Any]], speed: float) -> Figures:
    """Return the figures of a run; `records` are those of all its servers."""
    found = {record["tag"]: record for record in records}
    agents = [found[turn.tag] for turn in load.turns]
    repeated = sum(
        record["prompt_tokens"] - turn.new_tokens
        for turn, record in zip(load.turns, agents, strict=True)
    )
    firsts = sorted((turn.first_token_at - turn.sent_at) * speed for turn in load.turns)
    waits = sorted((found[turn.tag]["slot_at"] - turn.sent_at) * speed for turn in load.newcomers)
    return Figures(
        cached_share=sum(record["cached_prompt_tokens"] for record in agents) / repeated,
        first_token=statistics.median(firsts),
        first_token_p95=firsts[int(len(firsts) * 0.95)],
        largest_difference=_largest_difference(agents),
        newcomer_wait=statistics.median(waits) if waits else 0.0,
        newcomer_wait_p95=waits[int(len(waits) * 0.95)] if waits else 0.0,
        service=statistics.median(record["ended_at"] - record["slot_at"] for record in agents)
        * speed,
        seconds=(max(record["ended_at"] for record in agents) - load.turns[0].sent_at) * speed,
        unnamed=sum(record["named_slot"] is None for record in records),
        named_busy=sum(record["named_busy"] for record in records),
    )


def _cost(record: dict[str, Any]) -> int:
    read = record["prompt_tokens"] - record["cached_prompt_tokens"]
    return int(read + OUTPUT_WEIGHT * record["completion_tokens"])


def _largest_difference(records: list[dict[str, Any]]) -> float:
    """Return how far agents that all had work were apart, in units of the largest request."""
    ends: dict[str, float] = {}
    for record in records:
        ends[record["owner"]] = max(ends.get(record["owner"], 0.0), record["ended_at"])
    largest = max(_cost(record) for record in records)
    found = 0.0
    for now in sorted(record["ended_at"] for record in records):
        if now >= min(ends.values()):
            break
        served = dict.fromkeys(ends, 0.0)
        for record in records:
            if record["slot_at"] < now:
                duration = max(record["ended_at"] - record["slot_at"], 1e-6)
                share = min((now - record["slot_at"]) / duration, 1.0)
                served[record["owner"]] += share * _cost(record)
        found = max(found, (max(served.values()) - min(served.values())) / largest)
    return found


def measure(folder: Path, options: argparse.Namespace, code: Code) -> Figures:
    """Start everything anew with this code's gateway, and run the load."""
    with running(ProcessStack(folder)) as stack:
        servers = [
            stack.simulated_llama(
                slots=options.slots,
                ctx=200_000,
                prompt_speed=READ * options.speed,
                prompt_batch=BATCH_TOKENS,
                speed=WRITE * options.speed,
            )
            for _ in range(options.servers)
        ]
        urls = [server.url for server in servers]
        gateway = stack.gateway(*urls, workers=2, code=code)
        agents = [stack.books.account(paid_tokens=100_000_000) for _ in range(options.agents)]
        newcomers = [stack.books.account() for _ in range(options.newcomers)]
        _wait_for_named_slots(gateway, newcomers[:1] or agents[:1], servers)
        load = Load(gateway.port, options)
        load.run(agents, newcomers)
        records = [record for server in servers for record in server.requests()]
        if "Redis" in gateway.log_text():
            sys.stderr.write("WARNING: Redis did not answer in time: the machine is too busy\n")
        return evaluate(load, records, options.speed)


def _wait_for_named_slots(
    gateway: Gateway, accounts: list[Account], servers: list[SimulatedLlama]
) -> None:
    """Send requests for as long as an idle gateway counts them, ten seconds."""
    until = time.monotonic() + 12.0
    number = 0
    while time.monotonic() < until:
        turn = Turn(f"warm{number}", "warm", 0.0)
        messages = [{"role": "user", "content": text_of(turn, 100)}]
        take_turn(gateway.port, accounts[0].key, messages, turn)
        time.sleep(0.5)
        number += 1
    for server in servers:
        server.clear()


ROWS = {
    "cached_share": ("share of repeated prompt tokens that were cached", "{:.2f}"),
    "first_token": ("time to the first token, median", "{:.1f} s"),
    "first_token_p95": ("time to the first token, p95", "{:.1f} s"),
    "service": ("time in a slot, median", "{:.1f} s"),
    "newcomer_wait": ("newcomer's wait for a slot, median", "{:.1f} s"),
    "newcomer_wait_p95": ("newcomer's wait for a slot, p95", "{:.1f} s"),
    "largest_difference": ("tokens served between agents, in largest requests", "{:.2f}"),
    "seconds": ("until the last agent's end", "{:.0f} s"),
    "unnamed": ("requests that named no slot", "{}"),
    "named_busy": ("requests that named a busy slot", "{}"),
}


def misses(now: Figures, base: Figures | None) -> list[str]:
    """Return the targets that were missed."""
    checks = {
        f"cached share >= {CACHED_SHARE}": now.cached_share >= CACHED_SHARE,
        "no request names a busy slot": not now.named_busy,
        "tokens served differ by two requests at most": now.largest_difference <= 2.0,
        "newcomers wait a service time at most (median)": now.newcomer_wait <= now.service,
        "newcomers wait two service times at most (p95)": now.newcomer_wait_p95 <= 2 * now.service,
    }
    if base is not None:
        faster = base.first_token / now.first_token
        checks[f"first token {FASTER} times as fast (it is {faster:.1f})"] = faster >= FASTER
    return [name for name, holds in checks.items() if not holds]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.agents", description="Agents find their caches.")
    parser.add_argument("--base", metavar="COMMIT", help="measure this commit's gateway too")
    parser.add_argument("--speed", type=float, default=10.0, help="of the servers (default 10)")
    for name, value in (("agents", 12), ("turns", 20), ("new-tokens", 3000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    for name, value in (("servers", 2), ("slots", 4), ("newcomers", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--newcomer-seconds", type=float, default=5.0, help="between newcomers")
    return parser.parse_args(arguments)


def main() -> int:
    """Print the table; return 1 if a target is missed."""
    options = parse()
    with ExitStack() as ends:
        codes = {"now": Code()}
        if options.base:
            folder = ends.enter_context(checked_out(ROOT, resolve(ROOT, options.base)))
            codes["base"] = Code(folder)
        directory = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="agents-")))
        figures = {name: measure(directory / name, options, code) for name, code in codes.items()}
    sys.stdout.write(f"{'':<52}{''.join(f'{name:>10}' for name in figures)}\n")
    for name, (title, form) in ROWS.items():
        values = "".join(f"{form.format(getattr(found, name)):>10}" for found in figures.values())
        sys.stdout.write(f"{title:<52}{values}\n")
    missed = misses(figures["now"], figures.get("base"))
    for target in missed:
        sys.stdout.write(f"MISSED: {target}\n")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
