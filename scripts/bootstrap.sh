#!/bin/sh
# Have .venv with exactly what requirements-dev.txt says. Does nothing, at once, when it is there already.
set -eu
cd "$(dirname "$0")/.."

# Debian builds its Python with all optimisations, pyenv's is built without: a playbook takes a fifth more time on that.
python=${PYTHON:-/usr/bin/python3}
[ -n "${PYTHON:-}" ] || "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || python=python3
uv_version=0.13.9
stamp=.venv/installed-from
wanted=$(command -v "$python"; "$python" --version 2>&1; echo "uv $uv_version"; cat requirements-dev.txt)

[ -f "$stamp" ] && [ "$wanted" = "$(cat "$stamp")" ] && exit 0

say() { printf '  %s\n' "$*" >&2; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    say "Python 3.11 or newer is needed, and $python is $("$python" --version 2>&1). Name another one: make PYTHON=..."
    exit 1
}
"$python" -c 'import ensurepip' 2>/dev/null || {
    say "Installing python3-venv"
    as_root env DEBIAN_FRONTEND=noninteractive sh -c \
        'apt-get -qq update && apt-get -qq install -y --no-install-recommends python3-venv >/dev/null'
}

started=$(date +%s)
say "Installing the tools into .venv ..."
rm -f "$stamp"
"$python" -m venv --clear .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$uv_version" >&2
# The machine's own certificates, for networks that have their own; and pip's index, where one is set.
export UV_SYSTEM_CERTS=1
[ -z "${PIP_INDEX_URL:-}" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}"
VIRTUAL_ENV=$PWD/.venv .venv/bin/uv pip sync --quiet requirements-dev.txt
printf '%s' "$wanted" > "$stamp"
say "Installing the tools into .venv: $(($(date +%s) - started)) s"
