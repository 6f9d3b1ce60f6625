"""A simulated BTCPay Server: the Greenfield calls, checkout page and webhooks that a shop needs.

``python -m sandbox.btcpay`` runs it; ``SimulatedBTCPay`` runs it for a test. Its shapes
are held against ``schema``, which we wrote from the public documentation; it is no proof of how a
real server behaves.
"""

from sandbox.btcpay.process import SimulatedBTCPay

__all__ = ["SimulatedBTCPay"]
