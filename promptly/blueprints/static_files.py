"""Static files, under URLs that name a version and that browsers therefore keep for a year.

The version is a hash of all files, and a folder of the URL: `/static/<version>/promptly.css`. Files
that a stylesheet imports by a relative URL have it too. With another version, or none, the URL
serves the current file, which browsers have to revalidate: during a deploy, pages of one release
may ask a process of the other.
"""

import hashlib
from pathlib import Path
from typing import Any

from flask import Flask, Response, send_from_directory

VERSION_LENGTH = 16
IMMUTABLE = "public, max-age=31536000, immutable"


def register(app: Flask) -> None:
    """Serve the folder `static/`, next to the package, as the endpoint `static`."""
    folder = Path(app.root_path).parent / "static"
    current = version_of(folder)

    def show(filename: str, version: str = "") -> Response:
        response = send_from_directory(folder, filename)
        if version == current:
            response.headers["Cache-Control"] = IMMUTABLE
        return response

    def add_version(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static":
            values.setdefault("version", current)

    # No other folder's name has this length.
    versioned = f"/static/<string(length={VERSION_LENGTH}):version>/<path:filename>"
    app.add_url_rule(versioned, "static", show)
    app.add_url_rule("/static/<path:filename>", "static", show)
    app.url_defaults(add_version)


def version_of(folder: Path) -> str:
    """Return a hash of the names and contents of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:VERSION_LENGTH]
