"""Attacks that are really run, against two gunicorn workers with an honest neighbour beside them.

`arena.py` runs an attack twice and judges what the neighbour and the workers' memory show;
`neighbour.py` is that client, in a process of its own; `sockets.py` has what attackers send.
`test_edge_fuzz.py` sends generated requests instead.
"""
