"""Payment providers: their protocol, the registry, Stripe and BTCPay."""
