#!/bin/bash
# Starts Postgres as the official image's entrypoint does, under any user: makes the database cluster the first time, from
# POSTGRES_USER, POSTGRES_DB, POSTGRES_PASSWORD(_FILE), POSTGRES_HOST_AUTH_METHOD, POSTGRES_INITDB_ARGS and PGDATA.
set -euo pipefail

if [ "${1:0:1}" = - ]; then
  set -- postgres "$@"
fi
if [ "${1:-}" != postgres ]; then
  exec "$@"
fi
for argument in "$@"; do
  case $argument in
    -\? | --help | -V | --version | --describe-config) exec "$@" ;;
  esac
done

if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA"
  chown -R 999:999 "$PGDATA" /var/run/postgresql
  exec setpriv --reuid=999 --regid=999 --clear-groups "$0" "$@"
fi

# initdb wants a name for its user.
if ! getent passwd "$(id -u)" >/dev/null; then
  export NSS_WRAPPER_PASSWD=/tmp/passwd NSS_WRAPPER_GROUP=/tmp/group LD_PRELOAD=libnss_wrapper.so
  echo "postgres:x:$(id -u):$(id -g):PostgreSQL:$PGDATA:/bin/false" >"$NSS_WRAPPER_PASSWD"
  echo "postgres:x:$(id -g):" >"$NSS_WRAPPER_GROUP"
fi

POSTGRES_USER=${POSTGRES_USER:-postgres}
POSTGRES_DB=${POSTGRES_DB:-$POSTGRES_USER}
POSTGRES_PASSWORD=${POSTGRES_PASSWORD:-}
if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
  POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
fi
method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}

run_psql() {
  PGHOST=/var/run/postgresql PGUSER=$POSTGRES_USER psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password "$@"
}

initialise() {
  if [ -z "$POSTGRES_PASSWORD" ] && [ "$method" != trust ]; then
    echo "error: set POSTGRES_PASSWORD, or POSTGRES_HOST_AUTH_METHOD=trust to let everyone in" >&2
    exit 1
  fi
  # A first start that was cut short left half a cluster behind.
  local fresh=$PGDATA/.initialising
  if [ -e "$fresh" ]; then
    find "$PGDATA" -mindepth 1 -delete
  elif [ -n "$(ls -A "$PGDATA" 2>/dev/null)" ]; then
    echo "error: $PGDATA is not empty and holds no database cluster" >&2
    exit 1
  fi
  local password_file=()
  if [ -n "$POSTGRES_PASSWORD" ]; then
    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/.pgpassword
    password_file=(--pwfile=/tmp/.pgpassword)
  fi
  # shellcheck disable=SC2086 # the variable holds several arguments
  initdb --username="$POSTGRES_USER" --encoding=UTF8 "${password_file[@]}" ${POSTGRES_INITDB_ARGS:-}
  : >"$fresh"
  rm -f /tmp/.pgpassword
  printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
  echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"

  if [ "$POSTGRES_DB" != postgres ] || [ -n "$(ls -A /docker-entrypoint-initdb.d 2>/dev/null)" ]; then
    pg_ctl -D "$PGDATA" -w start -o "-c listen_addresses='' -c unix_socket_directories=/var/run/postgresql" >/dev/null
    export PGPASSWORD=$POSTGRES_PASSWORD
    if [ "$POSTGRES_DB" != postgres ]; then
      run_psql -d postgres -v db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
    fi
    local file
    for file in /docker-entrypoint-initdb.d/*; do
      case $file in
        *.sql) run_psql -d "$POSTGRES_DB" -f "$file" ;;
        *.sh) bash -eu "$file" ;;
      esac
    done
    unset PGPASSWORD
    pg_ctl -D "$PGDATA" -m fast -w stop >/dev/null
  fi
  rm "$fresh"
}

mkdir -p "$PGDATA"
# Where fsGroup owns the folder only its owner may change this, and Postgres says clearly what it does not like.
chmod 0700 "$PGDATA" 2>/dev/null || true
if [ ! -s "$PGDATA/PG_VERSION" ] || [ -e "$PGDATA/.initialising" ]; then
  initialise
fi
exec "$@"
