"""Find out whether a llama-server carries prompts from one request's slot to another's.

A slot keeps its last prompt, and the next request in it may go on from there. By default
llama-server also saves prompts that slots lose, up to 8 GiB, and loads them into any slot.

The probe sends a random prompt, then one that begins like it, which takes its slot, then the first
one again. Only the default finds it then. No request names a slot: one that is busy by the time
that the request arrives could get its running answer mixed up. Prompts in the slots that the probe
uses are lost, and cost their next request time.
"""

import secrets
from typing import Any

import urllib3

TIMEOUT = urllib3.Timeout(connect=3, read=15)
# The second prompt begins with so many of the first one's words: enough to be sent to its slot
# (above a tenth), too few for that prompt to be loaded in its place (a quarter).
WORDS = 40
COMMON_WORDS = 7

ADVICE = (
    "start it with --cache-ram 0, or what one customer sends may be continued for another"
    " (docs/operating/model-servers.md)"
)

NO_SLOTS = (
    "does not show its slots: requests are only counted, and none finds its conversation cached;"
    " start it without --no-slots (docs/operating/model-servers.md)"
)

# Each slot's last task, by the slot's id.
Tasks = dict[int, Any]


class HidesSlots(Exception):
    """The server answers that it does not serve `/slots`."""


class Inconclusive(Exception):
    """The server is not idle, or did not answer; the message says which."""


def finding(http: urllib3.PoolManager, url: str) -> tuple[str, str]:
    """Return level and message for one server; takes about as long as three short requests."""
    try:
        is_carried = _carries_prompts(http, url)
    except HidesSlots:
        return "warning", NO_SLOTS
    except Inconclusive as problem:
        return "ok", f"prompt cache not checked: {problem}"
    except (urllib3.exceptions.HTTPError, ValueError, KeyError, TypeError) as problem:
        return "warning", f"prompt cache not checked: {type(problem).__name__} on a short request"
    if is_carried:
        return "warning", f"saves the prompts that its slots lose, for any request: {ADVICE}"
    return "ok", "prompts stay in their slots"


def _carries_prompts(http: urllib3.PoolManager, url: str) -> bool:
    first = [secrets.token_hex(4) for _ in range(WORDS)]
    second = first[:COMMON_WORDS] + [secrets.token_hex(4) for _ in range(WORDS - COMMON_WORDS)]
    tasks = _tasks(http, url)
    slots = []
    for words in (first, second, first):
        cached_share = _ask(http, url, " ".join(words))
        before, tasks = tasks, _tasks(http, url)
        changed = [slot for slot, task in tasks.items() if task != before.get(slot)]
        if len(changed) != 1:
            raise Inconclusive("other requests came in between; try again when it is idle")
        slots += changed
    if cached_share <= 0.5:
        return False
    if slots[1] != slots[0] == slots[2]:
        raise Inconclusive("other requests came in between; try again when it is idle")
    return True


def _tasks(http: urllib3.PoolManager, url: str) -> Tasks:
    answer = http.request("GET", f"{url}/slots", timeout=TIMEOUT)
    if answer.status in (404, 501):
        raise HidesSlots
    if answer.status != 200:
        raise Inconclusive(f"/slots returned {answer.status}")
    slots = answer.json()
    if any(slot["is_processing"] for slot in slots):
        raise Inconclusive("requests are running; try again when it is idle")
    return {slot["id"]: slot.get("id_task") for slot in slots}


def _ask(http: urllib3.PoolManager, url: str, prompt: str) -> float:
    """Return which share of the prompt the server had in a cache."""
    body = {"prompt": prompt, "max_tokens": 1, "cache_prompt": True}
    answer = http.request("POST", f"{url}/v1/completions", json=body, timeout=TIMEOUT)
    if answer.status != 200:
        raise Inconclusive(f"/v1/completions returned {answer.status}")
    timings = answer.json()["timings"]
    cached = int(timings["cache_n"])
    return cached / max(cached + int(timings["prompt_n"]), 1)
