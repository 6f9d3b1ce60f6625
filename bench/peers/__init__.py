"""Other gateways under the same load as promptly: ``python -m bench.peers --help``."""
