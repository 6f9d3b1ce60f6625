"""Accounts: registration, API keys and authentication, trials, the operators' list."""
