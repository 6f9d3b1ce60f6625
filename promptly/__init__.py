"""promptly: an authenticated, metered, prepaid gateway for LLM inference."""

__version__ = "0.1.0"
