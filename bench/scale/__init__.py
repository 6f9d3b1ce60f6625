"""``python -m bench --scale``: cost as workers, streams, accounts, usage and a flood grow."""
