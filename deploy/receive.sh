#!/usr/bin/env bash
# Carries out the requests of deploy/request.sh on the server. It is the only command that the
# deploy key may run (authorized_keys, CONTRIBUTING.md), in the clone that it deploys from:
#
#   command="~/promptly-staging/deploy/receive.sh compose http://100.64.0.1:8505"
#
# The first argument is passed to deploy/deploy.sh, the second is the address to test. Both are
# fixed here: a request cannot choose where ADMIN_KEY is sent.
set -euo pipefail

NEWER_SCHEMA=promptly/runtime/newer_schema.py

refuse() {
  echo "receive: $*" >&2
  exit 2
}

# The commit must be on main, so the key deploys nothing that was not reviewed. It also names what
# is deployed: a version may take several attempts, and is tagged after the last.
deploy() {
  local method=$1 commit=$2 log=.promptly/deploy.log
  git fetch --quiet origin main
  git merge-base --is-ancestor "$commit" FETCH_HEAD || refuse "$commit is not on main"
  # With an older release, deploy.sh from before this module cannot go back from a newer schema. The
  # present one does it, from this checkout (docs/operating/upgrading.md).
  if ! [ -e "$NEWER_SCHEMA" ] || git cat-file -e "$commit:$NEWER_SCHEMA" 2>/dev/null; then
    git checkout --quiet --detach "$commit"
  fi
  # Apart from the connection: a deploy goes on to its end if GitHub or the network goes away.
  mkdir -p .promptly
  : >"$log"
  setsid deploy/deploy.sh "$method" "${commit:0:12}" >>"$log" 2>&1 </dev/null &
  tail --pid=$! --sleep-interval=0.2 --lines=+1 --follow "$log" || true
  wait $!
}

# bash has read all of this before it runs, so the checkout may replace the file.
main() {
  local method=$1 url=$2 request=${SSH_ORIGINAL_COMMAND:-}
  cd "$(dirname "$0")/.."
  if [[ $request =~ ^deploy\ ([0-9a-f]{40})$ ]]; then
    deploy "$method" "${BASH_REMATCH[1]}"
  elif [[ $request == smoke ]]; then
    scripts/smoke-test.py --url "$url"
  else
    refuse "this key may only send \"deploy COMMIT\" and \"smoke\""
  fi
}

main "$@"; exit
