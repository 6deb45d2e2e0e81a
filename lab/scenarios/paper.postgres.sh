# Fills drive E: a small PostgreSQL that lets the client's network in. fsync stays on. syncfs makes its recovery after a power cut sync
# the file system once, not each of a thousand files.
dir=$VOLUME/postgresql
install -d -o postgres -g postgres -m 0700 "$dir"
install -d -o postgres -g postgres -m 0700 "$dir/run"
cd "$dir"
setpriv --reuid=postgres --regid=postgres --clear-groups \
  /opt/postgresql/bin/initdb -D "$dir/data" -A trust -E UTF8 --locale=C.UTF-8 --no-sync --no-instructions >/tmp/initdb.log 2>&1 ||
  { cat /tmp/initdb.log; exit 1; }
cat >>"$dir/data/postgresql.conf" <<'CONF'
shared_buffers = 16MB
max_connections = 20
max_wal_size = 128MB
min_wal_size = 32MB
unix_socket_directories = ''
recovery_init_sync_method = syncfs
CONF
echo 'host all all 172.25.36.0/24 trust' >>"$dir/data/pg_hba.conf"
