#!/usr/bin/env bash
# Deploys a version without a gap; see docs/operating/install.md (systemd) and docs/operating/compose.md.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: deploy.sh compose VERSION    build the image with this tag from this checkout unless it exists
       deploy.sh systemd VERSION    install the tag vVERSION, or the commit VERSION, of this checkout
                                    unless /opt/promptly/releases/VERSION exists (as root)

Migrates the database, starts a gateway of the new version next to the running one, waits until it
answers, lets the old one finish its requests (DRAIN_SECONDS), and restarts worker and beat. If the
new gateway does not answer within DEPLOY_WAIT_SECONDS (120), it is stopped, the old one stays, and
the exit code is 1. To go back, deploy the old version: it runs on the newer schema, which stays.
USAGE
}

fail() {
  echo "deploy.sh: $*" >&2
  exit 1
}

# wait_until SECONDS COMMAND...
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.5
  done
}

commit_of_version() {
  git rev-parse --verify --quiet "v$version^{commit}" ||
    git rev-parse --verify --quiet "$version^{commit}"
}

# is_ahead PYTHON...: whether a newer release has migrated the database, on whose schema this one
# runs. Releases from before that module existed refuse it in `db upgrade`.
is_ahead() {
  "$@" - <promptly/runtime/newer_schema.py
}

# report_readiness COMMAND...: its dependencies, which must not hold up a deploy for ever.
report_readiness() {
  wait_until 10 "$@" || echo "Deploying although not every dependency answers the new gateway:" >&2
  "$@" || true
}

# ---------------------------------------------------------------- Docker Compose

# shellcheck disable=SC2317,SC2329 # wait_until calls it
container_is_healthy() {
  [ "$(docker inspect --format '{{.State.Health.Status}}' "$1")" = healthy ]
}

# The image of this version, by the name that the Compose files give it, unless it exists.
build_image() {
  local image commit
  image=$(docker compose config --images | sort --unique | grep "promptly[^/]*:$version\$")
  if docker image inspect "$image" >/dev/null 2>&1; then return; fi
  if commit=$(commit_of_version 2>/dev/null) && [ "$commit" != "$(git rev-parse HEAD)" ]; then
    fail "this checkout is not $version: git checkout $commit"
  fi
  docker compose build
}

deploy_compose() {
  export PROMPTLY_VERSION=$version
  local old new
  build_image
  docker compose up --detach --wait --no-recreate db redis listener
  docker compose run --rm --no-deps migrate ||
    is_ahead docker compose run --rm --no-deps -T migrate python ||
    fail "the migration failed; the running gateway stays"

  # Ended gateways: `up` would start them again.
  docker compose rm --force gateway
  mapfile -t old < <(docker compose ps --quiet gateway)
  docker compose up --detach --no-deps --no-recreate --scale "gateway=$((${#old[@]} + 1))" gateway
  new=$(docker compose ps --all --quiet gateway | grep --invert-match --line-regexp --fixed-strings \
    "$(printf '%s\n' "${old[@]}")")
  if ! wait_until "$patience" container_is_healthy "$new"; then
    docker logs --tail 40 "$new"
    docker rm --force "$new"
    fail "the gateway of $version did not become healthy; the running one stays"
  fi
  report_readiness docker exec "$new" python -m promptly.runtime.health_check /health/ready

  for container in "${old[@]}"; do
    # Its restart policy would start it again after the drain.
    docker update --restart no "$container"
    docker kill --signal TERM "$container"
  done
  docker compose up --detach --no-deps worker beat
  remember_version
  docker compose ps
}

# Later `docker compose` commands use the deployed version too.
remember_version() {
  touch .env
  if grep --quiet '^PROMPTLY_VERSION=' .env; then
    sed --in-place "s/^PROMPTLY_VERSION=.*/PROMPTLY_VERSION=$version/" .env
  else
    printf '\nPROMPTLY_VERSION=%s\n' "$version" >>.env
  fi
}

# ---------------------------------------------------------------- systemd

install_release() {
  local release=$1 commit
  commit=$(commit_of_version) || fail "no tag v$version, no commit $version"
  # Left behind by an installation that failed.
  rm -rf "$release"
  mkdir -p "$release"
  git archive "$commit" | tar --extract --no-same-permissions --directory "$release"
  # For commands; the units read the same file themselves.
  ln -s "$root/etc/promptly/promptly.env" "$release/.env"
  python3 -m venv "$release/.venv"
  "$release/.venv/bin/pip" install --quiet --disable-pip-version-check \
    --requirement "$release/requirements-production.txt"
  "$release/.venv/bin/python" -m compileall -q "$release/promptly" "$release/migrations"
  touch "$release/.installed"
}

running_gateways() {
  systemctl list-units --plain --no-legend --state active,activating,deactivating \
    'promptly-gateway@*' | while read -r unit _; do echo "$unit"; done
}

# shellcheck disable=SC2317,SC2329 # wait_until calls it
ask_gateway() {
  GATEWAY_PRIVATE_SOCKET=$root/run/promptly/gateway-$id.sock \
    "$home/gateways/$id/.venv/bin/python" -m promptly.runtime.health_check "$1"
}

# shellcheck disable=SC2317,SC2329 # is_ahead calls it
python_of_release() {
  # As the user whom PostgreSQL knows.
  (cd "$home/releases/$version" && runuser --user promptly -- .venv/bin/python "$@")
}

migrate_systemd() {
  local unit=promptly-migrate@$version.service
  if systemctl start "$unit"; then return; fi
  journalctl --unit "$unit" --lines 40 --no-pager
  is_ahead python_of_release || fail "the migration failed; the running gateway stays"
  systemctl reset-failed "$unit"
}

# point_current RELEASE: switch the link in one step.
point_current() {
  ln -sfn "releases/$1" "$home/current.new"
  mv --no-target-directory "$home/current.new" "$home/current"
}

deploy_systemd() {
  local release=$home/releases/$version old unit link
  if ! [ -e "$release/.installed" ]; then install_release "$release"; fi
  migrate_systemd
  [ -e "$home/current" ] || point_current "$version"
  systemctl enable --now promptly-listener.service

  mapfile -t old < <(running_gateways)
  for link in "$home"/gateways/*; do
    # Of gateways that have ended. One that was stopped by hand is still enabled.
    unit=promptly-gateway@${link##*/}.service
    if [ -L "$link" ] && [[ " ${old[*]} " != *" $unit "* ]]; then
      systemctl disable "$unit"
      rm -f "$link"
    fi
  done
  # Every deploy gets a name of its own, so that the same version can be deployed again.
  id=$version-$(date --utc +%Y%m%dT%H%M%SZ)
  unit=promptly-gateway@$id.service
  mkdir -p "$home/gateways"
  ln -s "../releases/$version" "$home/gateways/$id"
  systemctl start "$unit"
  if ! (cd "$release" && wait_until "$patience" ask_gateway /health); then
    journalctl --unit "$unit" --lines 40 --no-pager
    systemctl stop --no-block "$unit"
    fail "the gateway of $version does not answer; the running one stays"
  fi
  (cd "$release" && report_readiness ask_gateway /health/ready)

  systemctl enable "$unit"
  for unit in "${old[@]}"; do
    systemctl disable "$unit"
    systemctl stop --no-block "$unit"
  done
  # Stopped before the link is switched, so that they do not load modules of both versions.
  systemctl stop promptly-beat.service promptly-worker.service
  point_current "$version"
  systemctl enable --now promptly-worker.service promptly-beat.service
  systemctl list-units --plain --no-legend 'promptly-*'
}

main() {
  case "${1:-}" in
    -h | --help)
      usage
      exit
      ;;
    compose | systemd) ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
  [ $# = 2 ] || { usage >&2; exit 2; }
  # Valid in an image's tag, a unit's name and a path.
  [[ $2 =~ ^[0-9A-Za-z][0-9A-Za-z._-]*$ ]] || fail "not a version: $2"
  version=$2
  patience=${DEPLOY_WAIT_SECONDS:-120}
  # Another root is for tests.
  root=${DEPLOY_ROOT:-}
  home=$root/opt/promptly
  # The service's user must be able to read what root installs.
  umask 022
  cd "$(dirname "${BASH_SOURCE[0]}")/.."
  exec {lock}<.
  flock --nonblock "$lock" || fail "another deploy is running"
  case $1 in
    compose) deploy_compose ;;
    systemd) deploy_systemd ;;
  esac
}

# Read to the end before anything runs: a checkout may replace this file.
main "$@"
exit
