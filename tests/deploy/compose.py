"""The compose files as Docker Compose reads them: its own parser, which needs no Docker engine."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
PRODUCTION = "docker-compose.yml"
STAGING = "docker-compose.staging.yml"
BTCPAY = "docker-compose.btcpay.yml"

# The services that run promptly's own image.
OWN = ("migrate", "listener", "gateway", "worker", "beat")

PASSWORD = "the-password"


class NotAccepted(Exception):
    """Compose refused the files; the message is its own."""


def resolve(folder: Path, *overlays: str, **variables: str) -> dict[str, Any]:
    """Return docker-compose.yml with overlays, merged and interpolated, with all profiles.

    `folder` stands for the project directory, whose `.env` is read. Raises NotAccepted.
    """
    command = [str(Path(sys.executable).with_name("docker-compose"))]
    command += ["--project-directory", str(folder)]
    for name in (PRODUCTION, *overlays):
        command += ["--file", str(PROJECT / name)]
    command += ["--profile", "*", "config", "--format", "json"]
    # Nothing of a developer's shell, such as COMPOSE_FILE, and nothing of their Docker settings.
    environment = {"HOME": str(folder), **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotAccepted(done.stderr)
    # Dollar signs are escaped, so that the output can be read as a compose file.
    found: dict[str, Any] = json.loads(done.stdout.replace("$$", "$"))
    return found


def production(folder: Path, **variables: str) -> dict[str, Any]:
    """Return the services of production."""
    found: dict[str, Any] = resolve(folder, POSTGRES_PASSWORD=PASSWORD, **variables)["services"]
    return found
