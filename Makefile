# The commands of this repository. `make` alone lists them.
#
#   make demo         a Celery platform on a container of this machine, with real tasks sent through it
#   make demo-down    remove it
#   make test         what every change has to pass: the checks, and the whole stack on Debian 12 and 13, on RabbitMQ, on Redis,
#                     on several hosts, and from the tarball on two versions of ansible-core (35 minutes)
#   make test-fast    the checks alone, without the slow ones: style, types, unit tests, build (two minutes)
#   make test-all     every test on every stack and version, and the support table written anew; goes on where it was
#                     interrupted (AGAIN=1: from the start)
#   make bench        how fast a run is, the check of a thousand hosts, urgent tasks under a flood, tasks per second, a cluster
#   make chaos        fault a stack under load in every way, on all brokers, and count what became of each task
#   make docs         write what is generated in the READMEs
#   make changelog    write CHANGELOG.md from the fragments in changelogs/
#   make format       put the Python files into shape
#   make build        the collection's tarball, in build/
#   make lock         pin the tools of requirements-dev.in anew
#   make clean        remove what the above left behind, downloads included

SHELL := /bin/sh
VENV := $(CURDIR)/.venv
export PATH := $(VENV)/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_HOME ?= $(CURDIR)/build/ansible
export MYPY_CACHE_DIR := $(CURDIR)/build/cache/mypy
export RUFF_CACHE_DIR := $(CURDIR)/build/cache/ruff
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/build/cache/hypothesis
# Compiled once and kept outside of the tree, also where the environment says that nothing is to be kept (an empty value
# is as good as none): an ansible-playbook that compiles itself takes a fifth more processor time.
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/cache/python
export PYTHONDONTWRITEBYTECODE :=

HOST := celeryops-demo
CODE := plugins roles/celery_app/files scripts tests molecule
CHECKS := check-lint check-tests check-runtime check-package check-style check-format check-types check-yaml check-docs \
	check-plugin-docs check-changelog check-sanity check-galaxy check-release-notes
# Left out of `make test-fast`.
SLOW_CHECKS := check-sanity check-galaxy check-release-notes

.PHONY: help
help:
	@sed -n 's/^#   //p' Makefile

.PHONY: tools
tools:
	@scripts/bootstrap.sh

# -- the demo --------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: tools
	@scripts/lab.py up $(HOST) --suite trixie --publish 127.0.0.1::5555 --publish 127.0.0.1::15672 >/dev/null
	@ansible-playbook -i inventories/demo site.yml
	@scripts/demo.py

.PHONY: demo-down
demo-down:
	@python3 scripts/lab.py down $(HOST) >/dev/null
	@rm -rf inventories/demo/.celeryops

# -- tests -----------------------------------------------------------------------------------------------------------

.PHONY: test test-fast test-all checks
test: tools
	@scripts/run_suites.py --checks gate

# The same without the tests marked as slow: for while one works.
test-fast: export PYTEST_ADDOPTS := -m "not slow"
test-fast: LEFT_OUT := $(SLOW_CHECKS)
# The Celery that differs most; `make test` has one of each.
test-fast: export RUNTIME_SETS := 5.4-kombu-5.7
test-fast: checks

checks: tools
	@+$(MAKE) --no-print-directory --keep-going --jobs=2 --output-sync=target $(filter-out $(LEFT_OUT),$(CHECKS))

# It goes on where it was interrupted: what has passed on this very tree is left out. All anew: make test-all AGAIN=1
test-all: tools
	@scripts/run_suites.py --checks --keep-going $(if $(AGAIN),,--resume) --record tests/support.json all; \
	status=$$?; scripts/docs.py && exit $$status

.PHONY: $(CHECKS)
check-style:
	@scripts/run_check.sh "ruff" ruff check --quiet .

check-format:
	@scripts/run_check.sh "ruff format" ruff format --quiet --check .

check-types:
	@scripts/run_check.sh "mypy" scripts/run_mypy.sh

check-yaml:
	@scripts/run_check.sh "yamllint" yamllint --strict .

check-lint:
	@scripts/run_check.sh "ansible-lint" scripts/run_ansible_lint.sh

check-tests:
	@scripts/run_check.sh "unit tests" --show-last-line pytest -q --numprocesses=auto --junit-xml=build/reports/unit.xml tests/unit

# The runtime's tests once more, on the older versions of Celery that it works with.
check-runtime:
	@scripts/run_check.sh "runtime on other versions" --show-last-line scripts/run_runtime_tests.py $(RUNTIME_SETS)

check-package:
	@scripts/run_check.sh "build and install" scripts/run_package.sh

check-docs:
	@scripts/run_check.sh "generated documentation" scripts/docs.py --check

check-plugin-docs:
	@scripts/run_check.sh "documentation of plugins and roles" antsibull-docs lint-collection-docs --plugin-docs .

check-changelog:
	@scripts/run_check.sh "changelog fragments" antsibull-changelog lint

check-release-notes:
	@scripts/run_check.sh "CHANGELOG.md" scripts/run_changelog.sh --check

# On the ansible-core of .venv; run_control_nodes.py has the others.
check-sanity:
	@scripts/run_check.sh "ansible-test sanity" --show-last-line scripts/run_sanity.py

check-galaxy:
	@scripts/run_check.sh "import as Galaxy does it" scripts/run_galaxy_importer.sh

.PHONY: bench
bench: tools
	@scripts/bench.py
	@scripts/bench_priorities.py
	@scripts/bench_throughput.py
	@scripts/bench_cluster.py
	@scripts/bench_hosts.py

# Another selection: make chaos CHAOS="--short trixie"
.PHONY: chaos
chaos: tools
	@scripts/chaos.py $(CHAOS)

# -- writing ---------------------------------------------------------------------------------------------------------

.PHONY: docs changelog format build lock clean
docs: tools
	@scripts/docs.py

changelog: tools
	@scripts/run_changelog.sh

format: tools
	@ruff check --quiet --fix . || true
	@ruff format --quiet .

build: tools
	@mkdir -p build
	@ansible-galaxy collection build --force --output-path build .

lock: tools
	@{ printf '# Made by `make lock` from requirements-dev.in\n'; \
	   uv pip compile --quiet --universal --upgrade --python-version 3.11 --no-annotate --no-header requirements-dev.in; \
	 } > requirements-dev.txt

clean: demo-down
	@rm -rf build .ansible .venv
