#!/bin/sh
# Makes the keys that compose.yaml mounts, once, in deploy/secrets/, which git does not see:
#   ring.key   key ring of all regions: resume tokens, gossip, links
#   hs256.key  signs client tokens: give it to whoever logs users in
# ROAM=path takes the roam that is there (bin/roam after `make build`); without it the image is used.
set -eu
cd "${1:-$(dirname "$0")}"

if [ -e secrets/ring.key ] || [ -e secrets/hs256.key ]; then
	echo "secrets/ has keys already. Others would lock everybody out; remove the files first if you mean it." >&2
	exit 1
fi

# The directory keeps others out. The files are readable, because in the container they are read by a user that the host
# does not know: Compose mounts them as they are.
mkdir -p secrets
chmod 0700 secrets
if [ -n "${ROAM:-}" ]; then
	"$ROAM" keygen >secrets/ring.tmp
else
	docker compose run --rm -T keygen >secrets/ring.tmp
fi
head -c 48 /dev/urandom | base64 | tr -d '\n' >secrets/hs256.tmp
chmod 0444 secrets/ring.tmp secrets/hs256.tmp
mv secrets/ring.tmp secrets/ring.key
mv secrets/hs256.tmp secrets/hs256.key
echo "made secrets/ring.key and secrets/hs256.key"
