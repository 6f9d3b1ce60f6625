"""The services around ``make run``: each is started unless its variable is configured."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sandbox import variables
from sandbox.btcpay import SimulatedBTCPay
from sandbox.btcpay import process as btcpay_process
from sandbox.llama import SimulatedLlama
from sandbox.mail import MailCatcher
from sandbox.postgres import EmbeddedPostgres
from sandbox.process import SandboxError
from sandbox.progress import step
from sandbox.redis_server import EmbeddedRedis
from sandbox.stripe import SimulatedStripe
from sandbox.stripe import process as stripe_process
from sandbox.supervisor import Part, Supervisor

SIMULATED_TOKENS_PER_SECOND = 60.0
SIMULATED_PROMPT_TOKENS_PER_SECOND = 20_000.0
# Comma-separated names: the simulated llama-server is then a router that has loaded these models.
MODELS_VARIABLE = "SIMULATED_MODELS"
# Delay until a bank debit settles, and until the next block confirms.
SETTLE_SECONDS = 10.0
CONFIRM_SECONDS = 10.0
# The real Stripe retries for days; these waits outlast a restart of the gateway.
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)

PAYMENT_SECRETS: Mapping[str, Callable[[], str]] = {
    "STRIPE_SECRET_KEY": stripe_process.new_secret_key,
    "STRIPE_WEBHOOK_SECRET": stripe_process.new_webhook_secret,
    "BTCPAY_API_KEY": btcpay_process.new_api_key,
    "BTCPAY_STORE_ID": btcpay_process.new_store_id,
    "BTCPAY_WEBHOOK_SECRET": btcpay_process.new_webhook_secret,
}


class Server(Protocol):
    """A service that the supervisor can watch and stop."""

    log: Path

    @property
    def is_running(self) -> bool: ...

    def stop(self) -> None: ...


@dataclass
class Services:
    """Starts the services; ``found`` collects the variables that point the product to them."""

    state: Path
    logs: Path
    supervisor: Supervisor
    configured: Mapping[str, str]
    gateway_url: str
    found: dict[str, str] = field(default_factory=dict)
    _secrets: dict[str, str] = field(default_factory=dict)

    def start(self) -> bool:
        """Start every service that is not configured; False if asked to stop while starting."""
        starters = {
            "DATABASE_URL": ("PostgreSQL", self._start_postgres),
            "REDIS_URL": ("Redis", self._start_redis),
            "LLAMA_BASE_URL": ("the simulated llama-server", self._start_llama),
            "SMTP_HOST": ("the mail catcher", self._start_mail),
            "STRIPE_SECRET_KEY": ("the simulated Stripe", self._start_stripe),
            "BTCPAY_URL": ("the simulated BTCPay Server", self._start_btcpay),
        }
        wanted = [each for name, each in starters.items() if name not in self.configured]
        if not {"STRIPE_SECRET_KEY", "BTCPAY_URL"} <= set(self.configured):
            # Before the threads start, since both providers keep their secrets in one file.
            self._secrets = self._payment_secrets()
        failures: list[str] = []
        # Concurrently, since each mostly waits for its process to come up. Those that did start
        # are always watched, and therefore stopped if another one fails.
        with ThreadPoolExecutor(max_workers=len(starters)) as pool:
            for name, future in [(name, pool.submit(starter)) for name, starter in wanted]:
                with step(f"starting {name}"):
                    try:
                        self._watch(name, future.result())
                    except (SandboxError, OSError) as error:
                        failures.append(str(error))
        if failures:
            raise SandboxError("\n".join(failures))
        return not self.supervisor.stopping.is_set()

    def _start_postgres(self) -> Server:
        postgres = EmbeddedPostgres(self.state / "postgres", log=self.logs / "postgres.log")
        postgres.start()
        self.found["DATABASE_URL"] = postgres.create_database("promptly")
        return postgres

    def _start_redis(self) -> Server:
        server = EmbeddedRedis(self.state / "redis", persistent=True, log=self.logs / "redis.log")
        server.start()
        self.found["REDIS_URL"] = server.url
        return server

    def _start_llama(self) -> Server:
        models = tuple(filter(None, os.environ.get(MODELS_VARIABLE, "").split(",")))
        llama = SimulatedLlama(
            self.state / "llama",
            models=models,
            loaded=len(models),
            speed=SIMULATED_TOKENS_PER_SECOND,
            prompt_speed=SIMULATED_PROMPT_TOKENS_PER_SECOND,
            embeddings=True,
            log=self.logs / "llama.log",
        )
        llama.start()
        self.found["LLAMA_BASE_URL"] = llama.url
        return llama

    def _start_mail(self) -> Server:
        mail = MailCatcher(self.state / "mail", log=self.logs / "mail.log").start()
        self.found |= {"SMTP_HOST": mail.host, "SMTP_PORT": str(mail.port), "SMTP_TLS": "none"}
        return mail

    def _start_stripe(self) -> Server:
        secrets = self._secrets
        stripe = SimulatedStripe(
            self.state / "stripe",
            secret_key=secrets["STRIPE_SECRET_KEY"],
            # The variable may list several secrets; any of them works.
            webhook_secret=secrets["STRIPE_WEBHOOK_SECRET"].split(",")[0].strip(),
            webhook_url=f"{self.gateway_url}/stripe/webhook",
            settle_seconds=SETTLE_SECONDS,
            retry_seconds=RETRY_SECONDS,
            persistent=True,
            log=self.logs / "stripe.log",
        ).start()
        self.found |= stripe.variables()
        return stripe

    def _start_btcpay(self) -> Server:
        secrets = self._secrets
        btcpay = SimulatedBTCPay(
            self.state / "btcpay",
            api_key=secrets["BTCPAY_API_KEY"],
            store_id=secrets["BTCPAY_STORE_ID"],
            webhook_secret=secrets["BTCPAY_WEBHOOK_SECRET"],
            webhook_url=f"{self.gateway_url}/btcpay/webhook",
            confirm_seconds=CONFIRM_SECONDS,
            retry_seconds=RETRY_SECONDS,
            persistent=True,
            log=self.logs / "btcpay.log",
        ).start()
        self.found |= btcpay.variables()
        return btcpay

    def _payment_secrets(self) -> dict[str, str]:
        """Return the stand-ins' secrets; configured values take precedence."""
        kept = variables.kept_secrets(self.state / "payments.env", PAYMENT_SECRETS)
        return kept | {name: self.configured[name] for name in kept if name in self.configured}

    def _watch(self, name: str, server: Server) -> None:
        self.supervisor.add(Part(name, lambda: server.is_running, server.stop, server.log))
