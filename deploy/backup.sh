#!/usr/bin/env bash
# Backs the database up into a folder and deletes old backups; see docs/operating/backup.md.
set -euo pipefail

# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/database.sh"

usage() {
  cat <<'USAGE'
Usage: backup.sh compose FOLDER    back up the service `db` of this checkout
       backup.sh url FOLDER        back up the database of DATABASE_URL, from the environment or
                                   this release's .env, with the pg_dump in PATH

Writes promptly-TIME.dump (pg_dump's custom format) and promptly-TIME.dump.sha256, then deletes
older backups. These stay: all of the newest day, the newest of each of the last BACKUP_KEEP_DAYS
(7) days that have one, and of each of the last BACKUP_KEEP_WEEKS (4) weeks that have one. Other
files in the folder stay as they are. The exit code is 0 only if the new backup is complete and on
disk; otherwise nothing is deleted. The database gets its time, so that promptly alerts you of a
late one; `psql` must be in PATH for that.
USAGE
}

# Sets `name`: that of the finished backup in `folder`.
make_backup() {
  local part sum errors
  name=promptly-$(date --utc +%Y%m%dT%H%M%SZ).dump
  [ ! -e "$folder/$name" ] || fail "$folder/$name exists already"
  # Left behind by killed runs.
  rm -f "$folder"/.promptly-*.dump.part*
  part=$folder/.$name.part
  # Expanded now: the variables are local.
  # shellcheck disable=SC2064
  trap "rm -f ${part@Q} ${part@Q}.sha256" EXIT
  # Through a pipe: to a redirected file pg_dump appends a second table of contents, and pg_restore
  # would not notice the loss of the end.
  errors=$({ run_on_database pg_dump --format=custom --lock-wait-timeout=60s | cat >"$part"; } 2>&1) ||
    fail "pg_dump failed: $(one_line "$errors")"
  # Reads and decompresses all of it.
  errors=$(run pg_restore --file=/dev/null 2>&1 <"$part") ||
    fail "the new backup cannot be read: $(one_line "$errors")"
  sum=$(sha256sum <"$part")
  echo "${sum%% *}  $name" >"$part.sha256"
  sync "$part" "$part.sha256"
  mv "$part.sha256" "$folder/$name.sha256"
  mv "$part" "$folder/$name"
  sync "$folder"
}

# When the newest backup began, for the alert about a late one. `psql` replaces the variable.
RECORD="
  SET lock_timeout = '60s';
  INSERT INTO sweep_states AS s (name, last_run_at)
  VALUES ('backup', least(:'started'::timestamptz, now()))
  ON CONFLICT (name) DO UPDATE SET last_run_at = greatest(s.last_run_at, excluded.last_run_at)"

# Only warns: the backup is as good without it.
record_backup() {
  local errors started=${name#promptly-}
  errors=$(run_on_database psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 \
    --set=started="${started%.dump}" <<<"$RECORD" 2>&1) ||
    echo "backup.sh: $name is complete, but its time cannot be recorded: $(one_line "$errors")" >&2
}

# Counts days and weeks that have a backup, so nothing is deleted only because of its age.
delete_old_backups() {
  local -A days=() weeks=()
  local paths=("$folder"/promptly-*.dump) newest_day='' path day week i keep
  for ((i = ${#paths[@]} - 1; i >= 0; i--)); do
    path=${paths[i]}
    [[ ${path##*/} =~ ^promptly-([0-9]{8})T[0-9]{6}Z\.dump$ ]] || continue
    day=${BASH_REMATCH[1]}
    [ -f "$path" ] || continue
    week=$(date --utc --date="$day" +%G-%V 2>/dev/null) || continue
    keep=no
    newest_day=${newest_day:-$day}
    if [ "$path" = "$folder/$name" ] || [ "$day" = "$newest_day" ]; then keep=yes; fi
    if [ -z "${days[$day]:-}" ] && [ "${#days[@]}" -lt "$keep_days" ]; then keep=yes; fi
    if [ -z "${weeks[$week]:-}" ] && [ "${#weeks[@]}" -lt "$keep_weeks" ]; then keep=yes; fi
    days[$day]=seen
    weeks[$week]=seen
    if [ "$keep" = no ]; then
      rm -f "$path" "$path.sha256" || fail "$name is complete, but $path cannot be deleted"
    fi
  done
}

main() {
  check_arguments "$@"
  # Backups contain customers' addresses.
  umask 077
  export LC_ALL=C
  mkdir -p "$2"
  folder=$(cd -- "$2" && pwd)
  cd "$(dirname "${BASH_SOURCE[0]}")/.."
  keep_days=${BACKUP_KEEP_DAYS:-7}
  keep_weeks=${BACKUP_KEEP_WEEKS:-4}
  [[ $keep_days =~ ^[1-9][0-9]{0,3}$ ]] || fail "BACKUP_KEEP_DAYS must be a number from 1 to 9999"
  [[ $keep_weeks =~ ^(0|[1-9][0-9]{0,3})$ ]] ||
    fail "BACKUP_KEEP_WEEKS must be a number from 0 to 9999"
  exec {lock}<"$folder"
  flock --nonblock "$lock" || fail "another backup into $folder is running"
  select_database "$1"
  make_backup
  record_backup
  delete_old_backups
  echo "backup.sh: $folder/$name ($(du --apparent-size --human-readable "$folder/$name" | cut -f1))"
}

# Read to the end before anything runs: a checkout may replace this file.
main "$@"
exit
