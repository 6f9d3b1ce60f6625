"""What stands in for the outside world in ``make run``, in tests and in the bench.

Real servers out of wheels (PostgreSQL, Redis), small real servers written here (a simulated
llama-server, Stripe and BTCPay Server, a mail catcher), and the supervisor that runs them all.
Production code never imports this package.
"""
