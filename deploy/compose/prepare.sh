#!/bin/sh
# Make what deploy/compose.yaml needs for its three companies: a certificate authority
# that only they trust, a certificate for each proxy, a password for each database.
# Nothing that exists is made again. In production a public authority signs.
set -eu
cd "$(dirname "$0")"
# Containers read these files as users of their own. So the files can be read by all,
# and the folder above them by its owner alone.
mkdir -p made
chmod 0700 made
umask 022
cd made

if [ ! -f authority.pem ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -days 365 -subj "/CN=Hashlight trial" -keyout authority.key -out authority.pem \
    -addext "keyUsage=critical,keyCertSign,cRLSign" 2>/dev/null
  chmod 0600 authority.key
fi

number=0
for company in shield alpha beta; do
  number=$((number + 1))
  if [ ! -f "$company.pem" ]; then
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
      -subj "/CN=$company.example" -keyout "$company.key" -out "$company.csr" \
      2>/dev/null
    printf 'subjectAltName=DNS:%s.example\nbasicConstraints=CA:FALSE\nauthorityKeyIdentifier=keyid\n' \
      "$company" > "$company.ext"
    openssl x509 -req -in "$company.csr" -CA authority.pem -CAkey authority.key \
      -CAcreateserial -days 90 -extfile "$company.ext" -out "$company.pem" 2>/dev/null
    rm "$company.csr" "$company.ext"
    chmod 0644 "$company.key"
  fi
  if [ ! -f "$company.password" ]; then
    openssl rand -hex 24 > "$company.password"
    # What libpq reads: https://www.postgresql.org/docs/current/libpq-pgservice.html
    printf '[hashlight]\nhost=%s-database\nuser=hashlight\npassword=%s\n' \
      "$company" "$(cat "$company.password")" > "$company.service"
  fi
  # The proxy of docs/deploying.md, with this company's name and node.
  sed -e "s/listen 443 ssl/listen 8443 ssl/" \
    -e "s/server_name node.example/server_name $company.example/" \
    -e "s/127.0.0.1:8440/10.83.$number.10:8440/" \
    -e "s|/etc/ssl/hashlight/node.pem|/run/secrets/certificate|" \
    -e "s|/etc/ssl/private/hashlight.key|/run/secrets/key|" \
    ../../nginx/hashlight.conf > "$company.conf"
done
