"""Usage events and views of them: receipts, daily totals, statements, statistics."""
