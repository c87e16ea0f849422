#!/bin/sh
# Write CHANGELOG.md from the fragments, as the release of galaxy.yml's version would; with --check, fail if that would
# change it. The fragments stay until `antsibull-changelog release` takes them.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
tree=$folder/ansible_collections/celeryops/stack
mkdir -p "$tree"
cp -R changelogs galaxy.yml meta playbooks plugins roles "$tree"
cd "$tree"
rm -f changelogs/.plugin-cache.yaml
unset ANSIBLE_CONFIG
if [ -n "$(ls changelogs/fragments)" ]; then
    antsibull-changelog release --date 2000-01-01
else
    antsibull-changelog generate
fi
if [ "${1:-}" != --check ]; then
    cp CHANGELOG.md "$root"
elif ! diff -u "$root/CHANGELOG.md" CHANGELOG.md; then
    echo "CHANGELOG.md is not up to date: run \`make changelog\`."
    exit 1
fi
