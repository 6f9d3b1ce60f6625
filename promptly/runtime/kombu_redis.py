"""Kombu's Redis transport, patched to survive losing Redis while a task runs.

Kombu 5.7 acknowledges and restores messages over connections that it has already torn down; the
AttributeError ends the whole worker. Here a message whose channel is closed is left alone: it
returns after its visibility timeout, and its task is safe to run twice.
"""

from typing import Any

from kombu.transport import redis


class ResilientQoS(redis.QoS):
    """Tracks a channel's messages and tolerates that the channel is closed."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message, unless the channel is closed."""
        if not self.channel.closed:
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Reject or requeue a message, unless the channel is closed."""
        if not self.channel.closed:
            super().reject(delivery_tag, requeue=requeue)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Restore unacknowledged messages, unless the connection itself is gone."""
        if self.channel.connection is not None and self.channel.connection.client is not None:
            super().restore_unacked_once(stderr)


def install() -> None:
    """Use ResilientQoS for every Redis channel of this process."""
    redis.Channel.QoS = ResilientQoS
