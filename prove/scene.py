"""Everything that runs: the servers, the providers, promptly's processes, and the accounts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import urllib3

from promptly.packs import Pack, parse_packs
from promptly.services.accounts import keys
from promptly.transactions import transaction
from sandbox.btcpay import SimulatedBTCPay
from sandbox.llama import SimulatedLlama
from sandbox.ports import free_port
from sandbox.stripe import SimulatedStripe
from tests.support.books import Account, BooksReader
from tests.support.process_stack import Background, ProcessStack, running
from tests.support.servers import Gateway, make_settings, migrate

WORKERS = 2
SLOTS = 6
PACKS = "small:3000:50,large:10000:160"
RETRIES = (0.5, 1, 2, 4, 8, 16)
# Accounts with plenty, and accounts that live on small packs; each has so many clients.
WEALTHY, NEEDY = 3, 5
CLIENTS_PER_ACCOUNT = 3
PLENTY_TOKENS = 10_000_000
LITTLE_TOKENS, TRIAL_TOKENS = 1500, 1500
VARIABLES: dict[str, Any] = {"PACKS": PACKS, "DRAIN_SECONDS": 10}


@dataclass
class Scene:
    """The parts of a run; `opening` has the tokens of each account, by its id, before the load.

    `clients` has one key for each client, `buyers` one for each account that buys packs.
    """

    stack: ProcessStack
    gateway: Gateway
    background: Background
    llamas: list[SimulatedLlama]
    stripe: SimulatedStripe
    btcpay: SimulatedBTCPay
    packs: dict[str, Pack]
    opening: dict[int, int] = field(default_factory=dict)
    clients: list[Account] = field(default_factory=list)
    buyers: list[Account] = field(default_factory=list)

    @property
    def books(self) -> BooksReader:
        return self.stack.books

    def is_ready(self) -> bool:
        """Whether /health/ready answers 200."""
        try:
            url = f"{self.gateway.url}/health/ready"
            headers = {"Connection": "close"}
            answer = urllib3.request("GET", url, headers=headers, retries=False, timeout=15.0)
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == 200


@contextmanager
def prepared(directory: Path) -> Iterator[Scene]:
    """Start everything, create the accounts, and yield; at the end all of it is stopped."""
    llama = {"slots": SLOTS, "embeddings": True}
    stack = ProcessStack(directory, migrated=False, llama=llama, **VARIABLES)
    with running(stack):
        migrate(stack.database_url)
        llamas = [stack.llama, stack.simulated_llama(slots=SLOTS, embeddings=True)]
        stripe = stack.run(SimulatedStripe(directory / "stripe", retry_seconds=RETRIES))
        btcpay = stack.run(SimulatedBTCPay(directory / "btcpay", retry_seconds=RETRIES))
        port = free_port()
        stack.variables |= {
            **stripe.variables(),
            **btcpay.variables(),
            "LLAMA_BASE_URL": ",".join(server.url for server in llamas),
            "BASE_URL": f"http://127.0.0.1:{port}",
        }
        gateway = stack.gateway(workers=WORKERS, port=port)
        stripe.set_endpoint(f"{gateway.url}/stripe/webhook")
        btcpay.set_webhook(f"{gateway.url}/btcpay/webhook")
        stack.start_background()
        [background] = stack.backgrounds
        packs = {pack.name: pack for pack in parse_packs(PACKS)}
        scene = Scene(stack, gateway, background, llamas, stripe, btcpay, packs)
        _create_accounts(scene)
        yield scene


def _create_accounts(scene: Scene) -> None:
    for number in range(WEALTHY + NEEDY):
        is_needy = number >= WEALTHY
        paid, trial = (LITTLE_TOKENS, TRIAL_TOKENS) if is_needy else (PLENTY_TOKENS, 0)
        account = scene.books.account(paid, trial)
        scene.opening[account.user_id] = paid + trial
        scene.clients += [account, *(_with_new_key(scene, account) for _ in range(2))]
        scene.buyers += [account] if is_needy else []


def _with_new_key(scene: Scene, account: Account) -> Account:
    with scene.books.app.app_context(), transaction():
        row, raw = keys.create(account.user_id, "another", make_settings().key_pepper)
        return replace(account, key_id=row.id, key=raw)
