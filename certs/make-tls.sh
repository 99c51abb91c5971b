#!/bin/sh
# Make a certificate for a log server or a router, to try TLS: certs/make-tls.sh NAME [IP-ADDRESS...]
#
# The script writes NAME.pem and NAME.key into this folder, signed by the folder's own authority (ca.pem, ca.key), which
# the first call makes. It never overwrites a file. In production, use your own certificate authority.
set -eu

case "${1:-}" in
    "" | -* | *[!A-Za-z0-9._-]*)
        echo "make-tls.sh: give a host name, and its IP addresses if any: certs/make-tls.sh log.example 192.0.2.9" >&2
        exit 64
        ;;
esac
command -v openssl >/dev/null || {
    echo "make-tls.sh: openssl is needed; it is Debian's package of that name" >&2
    exit 69
}
cd "$(dirname "$0")"
umask 077

said=$(mktemp)
trap 'rm -f "$said"' EXIT

new_key() { # FILE, then further arguments of `openssl req`
    file=$1
    shift
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout "$file" "$@" 2>"$said" || {
        cat "$said" >&2
        rm -f "$file"
        exit 65
    }
}

name=$1
shift
names="DNS:$name"
for address in "$@"; do
    names="$names,IP:$address"
done
for file in "$name.pem" "$name.key"; do
    if [ -e "$file" ]; then
        echo "make-tls.sh: certs/$file exists already and is never overwritten; remove it first" >&2
        exit 73
    fi
done
if [ ! -e ca.pem ]; then
    new_key ca.key -x509 -days 3650 -out ca.pem -subj "/CN=relay trial authority"
    chmod 644 ca.pem
fi
request=$(new_key "$name.key" -subj "/CN=$name" -addext "subjectAltName=$names")
echo "$request" | openssl x509 -req -CA ca.pem -CAkey ca.key -copy_extensions copy -days 365 -out "$name.pem" 2>"$said" || {
    cat "$said" >&2
    rm -f "$name.pem" "$name.key"
    exit 65
}
chmod 644 "$name.pem"
echo "certs/$name.pem, certs/$name.key; signed by certs/ca.pem"
echo "fingerprint = \"sha-256:$(openssl x509 -in "$name.pem" -noout -fingerprint -sha256 | cut -d = -f 2)\""
