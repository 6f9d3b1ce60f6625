"""Mail: the outbox, the messages, alerts of low balances and ending trials."""
