"""A simulated llama-server: answers shaped byte for byte like the real one's, faults on demand.

``python -m sandbox.llama`` runs it; ``SimulatedLlama`` runs it for a test.
"""

from sandbox.llama.process import SimulatedLlama

__all__ = ["SimulatedLlama"]
