"""A simulated Stripe: the part of its API, hosted page and events that a shop with packs needs.

``python -m sandbox.stripe`` runs it; ``SimulatedStripe`` runs it for a test. Stripe's own SDK
drives it and signs its events, but it does not prove how the real Stripe behaves.
"""

from sandbox.stripe.process import SimulatedStripe

__all__ = ["SimulatedStripe"]
