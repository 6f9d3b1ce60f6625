"""A flood of keys whose hashes need a pepper of earlier days, and of keys that nobody has."""

from collections.abc import Iterator

import pytest

from promptly.secret import Secret
from promptly.services.accounts import key_format, keys
from promptly.transactions import transaction
from tests.abuse.arena import VARIABLES, Arena
from tests.abuse.sockets import at_once
from tests.blueprints.v1.client import Client
from tests.plugins.stacks import MakeStack
from tests.support.books import Account
from tests.support.servers import VARIABLES as SERVER_VARIABLES

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]

# That of all keys which `books` makes, and an older one.
OLD = (SERVER_VARIABLES["KEY_PEPPER"], "a-pepper-of-long-ago-0123456789-abcdef")
NEW = "the-pepper-of-today-0123456789-abcdefg"
ACCOUNTS = 6
WRONG_KEYS = 12
CROWD = 8

NOTE_REHASHES = """
CREATE TABLE rehashes (key_id bigint);
CREATE FUNCTION note_rehash() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO rehashes VALUES (new.id); RETURN NULL; END';
CREATE TRIGGER note_rehash AFTER UPDATE OF key_hash ON api_keys
    FOR EACH ROW EXECUTE FUNCTION note_rehash();
"""


@pytest.fixture(scope="module")
def rotated(make_stack: MakeStack) -> Iterator[Arena]:
    """An arena whose pepper was replaced twice; its database notes each key that is rehashed."""
    peppers = {
        "KEY_PEPPER": NEW,
        "KEY_PEPPER_PREVIOUS": ",".join(OLD),
        "MAILBOX_PEPPER": OLD[0],
    }
    with make_stack("rotated", **VARIABLES, **peppers) as stack:
        llama = stack.simulated_llama(slots=64)
        arena = Arena(stack, llama, stack.gateway(llama.url, workers=2))
        stack.books.rows(NOTE_REHASHES)
        yield arena


def make_old_keys(arena: Arena, accounts: list[Account]) -> list[str]:
    """Make a second key for each account, under the older pepper; return all keys."""
    found = [account.key for account in accounts]
    with arena.stack.books.app.app_context(), transaction():
        for account in accounts:
            _, key = keys.create(account.user_id, "long ago", Secret(OLD[1]))
            found.append(key)
    return found


def test_keys_under_old_peppers(rotated: Arena) -> None:
    books = rotated.stack.books
    owners: list[int] = []

    def attack() -> None:
        accounts = [books.account() for _ in range(ACCOUNTS)]
        owners.extend(account.user_id for account in accounts)
        old = make_old_keys(rotated, accounts)
        wrong = [key_format.generate() for _ in range(WRONG_KEYS)]

        def present() -> list[set[int]]:
            """Present each key, as all others do at the same time; return the statuses."""
            return [
                {Client(rotated.gateway.url, key).get("/v1/balance").status for key in each}
                for each in (old, wrong)
            ]

        assert all(answers == [{200}, {401}] for answers in at_once(CROWD, present))

    rotated.withstand(attack)
    # Each key once, although all of the crowd presented it at the same time.
    [row] = books.rows(
        "SELECT count(*) AS writes, count(DISTINCT key_id) AS keys FROM rehashes"
        " JOIN api_keys ON api_keys.id = key_id WHERE user_id = ANY(:owners)",
        owners=owners,
    )
    assert (row["writes"], row["keys"]) == (2 * len(owners),) * 2
    [row] = books.rows("SELECT count(DISTINCT pepper_version) AS versions FROM api_keys")
    assert row["versions"] == 1
