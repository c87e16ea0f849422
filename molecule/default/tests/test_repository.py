"""RabbitMQ from a signed repository of one's own, at the version that the inventory names, and back to Debian's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testinfra.host import Host

pytestmark = [pytest.mark.broker("rabbitmq"), pytest.mark.seldom, pytest.mark.apart]

FOLDER = "/srv/celeryops-packages"
#: The repository's key is fetched from here, over TLS, with an authority of the test's own.
KEY_PORT = 8443
TAGS = "--tags=rabbitmq"

#: Debian's packages under other version numbers; every other byte is Debian's. "serve" is there before the role asks.
BUILD = f"""
set -eu
export DEBIAN_FRONTEND=noninteractive GNUPGHOME={FOLDER}/gnupg
mkdir -p {FOLDER}/debs {FOLDER}/served && cd {FOLDER}
apt-get install -qq --no-install-recommends apt-utils gpg gpg-agent openssl >/dev/null 2>&1
mkdir -m 700 -p gnupg
gpg --batch --quiet --passphrase '' --quick-generate-key 'Packages <p@example.org>' rsa3072 sign never 2>/dev/null
gpg --armor --export > served/key.asc
for package in rabbitmq-server erlang-base; do
    version=$(dpkg-query --show --showformat='${{Version}}' $package)
    apt-get download -qq $package=$version >/dev/null 2>&1
    dpkg-deb --raw-extract ${{package}}_*.deb $package
    rm ${{package}}_*.deb
    echo "$version" > $package.version
done
openssl req -x509 -newkey rsa:2048 -nodes -keyout tls.key -out tls.crt -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost 2>/dev/null
"""
ADD = f"""
set -eu
export GNUPGHOME={FOLDER}/gnupg
cd {FOLDER}
version=$(cat %(package)s.version)
sed -i "s/^Version: .*/Version: $version+celeryops%(number)s/" %(package)s/DEBIAN/control
dpkg-deb --root-owner-group -Znone --build %(package)s debs/%(package)s_%(number)s.deb >/dev/null
cd debs
apt-ftparchive packages . > Packages
apt-ftparchive release . > Release
gpg --batch --yes --quiet --clearsign --output InRelease Release
echo "$version+celeryops%(number)s"
"""
SERVE = f"""
import http.server, ssl
server = http.server.ThreadingHTTPServer(("127.0.0.1", {KEY_PORT}), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("{FOLDER}/tls.crt", "{FOLDER}/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def version_of(host: Host, package: str) -> str:
    return host.check_output(f"dpkg-query --show --showformat='${{Version}}' {package}")


def candidate(host: Host, package: str) -> str:
    found = re.search(r"Candidate: (\S+)", host.check_output(f"apt-cache policy {package}"))
    assert found
    return found[1]


def add(host: Host, package: str, number: int) -> str:
    """Put another version of a package into the repository and sign it again; return the version."""
    return host.check_output(ADD % {"package": package, "number": number})


@pytest.fixture(scope="module")
def repository(host: Host) -> Iterator[dict[str, Any]]:
    """The variables that lead to the repository; afterwards the host has Debian's packages again."""
    debian = version_of(host, "rabbitmq-server")
    host.check_output(BUILD)
    # Newer ones that nobody asks for: what is pinned wins over what is newest.
    add(host, "rabbitmq-server", 9)
    add(host, "erlang-base", 9)
    host.check_output(
        f"cat > {FOLDER}/serve.py <<'END'\n{SERVE}\nEND\n"
        "systemd-run --quiet --unit=celeryops-test-key --property=DynamicUser=no"
        f" --property=WorkingDirectory={FOLDER}/served python3 {FOLDER}/serve.py"
    )
    try:
        yield {
            "rabbitmq_repository": {
                "uris": [f"file:{FOLDER}/debs"],
                "suites": ["./"],
                "key": f"https://localhost:{KEY_PORT}/key.asc",
            },
            "rabbitmq_version": add(host, "rabbitmq-server", 1),
            "rabbitmq_erlang_version": version_of(host, "erlang-base"),
            "rabbitmq_install_environment": {"SSL_CERT_FILE": f"{FOLDER}/tls.crt"},
        }
    finally:
        # The same bytes under another number, so there is nothing that RabbitMQ would have to go back to.
        host.check_output(
            "systemctl stop celeryops-test-key;"
            "rm -f /etc/apt/sources.list.d/celeryops-rabbitmq.sources /etc/apt/preferences.d/celeryops-rabbitmq.pref;"
            "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d;"
            "apt-get update -qq;"
            f"apt-get install -qq --allow-downgrades rabbitmq-server={debian} >/dev/null 2>&1;"
            f"rm -rf /usr/sbin/policy-rc.d {FOLDER}; systemctl start rabbitmq-server"
        )
        assert version_of(host, "rabbitmq-server") == debian


def main_pid(host: Host) -> str:
    return host.check_output("systemctl show --property=MainPID --value rabbitmq-server.service")


def test_the_version_that_is_pinned_is_installed_and_run(
    host: Host, site: Callable[..., Any], repository: dict[str, Any]
) -> None:
    before = main_pid(host)
    run = site("--check", "--diff", TAGS, variables=repository)
    assert run.messages == []
    assert any("repository" in task for task in run.changed)
    run = site(TAGS, variables=repository)
    assert run.messages == []
    assert version_of(host, "rabbitmq-server") == repository["rabbitmq_version"]
    assert version_of(host, "erlang-base") == repository["rabbitmq_erlang_version"]
    # apt itself keeps to the pins as well, also in an upgrade by hand.
    assert candidate(host, "rabbitmq-server") == repository["rabbitmq_version"]
    assert candidate(host, "erlang-base") == repository["rabbitmq_erlang_version"]
    # The new version runs, and was not started by the package with a configuration of its own.
    assert main_pid(host) != before
    host.check_output("rabbitmqctl --silent list_vhosts")
    run = site(TAGS, variables=repository)
    assert (run.messages, run.changed) == ([], [])


def test_a_raised_pin_is_found_though_the_package_lists_are_fresh(
    host: Host, site: Callable[..., Any], repository: dict[str, Any]
) -> None:
    """And the repository's key may be given as text as well."""
    key = host.check_output(f"cat {FOLDER}/served/key.asc")
    raised = {
        **repository,
        "rabbitmq_repository": {**repository["rabbitmq_repository"], "key": key + "\n"},
        "rabbitmq_version": add(host, "rabbitmq-server", 2),
    }
    run = site(TAGS, variables=raised)
    assert run.messages == []
    assert version_of(host, "rabbitmq-server") == raised["rabbitmq_version"]
    assert not host.file("/etc/apt/keyrings/celeryops-rabbitmq.asc").exists, "the key that the URL led to is left"


@pytest.mark.usefixtures("repository")
def test_the_key_binds_the_repository(host: Host) -> None:
    """What somebody else signed is refused."""
    only = (
        "apt-get update -o APT::Update::Error-Mode=any -o Dir::Etc::sourceparts=-"
        " -o Dir::Etc::sourcelist=sources.list.d/celeryops-rabbitmq.sources 2>&1"
    )
    host.check_output(only)
    host.check_output(
        f"cd {FOLDER}/debs && export GNUPGHOME={FOLDER}/other && mkdir -m 700 -p $GNUPGHOME"
        " && gpg --batch --quiet --passphrase '' --quick-generate-key 'Other <other@example.org>' rsa3072 sign never"
        " && gpg --batch --yes --quiet --clearsign --output InRelease Release"
    )
    refused = host.run(only)
    assert refused.rc != 0
    assert "not signed" in refused.stdout or "NO_PUBKEY" in refused.stdout or "Missing key" in refused.stdout


def test_without_the_variables_nothing_of_it_is_left(
    host: Host, site: Callable[..., Any], repository: dict[str, Any]
) -> None:
    installed = version_of(host, "rabbitmq-server")
    assert installed != repository["rabbitmq_erlang_version"]
    run = site(TAGS)
    assert run.messages == []
    assert host.run("ls /etc/apt/*/celeryops-rabbitmq*").stdout == ""
    # The server itself stays as it is: RabbitMQ cannot go back to an older version.
    assert version_of(host, "rabbitmq-server") == installed
