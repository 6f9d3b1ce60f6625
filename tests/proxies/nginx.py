"""nginx with the configuration of docs/operating/README.md, its names replaced by a test's."""

import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from sandbox import process
from sandbox.ports import free_port
from tests.docs.snippets import PROJECT, snippets_of
from tests.plugins import tools

DOCUMENT = "docs/operating/README.md"

FRAME = """\
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/errors.log crit;
events {{ worker_connections 256; }}
http {{
client_body_temp_path {folder}/body;
proxy_temp_path {folder}/proxy;
fastcgi_temp_path {folder}/fastcgi;
uwsgi_temp_path {folder}/uwsgi;
scgi_temp_path {folder}/scgi;
{block}
}}
"""


def documented() -> str:
    """Return the only nginx configuration in the document."""
    [found] = [
        snippet.text
        for snippet in snippets_of(DOCUMENT, (PROJECT / DOCUMENT).read_text())
        if snippet.language == "nginx"
    ]
    return found


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
    """A running nginx proxy.

    It serves https if given a certificate. With `behind_another`, another proxy is in front of it.
    """

    def __init__(
        self,
        folder: Path,
        upstream_port: int,
        *,
        certificate: Certificate | None = None,
        behind_another: bool = False,
    ) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.port = free_port()
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.port}"
        block = documented()
        changes = {
            "443 ssl": f"127.0.0.1:{self.port}{' ssl' if certificate else ''}",
            "api.example.com;": "127.0.0.1;",
            "http://127.0.0.1:8503": f"http://127.0.0.1:{upstream_port}",
            "/var/log/nginx/promptly.log": f"{folder}/access.log",
            "/var/log/nginx/promptly-errors.log": f"{folder}/errors.log",
            "/etc/ssl/api.example.com.pem": str(certificate and certificate.file),
            "/etc/ssl/api.example.com.key": str(certificate and certificate.key),
        }
        if behind_another:
            changes["X-Forwarded-Proto $scheme"] = "X-Forwarded-Proto $http_x_forwarded_proto"
        for documented_text, text in changes.items():
            assert documented_text in block, documented_text
            block = block.replace(documented_text, text)
        if certificate is None:
            lines = block.splitlines(keepends=True)
            block = "".join(line for line in lines if "ssl_certificate" not in line)
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
