"""A simulated BTCPay Server: the Greenfield calls, checkout page and webhooks that a shop needs.

``python -m sandbox.btcpay`` runs it; ``SimulatedBTCPay`` runs it for a test. Tests validate its
answers against ``schema``, written from the public documentation; that does not prove how a real
server behaves.
"""

from sandbox.btcpay.process import SimulatedBTCPay

__all__ = ["SimulatedBTCPay"]
