"""Sends webhooks as the providers do: signed, retried when refused, subject to the rules.

Each message has its own delivery thread; with ``serial`` one thread delivers all in turn, as in
BTCPay Server, where a failing delivery holds up those behind it.
"""

import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import urllib3

from sandbox.provider.messages import Message, Rules

KEPT_MESSAGES = 20_000
KEPT_ANSWER_CHARACTERS = 2000
CONNECTIONS = 64
TIMEOUT_SECONDS = 10.0


class Sender:
    """All webhooks of one stand-in.

    ``waits`` are the seconds before the second, third ... attempt; once they are used up, a
    message has failed. ``is_final`` says for a status whether to give up retrying (status 0
    means no answer).
    """

    def __init__(
        self,
        waits: Sequence[float],
        *,
        is_final: Callable[[int], bool],
        on_delivered: Callable[[Message], None],
        stopping: threading.Event,
        serial: bool = False,
    ) -> None:
        self.rules = Rules()
        self.waits = list(waits)
        self._is_final = is_final
        self._on_delivered = on_delivered
        self._stopping = stopping
        self._lock = threading.Lock()
        self._messages: dict[str, Message] = {}
        self._attempts: deque[dict[str, Any]] = deque(maxlen=KEPT_MESSAGES)
        self._active = 0
        self._http = urllib3.PoolManager(
            retries=False, timeout=TIMEOUT_SECONDS, maxsize=CONNECTIONS, block=False
        )
        self._queue: queue.SimpleQueue[tuple[Message, float]] | None = None
        if serial:
            self._queue = queue.SimpleQueue()
            threading.Thread(target=self._work, args=(self._queue,), daemon=True).start()

    @property
    def active(self) -> int:
        """Number of deliveries in progress, including waits between attempts."""
        with self._lock:
            return self._active

    def post(self, message: Message) -> None:
        """Accept a message and return at once; the rules decide what happens to it."""
        with self._lock:
            if len(self._messages) >= KEPT_MESSAGES:
                self._messages.pop(next(iter(self._messages)))
            self._messages[message.id] = message
            rule = self.rules.take(message)
            if rule is not None and rule.action in ("hold", "drop"):
                message.state = {"hold": "held", "drop": "dropped"}[rule.action]
                return
        late = rule.seconds if rule is not None and rule.action == "delay" else 0.0
        copies = rule.copies if rule is not None and rule.action == "duplicate" else 1
        for _ in range(copies):
            self._send_off(message, late)

    def messages(self) -> list[dict[str, Any]]:
        """Return all messages, oldest first."""
        with self._lock:
            return [message.as_json() for message in self._messages.values()]

    def attempts(self) -> list[dict[str, Any]]:
        """Return all attempts with their answers, in the order they ended."""
        with self._lock:
            return [dict(attempt) for attempt in self._attempts]

    def message(self, message_id: str) -> Message:
        """Return one message. Raises KeyError if the id is unknown."""
        with self._lock:
            return self._messages[message_id]

    def deliver(self, message_id: str, copies: int = 1) -> list[dict[str, Any]]:
        """Send ``copies`` of a message concurrently, whatever its state and without retries."""
        message = self.message(message_id)
        found: list[dict[str, Any]] = []
        barrier = threading.Barrier(copies)

        def send() -> None:
            barrier.wait()
            found.append(self._attempt(message))

        threads = [threading.Thread(target=send, daemon=True) for _ in range(copies)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    def release(self, order: str | list[str] = "sent", seed: int = 0) -> list[dict[str, Any]]:
        """Send held messages one after the other: as "sent", "reversed", "shuffled", or by ids.

        Messages not listed stay held. Refused ones are retried in the background.
        """
        with self._lock:
            held = [item for item in self._messages.values() if item.state == "held"]
            if isinstance(order, list):
                by_id = {item.id: item for item in held}
                held = [by_id[name] for name in order]
            elif order == "reversed":
                held.reverse()
            elif order == "shuffled":
                random.Random(seed).shuffle(held)
            elif order != "sent":
                raise ValueError("order must be sent, reversed, shuffled or a list of ids")
            for item in held:
                item.state = "waiting"
        found = []
        for item in held:
            found.append(self._attempt(item))
            if item.state == "waiting":
                self._send_off(item, self.waits[0] if self.waits else 0.0)
        return found

    def clear(self) -> None:
        """Forget all messages, attempts and rules; deliveries in progress continue."""
        with self._lock:
            self.rules.clear()
            self._messages.clear()
            self._attempts.clear()

    def _send_off(self, message: Message, late: float) -> None:
        with self._lock:
            self._active += 1
        if self._queue is not None:
            self._queue.put((message, late))
        else:
            threading.Thread(target=self._chase, args=(message, late), daemon=True).start()

    def _work(self, jobs: "queue.SimpleQueue[tuple[Message, float]]") -> None:
        while True:
            self._chase(*jobs.get())

    def _chase(self, message: Message, late: float) -> None:
        """Attempt until delivered, finally refused, or out of attempts."""
        try:
            if self._stopping.wait(late):
                return
            while True:
                self._attempt(message)
                if message.state != "waiting":
                    return
                # Concurrent copies of the message may have used up more attempts.
                if self._stopping.wait(self.waits[min(message.attempts, len(self.waits)) - 1]):
                    return
        finally:
            with self._lock:
                self._active -= 1

    def _attempt(self, message: Message) -> dict[str, Any]:
        with self._lock:
            message.attempts += 1
            number = message.attempts
        began = time.time()
        signed = message.build(number)
        attempt = self.send(message.url, signed.headers, signed.body)
        attempt |= {"message": message.id, "type": message.type, "subject": message.subject}
        attempt["body"] = signed.body.decode()
        attempt |= {"number": number, "at": began, "seconds": round(time.time() - began, 4)}
        status = attempt["status"]
        with self._lock:
            self._attempts.append(attempt)
            before = message.state
            if 200 <= status < 300:
                message.state = "delivered"
            elif before == "waiting" and (self._is_final(status) or number > len(self.waits)):
                message.state = "failed"
        if before != message.state == "delivered":
            self._on_delivered(message)
        return attempt

    def send(self, url: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        """Send one request and return its ``status`` (0 without an answer) and ``answer``."""
        try:
            answer = self._http.request("POST", url, body=body, headers=headers, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            return {"status": 0, "answer": type(error).__name__}
        text = answer.data.decode(errors="replace")[:KEPT_ANSWER_CHARACTERS]
        return {"status": answer.status, "answer": text}
