"""A simulated llama-server: the real one's bytes in shape, with faults on demand.

``python -m sandbox.llama`` runs it; ``SimulatedLlama`` runs it for a test.
"""

from sandbox.llama.process import SimulatedLlama

__all__ = ["SimulatedLlama"]
