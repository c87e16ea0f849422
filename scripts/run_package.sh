#!/bin/sh
# Build the collection, install the tarball into an empty folder, and use it from there, as someone who has no checkout.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

ansible-galaxy collection build --output-path "$folder" . >"$folder/build.log"
tarball=$(ls "$folder"/celeryops-stack-*.tar.gz)
# Two files are made by the build itself; every other one has to be a file of the repository, or about to be one.
git ls-files --cached --others --exclude-standard | sort >"$folder/repository"
tar -tzf "$tarball" | grep -v -e '/$' -e '^FILES.json$' -e '^MANIFEST.json$' | sort >"$folder/shipped"
if comm -13 "$folder/repository" "$folder/shipped" | grep . ||
    grep -E '^(\.|molecule/|tests/|scripts/|inventories/|changelogs/fragments/|requirements-dev|CONTRIBUTING|Makefile|ansible.cfg|pyproject)' "$folder/shipped"; then
    echo "The tarball holds what is not to be shipped (above): see build_ignore in galaxy.yml."
    exit 1
fi
if tar -xzOf "$tarball" | grep -qaF "$root"; then
    echo "A shipped file names $root."
    exit 1
fi
# The checkout must be out of sight, or it would be found in place of the tarball.
cd "$folder"
: >ansible.cfg
export ANSIBLE_CONFIG="$folder/ansible.cfg" ANSIBLE_COLLECTIONS_PATH="$folder/collections"
ansible-galaxy collection install --offline --collections-path "$folder/collections" "$tarball" >"$folder/install.log"

# One start of Ansible for all of them.
(cd "$folder/collections/ansible_collections/celeryops/stack/playbooks" && ls ./*.yml) |
    xargs -n 1 basename -s .yml | sed 's/^/celeryops.stack./' |
    xargs ansible-playbook -i localhost, --syntax-check
# As somebody writes it who has read the README, with nothing of the checkout in sight.
mkdir "$folder/inventory"
cat >"$folder/inventory/hosts.yml" <<'END'
all:
  vars:
    celery_app_name: shop
    celery_app_import: shop.celery:app
    celery_app_source: {type: git, repo: "https://git.example.org/acme/shop.git", version: v1.4.2}
    celery_worker_classes: {default: {concurrency: 2}}
rabbitmq: {hosts: {app1.invalid: }}
redis: {hosts: {app1.invalid: }}
celery_workers: {hosts: {app1.invalid: }}
flower: {hosts: {app1.invalid: }}
END
ansible-playbook -i "$folder/inventory" celeryops.stack.check
(cd "$root/roles" && ls) | sed 's/^/celeryops.stack./' | xargs ansible-doc --type role >/dev/null
for kind in module filter; do
    plugins=plugins/$kind
    [ "$kind" = filter ] || plugins=plugins/modules
    (cd "$root" && ls $plugins/*.py) | xargs -n 1 basename -s .py | sed 's/^/celeryops.stack./' |
        xargs ansible-doc --type "$kind" >/dev/null
done
