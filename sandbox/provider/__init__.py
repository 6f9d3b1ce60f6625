"""Shared code of both payment providers' stand-ins.

An HTTP server, records of requests, faults on demand, a webhook sender whose deliveries can be
held, dropped, duplicated and reordered, persistent state, and the child process that a test or the
supervisor owns.
"""
