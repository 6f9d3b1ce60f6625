"""Run the simulated Stripe: ``python -m sandbox.stripe``."""

import os

from sandbox.provider import serving
from sandbox.stripe.service import Service
from sandbox.stripe.webhooks import Endpoint


def main() -> None:
    """Parse the command line and serve."""
    parser = serving.parser("sandbox.stripe", __doc__)
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
    serving.serve(service, "simulated Stripe", arguments)


if __name__ == "__main__":
    main()
