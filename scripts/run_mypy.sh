#!/bin/sh
# Types of everything that is Python here. The plugins are checked under the names by which Ansible imports them.
set -eu
cd "$(dirname "$0")/.."
mypy collections/ansible_collections/celeryops/stack/plugins roles/celery_app/files
mypy scripts/*.py scripts/tools
