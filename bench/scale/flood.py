"""A customer's requests while another load generator sends unknown keys as fast as it can."""

import time
from collections import Counter
from dataclasses import replace

from bench.client import Plan
from bench.measure import LATE_WORK_SECONDS, Generator, Run, clocks, plan_for
from bench.system import System
from bench.targets import Target

_UNKNOWN_KEYS = 4096


def refused(plan: Plan) -> Plan:
    """Return a plan whose requests have well-formed but unknown keys."""
    return replace(plan, status=401, unknown_keys=_UNKNOWN_KEYS)


def measure_flooded(flood: Plan, system: System, target: Target, plan: Plan) -> Run:
    """Run a customer's plan during a flood that outlasts it.

    The run has the customer's latencies, and the CPU time of both; ``refused`` is the number of
    refusals, ``flood_seconds`` the time that they took.
    """
    with (
        Generator(plan_for(target, flood)) as attacker,
        Generator(plan_for(target, plan)) as customer,
    ):
        time.sleep(LATE_WORK_SECONDS)
        before = clocks(system, target)
        attacker.go()
        customer.go()
        seen, other = customer.wait("done"), attacker.wait("done")
        time.sleep(LATE_WORK_SECONDS)
        spent = clocks(system, target).since(before)
    seen["errors"] = dict(Counter(seen["errors"]) + Counter(other["errors"]))
    seen |= {"refused": other["requests"], "flood_seconds": other["seconds"]}
    return Run(target.name, seen, spent)
