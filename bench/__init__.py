"""Load benchmark: cost of a request and of a chunk, next to nginx as a bare reverse proxy."""
