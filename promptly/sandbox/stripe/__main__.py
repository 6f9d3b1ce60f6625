"""Run the simulated Stripe: ``python -m promptly.sandbox.stripe``."""

import os

from promptly.sandbox.provider import serving
from promptly.sandbox.stripe.service import Service
from promptly.sandbox.stripe.webhooks import Endpoint


def main() -> None:
    """Read the command line and serve."""
    parser = serving.parser("promptly.sandbox.stripe", __doc__)
    parser.add_argument("--settle-seconds", type=float, help="let bank debits succeed after that")
    arguments = parser.parse_args()
    service = Service(
        os.environ["SIMULATED_STRIPE_KEY"],
        retry_seconds=arguments.retry_seconds,
        settle_seconds=arguments.settle_seconds,
        state_file=arguments.state_file,
    )
    if arguments.webhook_url:
        secrets = [os.environ["SIMULATED_WEBHOOK_SECRET"]]
        service.account.endpoints = [Endpoint(arguments.webhook_url, secrets)]
    serving.serve(service, "simulated Stripe", arguments.port, arguments.port_file)


if __name__ == "__main__":
    main()
