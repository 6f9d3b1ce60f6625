"""The Dockerfile, and the files that .dockerignore admits."""

import re

from tests.deploy.compose import PROJECT
from tests.deploy.image import UID, admitted


def test_the_image_has_what_production_runs_and_nothing_else() -> None:
    files = admitted()
    top = {path.parts[0] for path in files}
    assert top == {
        "promptly", "migrations", "templates", "static", "docs",
        "wsgi.py", "gunicorn.conf.py", "celeryconfig.py", "requirements-production.txt",
    }  # fmt: skip
    assert not [path for path in files if "sandbox" in path.parts or path.name.startswith(".env")]


def test_the_image_is_built_from_locked_packages_and_runs_as_its_user() -> None:
    _, build, final = (PROJECT / "Dockerfile").read_text().split("\nFROM ")
    assert "--require-hashes" in build
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert str(UID) in final
    # The compiler, and whatever else the build needs, stays behind.
    assert "apt-get" not in final
    sources = re.findall(r"^COPY (\S+)", final, re.MULTILINE)
    assert sources == ["--from=build"] * 2
    bases = re.findall(r"^FROM (\S+)", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(set(bases)) == 1
    assert ":" in bases[0] and not bases[0].endswith(":latest")
