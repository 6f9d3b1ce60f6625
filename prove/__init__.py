"""``make prove``: faults under load, then a comparison of all counts and charges."""
