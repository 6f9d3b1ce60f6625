#!/bin/sh
# Creates a virtual environment and installs requirements into it; does nothing if both are there.
#
#   scripts/environment.sh FOLDER REQUIREMENTS...
#
# PYTHON names the interpreter; the default is the newest supported one. uv is used if Python lacks
# venv or pip, or if no supported Python is found.
set -eu
cd "$(dirname "$0")/.."

folder=$1
shift
python=$folder/bin/python
supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'
range='3.11 to 3.14'

say() { echo "promptly: $*" >&2; }
fail() {
  say "$*"
  exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }
is_supported() { "$1" -c "$supported" >/dev/null 2>&1; }
version() { "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null || echo unknown; }

find_python() {
  found=
  unsupported=
  if [ -n "${PYTHON:-}" ]; then
    has "$PYTHON" || fail "PYTHON is $PYTHON, which is not there"
    is_supported "$PYTHON" ||
      fail "PYTHON is $PYTHON, version $(version "$PYTHON"): Python $range is needed"
    found=$PYTHON
    return
  fi
  for name in python3.14 python3.13 python3.12 python3.11 python3 python; do
    has "$name" || continue
    if is_supported "$name"; then
      found=$name
      return
    fi
    [ "$(version "$name")" = unknown ] || unsupported="$name is $(version "$name")"
  done
}

install_line() {
  if has apt-get; then
    echo "apt-get install python3 python3-venv, or install uv, which brings one"
  elif has dnf; then
    echo "dnf install python3, or install uv, which brings one"
  elif has brew; then
    echo "brew install python"
  else
    echo "install one, or uv, which brings one"
  fi
}

make_environment() {
  find_python
  if [ -z "$found" ]; then
    has uv || fail "Python $range is needed${unsupported:+ ($unsupported)}: $(install_line)"
    say "making $folder with a Python that uv brings ..."
    uv venv --quiet --seed --python '>=3.11,<3.15' "$folder" || fail "uv could not make $folder"
    return
  fi
  say "making $folder with Python $(version "$found") ..."
  rm -rf "$folder"
  if "$found" -c 'import ensurepip, venv; ensurepip.version()' >/dev/null 2>&1; then
    "$found" -m venv "$folder" && return
    rm -rf "$folder"
    fail "Python $(version "$found") could not make an environment in $folder"
  fi
  if has uv; then
    uv venv --quiet --seed --python "$found" "$folder" && return
    rm -rf "$folder"
    fail "uv could not make $folder"
  fi
  minor=$("$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  if has apt-get; then
    fail "Python $minor lacks its venv module: apt-get install python$minor-venv (or install uv)"
  fi
  fail "Python $minor lacks its venv module: install it, or uv"
}

install() {
  if "$python" -m pip --version >/dev/null 2>&1 ||
    "$python" -m ensurepip >/dev/null 2>&1; then
    "$python" -m pip --disable-pip-version-check install --quiet "$@"
  elif has uv; then
    uv pip install --quiet --python "$python" "$@"
  else
    fail "$folder has no pip: delete it and try again"
  fi
}

install_requirements() {
  # shellcheck disable=SC2046 # to be split into words
  set -- $(printf -- '-r %s ' "$@")
  install "$@" || fail "the packages could not be installed (is there a network? a proxy is" \
    "named by https_proxy, another index by PIP_INDEX_URL)"
}

# The parser in C makes requests cheaper; nothing else needs a C compiler.
install_fast_parser() {
  if has cc && "$python" -c 'import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())'; then
    install -r requirements-fast.txt >"$folder/fast.log" 2>&1 && return
    say "the fast HTTP parser could not be built ($folder/fast.log); gunicorn's own is used"
  fi
}

# Compare installed requirements by content: a checkout that only touches the files changes nothing.
stamp_of() { echo "$folder/.installed-$(basename "$1")"; }
is_installed() {
  for file in "$@"; do
    cksum <"$file" | cmp -s - "$(stamp_of "$file")" || return 1
  done
}

# Whether PYTHON differs from the environment's version.
is_other() { [ -n "${PYTHON:-}" ] && [ "$(version "$PYTHON")" != "$(version "$python")" ]; }

if ! is_supported "$python" || is_other; then
  make_environment
fi
is_installed "$@" && exit
say "installing packages; the first time takes a minute or two ..."
install_requirements "$@"
[ "$1" != requirements.txt ] || install_fast_parser
for file in "$@"; do
  cksum <"$file" >"$(stamp_of "$file")"
done
