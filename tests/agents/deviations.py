"""Results that differ from what a case asks for, and why that is right or not ours to change."""

# By program and case: the reason. A deviation that no longer occurs is a failure too.
DEVIATIONS: dict[tuple[str, str], str] = {
    ("aider", "balance"): (
        "aider takes 402 for a passing error and repeats it for about a minute, whatever the "
        "answer says, before it stops: 9 requests in 72 s. Nothing is charged."
    ),
}


def explanation(program: str, case: str) -> str:
    """Return why a case fails with a program, or an empty string if it has to pass."""
    return DEVIATIONS.get((program, case), "")
