#!/bin/sh
# ansible-lint, strict, with the production profile. It keeps its caches in the project it lints; it needs no network.
set -eu
cd "$(dirname "$0")/.."
exec ansible-lint --offline --strict -q --nocolor
