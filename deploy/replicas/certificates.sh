#!/bin/sh
# sh deploy/replicas/certificates.sh FOLDER NAME...
# Makes FOLDER/ca.crt, tls.crt and tls.key, by which replicas know each other: one certificate for all of them, good for
# the names that they call each other by, and shown both ways. Signed by an authority whose key is not kept: to renew it,
# or to add a name, make all three anew, and start every replica again.
set -eu
days=825
[ $# -ge 2 ] || { echo "usage: $0 FOLDER NAME..." >&2; exit 2; }
folder=$1
shift
names=$(printf 'DNS:%s,' "$@")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days $days -subj "/CN=assetwatch replicas" \
  -keyout "$scratch/ca.key" -out "$scratch/ca.crt" 2>"$scratch/said" || { cat "$scratch/said" >&2; exit 1; }
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=assetwatch" \
  -keyout "$scratch/tls.key" -out "$scratch/request" 2>"$scratch/said" || { cat "$scratch/said" >&2; exit 1; }
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n' "${names%,}" >"$scratch/as"
openssl x509 -req -in "$scratch/request" -CA "$scratch/ca.crt" -CAkey "$scratch/ca.key" -CAcreateserial -days $days \
  -extfile "$scratch/as" -out "$scratch/tls.crt" 2>"$scratch/said" || { cat "$scratch/said" >&2; exit 1; }
mkdir -p "$folder"
cp "$scratch/ca.crt" "$scratch/tls.crt" "$scratch/tls.key" "$folder"
