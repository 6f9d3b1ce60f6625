"""Slots of model servers: who gets which, fairly across all processes and machines (ADR 32).

requests      a request for a slot, and the lease that it gets
local_queue   this process's requests of one queue, and what it has to report
scheduler     the thread that exchanges them with Redis; the gateway's interface
exchange      one exchange: its message, its script, its answer
script        the script's parts, in the order in which they are joined
alone         admits requests while Redis is away
idle_looks    asks servers which slots are idle
occupancy     slots taken and requests waiting, for the panel and the metrics
"""
