"""The base commit's code and the current tree's."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from bench.system import ROOT
from sandbox.checkout import Code, checked_out
from sandbox.environments import python_for


@contextmanager
def base_and_now(commit: str) -> Iterator[tuple[Code, Code]]:
    """Yield a commit's code and the current tree's, each in an environment made the same way."""
    with checked_out(ROOT, commit) as folder:
        configuration = ROOT / ".env"
        if configuration.exists():  # untracked, and read by the current tree's gateway
            shutil.copy2(configuration, folder)
        yield Code(folder, python_for(folder)), Code(ROOT, python_for(ROOT))
