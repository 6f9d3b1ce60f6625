#!/usr/bin/env bash
# Restores a backup of deploy/backup.sh into an empty database; see docs/operating/backup.md.
set -euo pipefail

# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/database.sh"

usage() {
  cat <<'USAGE'
Usage: restore.sh [--migrate] compose FILE    restore into the service `db` of this checkout
       restore.sh [--migrate] url FILE        restore into the database of DATABASE_URL, from the
                                              environment or this release's .env

Compares FILE with FILE.sha256, restores it in one transaction into the database, which must exist
and be empty, and verifies the books with this release's `flask ledger verify`. With --migrate it
migrates the database to this release's schema first. Exit codes:
  0  restored, and the books are clean
  1  nothing restored: the database is as it was
  2  wrong usage
  3  restored, but a later step failed
USAGE
}

# Names up to three relations or functions, apart from those of extensions.
CONTENTS="
  SELECT string_agg(name, ', ') FROM (
    SELECT objects.name FROM (
      SELECT oid, oid::regclass::text AS name, relnamespace AS schema FROM pg_class
      UNION ALL
      SELECT oid, oid::regprocedure::text, pronamespace FROM pg_proc
    ) AS objects JOIN pg_namespace ON pg_namespace.oid = objects.schema
    WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema' AND NOT EXISTS (
      SELECT FROM pg_depend WHERE objid = objects.oid AND deptype = 'e'
    ) LIMIT 3
  ) AS found"

SUMMARY="
  SELECT format('%s accounts and %s requests, the newest of %s; schema %s',
    (SELECT count(*) FROM users), (SELECT count(*) FROM usage_events),
    coalesce((SELECT max(created_at)::text FROM usage_events), 'never'),
    (SELECT string_agg(version_num, ', ') FROM alembic_version))"

ask() {
  run_on_database psql --no-psqlrc --tuples-only --no-align --quiet --set=ON_ERROR_STOP=1 \
    --command="$1" </dev/null
}

restored_but() {
  echo "restore.sh: the backup is restored, but $*" >&2
  exit 3
}

check_backup() {
  local expected actual
  [ -r "$1" ] || fail "cannot read $1"
  [ -r "$1.sha256" ] || fail "cannot read its checksum, $1.sha256"
  read -r expected _ <"$1.sha256" || true
  actual=$(sha256sum <"$1")
  [ "${actual%% *}" = "$expected" ] || fail "$1 does not match its checksum"
}

# In one transaction, so that a failure leaves an empty database for the next attempt. The objects
# belong to the user that connects, whatever the role was called before.
restore() {
  local found errors
  found=$(ask "$CONTENTS" 2>&1) || fail "the database cannot be used: $(one_line "$found")"
  [ -z "$found" ] || fail "the database is not empty: it has $found, for example"
  errors=$(run_on_database pg_restore --exit-on-error --single-transaction --no-owner \
    --no-privileges 2>&1 <"$1") ||
    fail "pg_restore failed, and the database is as it was: $(one_line "$errors")"
}

# Without statistics PostgreSQL would choose slow plans for the first requests.
finish() {
  ask "SET statement_timeout = 0; SET client_min_messages = error; ANALYZE" ||
    restored_but "its statistics are missing: run ANALYZE"
  if [ "$migrate" = yes ]; then
    run_flask db upgrade || restored_but "the migration failed"
  fi
  run_flask ledger verify || restored_but \
    "\`flask ledger verify\` failed. If this release needs a newer schema, run \`flask db upgrade\` and verify again"
}

next_steps() {
  cat <<'NEXT'
Before you start the gateways (docs/operating/backup.md):
- flask doctor: KEY_PEPPER, MAILBOX_PEPPER and GATEWAY_SECRET_KEY must be those of the backup
- flask outbox list --state pending: cancel emails that were sent since the backup
- repeat what you did since: revoke keys, delete accounts, adjust balances
Afterwards: flask payments reconcile, then flask payments attention
NEXT
}

main() {
  migrate=no
  if [ "${1:-}" = --migrate ]; then
    migrate=yes
    shift
  fi
  check_arguments "$@"
  local file summary
  file=$(realpath -- "$2")
  cd "$(dirname "${BASH_SOURCE[0]}")/.."
  check_backup "$file"
  select_database "$1"
  restore "$file"
  summary=$(ask "$SUMMARY") || restored_but "it is not a database of promptly"
  echo "Restored $file: $summary"
  finish
  next_steps
}

main "$@"
exit
