"""Real attacks on two gunicorn workers that also serve an honest neighbour.

`arena.py` runs an attack twice and judges what the neighbour and the workers' memory show;
`neighbour.py` is that client, in a process of its own; `sockets.py` and `browser.py` have what
attackers send. `test_edge_fuzz.py` sends generated requests instead.
"""
