#!/usr/bin/env bash
# Sends one request to a server, on which deploy/receive.sh carries it out; GitHub's deploy
# workflows call this.
#
#   deploy/request.sh deploy COMMIT
#   deploy/request.sh smoke
#
# Variables: GATEKEEPER_HOST, GATEKEEPER_USER, GATEKEEPER_SSH_KEY (the private key itself), and
# GATEKEEPER_KNOWN_HOSTS (the server's lines of `ssh-keyscan`); CONTRIBUTING.md says how to set them.
set -euo pipefail

missing=()
for name in GATEKEEPER_HOST GATEKEEPER_USER GATEKEEPER_SSH_KEY GATEKEEPER_KNOWN_HOSTS; do
  [ -n "${!name:-}" ] || missing+=("$name")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "deploy: not set: ${missing[*]} (CONTRIBUTING.md, \"Deploy keys\")" >&2
  exit 2
fi

umask 077
private=$(mktemp -d)
trap 'rm -rf "$private"' EXIT
printf '%s\n' "$GATEKEEPER_SSH_KEY" >"$private/key"
printf '%s\n' "$GATEKEEPER_KNOWN_HOSTS" >"$private/known_hosts"

# Nothing but this key, and no server but the known one. A deploy may be silent for minutes.
ssh -F /dev/null -i "$private/key" \
  -o BatchMode=yes -o IdentitiesOnly=yes \
  -o StrictHostKeyChecking=yes \
  -o UserKnownHostsFile="$private/known_hosts" -o GlobalKnownHostsFile=/dev/null \
  -o ConnectTimeout=20 -o ServerAliveInterval=15 -o ServerAliveCountMax=8 \
  -- "$GATEKEEPER_USER@$GATEKEEPER_HOST" "$*"
