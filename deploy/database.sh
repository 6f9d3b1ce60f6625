#!/usr/bin/env bash
# Sourced by backup.sh and restore.sh, whose first argument selects the database.

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# check_arguments "$@": of both scripts, after options.
check_arguments() {
  case "${1:-}" in
    -h | --help)
      usage
      exit
      ;;
    compose | url) [ $# = 2 ] && [ -n "$2" ] && return ;;
  esac
  usage >&2
  exit 2
}

# The messages of a program on one line.
one_line() {
  echo "${1//$'\n'/; }"
}

# select_database compose|url: what the functions below refer to. The programs get the password of
# DATABASE_URL in their environment, since `ps` shows everyone their arguments.
select_database() {
  method=$1
  if [ "$method" = compose ]; then
    connection=(--username=gateway --dbname=gateway)
    return
  fi
  [ -n "${DATABASE_URL:-}" ] || DATABASE_URL=$(url_of_release) ||
    fail "DATABASE_URL is set neither in the environment nor in $PWD/.env"
  export DATABASE_URL
  local encoded url=${DATABASE_URL/#postgres:/postgresql:}
  url=${url/#postgresql+psycopg2:/postgresql:}
  if [[ $url =~ ^(postgresql://[^:@/]*):([^@/]*)@(.*)$ ]]; then
    url=${BASH_REMATCH[1]}@${BASH_REMATCH[3]}
    encoded=${BASH_REMATCH[2]//\\/\\\\}
    printf -v PGPASSWORD %b "${encoded//%/\\x}"
    export PGPASSWORD
  fi
  [[ $url != *[?\&]password=* ]] || fail "DATABASE_URL must have its password before the @"
  connection=(--no-password --dbname="$url")
}

url_of_release() {
  .venv/bin/python -c \
    'from dotenv import dotenv_values; print(dotenv_values(".env", interpolate=False)["DATABASE_URL"])' \
    2>/dev/null
}

# run PROGRAM ARGUMENT...: one of PostgreSQL's programs.
run() {
  if [ "$method" = compose ]; then
    docker compose exec -T db "$@"
  else
    "$@"
  fi
}

# run_on_database PROGRAM ARGUMENT...
run_on_database() {
  run "$1" "${connection[@]}" "${@:2}"
}

# run_flask ARGUMENT...: a command of this release.
run_flask() {
  if [ "$method" = compose ]; then
    docker compose run --rm --no-deps -T migrate flask --app wsgi "$@"
  else
    .venv/bin/flask --app wsgi "$@"
  fi
}
