"""The image without Docker: its files, and a container that runs commands on them.

The container is a mount namespace with a root of its own: the image's files in /app, this test
run's virtual environment and the machine's libraries, all read-only, and a fresh /tmp. Commands run
as the image's user without capabilities. Network and processes are the machine's. Needs root.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandbox import process
from tests.deploy.compose import PROJECT

# From the Dockerfile.
UID = GID = 10001
ENVIRONMENT = Path(sys.prefix).resolve()
# The environment's Python, if it is not the system's.
PYTHON = Path(sys.base_prefix).resolve()

BECOME_USER = (
    "setpriv", f"--reuid={UID}", f"--regid={GID}", "--clear-groups", "--no-new-privs",
    "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--pdeathsig=TERM",
)  # fmt: skip

# Arguments: the mount point of the root, the image's files, the volume at /run/promptly, files for
# /etc, further read-only folders up to "--", and the command.
CONTAINER = r"""
set -eu
umask 022
root=$1 app=$2 volume=$3 etc=$4
shift 4
show() {
  mkdir -p "$root$2"
  mount --bind "$1" "$root$2"
  mount -o remount,bind,ro "$root$2"
}
mount -t tmpfs -o mode=755 tmpfs "$root"
for folder in /usr /etc /bin /sbin /lib /lib64; do
  if [ -L "$folder" ]; then
    cp -P "$folder" "$root$folder"
  elif [ -d "$folder" ]; then
    show "$folder" "$folder"
  fi
done
for file in passwd group; do
  mount --bind "$etc/$file" "$root/etc/$file"
done
mkdir -p "$root/proc" "$root/dev" "$root/tmp" "$root/run/promptly"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777,nosuid,nodev,noexec tmpfs "$root/tmp"
mount --bind "$volume" "$root/run/promptly"
show "$app" /app
while [ "$1" != -- ]; do
  show "$1" "$1"
  shift
done
shift
mount -o remount,ro "$root"
exec chroot "$root" env -C /app "$@"
"""


def admitted() -> list[Path]:
    """Return the files that .dockerignore admits into the image, relative to the project."""
    first, *patterns = (
        line
        for line in (PROJECT / ".dockerignore").read_text().splitlines()
        if not line.startswith("#")
    )
    assert first == "*", "everything is left out that is not admitted by name"
    found: list[Path] = []
    for pattern in patterns:
        if pattern.startswith("**/"):
            found = [path for path in found if pattern.removeprefix("**/") not in path.parts]
            continue
        assert pattern.startswith("!"), pattern
        path = PROJECT / pattern.removeprefix("!")
        assert path.exists(), pattern
        found += [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return [path.relative_to(PROJECT) for path in found]


class Image:
    """The image's files, in a folder, and containers that run on them."""

    def __init__(self, folder: Path) -> None:
        """Copy and prepare the files as the Dockerfile does."""
        self.app = folder / "app"
        for path in admitted():
            (self.app / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / path, self.app / path)
        subprocess.run(["chmod", "-R", "a+rX,go-w", self.app], check=True)
        subprocess.run([sys.executable, "-m", "compileall", "-q", self.app], check=True)
        self.volume = folder / "run"
        self.volume.mkdir(mode=0o700)
        shutil.chown(self.volume, UID, GID)
        self.root = folder / "root"
        self.root.mkdir()
        self.etc = folder / "etc"
        self.etc.mkdir()
        (self.etc / "passwd").write_text(
            f"root:x:0:0::/root:/bin/sh\npromptly:x:{UID}:{GID}::/nonexistent:/bin/sh\n"
        )
        (self.etc / "group").write_text(f"root:x:0:\npromptly:x:{GID}:\n")

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Start a command in a container of its own, which ends with it."""
        folders = [ENVIRONMENT]
        if not PYTHON.is_relative_to("/usr"):
            folders.append(PYTHON)
        mounts = [self.root, self.app, self.volume, self.etc, *folders]
        namespace = ["unshare", "--mount", "--propagation", "private", "sh", "-c", CONTAINER, "sh"]
        return process.spawn(
            [*namespace, *mounts, "--", *BECOME_USER, *command],
            log=log,
            env=_image_environment(environment),
        )

    @staticmethod
    def execute(
        container: subprocess.Popen[bytes], command: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run a further command in a running container, as `docker compose exec` does."""
        enter = ["nsenter", f"--target={container.pid}", "--mount", "--root", "--wd"]
        return subprocess.run(
            [*enter, *BECOME_USER, *command],
            env=_image_environment(environment),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def _image_environment(environment: Mapping[str, str]) -> dict[str, str]:
    path = f"{ENVIRONMENT / 'bin'}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "PYTHONUNBUFFERED": "1", **environment}
