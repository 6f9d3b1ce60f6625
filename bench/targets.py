"""The measured servers: gateways with one worker each, and nginx as a bare proxy."""

import json
import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from bench import scraping
from bench.system import CPUS, ROOT, TARGET_CPU, Service, Stores, System
from sandbox.checkout import Code
from sandbox.ports import free_port
from sandbox.process import SandboxError

# The same in every run: a database keeps the pepper that it was first used with.
_PEPPER = "bench-key-pepper-0123456789-abcdefghij"
_NO_LIMIT = "1000000000"
_TOKENS = "1000000000000"

_NGINX = """\
{user}
worker_processes 1;
worker_rlimit_nofile 65536;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_max_body_size 64m;
    client_body_buffer_size 2m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    upstream llama {{
        server 127.0.0.1:{upstream};
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://llama;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"""


@dataclass
class Target:
    """A server for chat requests: its port, the key for it, and its process."""

    name: str
    port: int
    key: str
    service: Service
    redis_pid: int | None
    """The Redis whose CPU time counts; None if it does not run on this machine."""
    has_metrics: bool = False
    """Whether it is scraped while it is measured; earlier commits have no ``/metrics``."""
    headers: list[str] = field(default_factory=list)
    """More header lines that it needs."""

    @property
    def bare_proxy(self) -> bool:
        """Whether the upstream's bytes reach the client unchanged."""
        return self.name == "nginx"


def start_nginx(system: System) -> Target:
    """Start nginx: one worker, no buffering, no access log, keep-alive on both sides."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        raise SandboxError("nginx is missing (on Debian: apt-get install nginx-light)")
    folder, port = system.directory / "nginx", free_port()
    folder.mkdir()
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(_NGINX.format(folder=folder, port=port, upstream=system.stub_port, user=user))
    log = folder / "error.log"
    command: list[str | Path] = [binary, "-p", folder, "-e", log, "-c", config]
    service = Service(command, folder / "output.log", [TARGET_CPU])
    service.wait_for(f"http://127.0.0.1:{port}/health")
    return Target("nginx", port, "sk-none", service, system.redis_pid)


def start_gateway(
    system: System,
    name: str = "gateway",
    code: Code | None = None,
    stores: Stores | None = None,
    workers: int = 1,
) -> Target:
    """Migrate, create an account with an ample balance, and start gunicorn.

    The code may be that of another commit: only its documented commands are run. Each worker has
    one more of the first cores.
    """
    code, stores = code or Code(), stores or system.stores
    port = free_port()
    env = _gateway_environment(system, stores, port, workers)
    if code.folder != ROOT:
        env.pop("PYTHONPATH", None)  # it may name modules of the current tree
    _flask(code, env, "db", "upgrade")
    email = f"bench-{secrets.token_hex(4)}@example.com"
    _flask(code, env, "users", "create", email, "--json")
    _flask(code, env, "balance", "adjust", "--email", email, "--delta", _TOKENS, "--json")
    made = _flask(code, env, "keys", "create", "--email", email, "--name", "bench", "--json")
    key: str = json.loads(made)["key"]
    command: list[str | Path] = [code.python, "-m", "gunicorn"]
    command += ["-c", "gunicorn.conf.py", "wsgi:app"]
    log = system.directory / f"{name}.log"
    service = Service(command, log, CPUS[:workers], env, code.folder)
    service.wait_for(f"http://127.0.0.1:{port}/health/ready")
    has_metrics = scraping.scrape(port) == 200
    return Target(name, port, key, service, stores.redis_pid, has_metrics)


def _gateway_environment(system: System, stores: Stores, port: int, workers: int) -> dict[str, str]:
    return os.environ | {
        "DATABASE_URL": stores.database_url,
        "REDIS_URL": stores.redis_url,
        "LLAMA_BASE_URL": f"http://127.0.0.1:{system.stub_port}",
        "GATEWAY_SECRET_KEY": secrets.token_hex(32),
        "KEY_PEPPER": _PEPPER,
        "BASE_URL": f"http://127.0.0.1:{port}",
        "GATEWAY_BIND": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "WEB_CONCURRENCY": str(workers),
        "INFERENCE_IP_RATE_LIMIT": _NO_LIMIT,
        "INFERENCE_USER_RATE_LIMIT": _NO_LIMIT,
        "MAX_CONCURRENT_REQUESTS": "100000",
    }


def _flask(code: Code, env: dict[str, str], *arguments: str) -> str:
    """Run a command of the gateway's CLI and return its output."""
    command: list[str | Path] = [code.python, "-m", "flask", "--app", "wsgi", *arguments]
    done = subprocess.run(
        command, env=env, cwd=code.folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SandboxError(f"flask {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return done.stdout
