"""Two gateway machines over PgBouncer in transaction mode, and the cables between them.

tests/faults runs its races and faults on the same two machines (tests/support/machines.py).
"""
