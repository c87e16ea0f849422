#!/bin/sh
# What Galaxy does with a collection that is uploaded, but for ansible-lint, which is a check of its own and stricter here.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
ansible-galaxy collection build --output-path "$folder" . >"$folder/build.log"
cd "$folder"
export GALAXY_IMPORTER_RUN_ANSIBLE_LINT=0
unset ANSIBLE_CONFIG
python -m galaxy_importer.main celeryops-stack-*.tar.gz >import.log 2>&1 || { cat import.log; exit 1; }
# It tells of a mistake and ends well.
if grep -vE '^(Importing with|Getting doc strings|Finding content|Loading|Collection loading complete|Importer processing completed)' import.log; then
    exit 1
fi
grep -q '^Importer processing completed successfully' import.log
