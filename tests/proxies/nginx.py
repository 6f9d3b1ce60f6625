"""nginx as a process, and a plain proxy that appends to X-Forwarded-For."""

import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from sandbox import process
from sandbox.ports import free_port
from tests.plugins import tools

# Around the tested configuration; gzip is on, as in Debian's nginx.conf.
FRAME = """\
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/start.log;
events {{ worker_connections 256; }}
http {{
client_body_temp_path {folder}/body;
proxy_temp_path {folder}/proxy;
fastcgi_temp_path {folder}/fastcgi;
uwsgi_temp_path {folder}/uwsgi;
scgi_temp_path {folder}/scgi;
access_log {folder}/unexpected.log;
gzip on;
{block}
}}
"""

APPENDING = """\
access_log off;
server {{
    listen 127.0.0.1:{port} {tls};
    location / {{
        proxy_pass http://127.0.0.1:{upstream_port};
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto {scheme};
    }}
}}
"""


class Certificate:
    """A self-signed certificate for 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self.file, self.key = folder / "certificate.pem", folder / "certificate.key"
        command: list[str | Path] = [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", self.key, "-out", self.file,
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)


class Nginx:
    """nginx in a folder of its own, with `block` inside its http block.

    `port` is one of those that the block listens on.
    """

    def __init__(self, folder: Path, block: str, port: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port
        user = "user root;" if os.geteuid() == 0 else ""
        config = folder / "nginx.conf"
        config.write_text(FRAME.format(user=user, folder=folder, block=block))
        binary = tools.nginx() or "nginx"
        command = [binary, "-p", str(folder), "-e", str(folder / "start.log"), "-c", str(config)]
        self._process = process.spawn(command, log=folder / "output.log", cwd=folder)
        process.wait_until(self._answers, 20, "nginx")

    def stop(self) -> None:
        process.stop(self._process)

    def log_texts(self) -> dict[str, str]:
        """Return the contents of its log files, by file name."""
        return {
            path.name: path.read_text(errors="replace")
            for path in sorted(self.folder.glob("*.log"))
        }

    def _answers(self) -> bool:
        assert self._process.poll() is None, process.tail(self.folder / "start.log")
        try:
            # An https port answers this plain request with an error.
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2).read()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True


class AppendingProxy(Nginx):
    """A proxy in front of an upstream port; with a certificate it serves https.

    With `behind_another`, it passes on the scheme that the proxy in front of it reports.
    """

    def __init__(
        self,
        folder: Path,
        upstream_port: int,
        *,
        certificate: Certificate | None = None,
        behind_another: bool = False,
    ) -> None:
        tls, port = "", free_port()
        if certificate is not None:
            tls = f"ssl; ssl_certificate {certificate.file}; ssl_certificate_key {certificate.key}"
        block = APPENDING.format(
            port=port,
            tls=tls,
            upstream_port=upstream_port,
            scheme="$http_x_forwarded_proto" if behind_another else "$scheme",
        )
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{port}"
        super().__init__(folder, block, port)
