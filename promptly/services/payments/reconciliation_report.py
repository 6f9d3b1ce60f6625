"""The figures of one reconciliation, as they are stored with it."""

from dataclasses import asdict, dataclass, field

from promptly.services.payments.sync import Synced

MOST_CHANGES_REPORTED = 100


@dataclass
class Report:
    """Counts of what a run checked, found and fixed."""

    orders_checked: int = 0
    orders_refused: int = 0
    orders_left: int = 0
    pages_listed: int = 0
    pages_unknown: int = 0
    pages_foreign: int = 0
    refunds_followed: int = 0
    events_listed: int = 0
    events_missed: int = 0
    events_handled: int = 0
    refunds_finished: int = 0
    orders_collected: int = 0
    changed: list[dict[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def note(self, synced: Synced | None) -> None:
        """Count a compared order and record its change of state, if any."""
        self.orders_checked += 1
        if synced is None or synced.before == synced.after:
            return
        if len(self.changed) < MOST_CHANGES_REPORTED:
            self.changed.append(asdict(synced))
