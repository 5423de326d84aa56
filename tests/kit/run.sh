#!/bin/sh
# run.sh BINARY: serve the Django demo, or a static site where Python is missing, on a free port until Ctrl-C.
set -eu
binary=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
state=$(mktemp -d)
mkdir "$state/logs"
server= up=
trap 'kill $server $up 2>/dev/null || :; wait 2>/dev/null; rm -rf "$state"' EXIT
trap 'exit 0' INT TERM HUP

listening() {
    grep -qi ":$(printf %04X "$1") [0-9A-F]*:0000 0A" /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# Succeeds once the demo is ready; the pipe ends it together with this script, however that ends.
django() {
    command -v python3 >/dev/null || return 1
    mkfifo "$state/alive"
    "$root/fixtures/django/up.sh" "$state" <"$state/alive" >"$state/up.out" &
    up=$!
    exec 9>"$state/alive"
    until grep -q '^ready' "$state/up.out"; do
        kill -0 $up 2>/dev/null || return 1
        sleep 0.1
    done
}

if django; then
    project=$root/fixtures/django
    what="the Django demo; the admin's user and password are admin"
else
    project=$root/fixtures/site
    what="a static site, because the Django demo needs the Debian packages python3 and python3-venv"
fi

port=8000
while listening $port; do port=$((port + 1)); done
sed "s|%%WAY%%|http|; s|%%SOCKET%%|gunicorn|; s|%%CHANNELS%%|daphne|; s|%%PORT%%|$port|; s|%%STATE%%|$state|
s|%%LOGS%%|$state/logs|; s|%%PROJECT%%|$project|" \
    "$project/site.conf" >"$state/site.conf"
[ "$(id -u)" != 0 ] || user="user root;"
"$binary" -p "$state/logs" -c "$state/site.conf" -g "daemon off; pid $state/nginx.pid; ${user:-}" 9>&- &
server=$!
until listening $port; do
    kill -0 $server || exit 1
    sleep 0.1
done
echo "http://localhost:$port/ serves $what. Ctrl-C ends it."
wait $server
