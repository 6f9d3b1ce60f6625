"""A simulated Stripe: as much of its API, hosted page and events as a shop with packs needs.

``python -m sandbox.stripe`` runs it; ``SimulatedStripe`` runs it for a test. It is
driven by Stripe's own SDK and signs with the SDK's own function, but it is no proof of how the
real Stripe behaves.
"""

from sandbox.stripe.process import SimulatedStripe

__all__ = ["SimulatedStripe"]
