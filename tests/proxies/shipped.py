"""nginx with the files of deploy/nginx, their addresses and paths replaced by a test's."""

import re
from dataclasses import dataclass
from pathlib import Path

from sandbox.ports import free_port
from tests.proxies.nginx import Certificate, Nginx

FILES = Path(__file__).parents[2] / "deploy" / "nginx"
SITE, COMMON = "promptly.conf", "promptly-proxy.conf"

HOST = "promptly.example.com"
# The lines that the comment about another proxy in front asks for.
BEHIND_ANOTHER = {
    "#   set_real_ip_from 192.0.2.10;": "set_real_ip_from 127.0.0.1;",
    "#   real_ip_header X-Forwarded-For;": "real_ip_header X-Forwarded-For;",
    "#   real_ip_recursive on;": "real_ip_recursive on;",
    "X-Forwarded-Proto $scheme;": "X-Forwarded-Proto $http_x_forwarded_proto;",
}
# All time limits but that of answers, shortened.
IMPATIENT = {
    "keepalive_timeout 10s;": "keepalive_timeout 1s;",
    "client_header_timeout 30s;": "client_header_timeout 1s;",
    "client_body_timeout 75s;": "client_body_timeout 1s;",
    "send_timeout 150s;": "send_timeout 1s;",
    "keepalive_timeout 75s;": "keepalive_timeout 1s;",
}


@dataclass(frozen=True)
class Ports:
    """Ports of 127.0.0.1 in place of 80, 443, and the private 8503 and 8505."""

    http: int
    https: int
    private: int
    staging: int


class ShippedNginx(Nginx):
    """nginx in front of two upstreams, given as host:port; `changes` alter the text further.

    Every replaced text must occur in the files, so that a test fails when they change their shape.
    """

    def __init__(
        self,
        folder: Path,
        certificate: Certificate,
        *,
        gateway: str,
        staging: str,
        changes: dict[str, str] | None = None,
    ) -> None:
        self.ports = Ports(free_port(), free_port(), free_port(), free_port())
        self.webroot = folder / "webroot"
        folder.mkdir(parents=True)
        replaced = {
            # Not every machine has IPv6.
            "    listen [::]:80;\n": "",
            "    listen [::]:443 ssl http2 so_keepalive=60s:15s:4;\n": "",
            "listen 80;": f"listen 127.0.0.1:{self.ports.http};",
            "listen 443 ssl http2": f"listen 127.0.0.1:{self.ports.https} ssl http2",
            "listen 100.64.0.1:8503": f"listen 127.0.0.1:{self.ports.private}",
            "listen 100.64.0.1:8505": f"listen 127.0.0.1:{self.ports.staging}",
            "server 127.0.0.1:8503;": f"server {gateway};",
            "server 127.0.0.1:8505;": f"server {staging};",
            f"/etc/letsencrypt/live/{HOST}/fullchain.pem": str(certificate.file),
            f"/etc/letsencrypt/live/{HOST}/privkey.pem": str(certificate.key),
            "/var/www/html": str(self.webroot),
            "/etc/nginx/snippets": str(folder),
            "/var/log/nginx": str(folder),
            **(changes or {}),
        }
        texts = {name: (FILES / name).read_text() for name in (SITE, COMMON)}
        for shipped, ours in replaced.items():
            assert any(shipped in text for text in texts.values()), shipped
            texts = {name: text.replace(shipped, ours) for name, text in texts.items()}
        for text in texts.values():
            assert not re.search(r"^[^#\n]*\s/(etc|var)/", text, re.MULTILINE), "a path of its own"
        (folder / COMMON).write_text(texts[COMMON])
        super().__init__(folder, texts[SITE], self.ports.private)
