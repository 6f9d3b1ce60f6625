"""Kombu's Redis transport, made to outlive a Redis that goes while a task runs.

Kombu 5.7 acknowledges and hands back messages over connections that it has taken apart already;
the AttributeError ends the whole worker. Here a message whose channel is closed is left alone: it
returns after its visibility timeout, and its task is safe to run twice.
"""

from typing import Any

from kombu.transport import redis


class ResilientQoS(redis.QoS):
    """Keeps track of a channel's messages, and of the fact that the channel may be gone."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message, if there is still somebody to tell."""
        if not self.channel.closed:
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give a message up, or back, if there is still somebody to tell."""
        if not self.channel.closed:
            super().reject(delivery_tag, requeue=requeue)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Hand back what has not been acknowledged, unless the connection is what has gone."""
        if self.channel.connection is not None and self.channel.connection.client is not None:
            super().restore_unacked_once(stderr)


def install() -> None:
    """Let every Redis channel of this process be so patient."""
    redis.Channel.QoS = ResilientQoS
