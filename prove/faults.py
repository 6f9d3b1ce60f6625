"""The faults: each kind once per round; a seed decides order, moments and lengths."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prove.scene import Scene
from sandbox.process import wait_until

WORKER_KILLED = "web worker killed"
CELERY_KILLED = "Celery killed"
AWAY_SECONDS = (0.2, 3.0)
CALM_SECONDS = (2.0, 5.0)
# Generous, because a slow machine starts a process slowly; /health/ready follows within seconds.
BACK_SECONDS = 90.0


@dataclass(frozen=True)
class Fault:
    """A fault that was done; Unix times of its beginning and of the end of its repair."""

    kind: str
    at: float
    back_at: float


def plan(kinds: Iterable[str], seed: int) -> Iterator[tuple[str, float, float]]:
    """Yield without end: a kind of fault, the calm before it, and how long the part is away.

    Each kind comes once in every round.
    """
    chance = random.Random(f"{seed} plan")
    known = list(kinds)
    while True:
        for kind in chance.sample(known, len(known)):
            yield kind, chance.uniform(*CALM_SECONDS), chance.uniform(*AWAY_SECONDS)


class Faults:
    """Does faults to a scene, one at a time, each repaired before the next."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self._scene = scene
        self._chance = random.Random(f"{seed} victims")
        self.done: list[Fault] = []
        self.kinds: dict[str, Callable[[float], None]] = {
            WORKER_KILLED: self._worker,
            CELERY_KILLED: self._celery,
            "PostgreSQL killed": self._postgres,
            "Redis killed": self._redis,
            "model server killed": self._model_server,
        }

    def do(self, kind: str, away_seconds: float) -> Fault:
        """Do one fault and repair it. Raises SandboxError if the part does not come back."""
        at = time.time()
        self.kinds[kind](away_seconds)
        fault = Fault(kind, at, time.time())
        self.done.append(fault)
        return fault

    def _worker(self, _: float) -> None:
        gateway = self._scene.gateway
        victim = self._chance.choice(sorted(gateway.worker_pids()))
        os.kill(victim, signal.SIGKILL)

        def is_replaced() -> bool:
            workers = gateway.worker_pids()
            return victim not in workers and len(workers) == gateway.workers

        wait_until(is_replaced, BACK_SECONDS, "a new web worker")
        self._wait_until_ready()

    def _celery(self, away_seconds: float) -> None:
        self._scene.background.kill()
        time.sleep(away_seconds)
        self._scene.background.start()

    def _postgres(self, away_seconds: float) -> None:
        self._scene.stack.postgres.kill()
        time.sleep(away_seconds)
        self._scene.stack.postgres.start()
        self._wait_until_ready()

    def _redis(self, away_seconds: float) -> None:
        self._scene.stack.redis.kill()
        time.sleep(away_seconds)
        self._scene.stack.redis.start()
        self._wait_until_ready()

    def _model_server(self, away_seconds: float) -> None:
        server = self._chance.choice(self._scene.llamas)
        server.crash()
        time.sleep(away_seconds)
        server.start()
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        wait_until(self._scene.is_ready, BACK_SECONDS, "/health/ready")
