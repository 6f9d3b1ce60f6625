"""What the stand-ins of both payment providers share.

A small threaded HTTP server, records of what was asked, faults on demand, a sender of webhooks
whose deliveries can be held, dropped, repeated and reordered, kept state, and the process that a
test or the supervisor owns.
"""
