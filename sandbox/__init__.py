"""Stand-ins for the outside world in ``make run``, in tests and in the benchmarks.

Real servers from wheels (PostgreSQL, Redis), small servers written here (a simulated
llama-server, Stripe and BTCPay Server, a mail catcher), the supervisor that runs them all, and
checkouts of other commits with their environments.
Production code never imports this package.
"""
