"""`python -m promptly.runtime.health_check [PATH]`: ask one gateway on GATEWAY_PRIVATE_SOCKET.

Prints the answer. Exit code 0 if the gateway answers with a status below 500, otherwise 1. During a
deploy the public port may be answered by another one.
"""

import http.client
import os
import socket
import sys

TIMEOUT_SECONDS = 5.0


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_SECONDS)
        self.sock.connect(self._path)


def main(path: str = "/health") -> int:
    """Ask for a path and return the exit code."""
    private_socket = os.environ.get("GATEWAY_PRIVATE_SOCKET")
    if not private_socket:
        sys.stderr.write("GATEWAY_PRIVATE_SOCKET is not set\n")
        return 1
    connection = UnixConnection(private_socket)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        sys.stdout.write(answer.read().decode(errors="replace").rstrip() + "\n")
    except (OSError, http.client.HTTPException) as problem:
        sys.stderr.write(f"{private_socket}: {problem}\n")
        return 1
    finally:
        connection.close()
    return int(answer.status >= 500)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
