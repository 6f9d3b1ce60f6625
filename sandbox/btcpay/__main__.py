"""Run the simulated BTCPay Server: ``python -m sandbox.btcpay``."""

import os

from sandbox.btcpay.service import Service
from sandbox.btcpay.webhooks import Webhook
from sandbox.provider import serving


def main() -> None:
    """Parse the command line and serve."""
    parser = serving.parser("sandbox.btcpay", __doc__)
    parser.add_argument("--store-id", required=True, help="the store's id")
    parser.add_argument("--confirm-seconds", type=float, help="let blocks confirm after that")
    arguments = parser.parse_args()
    service = Service(
        arguments.store_id,
        os.environ["SIMULATED_BTCPAY_KEY"],
        retry_seconds=arguments.retry_seconds,
        confirm_seconds=arguments.confirm_seconds,
        state_file=arguments.state_file,
    )
    if arguments.webhook_url:
        secret = os.environ["SIMULATED_WEBHOOK_SECRET"]
        service.store.webhook = Webhook(arguments.webhook_url, secret)
    serving.serve(service, "simulated BTCPay Server", arguments)


if __name__ == "__main__":
    main()
