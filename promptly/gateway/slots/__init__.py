"""Slots of model servers: who gets which, fairly across all processes and machines (ADR 32).

requests      a request for a slot, and the lease that it gets
local_queue   this process's requests of one queue, and what it has to report
scheduler     the thread that exchanges them with Redis; the gateway's interface
exchange      one exchange: its message, its script, its answer
script        the script's parts, in the order in which they are joined
places        positions of waiting requests, and estimates of their waits
place_refresher  looks them up for this process's requests
key_index     waiting requests by their API keys
key_listing   the waiting requests of one key
alone         admits requests while Redis is away
idle_looks    asks servers which slots are idle
states        slots by what they do and waiting requests by class, for the metrics
occupancy     slots taken and requests waiting, for the panel
"""
