"""The cheapest stand-in for llama-server: one process, one epoll loop, precomputed answers.

``python -m bench.stub_upstream --port P``. A stream sends ``max_tokens`` content chunks, each by
its own ``send``. The last user message sets the pace: ``pace=20`` is 20 chunks per second,
``pace=0`` is back to back, one chunk per running stream and turn, like a server that decodes its
slots in one batch. A paced chunk carries its due time in microseconds of CLOCK_MONOTONIC, from
which the client computes its lateness.
"""

import argparse
import heapq
import re
import resource
import select
import socket
import time
from itertools import count

from bench import stub_answers as answers

_READ_BYTES = 1 << 18
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:\s*close", re.IGNORECASE)
_DIGITS = re.compile(rb"\s*[:=]\s*(\d+)")
_TRUE = re.compile(rb"\s*:\s*true")


def number(body: bytes, name: bytes, default: int) -> int:
    """Return the number after ``name`` and a colon or equals sign, without parsing the body.

    A quoted name can only match a field: inside a string the quotes would be escaped.
    """
    at = body.find(name)
    found = _DIGITS.match(body, at + len(name)) if at >= 0 else None
    return int(found.group(1)) if found else default


def flag(body: bytes, name: bytes) -> bool:
    """Return whether a boolean field of a JSON body is true."""
    at = body.find(name)
    return at >= 0 and _TRUE.match(body, at + len(name)) is not None


class Peer:
    """One connection: received bytes, the answer in progress, bytes the kernel did not accept."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.inbox = bytearray()
        self.outbox = b""
        self.closed = self.close_after = False
        self.script: answers.Script | None = None
        self.ending: tuple[bytes, ...] = ()
        self.index = self.total = 0
        self.start = self.interval = 0.0


class Stub:
    """The server; ``run`` never returns."""

    def __init__(self, port: int) -> None:
        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.listener.setblocking(False)
        self.epoll = select.epoll()
        self.epoll.register(self.listener.fileno(), select.EPOLLIN)
        self.peers: dict[int, Peer] = {}
        self.bursting: dict[Peer, None] = {}
        self.due: list[tuple[float, int, Peer]] = []
        self.serial = count()
        self.scripts = {timings: answers.Script(timings=timings) for timings in (False, True)}

    def run(self) -> None:
        """Serve until killed. ``select`` does the waiting: epoll's timeout is in milliseconds."""
        descriptor = self.epoll.fileno()
        while True:
            if self.bursting:
                events = self.epoll.poll(0)
            else:
                wait = max(0.0, self.due[0][0] - time.monotonic()) if self.due else None
                ready, _, _ = select.select([descriptor], [], [], wait)
                events = self.epoll.poll(0) if ready else []
            for handle, event in events:
                self._handle(handle, event)
            if self.due:
                self._send_due()
            for peer in tuple(self.bursting):
                self._send_next(peer)

    def _handle(self, handle: int, event: int) -> None:
        peer = self.peers.get(handle)
        if peer is None:
            self._accept()
            return
        if event & select.EPOLLOUT:
            self._flush(peer)
        if not event & ~select.EPOLLOUT or peer.closed:
            return
        try:
            data = peer.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(peer)
            return
        peer.inbox += data
        while not peer.closed and peer.script is None and self._take_request(peer):
            pass

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.peers[sock.fileno()] = Peer(sock)
            self.epoll.register(sock.fileno(), select.EPOLLIN)

    def _drop(self, peer: Peer) -> None:
        if not peer.closed:
            peer.closed = True
            self.bursting.pop(peer, None)
            del self.peers[peer.sock.fileno()]
            peer.sock.close()

    def _take_request(self, peer: Peer) -> bool:
        """Answer one complete request from the inbox; False if there is none."""
        inbox = peer.inbox
        head_end = inbox.find(b"\r\n\r\n")
        if head_end < 0:
            return False
        length = _LENGTH.search(inbox, 0, head_end)
        end = head_end + 4 + (int(length.group(1)) if length else 0)
        if len(inbox) < end:
            return False
        method, path, _ = bytes(inbox[: inbox.find(b"\r\n")]).decode("latin-1").split(" ", 2)
        peer.close_after = _CLOSE.search(inbox, 0, head_end + 2) is not None
        body = bytes(inbox[head_end + 4 : end])
        del inbox[:end]
        path = path.partition("?")[0]
        if method == "POST" and path == "/v1/chat/completions":
            self._chat(peer, body)
        elif method == "POST" and path.endswith("/input_tokens"):
            self._reply(peer, answers.INPUT_TOKENS)
        else:
            small = answers.small(path) if method == "GET" else None
            self._reply(peer, small or answers.NOT_FOUND, b"200 OK" if small else b"404 Not Found")
        return True

    def _reply(self, peer: Peer, body: bytes, status: bytes = b"200 OK") -> None:
        connection = b"close" if peer.close_after else b"keep-alive"
        self._send(peer, answers.JSON_HEAD % (status, len(body), connection) + body)
        self._end(peer)

    def _chat(self, peer: Peer, body: bytes) -> None:
        names = (b'"n_predict"', b'"max_completion_tokens"', b'"max_tokens"')
        tokens = next(filter(None, (number(body, name, 0) for name in names)), 16)
        if not flag(body, b'"stream"'):
            self._reply(peer, answers.completion(tokens))
            return
        peer.script = self.scripts[flag(body, b'"timings_per_token"')]
        peer.script.grow(tokens)
        peer.ending = answers.ending(tokens, usage=flag(body, b'"include_usage"'))
        peer.index, peer.total, peer.start = 0, tokens, time.monotonic()
        self._send(peer, answers.STREAM_HEAD % (b"close" if peer.close_after else b"keep-alive"))
        if flag(body, b'"return_progress"'):
            self._send(peer, answers.PROGRESS)
        rate = number(body, b"pace", 0)
        peer.interval = 1.0 / rate if rate else 0.0
        if rate:
            heapq.heappush(self.due, (peer.start, next(self.serial), peer))
        elif not peer.outbox:
            self.bursting[peer] = None

    def _send_due(self) -> None:
        now = time.monotonic()
        while self.due and self.due[0][0] <= now:
            due, _, peer = heapq.heappop(self.due)
            if peer.closed or peer.script is None:
                continue
            before, after = peer.script.stamped[peer.index]
            self._send(peer, b"%s%016d%s" % (before, int(due * 1e6), after))
            peer.index += 1
            if peer.index >= peer.total:
                self._finish(peer)
            else:
                due = peer.start + peer.index * peer.interval
                heapq.heappush(self.due, (due, next(self.serial), peer))

    def _send_next(self, peer: Peer) -> None:
        if peer.script is None:
            return
        self._send(peer, peer.script.plain[peer.index])
        peer.index += 1
        if peer.index >= peer.total:
            self._finish(peer)

    def _finish(self, peer: Peer) -> None:
        self.bursting.pop(peer, None)
        for piece in peer.ending:
            self._send(peer, piece)
        peer.script = None
        self._end(peer)
        while not peer.closed and peer.script is None and self._take_request(peer):
            pass

    def _end(self, peer: Peer) -> None:
        if peer.close_after and not peer.outbox:
            self._drop(peer)

    def _send(self, peer: Peer, data: bytes) -> None:
        if peer.closed:
            return
        if peer.outbox:
            peer.outbox += data
            return
        try:
            sent = peer.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(peer)
            return
        if sent < len(data):
            peer.outbox = data[sent:]
            self.bursting.pop(peer, None)
            self.epoll.modify(peer.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _flush(self, peer: Peer) -> None:
        data, peer.outbox = peer.outbox, b""
        self._send(peer, data)
        if peer.closed or peer.outbox:
            return
        self.epoll.modify(peer.sock.fileno(), select.EPOLLIN)
        if peer.script is None:
            self._end(peer)
        elif not peer.interval:
            self.bursting[peer] = None


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description="A cheap stand-in for llama-server.")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Stub(options.port).run()


if __name__ == "__main__":
    main()
