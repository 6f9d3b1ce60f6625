"""The load bench: what a request and a chunk cost, next to nginx as a bare reverse proxy."""
