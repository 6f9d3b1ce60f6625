"""The ledger: balances, every change of them but usage, adjustments, verification."""
