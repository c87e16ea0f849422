"""How git and pip get passwords without a command line that shows them."""

from __future__ import annotations

import netrc
import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.releases import credentials
from ansible_collections.celeryops.stack.plugins.module_utils.releases.requirements import index_environment

PASSWORDS = ["pw", "p@ss:w/rd", "a b'c\"d\\e$f`g", "päss", "#hash", "100%"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://u:p@h/x.git", ("https://h/x.git", ("u", "p"))),
        ("http://u:p%40s%2F@h:8080/x.git", ("http://h:8080/x.git", ("u", "p@s/"))),
        ("https://token@h/x.git", ("https://h/x.git", ("token", ""))),
        ("https://token:@h/x.git", ("https://h/x.git", ("token", ""))),
        ("https://:pw@h/x.git", ("https://h/x.git", ("", "pw"))),
        ("https://h/x@1.git", ("https://h/x@1.git", None)),
        ("ssh://git@h/x.git", ("ssh://git@h/x.git", None)),
        ("git@h:x.git", ("git@h:x.git", None)),
        ("/srv/x.git", ("/srv/x.git", None)),
    ],
)
def test_an_address_without_its_user(url: str, expected: tuple[str, tuple[str, str] | None]) -> None:
    assert credentials.plain(url) == expected


def test_what_gits_protocol_cannot_say_is_refused_without_showing_it() -> None:
    with pytest.raises(credentials.CredentialError, match="line break") as error:
        credentials.plain("https://u:hidden%0ahost=evil@h/x.git")
    assert "hidden" not in str(error.value)


def fill(tmp_path: Path, urls: list[str], asked: str) -> dict[str, str]:
    """Ask the real git for the credentials of ``asked``, as it does when a server says 401."""
    helper = tmp_path / "helper"
    helper.write_text(credentials.HELPER)
    text, environment = credentials.for_git(urls, str(helper))
    (tmp_path / "gitconfig").write_text(text)
    protocol, _separator, rest = asked.partition("://")
    host, _slash, path = rest.partition("/")
    outcome = subprocess.run(
        ["git", "credential", "fill"], input=f"protocol={protocol}\nhost={host}\npath={path}\n\n", text=True,
        env={"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig"), "GIT_CONFIG_NOSYSTEM": "1",
             "GIT_TERMINAL_PROMPT": "0", **environment},
        capture_output=True, check=False,
    )  # fmt: skip
    return dict(line.partition("=")[::2] for line in outcome.stdout.splitlines())


@pytest.mark.parametrize("password", PASSWORDS)
def test_git_gets_the_password_for_its_server(tmp_path: Path, password: str) -> None:
    from urllib.parse import quote

    url = f"https://us%20er:{quote(password, safe='')}@git.example.org:8443/team/shop.git"
    found = fill(tmp_path, [url], "https://git.example.org:8443/team/shop.git")
    assert (found.get("username"), found.get("password")) == ("us er", password)
    # A submodule beside it.
    assert fill(tmp_path, [url], "https://git.example.org:8443/team/other.git")["password"] == password


@pytest.mark.parametrize(
    "other",
    ["https://evil.example.org/team/shop.git", "http://git.example.org/team/shop.git", "https://git.example.org:1/x"],
)
def test_no_other_server_gets_it(tmp_path: Path, other: str) -> None:
    assert "password" not in fill(tmp_path, ["https://u:p@git.example.org/team/shop.git"], other)


def test_two_users_of_one_server_are_told_apart(tmp_path: Path) -> None:
    urls = ["https://one:1@h/a.git", "https://two:2@h/b.git", "https://one:1@h/c.git"]
    assert fill(tmp_path, urls, "https://h/a.git")["username"] == "one"
    assert fill(tmp_path, urls, "https://h/b.git")["username"] == "two"


def test_a_token_alone_is_sent_with_an_empty_password(tmp_path: Path) -> None:
    found = fill(tmp_path, ["https://token@h/a.git"], "https://h/a.git")
    assert (found["username"], found["password"]) == ("token", "")


def test_no_secret_is_in_the_configuration_or_the_helper() -> None:
    text, environment = credentials.for_git(["https://user1:canary@h/a.git"], "/w/helper", ["/srv/x/.gitconfig"])
    assert "canary" not in text
    assert "user1" not in text
    assert 'path = "/srv/x/.gitconfig"' in text
    assert sorted(environment.values()) == ["canary", "user1"]
    assert credentials.for_git(["https://h/a.git", "git@h:x"], "/w/helper") == ("", {})


def test_requirements_give_their_repositories_without_a_user() -> None:
    lines = [
        "shop @ git+https://u:p@h/shop.git@v1 ; python_version > '3'", "https://u:p@h/x.whl", "git+ssh://git@h/y.git",
        "plain==1", "-e git+https://token@h/z.git#egg=z",
    ]  # fmt: skip
    stripped, found = credentials.plain_requirements(lines)
    assert stripped == [
        "shop @ git+https://h/shop.git@v1 ; python_version > '3'", "https://u:p@h/x.whl", "git+ssh://git@h/y.git",
        "plain==1", "-e git+https://h/z.git#egg=z",
    ]  # fmt: skip
    assert found == ["https://u:p@h/shop.git@v1", "https://token@h/z.git"]


@pytest.mark.parametrize("password", PASSWORDS)
def test_pip_finds_the_password_of_an_index_in_its_file(tmp_path: Path, password: str) -> None:
    from urllib.parse import quote

    url = f"https://me:{quote(password, safe='')}@index.example.org:8080/simple"
    environment, text = credentials.for_pip(
        {"PIP_INDEX_URL": url, "PIP_EXTRA_INDEX_URL": "https://other/simple https://t@third/simple", "A": "b"},
        "/w/netrc",
    )
    assert environment == {
        "PIP_INDEX_URL": "https://index.example.org:8080/simple",
        "PIP_EXTRA_INDEX_URL": "https://other/simple https://third/simple",
        "A": "b",
        "NETRC": "/w/netrc",
    }
    (tmp_path / "netrc").write_text(text, encoding="utf-8")
    read = netrc.netrc(str(tmp_path / "netrc"))
    assert read.authenticators("index.example.org") == ("me", "", password)
    assert read.authenticators("third") == ("t", "", "")
    assert read.authenticators("other") is None


def test_pip_with_two_users_of_one_host_is_refused() -> None:
    with pytest.raises(credentials.CredentialError, match="write celery_app_installer: uv") as error:
        credentials.for_pip(
            {"PIP_INDEX_URL": "https://a:canary1@h/x", "PIP_EXTRA_INDEX_URL": "https://b:canary2@h/y"}, "n"
        )
    assert "canary" not in str(error.value)


def test_a_named_index_hides_no_password_from_pip() -> None:
    """A name is uv's; with it pip would see no address, and show all of it to everyone on the host."""
    named = index_environment({"index_url": "corp=https://u:p@h/a", "extra_index_urls": ["b=https://v:canary@i/b"]})
    result, text = credentials.for_pip(named, "n")
    assert (result["PIP_INDEX_URL"], result["PIP_EXTRA_INDEX_URL"]) == ("https://h/a", "https://i/b")
    assert "machine i" in text
    # As somebody has written it for uv into celery_app_install_environment.
    own, _text = credentials.for_pip({"PIP_EXTRA_INDEX_URL": "b=https://v:canary@i/b https://i/c"}, "n")
    assert own["PIP_EXTRA_INDEX_URL"] == "https://i/b https://i/c"


def test_what_else_pip_hands_on_shows_no_password() -> None:
    """Its second pip gets the pages of links and the proxy as arguments, too (pip/_internal/build_env.py)."""
    links = "/srv/wheels https://v:canary@wheels.example.org/all"
    proxy = {"PIP_PROXY": "http://me:canary@proxy:3128", "HTTPS_PROXY": "http://other:1", "NO_PROXY": "h"}
    result, text = credentials.for_pip({"PIP_FIND_LINKS": links, **proxy}, "n")
    assert result == {
        "PIP_FIND_LINKS": "/srv/wheels https://wheels.example.org/all",
        "http_proxy": "http://me:canary@proxy:3128",
        "https_proxy": "http://me:canary@proxy:3128",
        "PIP_PROXY": "",
        "HTTPS_PROXY": "http://other:1",
        "NO_PROXY": "h",
        "NETRC": "n",
    }
    assert "machine wheels.example.org" in text
    # Nothing to hide: as it was written.
    assert credentials.for_pip({"PIP_PROXY": "http://proxy:3128"}, "n") == ({"PIP_PROXY": "http://proxy:3128"}, "")


def test_pip_without_passwords_needs_no_file() -> None:
    assert credentials.for_pip({"PIP_INDEX_URL": "https://h/x"}, "n") == ({"PIP_INDEX_URL": "https://h/x"}, "")
