"""Apps from elsewhere than a directory: a wheel, somebody else's environment, and where mistakes and secrets are near:
packages with hashes, a private index behind a password, and a private repository behind a deploy key.
"""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from testinfra.host import Host

pytestmark = [pytest.mark.long, pytest.mark.apart]

ROOT = Path(__file__).resolve().parents[3]
SHOP = ROOT / "examples" / "shop"
APP = "elsewhere"
GIT = "/srv/celeryops-git"
SSH_PORT = 2222
#: A repository that only a key opens, on an SSH server of the test's own.
BUILD = f"""
set -eu
export DEBIAN_FRONTEND=noninteractive
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d
apt-get install -qq --no-install-recommends git openssh-server >/dev/null 2>&1
rm /usr/sbin/policy-rc.d
systemctl disable --quiet ssh.service ssh.socket 2>/dev/null || true
mkdir -p /run/sshd
useradd --system --shell /bin/sh --password '*' --home-dir {GIT} celeryops-git
cd {GIT}
ssh-keygen -q -t ed25519 -N '' -C host -f host_key
ssh-keygen -q -t ed25519 -N '' -C deploy -f deploy_key
ssh-keygen -q -t ed25519 -N '' -C other -f other_key
mv deploy_key.pub authorized_keys
cat > sshd_config <<'END'
Port {SSH_PORT}
ListenAddress 127.0.0.1
HostKey {GIT}/host_key
AuthorizedKeysFile {GIT}/authorized_keys
PasswordAuthentication no
StrictModes no
UsePAM no
PidFile none
END
git config --global --add safe.directory '*'
git config --global user.name shop; git config --global user.email shop@example.org
git init --quiet --initial-branch=main work
git clone --quiet --bare work shop.git 2>/dev/null
systemd-run --quiet --unit=celeryops-test-git /usr/sbin/sshd -D -e -f {GIT}/sshd_config
"""
INDEX, INDEX_PORT, INDEX_PASSWORD = "/srv/celeryops-index", 8765, "unread-by-anyone-4711"
#: A package index with one package, for whoever has the password.
SERVE = f"""
import base64, http.server
LOGIN = "Basic " + base64.b64encode(b"ci:{INDEX_PASSWORD}").decode()
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.headers.get("Authorization") == LOGIN:
            return super().do_GET()
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="index"')
        self.end_headers()
    do_HEAD = do_GET
http.server.ThreadingHTTPServer(("127.0.0.1", {INDEX_PORT}), Handler).serve_forever()
"""
#: A stranger's index: it has a package of the same name, in a higher version.
STRANGER_PORT = 8766
#: The same repository over HTTP, for whoever has the password.
HTTP_PORT, HTTP_PASSWORD = 8767, "unread/by@anyone:4712"
SERVE_GIT = f"""
import base64, http.server, os, subprocess
LOGIN = "Basic " + base64.b64encode(b"ci:{HTTP_PASSWORD}").decode()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != LOGIN:
            return self.answer(401, [("WWW-Authenticate", 'Basic realm="git"')], b"")
        path, _sign, query = self.path.partition("?")
        said = subprocess.run(["git", "http-backend"], input=body, stdout=subprocess.PIPE, env={{
            **os.environ, "GIT_PROJECT_ROOT": "{GIT}", "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "HOME": "/root",
            "QUERY_STRING": query, "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }}).stdout
        head, _sign, rest = said.partition(b"\\r\\n\\r\\n")
        headers = [tuple(line.split(": ", 1)) for line in head.decode().splitlines()]
        self.answer(int(dict(headers).pop("Status", "200").split()[0]), headers, rest)
    do_POST = do_GET
    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in [*headers, ("Content-Length", str(len(body)))]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", {HTTP_PORT}), Handler).serve_forever()
"""
COMMIT = f"""
set -eu
cd {GIT}/work
sed -i 's/^version = .*/version = "%s"/' pyproject.toml
git add --all
git commit --quiet --message 'Version %s'
git push --quiet ../shop.git main
chown -R celeryops-git {GIT}/shop.git
git rev-parse HEAD
"""


def current(host: Host) -> str:
    return host.check_output(f"readlink /opt/celeryops/{APP}/current || true")


def releases(host: Host) -> list[str]:
    return host.check_output(f"ls /opt/celeryops/{APP}/releases 2>/dev/null || true").split()


@pytest.fixture(scope="module")
def deploy(host: Host, site: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Install the app from a source; it leaves the host when the tests are done."""

    def run(source: dict[str, Any], *arguments: str) -> Any:
        return site(*arguments, playbook="molecule/default/sources.yml", variables={"celery_app_source": source})

    yield run
    host.check_output(
        f"rm -rf /opt/celeryops/{APP} /etc/celeryops/{APP} /var/lib/celeryops/{APP} /var/log/celeryops/{APP};"
        f"userdel {APP}"
    )


@pytest.fixture(scope="module")
def hashed(host: Host) -> str:
    """Every package that the shop needs, and what builds it, with hashes."""
    wanted = "celery[redis]>=5.7\nsetuptools>=77"
    return host.check_output(
        "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt UV_CACHE_DIR=/var/cache/celeryops/uv /opt/celeryops/uv/bin/uv"
        f" pip compile --quiet --no-header --no-annotate --generate-hashes - <<'END'\n{wanted}\nEND"
    )


def test_packages_with_their_hashes_are_installed(host: Host, deploy: Callable[..., Any], hashed: str) -> None:
    source = {"type": "path", "path": str(SHOP), "require_hashes": True, "requirements": hashed}
    run = deploy(source)
    assert run.messages == []
    release = current(host)
    assert release
    versions = host.check_output(f"ls /opt/celeryops/{APP}/current/lib/python3*/site-packages")
    for name, version in re.findall(r"^(\w+)(?:\[\w+\])?==(\S+)", hashed, re.MULTILINE):
        assert f"{name}-{version}.dist-info" in versions
    assert "shop-1.0.0.dist-info" in versions
    again = deploy(source)
    assert (again.messages, again.changed) == ([], [])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        # What the index has is not what was written down.
        (
            lambda text: re.sub(r"(?s)(celery(?:\[\w+\])?==.*?)(?=\n\w)", _another_hash, text, count=1),
            r"(?i)hash.*celery|celery.*hash",
        ),
        # One package has no hash at all.
        (lambda text: re.sub(r"(?m)^(vine==\S+)(?: \\\n +--hash=\S+)+", r"\1", text), "(?i)hash.*vine|vine.*hash"),
        # The list does not name everything.
        (lambda text: re.sub(r"(?m)^vine==\S+(?: \\\n +--hash=\S+)+\n", "", text), "(?i)hash.*vine|vine.*hash"),
    ],
    ids=["wrong", "missing", "incomplete"],
)
def test_a_package_that_is_not_what_the_hash_says_is_refused(
    host: Host, deploy: Callable[..., Any], hashed: str, damage: Callable[[str], str], told: str
) -> None:
    damaged = damage(hashed)
    assert damaged != hashed
    before = (current(host), releases(host))
    run = deploy({"type": "path", "path": str(SHOP), "require_hashes": True, "requirements": damaged})
    assert len(run.messages) == 1
    assert "could not be installed" in run.messages[0]
    assert re.search(told, run.messages[0].replace("\n", " ")), run.messages[0]
    assert (current(host), releases(host)) == before


def _another_hash(match: re.Match[str]) -> str:
    return re.sub(r"sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", match[0])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop as a wheel on the control machine; a build writes into the tree, so it has one of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(SHOP, folder / "shop")
    subprocess.run(["uv", "build", "--quiet", "--wheel", "--out-dir", folder, folder / "shop"], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def from_wheel(deploy: Callable[..., Any], wheel: Path) -> Any:
    """The run that made the wheel a release, which the tests up to the next source have."""
    return deploy({"type": "wheel", "path": str(wheel)})


def test_a_wheel_becomes_a_release(host: Host, deploy: Callable[..., Any], wheel: Path, from_wheel: Any) -> None:
    source = {"type": "wheel", "path": str(wheel)}
    assert from_wheel.messages == []
    assert "shop-1.0.0.dist-info" in host.check_output(f"ls /opt/celeryops/{APP}/current/lib/python3*/site-packages")
    again = deploy(source)
    assert (again.messages, again.changed) == ([], [])


def test_an_environment_of_somebody_else_is_used_and_left_as_it_is(
    host: Host, deploy: Callable[..., Any], wheel: Path, from_wheel: Any
) -> None:
    assert from_wheel.messages == []
    release = f"/opt/celeryops/{APP}/{current(host)}"
    theirs = "/srv/celeryops-environment"
    host.check_output(f"cp --archive {release} {theirs}; rm {theirs}/release.json")
    listing = f"find {theirs} -printf '%p %s %T@ %m %u\\n' | sort"
    before = host.check_output(listing)
    try:
        run = deploy({"type": "virtualenv", "path": theirs})
        assert run.messages == []
        assert current(host) == theirs
        assert host.check_output(listing) == before
        again = deploy({"type": "virtualenv", "path": theirs})
        assert (again.messages, again.changed) == ([], [])
        missing = deploy({"type": "virtualenv", "path": "/srv/nowhere"})
        assert len(missing.messages) == 1
        assert "celery_app_source.path: there is no virtual environment /srv/nowhere" in missing.messages[0]
        assert current(host) == theirs
    finally:
        assert deploy({"type": "wheel", "path": str(wheel)}).messages == []
        host.check_output(f"rm -r {theirs}")


@pytest.fixture(scope="module")
def index(host: Host, wheel: Path) -> Iterator[str]:
    """Address of the index, with the password in it."""
    unit = "celeryops-test-index"
    content = base64.b64encode(wheel.read_bytes()).decode()
    host.check_output(f"mkdir -p {INDEX}/simple/shop")
    host.check_output(f"base64 --decode > {INDEX}/simple/shop/{wheel.name} <<'END'\n{content}\nEND")
    host.check_output(f"cat > /srv/celeryops-index.py <<'END'\n{SERVE}\nEND")
    host.check_output(
        f"chmod 600 /srv/celeryops-index.py; systemd-run --quiet --unit={unit} --property=WorkingDirectory={INDEX}"
        " python3 /srv/celeryops-index.py"
    )
    yield f"http://ci:{INDEX_PASSWORD}@127.0.0.1:{INDEX_PORT}/simple/"
    host.check_output(f"systemctl stop {unit}; rm -r {INDEX} /srv/celeryops-index.py")


def test_the_password_of_a_private_index_is_nowhere_afterwards(
    host: Host, deploy: Callable[..., Any], index: str, witness: Callable[..., Any]
) -> None:
    source = {"type": "pip", "packages": ["shop==1.0.0"], "extra_index_urls": [index]}
    with witness() as seen:
        run = deploy(source, "--diff", "-vvv")
    assert run.messages == []
    assert "shop-1.0.0.dist-info" in host.check_output(f"ls /opt/celeryops/{APP}/current/lib/python3*/site-packages")
    commands = seen()
    assert "uv pip install" in commands, "nobody watched uv"
    assert INDEX_PASSWORD not in run.output
    assert INDEX_PASSWORD not in commands
    found = host.check_output(
        "grep --recursive --files-with-matches --binary-files=text --devices=skip --fixed-strings --file=-"
        f" /etc /home /opt /root /run /srv /tmp /usr/local /var <<'END'\n{INDEX_PASSWORD}\nEND"
    )
    assert found == "/srv/celeryops-index.py", "the password is still on the host"
    again = deploy(source)
    assert (again.messages, again.changed) == ([], [])
    # Another version of the same package, which no index has: the release in use stays.
    before = (current(host), releases(host))
    refused = deploy({**source, "packages": ["shop==9.9.9"]})
    assert len(refused.messages) == 1
    assert INDEX_PASSWORD not in refused.output
    assert (current(host), releases(host)) == before


@pytest.fixture(scope="module")
def repository(host: Host, container: str) -> Iterator[dict[str, str]]:
    """The private repository with the shop in it; the key that opens it leaves the host and is returned."""
    host.check_output(f"mkdir -p {GIT}")
    host.check_output(BUILD)
    subprocess.run(["docker", "cp", "--quiet", f"{SHOP}/.", f"{container}:{GIT}/work"], check=True, capture_output=True)
    host.check_output(COMMIT % ("2.0.0", "2.0.0"))
    keys = {name: host.check_output(f"cat {GIT}/{name}_key && rm {GIT}/{name}_key") for name in ("deploy", "other")}
    server = host.check_output(f"cut -d' ' -f1,2 {GIT}/host_key.pub")
    yield {
        **keys,
        "server": f"[127.0.0.1]:{SSH_PORT} {server}\n",
        "impostor": host.check_output(f"cat {GIT}/other_key.pub"),
    }
    host.check_output(
        f"systemctl stop celeryops-test-git; userdel celeryops-git; rm -rf {GIT} /root/.gitconfig;"
        "DEBIAN_FRONTEND=noninteractive apt-get purge -qq openssh-server openssh-sftp-server >/dev/null 2>&1"
    )


def private(repository: dict[str, str], **changes: str) -> dict[str, Any]:
    source = {
        "type": "git",
        "repo": f"ssh://celeryops-git@127.0.0.1:{SSH_PORT}{GIT}/shop.git",
        "version": "main",
        "deploy_key": repository["deploy"] + "\n",
        "known_hosts": repository["server"],
    }
    return {**source, **changes}


def test_a_deploy_key_opens_a_private_repository_and_is_nowhere_afterwards(
    host: Host, deploy: Callable[..., Any], repository: dict[str, str], witness: Callable[..., Any]
) -> None:
    with witness() as seen:
        run = deploy(private(repository), "--diff", "-vvv")
    assert run.messages == []
    assert "shop-2.0.0.dist-info" in host.check_output(f"ls /opt/celeryops/{APP}/current/lib/python3*/site-packages")
    commands = seen()
    assert "git clone" in commands, "nobody watched git"
    # The first line is the same in all keys.
    lines = [line for line in repository["deploy"].splitlines() if not line.startswith("-----")][1:]
    assert [line for line in lines if line in run.output or line in commands] == []
    # The public key is there, which shows that the search finds something.
    public = host.check_output(f"cut -d' ' -f2 {GIT}/authorized_keys")
    found = host.check_output(
        "grep --recursive --files-with-matches --binary-files=text --devices=skip --fixed-strings --file=-"
        " /etc /home /opt /root /run /srv /tmp /usr/local /var <<'END'\n" + "\n".join([*lines, public]) + "\nEND"
    )
    assert found == f"{GIT}/authorized_keys", "the key is still on the host"
    again = deploy(private(repository))
    assert (again.messages, again.changed) == ([], [])


def test_a_new_commit_is_a_new_release_and_the_old_one_leaves(
    host: Host, deploy: Callable[..., Any], repository: dict[str, str]
) -> None:
    assert deploy(private(repository)).messages == []
    before = current(host)
    commit = host.check_output(COMMIT % ("2.1.0", "2.1.0"))
    run = deploy(private(repository))
    assert run.messages == []
    assert commit[:7] in current(host) != before
    assert [f"releases/{name}" for name in releases(host)] == [current(host)]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"deploy_key": "other"}, "Permission denied"),
        ({"known_hosts": "impostor"}, "Host key verification failed"),
        ({"version": "nowhere"}, "neither a tag nor a branch nowhere"),
    ],
    ids=["wrong key", "another server", "no such branch"],
)
def test_what_keeps_the_source_away_is_said_and_nothing_changes(
    host: Host, deploy: Callable[..., Any], repository: dict[str, str], changes: dict[str, str], told: str
) -> None:
    values = {"other": repository["other"] + "\n", "impostor": f"[127.0.0.1]:{SSH_PORT} {repository['impostor']}\n"}
    before = (current(host), releases(host))
    run = deploy(private(repository, **{key: values.get(value, value) for key, value in changes.items()}))
    assert len(run.messages) == 1
    assert told in run.messages[0]
    assert (current(host), releases(host)) == before


def test_a_password_in_an_address_opens_a_repository_and_is_seen_by_nobody(
    host: Host, deploy: Callable[..., Any], repository: dict[str, str], witness: Callable[..., Any]
) -> None:
    del repository
    program, unit = "/srv/celeryops-git-http.py", "celeryops-test-git-http"
    host.check_output(f"cat > {program} <<'END'\n{SERVE_GIT}\nEND")
    host.check_output(f"chmod 600 {program}; systemd-run --quiet --unit={unit} python3 {program}")
    written = quote(HTTP_PASSWORD, safe="")
    source = {"type": "git", "repo": f"http://ci:{written}@127.0.0.1:{HTTP_PORT}/shop.git", "version": "main"}
    forms = (HTTP_PASSWORD, written, base64.b64encode(f"ci:{HTTP_PASSWORD}".encode()).decode())
    try:
        with witness() as seen:
            run = deploy({**source, "build": "over HTTP"}, "--diff", "-vvv")
        assert run.messages == []
        commands = seen()
        assert "git-remote-http" in commands, "nobody watched git's helper"
        assert [form for form in forms if form in commands or form in run.output] == []
        found = host.check_output(
            "grep --recursive --files-with-matches --binary-files=text --devices=skip --fixed-strings --file=-"
            f" /etc /home /opt /root /run /srv /tmp /usr/local /var <<'END'\n{chr(10).join(forms)}\nEND"
        )
        assert found == program, "the password is still on the host"
        refused = deploy({**source, "repo": source["repo"].replace(written, "another-one"), "build": "refused"})
        assert "Authentication failed" in refused.messages[0]
        assert "another-one" not in refused.output
    finally:
        host.check_output(f"systemctl stop {unit}; rm {program}")


def test_the_index_that_is_named_first_is_not_replaced_by_a_strangers(
    host: Host, deploy: Callable[..., Any], index: str, wheel: Path
) -> None:
    folder, unit = "/srv/celeryops-stranger", "celeryops-test-stranger"
    # The same content under a higher version: only its name tells whose it is.
    host.check_output(
        f"mkdir -p {folder}/simple/shop; cd {folder}; python3 -m zipfile -e {INDEX}/simple/shop/{wheel.name} w;"
        " mv w/shop-1.0.0.dist-info w/shop-9.0.0.dist-info;"
        " sed -i 's/^Version: .*/Version: 9.0.0/' w/shop-9.0.0.dist-info/METADATA;"
        " cd w; python3 -m zipfile -c ../simple/shop/shop-9.0.0-py3-none-any.whl *; cd ..; rm -r w"
    )
    host.check_output(
        f"systemd-run --quiet --unit={unit} --property=WorkingDirectory={folder}"
        f" python3 -m http.server --bind 127.0.0.1 {STRANGER_PORT}"
    )
    stranger = f"http://127.0.0.1:{STRANGER_PORT}/simple/"
    packages = f"ls /opt/celeryops/{APP}/current/lib/python3*/site-packages"
    public = "https://pypi.org/simple/"
    try:
        ours = deploy(
            {"type": "pip", "packages": ["shop>=1"], "index_url": index, "extra_index_urls": [stranger, public]}
        )
        assert ours.messages == []
        assert "shop-1.0.0.dist-info" in host.check_output(packages)
        theirs = deploy(
            {"type": "pip", "packages": ["shop>=1"], "index_url": stranger, "extra_index_urls": [index, public]}
        )
        assert theirs.messages == []
        assert "shop-9.0.0.dist-info" in host.check_output(packages), "the stranger's index was not asked at all"
    finally:
        host.check_output(f"systemctl stop {unit}; rm -r {folder}")
