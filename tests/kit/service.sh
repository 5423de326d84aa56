#!/bin/sh
# service.sh PROGRAM UNIT PORT: runs the commands of Debian's nginx.service and its logrotate action with PROGRAM in
# nginx's place, in a mount namespace of its own. Fails with the step that went wrong.
set -eu
program=$1 unit=$2 port=$3

mount --make-rprivate / 2>/dev/null || { echo "no mount namespace"; exit 1; }
[ -e /usr/sbin/nginx ] || { echo "no /usr/sbin/nginx to stand in for"; exit 1; }
cp "$program" /tmp/nginx-service-$$
mount --bind /tmp/nginx-service-$$ /usr/sbin/nginx
for dir in /etc/nginx /var/log/nginx /run; do mount -t tmpfs -o mode=755 none $dir; done
trap 'kill -9 $(cat /run/nginx.pid 2>/dev/null) 2>/dev/null || :; rm -f /tmp/nginx-service-$$' EXIT

command_of() { sed -n "s/^$1=-\{0,1\}//p" "$unit"; }
step() {
    echo "$1: $(command_of "$1")"
    # The unit's own words, as a shell reads them.
    eval "$(command_of "$1")" || { echo "$1 failed with $?"; cat /var/log/nginx/error.log; exit 1; }
}
page() { python3 -c "import urllib.request as u; print(u.urlopen('http://127.0.0.1:$port/').read().decode())"; }
expect() {
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        [ "$(page 2>/dev/null)" = "$1" ] && return
        sleep 0.1
    done
    echo "expected $1, got: $(page 2>&1)"; cat /var/log/nginx/error.log; exit 1
}
site() { echo "server { listen 127.0.0.1:$port; location / { return 200 $1; } }" >/etc/nginx/sites-enabled/default; }

mkdir /etc/nginx/sites-enabled
cat >/etc/nginx/nginx.conf <<'CONF'
user www-data;
worker_processes auto;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log;
events { worker_connections 768; }
http {
    access_log /var/log/nginx/access.log;
    include /etc/nginx/sites-enabled/*;
}
CONF
site one
step ExecStartPre
step ExecStart
expect one
pid=$(cat /run/nginx.pid)
[ "$(cat /proc/$pid/comm)" = nginx ] || { echo "the process is called $(cat /proc/$pid/comm)"; exit 1; }
site two
step ExecReload
expect two
[ "$(cat /run/nginx.pid)" = "$pid" ] || { echo "another master"; exit 1; }

# What logrotate does: rename, create, and the init script's "rotate".
mv /var/log/nginx/access.log /var/log/nginx/access.log.1
install -m 640 -o www-data -g adm /dev/null /var/log/nginx/access.log
start-stop-daemon --stop --signal USR1 --quiet --pidfile /run/nginx.pid --name nginx
for _ in 1 2 3 4 5 6 7 8 9 10; do
    page >/dev/null
    [ -s /var/log/nginx/access.log ] && break
    sleep 0.1
done
[ -s /var/log/nginx/access.log ] || { echo "the new log stays empty"; exit 1; }
[ "$(stat -c %U:%G:%a /var/log/nginx/access.log)" = www-data:adm:640 ] || { ls -l /var/log/nginx; exit 1; }

step ExecStop
[ ! -e /run/nginx.pid ] || { echo "the pid file is left"; exit 1; }
! kill -0 "$pid" 2>/dev/null || { echo "the master is left"; exit 1; }
