#!/bin/sh
# setup.sh [bench]: the programs tests (or the benchmark) talk to. As root, missing ones are installed from Debian;
# otherwise they are named, and the tests that need them say that they are skipped.
set -eu

wanted() {
    echo "cc gcc libc6-dev
nginx nginx-light
fail2ban-regex fail2ban
python3 python3 python3-venv
openssl openssl
pebble pebble
testssl testssl.sh bsdextrautils dnsutils
chromedriver chromium-driver chromium"
    [ "${1:-}" != bench ] || printf "wrk wrk\nh2load nghttp2-client\n"
}

missing() {
    wanted "$@" | while read -r program packages; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || echo "$packages"
    done
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    ls /usr/sbin/php-fpm* >/dev/null 2>&1 || echo php-fpm
}

packages=$(missing "$@" | tr ' ' '\n' | sort -u | tr '\n' ' ')
[ -n "$packages" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing $packages"
    export DEBIAN_FRONTEND=noninteractive
    # RUNLEVEL keeps Debian from starting nginx as a service.
    # shellcheck disable=SC2086  # one word a package
    if apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $packages >/dev/null; then
        exit 0
    fi
fi
echo "setup: going on without the Debian packages $packages; what needs them is skipped" >&2
