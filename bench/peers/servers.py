"""Starts each server in front of the stub, with one process or worker on the measured core."""

import os
from collections.abc import Callable
from pathlib import Path

from bench.peers import install
from bench.system import TARGET_CPU, Service, System
from bench.targets import Target, start_gateway, start_nginx
from sandbox.ports import free_port

_MASTER_KEY = "sk-bench"

# Without a database: its client needs an engine that neither PyPI nor npm has. The proxy then knows
# one key, and counts no spend.
_LITELLM = f"""\
model_list:
  - model_name: bench
    litellm_params:
      model: openai/bench
      api_base: http://127.0.0.1:{{upstream}}/v1
      api_key: none
general_settings:
  master_key: {_MASTER_KEY}
"""

# It takes 15 seconds of CPU time, which a busy machine stretches.
_LITELLM_START_SECONDS = 300.0
_LITELLM_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # prices from the package instead of GitHub
    "LITELLM_LOG": "ERROR",  # no line per request
    # It ends a stream that repeats a chunk 100 times; the stub repeats one throughout.
    "REPEATED_STREAMING_CHUNK_LIMIT": "1000000",
}


def start_litellm(system: System) -> Target:
    """Start LiteLLM's proxy with one worker, a master key, and no database."""
    binary = install.litellm()
    port, config = free_port(), system.directory / "litellm.yaml"
    config.write_text(_LITELLM.format(upstream=system.stub_port))
    command: list[str | Path] = [binary, "--config", config, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1"]
    env = os.environ | _LITELLM_ENVIRONMENT
    env.pop("DATABASE_URL", None)
    service = Service(command, system.directory / "litellm.log", [TARGET_CPU], env)
    service.wait_for(f"http://127.0.0.1:{port}/health/liveliness", _LITELLM_START_SECONDS)
    return Target("litellm", port, _MASTER_KEY, service, None)


def start_portkey(system: System) -> Target:
    """Start Portkey's gateway without its console; requests name the upstream."""
    port = free_port()
    command = [*install.portkey(), f"--port={port}", "--headless"]
    service = Service(command, system.directory / "portkey.log", [TARGET_CPU])
    service.wait_for(f"http://127.0.0.1:{port}/")
    upstream = f"http://127.0.0.1:{system.stub_port}/v1"
    headers = ["x-portkey-provider: openai", f"x-portkey-custom-host: {upstream}"]
    return Target("portkey", port, "sk-none", service, None, headers=headers)


def start_promptly(system: System) -> Target:
    """Start promptly as in production."""
    return start_gateway(system, "promptly")


# The slowest comes last: after its overload, the others have been measured.
SERVERS: dict[str, Callable[[System], Target]] = {
    "nginx": start_nginx,
    "promptly": start_promptly,
    "portkey": start_portkey,
    "litellm": start_litellm,
}
