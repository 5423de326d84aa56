#!/bin/sh
# deb.sh BINARY DIRECTORY: builds the Debian package of BINARY in DIRECTORY and prints its path.
set -eu
binary=$1 directory=$2
here=$(cd "$(dirname "$0")" && pwd)
version=$("$binary" -v 2>&1 | sed 's/.*nginx-rs \([^)]*\)).*/\1/')
architecture=$(dpkg --print-architecture)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"

DESTDIR=$stage prefix=/usr sh "$here/install.sh" "$binary"
gzip -9n "$stage/usr/share/man/man8/nginx-rs.8"
mkdir -p "$stage/DEBIAN"
cat >"$stage/DEBIAN/control" <<CONTROL
Package: nginx-rs
Version: $version
Architecture: $architecture
Maintainer: The nginx-rs developers <nginx-rs@example.org>
Depends: libc6, adduser
Suggests: nginx, logrotate
Section: httpd
Priority: optional
Description: server for nginx configurations in memory-safe Rust
 Serves an existing /etc/nginx with nginx's options, signals and logs. It does
 not touch an installed nginx; nginx-rs-takeover puts it in nginx's place and
 gives the place back.
CONTROL
cat >"$stage/DEBIAN/postinst" <<'SCRIPT'
#!/bin/sh
set -e
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then systemctl daemon-reload || :; fi
# A running server is started again with the new program.
if [ -n "${2:-}" ] && [ -s /run/nginx.pid ] && nginx-rs-takeover status | grep -q "is nginx-rs"; then
    systemctl try-restart nginx.service nginx-rs.service 2>/dev/null || :
fi
SCRIPT
cat >"$stage/DEBIAN/prerm" <<'SCRIPT'
#!/bin/sh
set -e
if [ "$1" = remove ]; then
    nginx-rs-takeover off
    if [ -d /run/systemd/system ]; then systemctl stop nginx-rs.service 2>/dev/null || :; fi
fi
SCRIPT
chmod 755 "$stage/DEBIAN/postinst" "$stage/DEBIAN/prerm"
mkdir -p "$directory"
package=$directory/nginx-rs_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zgzip --build "$stage" "$package" >/dev/null
echo "$package"
