"""Settings: one frozen, typed object, read from the environment in this module only.

Each field is a variable of the same name in capitals. Sources, in order of precedence: the
environment, `.env`, and `.promptly/runtime.env`, which `make run` writes so that the command
line finds its embedded services.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from dotenv import dotenv_values
from flask import current_app

from promptly.admin_keys import MAIN, AdminKey, parse_admin_keys
from promptly.packs import (
    CustomAmounts,
    Pack,
    parse_currency,
    parse_custom_amounts,
    parse_packs,
    sale_problems,
)
from promptly.prices import ModelPrice, parse_prices
from promptly.secret import Secret
from promptly.setting_fields import SettingsError, read_fields, setting
from promptly.setting_parsers import (
    Network,
    boolean,
    choice,
    database_url,
    integer,
    line,
    lines,
    long_secret,
    long_secret_list,
    model_aliases,
    model_name,
    network_list,
    optional_long_secret,
    optional_mail_address,
    optional_panel_url,
    optional_url,
    optional_url_list,
    origin_list,
    redis_url,
    secret,
    secret_list,
    text,
    text_list,
    url,
    url_list,
)

ADMIN_CIDRS = "100.64.0.0/10,127.0.0.1/32,::1/128,172.16.0.0/12"
PACKS = "starter:5000000:50,standard:25000000:200,pro:100000000:600"

# After DRAIN_SECONDS, a gateway that stops has this long to end its requests and settle them.
END_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All configuration. Times are seconds unless the name says otherwise."""

    # Services
    database_url: str = setting(database_url)
    redis_url: str = setting(redis_url)
    redis_password: Secret = setting(secret, "")
    llama_base_url: tuple[str, ...] = setting(url_list)
    llama_embeddings_base_url: tuple[str, ...] = setting(optional_url_list, "")
    llama_api_key: Secret = setting(secret, "")

    # Models: of requests that name none that is known, other names, loading by a router
    default_model: str = setting(model_name, "")
    model_aliases: Mapping[str, str] = setting(model_aliases, "")
    router_autoload: bool = setting(boolean, "off")

    # Secrets
    gateway_secret_key: Secret = setting(long_secret)
    gateway_secret_key_previous: tuple[Secret, ...] = setting(long_secret_list, "")
    key_pepper: Secret = setting(long_secret)
    key_pepper_previous: tuple[Secret, ...] = setting(long_secret_list, "")
    mailbox_pepper: Secret = setting(optional_long_secret, "")
    admin_key: Secret = setting(secret, "")
    admin_keys: tuple[AdminKey, ...] = setting(parse_admin_keys, "")

    # Web server
    base_url: str = setting(url, "http://127.0.0.1:8503")
    gateway_bind: str = setting(text, "127.0.0.1")
    gateway_port: int = setting(integer(1, 65535), "8503")
    listener_socket: str = setting(text, "")
    gateway_private_socket: str = setting(text, "")
    web_concurrency: int = setting(integer(1, 256), "2")
    trusted_proxy_hops: int = setting(integer(0, 10), "0")
    max_connections_per_address: int = setting(integer(0, 60_000), "512")
    trusted_hosts: tuple[str, ...] = setting(text_list, "")
    # Empty: no pages of other origins.
    cors_origins: tuple[str, ...] = setting(origin_list, "*", empty_means_default=False)
    admin_allowed_cidrs: tuple[Network, ...] = setting(network_list, ADMIN_CIDRS)
    log_level: str = setting(choice("debug", "info", "warning", "error"), "info")
    metrics_key: Secret = setting(optional_long_secret, "")
    # Of the Celery worker's metrics; port 0: off.
    worker_metrics_bind: str = setting(text, "127.0.0.1")
    worker_metrics_port: int = setting(integer(0, 65535), "0")

    # API: whether /v1/responses takes text alone, or function tools as well
    responses_profile: str = setting(choice("text", "tools"), "text")

    # Mail
    smtp_host: str = setting(text, "")
    smtp_port: int = setting(integer(1, 65535), "587")
    smtp_user: str = setting(text, "")
    smtp_password: Secret = setting(secret, "")
    smtp_from: str = setting(text, "promptly <promptly@localhost>")
    smtp_tls: str = setting(choice("starttls", "tls", "none"), "starttls")
    support_email: str = setting(optional_mail_address, "")

    # Alerts to the operator
    operator_email: str = setting(optional_mail_address, "")
    admin_url: str = setting(optional_panel_url, "")
    # 0: no alert.
    database_size_warn_bytes: int = setting(integer(0), str(20 * 2**30))

    # Accounts and trial
    trial_tokens: int = setting(integer(0), "100000")
    trial_expiry_days: int = setting(integer(1, 3650), "7")
    # 0: no limit.
    trials_per_day: int = setting(integer(0), "0")
    trials_per_domain_per_day: int = setting(integer(0), "0")
    low_balance_tokens: int = setting(integer(0), "50000")
    key_reissue_confirm: bool = setting(boolean, "false")
    registration_challenge: str = setting(choice("none", "altcha"), "none")

    # Limits
    registration_rate_limit: int = setting(integer(1), "10")
    inference_ip_rate_limit: int = setting(integer(1), "120")
    inference_user_rate_limit: int = setting(integer(1), "60")
    max_concurrent_requests: int = setting(integer(1), "8")
    trial_concurrent_requests: int = setting(integer(1), "4")
    max_body_bytes: int = setting(integer(1024), str(16 * 1024 * 1024))
    max_json_values: int = setting(integer(1000), "200000")
    max_queued_requests: int = setting(integer(0, 10_000), "256")
    trial_weight: int = setting(integer(1, 1000), "4")
    slot_isolation: str = setting(choice("account", "shared"), "account")

    # Metering
    hold_quantum_tokens: int = setting(integer(16), "1024")
    # Below SILENT_SECONDS of services/metering/holds.py, after which a process counts as dead for
    # its accounts' limits.
    checkpoint_seconds: int = setting(integer(1, 5), "3")
    usage_retention_days: int = setting(integer(0), "0")
    # By model; an empty value has every model at the default.
    prices: tuple[ModelPrice, ...] = setting(parse_prices, "*:100:100:100")

    # Time limits of one request
    body_timeout_seconds: int = setting(integer(1), "60")
    form_timeout_seconds: int = setting(integer(1), "15")
    queue_timeout_seconds: int = setting(integer(1), "600")
    upstream_connect_timeout_seconds: int = setting(integer(1), "5")
    upstream_first_byte_timeout_seconds: int = setting(integer(1), "900")
    upstream_idle_timeout_seconds: int = setting(integer(1), "120")
    embeddings_timeout_seconds: int = setting(integer(1), "120")
    request_timeout_seconds: int = setting(integer(1), "3600")
    send_timeout_seconds: int = setting(integer(1), "120")
    keepalive_comment_seconds: int = setting(integer(1, 60), "10")
    database_timeout_seconds: int = setting(integer(1, 300), "5")
    drain_seconds: int = setting(integer(0), "600")
    # The older name, which includes END_SECONDS; used if DRAIN_SECONDS is not set. 0: not set.
    graceful_timeout_seconds: int = setting(integer(0), "0")

    # Packs on sale and the two payment providers; a partly configured provider is off
    packs: tuple[Pack, ...] = setting(parse_packs, PACKS)
    packs_currency: str = setting(parse_currency, "USD")
    # The amounts that customers may choose, if they may.
    pack_custom: CustomAmounts | None = setting(parse_custom_amounts, "")
    # On receipts.
    seller_name: str = setting(line, "")
    seller_address: tuple[str, ...] = setting(lines, "")
    seller_tax_id: str = setting(line, "")
    # Of card payments: whether Stripe computes the tax that the price includes, whether it makes
    # invoices, and the terms that customers have to accept.
    checkout_tax: str = setting(choice("off", "inclusive"), "off")
    checkout_invoices: bool = setting(boolean, "off")
    terms_url: str = setting(optional_url, "")
    stripe_secret_key: Secret = setting(secret, "")
    stripe_webhook_secret: tuple[Secret, ...] = setting(secret_list, "")
    stripe_api_base: str = setting(optional_url, "")
    btcpay_url: str = setting(optional_url, "")
    btcpay_api_key: Secret = setting(secret, "")
    btcpay_store_id: str = setting(text, "")
    btcpay_webhook_secret: Secret = setting(secret, "")
    webhook_retention_days: int = setting(integer(31, 3650), "90")

    @property
    def redis_connection_url(self) -> str:
        """REDIS_URL for clients: with REDIS_PASSWORD, unless it has a password of its own."""
        parts = urlsplit(self.redis_url)
        if parts.password or not self.redis_password:
            return self.redis_url
        password = quote(self.redis_password.reveal(), safe="")
        address = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=f"{parts.username or ''}:{password}@{address}").geturl()

    @property
    def key_peppers(self) -> tuple[Secret, ...]:
        """The peppers under which API keys are accepted; the first one hashes new keys."""
        return tuple(dict.fromkeys((self.key_pepper, *self.key_pepper_previous)))

    @property
    def signing_keys(self) -> list[str]:
        """The keys of signatures, as itsdangerous takes them: it signs with the last one."""
        keys = (*self.gateway_secret_key_previous, self.gateway_secret_key)
        return [key.reveal() for key in keys]

    @property
    def keys_of_operators(self) -> dict[str, Secret]:
        """The admin keys by their operator's name."""
        main = {MAIN: self.admin_key} if self.admin_key else {}
        return main | {item.name: item.key for item in self.admin_keys}

    @property
    def panel_url(self) -> str:
        """The panel's URL as operators open it, for links in their mails."""
        return self.admin_url or f"{self.base_url}/admin"

    @property
    def mails_operator(self) -> bool:
        """Whether the operator gets alerts; without a mail server they would only pile up."""
        return bool(self.operator_email and self.smtp_host)

    @property
    def limits_trials(self) -> bool:
        """Whether a new account may start without a trial because the day's are used up."""
        return bool(self.trials_per_day or self.trials_per_domain_per_day)

    @property
    def stripe_is_live(self) -> bool:
        """Whether the Stripe key, secret or restricted, is a live key and charges real money."""
        return self.stripe_secret_key.reveal().startswith(("sk_live_", "rk_live_", "sk_org_live_"))

    @property
    def takes_stripe(self) -> bool:
        """Whether cards are offered, which also requires the webhook secret."""
        return bool(self.stripe_secret_key and self.stripe_webhook_secret)

    @property
    def takes_btcpay(self) -> bool:
        """Whether Bitcoin is offered, which also requires the webhook secret."""
        needed = (self.btcpay_url, self.btcpay_api_key, self.btcpay_store_id)
        return all(needed) and bool(self.btcpay_webhook_secret)

    @property
    def seller(self) -> dict[str, Any] | None:
        """The seller as an order and its receipt name them, or None."""
        if not self.seller_name:
            return None
        return {
            "name": self.seller_name,
            "address": list(self.seller_address),
            "tax_id": self.seller_tax_id,
        }

    @classmethod
    def from_mapping(cls, variables: Mapping[str, str]) -> "Settings":
        """Build from variables by name; raises SettingsError listing every problem at once."""
        values, problems = read_fields(fields(cls), variables)
        if values.get("graceful_timeout_seconds"):
            drain_seconds = max(values["graceful_timeout_seconds"] - END_SECONDS, 1)
            values.setdefault("drain_seconds", drain_seconds)
        if values.get("admin_key") in [item.key for item in values.get("admin_keys", ())]:
            problems.append("ADMIN_KEYS repeats the key of ADMIN_KEY")
        problems += cls._problems_of_sales(values)
        if problems:
            raise SettingsError(problems)
        return cls(**values)

    @staticmethod
    def _problems_of_sales(values: dict[str, Any]) -> list[str]:
        # An invalid value is absent here and already reported; use the default in its place.
        problems = sale_problems(
            values.get("packs", parse_packs(PACKS)),
            values.get("pack_custom"),
            values.get("packs_currency", "USD"),
            by_card=bool(values.get("stripe_secret_key")),
        )
        nameless = ("seller_address", "seller_tax_id") if not values.get("seller_name") else ()
        return problems + [
            f"{name.upper()} is set, so SELLER_NAME must be, too"
            for name in nameless
            if values.get(name)
        ]


def from_environment(directory: Path | None = None) -> Settings:
    """Load the settings of this process from the three sources above."""
    directory = directory or Path.cwd()
    variables: dict[str, str] = {}
    for source in (directory / ".promptly" / "runtime.env", directory / ".env"):
        if source.is_file():
            found = dotenv_values(source, interpolate=False)
            variables.update({name: value for name, value in found.items() if value is not None})
    variables.update(os.environ)
    return Settings.from_mapping(variables)


def current_settings() -> Settings:
    """Return the settings of the current application; needs an application context."""
    settings: Settings = current_app.extensions["settings"]
    return settings
