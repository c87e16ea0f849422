"""Apps from elsewhere than a directory: a wheel, somebody else's environment, and where mistakes and secrets are near:
packages with hashes, a private index behind a password, and a private repository behind a deploy key.

Each source is an app of its own, and one run installs them all: a run costs more than what it does for an app. Another
run finds a new commit and an environment that was not there, a third one nothing to do, and the last one is refused
everything that it asks for.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from testinfra.host import Host

pytestmark = [pytest.mark.long, pytest.mark.apart]

ROOT = Path(__file__).resolve().parents[3]
SHOP = ROOT / "examples" / "shop"
#: An environment that a person has set up, and a directory that is none.
THEIRS, NOWHERE = "/srv/celeryops-environment", "/srv/nowhere"
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
STRANGER, STRANGER_PORT = "/srv/celeryops-stranger", 8766
PUBLIC = "https://pypi.org/simple/"
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


Source = dict[str, Any]
Install = Callable[..., Any]


def written(password: str) -> str:
    """Return a password as an address has it."""
    return quote(password, safe="")


@dataclasses.dataclass(frozen=True)
class State:
    """What the host has of an app."""

    current: str
    releases: list[str]
    packages: list[str]


def states(host: Host) -> dict[str, State]:
    """Return the state of every app that these tests have installed, asked in one call."""
    program = """
import glob, json, os
found = {}
for base in glob.glob("/opt/celeryops/from_*"):
    link, releases = f"{base}/current", f"{base}/releases"
    found[os.path.basename(base)] = {
        "current": os.readlink(link) if os.path.islink(link) else "",
        "releases": sorted(os.listdir(releases)) if os.path.isdir(releases) else [],
        "packages": [os.path.basename(one) for one in glob.glob(f"{link}/lib/python3*/site-packages/*.dist-info")],
    }
print(json.dumps(found))
"""
    found = json.loads(host.check_output(f"python3 - <<'END'\n{program}\nEND"))
    return {name: State(**state) for name, state in found.items()}


@pytest.fixture(scope="module")
def install(host: Host, site: Callable[..., Any]) -> Iterator[Install]:
    """Install an app from each source, in this order; they leave the host when the tests are done."""

    def run(sources: list[tuple[str, Source]], *arguments: str) -> Any:
        given = [{"name": name, "source": source} for name, source in sources]
        return site(*arguments, playbook="molecule/default/sources.yml", variables={"test_sources": given})

    yield run
    host.check_output(
        "for app in $(cd /opt/celeryops && ls -d from_*); do"
        " rm -rf /opt/celeryops/$app /etc/celeryops/$app /var/lib/celeryops/$app /var/log/celeryops/$app;"
        " userdel $app; done"
    )


@pytest.fixture(scope="module")
def hashed(host: Host) -> str:
    """Every package that the shop needs, and what builds it, with hashes."""
    wanted = "celery[redis]>=5.7\nsetuptools>=77"
    return host.check_output(
        "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt UV_CACHE_DIR=/var/cache/celeryops/uv /opt/celeryops/uv/bin/uv"
        f" pip compile --quiet --no-header --no-annotate --generate-hashes - <<'END'\n{wanted}\nEND"
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop as a wheel on the control machine; a build writes into the tree, so it has one of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(SHOP, folder / "shop")
    subprocess.run(["uv", "build", "--quiet", "--wheel", "--out-dir", folder, folder / "shop"], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def index(host: Host, wheel: Path) -> Iterator[str]:
    """Address of the index, with the password in it."""
    unit = "celeryops-test-index"
    content = base64.b64encode(wheel.read_bytes()).decode()
    host.check_output(f"mkdir -p {INDEX}/simple/shop")
    host.check_output(f"base64 --decode > {INDEX}/simple/shop/{wheel.name} <<'END'\n{content}\nEND")
    host.check_output(f"cat > {INDEX}.py <<'END'\n{SERVE}\nEND")
    host.check_output(
        f"chmod 600 {INDEX}.py;"
        f" systemd-run --quiet --unit={unit} --property=WorkingDirectory={INDEX} python3 {INDEX}.py"
    )
    yield f"http://ci:{INDEX_PASSWORD}@127.0.0.1:{INDEX_PORT}/simple/"
    host.check_output(f"systemctl stop {unit}; rm -r {INDEX} {INDEX}.py")


@pytest.fixture(scope="module")
def stranger(host: Host, index: str, wheel: Path) -> Iterator[str]:
    """Address of the stranger's index."""
    del index
    unit = "celeryops-test-stranger"
    # The same content under a higher version: only its name tells whose it is.
    host.check_output(
        f"mkdir -p {STRANGER}/simple/shop; cd {STRANGER}; python3 -m zipfile -e {INDEX}/simple/shop/{wheel.name} w;"
        " mv w/shop-1.0.0.dist-info w/shop-9.0.0.dist-info;"
        " sed -i 's/^Version: .*/Version: 9.0.0/' w/shop-9.0.0.dist-info/METADATA;"
        " cd w; python3 -m zipfile -c ../simple/shop/shop-9.0.0-py3-none-any.whl *; cd ..; rm -r w"
    )
    host.check_output(
        f"systemd-run --quiet --unit={unit} --property=WorkingDirectory={STRANGER}"
        f" python3 -m http.server --bind 127.0.0.1 {STRANGER_PORT}"
    )
    yield f"http://127.0.0.1:{STRANGER_PORT}/simple/"
    host.check_output(f"systemctl stop {unit}; rm -r {STRANGER}")


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
        "impostor": f"[127.0.0.1]:{SSH_PORT} {host.check_output(f'cat {GIT}/other_key.pub')}\n",
    }
    host.check_output(
        f"systemctl stop celeryops-test-git; userdel celeryops-git; rm -rf {GIT} /root/.gitconfig;"
        "DEBIAN_FRONTEND=noninteractive apt-get purge -qq openssh-server openssh-sftp-server >/dev/null 2>&1"
    )


@pytest.fixture(scope="module")
def over_http(host: Host, repository: dict[str, str]) -> Iterator[str]:
    """Address of the same repository over HTTP, with the password in it."""
    del repository
    unit = "celeryops-test-git-http"
    host.check_output(f"cat > {GIT}-http.py <<'END'\n{SERVE_GIT}\nEND")
    host.check_output(f"chmod 600 {GIT}-http.py; systemd-run --quiet --unit={unit} python3 {GIT}-http.py")
    yield f"http://ci:{written(HTTP_PASSWORD)}@127.0.0.1:{HTTP_PORT}/shop.git"
    host.check_output(f"systemctl stop {unit}; rm {GIT}-http.py")


@pytest.fixture(scope="module")
def sources(
    hashed: str, wheel: Path, index: str, stranger: str, repository: dict[str, str], over_http: str
) -> dict[str, Source]:
    """App -> where it comes from."""
    named_first = {"type": "pip", "packages": ["shop>=1"]}
    return {
        "from_hashes": {"type": "path", "path": str(SHOP), "require_hashes": True, "requirements": hashed},
        "from_wheel": {"type": "wheel", "path": str(wheel)},
        "from_index": {"type": "pip", "packages": ["shop==1.0.0"], "extra_index_urls": [index]},
        "from_ours": {**named_first, "index_url": index, "extra_index_urls": [stranger, PUBLIC]},
        "from_theirs": {**named_first, "index_url": stranger, "extra_index_urls": [index, PUBLIC]},
        "from_key": {
            "type": "git",
            "repo": f"ssh://celeryops-git@127.0.0.1:{SSH_PORT}{GIT}/shop.git",
            "version": "main",
            "deploy_key": repository["deploy"] + "\n",
            "known_hosts": repository["server"],
        },
        "from_http": {"type": "git", "repo": over_http, "version": "main"},
    }


@dataclasses.dataclass
class Installed:
    """The run that installed every app, and what was seen of it."""

    run: Any
    commands: str
    state: Mapping[str, State]


@pytest.fixture(scope="module")
def installed(host: Host, install: Install, sources: dict[str, Source], witness: Callable[..., Any]) -> Installed:
    """Every app from its source, while somebody watches."""
    with witness() as seen:
        run = install([*sources.items()], "--diff", "-vvv")
    assert run.messages == []
    return Installed(run, seen(), states(host))


def test_packages_with_their_hashes_are_installed(installed: Installed, hashed: str) -> None:
    packages = installed.state["from_hashes"].packages
    wanted = [f"{name}-{version}" for name, version in re.findall(r"^(\w+)(?:\[\w+\])?==(\S+)", hashed, re.MULTILINE)]
    assert len(wanted) > 5
    assert {f"{one}.dist-info" for one in [*wanted, "shop-1.0.0"]} <= {*packages}


def test_a_wheel_becomes_a_release(installed: Installed) -> None:
    assert "shop-1.0.0.dist-info" in installed.state["from_wheel"].packages


def test_a_private_index_a_key_and_a_password_give_the_app(installed: Installed) -> None:
    found = {app: installed.state[app].packages for app in ("from_index", "from_key", "from_http")}
    assert "shop-1.0.0.dist-info" in found["from_index"]
    assert "shop-2.0.0.dist-info" in found["from_key"]
    assert "shop-2.0.0.dist-info" in found["from_http"]


def test_the_index_that_is_named_first_is_not_replaced_by_a_strangers(installed: Installed) -> None:
    assert "shop-1.0.0.dist-info" in installed.state["from_ours"].packages
    theirs = installed.state["from_theirs"].packages
    assert "shop-9.0.0.dist-info" in theirs, "the stranger's index was not asked at all"


@pytest.fixture(scope="module")
def unsaid(repository: dict[str, str]) -> dict[str, str]:
    """What nobody may see, each as it could be written, with the place where it is because the tests need it."""
    # The first line is the same in all keys.
    lines = [line for line in repository["deploy"].splitlines() if not line.startswith("-----")][1:]
    login = base64.b64encode(f"ci:{HTTP_PASSWORD}".encode()).decode()
    return {
        INDEX_PASSWORD: f"{INDEX}.py",
        HTTP_PASSWORD: f"{GIT}-http.py",
        **dict.fromkeys([written(HTTP_PASSWORD), login, *lines], ""),
    }


def test_no_password_and_no_key_is_among_the_arguments_or_in_the_output(
    installed: Installed, unsaid: dict[str, str]
) -> None:
    for program in ("uv pip install", "git clone", "git-remote-http"):
        assert program in installed.commands, f"nobody watched {program}"
    assert sum(one in installed.commands or one in installed.run.output for one in unsaid) == 0


@pytest.mark.usefixtures("installed")
def test_no_password_and_no_key_is_on_the_host_afterwards(host: Host, unsaid: dict[str, str]) -> None:
    # The public key is there, which shows that the search finds something.
    public = host.check_output(f"cut -d' ' -f2 {GIT}/authorized_keys")
    found = host.check_output(
        "grep --recursive --only-matching --with-filename --binary-files=text --devices=skip --fixed-strings --file=-"
        f" /etc /home /opt /root /run /srv /tmp /usr/local /var <<'END'\n{chr(10).join([*unsaid, public])}\nEND"
    )
    wanted = {f"{path}:{one}" for one, path in {**unsaid, public: f"{GIT}/authorized_keys"}.items() if path}
    assert {*found.splitlines()} == wanted


@dataclasses.dataclass
class Moved:
    """What the second run found: a new commit, and an environment that a person has set up."""

    commit: str
    before: str
    state: Mapping[str, State]
    again: Any
    afterwards: Mapping[str, State]
    listings: list[str]


@pytest.fixture(scope="module")
def moved(host: Host, install: Install, sources: dict[str, Source], installed: Installed) -> Iterator[Moved]:
    """A new commit is taken into use, and somebody's environment; then another run for all of them."""
    release = f"/opt/celeryops/from_wheel/{installed.state['from_wheel'].current}"
    host.check_output(f"cp --archive {release} {THEIRS}; rm {THEIRS}/release.json")
    listing = f"find {THEIRS} -printf '%p %s %T@ %m %u\\n' | sort"
    before = host.check_output(listing)
    commit = host.check_output(COMMIT % ("2.1.0", "2.1.0"))
    environment = ("from_environment", {"type": "virtualenv", "path": THEIRS})
    run = install([("from_key", sources["from_key"]), environment])
    assert run.messages == []
    state = states(host)
    # The branch of the repository over HTTP has the new commit too, which would be a change.
    again = install([*((app, source) for app, source in sources.items() if app != "from_http"), environment])
    yield Moved(
        commit, installed.state["from_key"].current, state, again, states(host), [before, host.check_output(listing)]
    )
    host.check_output(f"rm -r {THEIRS}")


def test_a_new_commit_is_a_new_release_and_the_old_one_leaves(moved: Moved) -> None:
    state = moved.state["from_key"]
    assert moved.commit[:7] in state.current
    assert state.current != moved.before
    assert [f"releases/{name}" for name in state.releases] == [state.current]
    assert "shop-2.1.0.dist-info" in state.packages


def test_an_environment_of_somebody_else_is_used_and_left_as_it_is(moved: Moved) -> None:
    assert moved.state["from_environment"].current == THEIRS
    assert moved.listings[0] == moved.listings[1]


def test_another_run_changes_nothing_whatever_the_source(moved: Moved) -> None:
    assert (moved.again.messages, moved.again.changed) == ([], [])
    assert moved.afterwards == moved.state


def _another_hash(match: re.Match[str]) -> str:
    return re.sub(r"sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", match[0])


#: What is wrong with a list of hashes: what the index has is not what was written down; one package has no hash at all;
#: the list does not name everything.
DAMAGES: dict[str, Callable[[str], str]] = {
    "wrong hash": lambda text: re.sub(r"(?s)(celery(?:\[\w+\])?==.*?)(?=\n\w)", _another_hash, text, count=1),
    "missing hash": lambda text: re.sub(r"(?m)^(vine==\S+)(?: \\\n +--hash=\S+)+", r"\1", text),
    "incomplete list": lambda text: re.sub(r"(?m)^vine==\S+(?: \\\n +--hash=\S+)+\n", "", text),
}
#: What is refused -> the reason that is told.
TOLD = {
    "wrong hash": r"could not be installed.*(?i:hash.*celery|celery.*hash)",
    "missing hash": r"could not be installed.*(?i:hash.*vine|vine.*hash)",
    "incomplete list": r"could not be installed.*(?i:hash.*vine|vine.*hash)",
    "no such version": "9.9.9",
    "no environment": f"celery_app_source.path: there is no virtual environment {NOWHERE}",
    "wrong key": "Permission denied",
    "another server": "Host key verification failed",
    "no such branch": "neither a tag nor a branch nowhere",
    "wrong password": "Authentication failed",
}


@pytest.fixture(scope="module")
def refused(
    host: Host, install: Install, sources: dict[str, Source], repository: dict[str, str], hashed: str, moved: Moved
) -> dict[str, Any]:
    """One run that is refused everything: what was told of each, and what the host had before and afterwards."""
    damaged = {name: damage(hashed) for name, damage in DAMAGES.items()}
    assert hashed not in damaged.values()
    key, http = sources["from_key"], sources["from_http"]
    wrong: dict[str, tuple[str, Source]] = {
        **{name: ("from_hashes", {**sources["from_hashes"], "requirements": text}) for name, text in damaged.items()},
        "no such version": ("from_index", {**sources["from_index"], "packages": ["shop==9.9.9"]}),
        "no environment": ("from_environment", {"type": "virtualenv", "path": NOWHERE}),
        "wrong key": ("from_key", {**key, "deploy_key": repository["other"] + "\n"}),
        "another server": ("from_key", {**key, "known_hosts": repository["impostor"]}),
        "no such branch": ("from_key", {**key, "version": "nowhere"}),
        "wrong password": (
            "from_http",
            {**http, "repo": http["repo"].replace(written(HTTP_PASSWORD), "another-one"), "build": "refused"},
        ),
    }
    assert wrong.keys() == TOLD.keys()
    run = install([*wrong.values()])
    # The last one is the playbook's own.
    assert len(run.messages) == len(wrong) + 1, run.messages
    told = dict(zip(wrong, run.messages, strict=False))
    return {"told": told, "output": run.output, "before": moved.afterwards, "after": states(host)}


@pytest.mark.parametrize("what", TOLD)
def test_what_keeps_the_source_away_is_said(refused: dict[str, Any], what: str) -> None:
    message = refused["told"][what]
    assert re.search(TOLD[what], message.replace("\n", " ")), message


def test_what_is_refused_changes_nothing_and_shows_no_password(refused: dict[str, Any]) -> None:
    assert refused["after"] == refused["before"]
    assert sum(one in refused["output"] for one in (INDEX_PASSWORD, "another-one")) == 0
