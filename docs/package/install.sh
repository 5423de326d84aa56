#!/bin/sh
# install.sh BINARY: installs BINARY and what belongs to it under $DESTDIR$prefix; system files under $DESTDIR.
set -eu
binary=$1
here=$(cd "$(dirname "$0")" && pwd)
to=${DESTDIR:-}${prefix:-/usr/local}
put() { install -D -m "$1" "$2" "$3"; }
unit=$(mktemp)
trap 'rm -f "$unit"' EXIT

put 755 "$binary" "$to/sbin/nginx-rs"
put 755 "$here/nginx-rs-takeover" "$to/sbin/nginx-rs-takeover"
put 644 "$here/nginx-rs.8" "$to/share/man/man8/nginx-rs.8"
put 644 "$here/nginx-rs.bash" "$to/share/bash-completion/completions/nginx-rs"
put 644 "$here/_nginx-rs" "$to/share/zsh/site-functions/_nginx-rs"
put 644 "$here/nginx-rs.fish" "$to/share/fish/vendor_completions.d/nginx-rs.fish"
for file in nginx.conf mime.types default.conf logrotate; do
    put 644 "$here/$file" "$to/share/nginx-rs/$file"
done
sed "s|/usr/sbin/nginx-rs|${prefix:-/usr/local}/sbin/nginx-rs|" "$here/nginx-rs.service" >"$unit"
put 644 "$unit" "${DESTDIR:-}/lib/systemd/system/nginx-rs.service"
