"""Lines of requirements: which no installer can read, what they rule out, and what all of them name."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.releases.resolve import way_out
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.argument_spec import misshapen
from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.values.requirements import (
    everything,
    file_problems,
    package_problems,
    pinned,
    rules_out,
    text_problems,
    too_old,
)

SOUND = [
    "celery", "celery[redis]>=5.6,<5.8", "celery [redis] >= 5.6, < 5.8", "celery===5.6.3+local",
    "acme-shop==1.4.2+acme", "shop (==1.4)", "shop==1.4.2  # ours", "shop==1 --hash=sha256:aa",
    "shop; python_version < '3.12'",
    "shop @ git+https://git.example.org/shop.git@v1#subdirectory=backend", "shop@https://files.example.org/shop.whl",
    "shop @ git+https://${TOKEN}@git.example.org/shop.git", "shop @ file:///srv/shop.whl ; sys_platform == 'linux'",
    "git+ssh://git@git.example.org/shop.git", "https://files.example.org/shop.tar.gz", "file:///srv/shop.whl",
    "/srv/shop", "/srv/wheels/shop-1-py3-none-any.whl[fast]", "${WHEEL}", "ruamel.yaml", "zope.interface==5",
    "jaraco.text", "foo.in", "# nothing", "", " ",
]  # fmt: skip


@pytest.mark.parametrize("line", SOUND)
def test_what_an_installer_reads_is_not_told(line: str) -> None:
    assert list(package_problems("packages", [line], "", "")) == []
    assert list(text_problems("source.requirements", line, "uv")) == []


@pytest.mark.parametrize(
    "line",
    [
        "shop=1.4.2", "shop=>1.4.2", "shop 1.4.2", "shop==", "==1.4.2", "celery^5.6", "celery>=5.4.*", "celery>=5.4<6",
        "shop==1.4.2 celery==5.6.3", "pip install shop", "'shop'", "[shop]", "git+git@git.example.org:shop.git",
    ],
)  # fmt: skip
def test_a_line_that_no_installer_reads_is_told(line: str) -> None:
    (listed,) = package_problems("packages", [line], "", "")
    (written,) = text_problems("source.requirements", f"celery\n{line}\n", "pip")
    assert listed.reason == written.reason == "is not a requirement"


@pytest.mark.parametrize(
    "line", ["./shop", "..", "~/shop.whl", "shop.whl", "dist/shop-1-py3-none-any.whl[fast]", "shop.zip"]
)
def test_a_path_that_is_none_on_the_host_is_told(line: str) -> None:
    for problem in (*package_problems("packages", [line], "", ""), *text_problems("source.requirements", line, "uv")):
        assert problem.reason == "is not a path on the host"


LOOKUP = "\"{{ lookup('ansible.builtin.file', %s) }}\", which is what it holds"
EXPORTED = "what `uv export --no-emit-project` or `poetry export` makes of it"


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("requirements.txt", LOOKUP % "inventory_dir ~ '/requirements.txt'"),
        ("../shop/requirements/prod.txt", LOOKUP % "inventory_dir ~ '/../shop/requirements/prod.txt'"),
        ("/srv/constraints.txt", LOOKUP % "'/srv/constraints.txt'"),
        ("requirements-dev.in", LOOKUP % "inventory_dir ~ '/requirements-dev.in'"),
        *((name, EXPORTED) for name in ("uv.lock", "poetry.lock", "pylock.toml", "pylock.prod.toml", "pyproject.toml")),
        *((name, EXPORTED) for name in ("Pipfile", "Pipfile.lock", "setup.py", "src/setup.cfg", "environment.yml")),
    ],
)
def test_the_name_of_a_file_is_no_package(name: str, instead: str) -> None:
    """An installer asks its index for a package ``requirements.txt``, which may be anybody's."""
    reason = "is the name of a file, and an installer looks for a package of that name"
    for variable in ("celery_app_source.requirements", "celery_app_source.constraints"):
        assert [*text_problems(variable, f"{name}\n", "uv")] == [Problem("test", variable, name, reason, instead)]
    (problem,) = package_problems("celery_app_source.packages", [name], "", "")
    assert problem.reason == reason
    # What an installer reads as requirements, it reads from the source as well.
    told = [problem.instead for problem in file_problems("requirements_file", name)]
    assert told == ([] if "lookup" in instead else [f"the path of {EXPORTED}"])


def test_files_that_do_not_come_to_the_host_are_told() -> None:
    lines = ["-r base.txt", "-cconstraints.txt", "--requirement=../x", "-e .", "--editable ./shop", "-f wheels/"]
    found = [problem.value for problem in text_problems("v", "\n".join(lines), "uv")]
    assert found == lines
    sound = "\ufeffcelery \\\r\n  --hash=sha256:aa \\\n  --hash=sha256:bb\n\n    # via shop\n-r /srv/r.txt\n-r https://h/r.txt\n"
    sound += "-c/srv/c.txt\n-f https://h/links\n-e /srv/shop\n--extra-index-url=https://h/simple\n-i https://h\n--pre\n"
    assert list(text_problems("v", sound, "uv")) == []


@pytest.mark.parametrize(
    "option", ["-i ", "--index-url ", "--index-url=", "--extra-index-url ", "-f ", "-f", "--find-links="]
)
def test_an_account_that_pip_would_show_is_told(option: str) -> None:
    """Seen in /proc with pip 23.0: the pip that installs what builds a package has the index as its argument."""
    for account in ("shop:canary", "canary"):
        line = f"{option}https://{account}@packages.example.org/simple  # ours"
        (problem,) = text_problems("v", f"celery\n{line}", "pip")
        assert problem.reason.startswith("has a user or a password, which pip shows to everyone on the host")
        assert "canary" not in str(problem)
        assert list(text_problems("v", line, "uv")) == []
    assert list(text_problems("v", f"{option}https://packages.example.org/simple", "pip")) == []


def test_a_repository_is_editable_for_pip_alone() -> None:
    line = "-e git+https://git.example.org/shop.git#egg=shop"
    (problem,) = text_problems("v", line, "uv")
    assert problem.instead == "name @ git+https://..., or celery_app_installer: pip"
    assert list(text_problems("v", line, "pip")) == []


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("shop==1.4.2 celery[redis]>=5.6", '["shop==1.4.2", "celery[redis]>=5.6"]'),
        ("shop==1.4.2, gevent", '["shop==1.4.2", "gevent"]'),
        ("celery>=5.6,<6", '["celery>=5.6,<6"]'),
        ("celery >= 5.6", '["celery >= 5.6"]'),
        ("celery[redis,gevent]", '["celery[redis,gevent]"]'),
    ],
)
def test_requirements_in_one_text_become_a_list_that_can_be_installed(text: str, instead: str) -> None:
    (problem,) = misshapen({"packages": {"type": "list", "elements": "str"}}, {"packages": text})
    assert problem.instead == instead


def test_a_line_that_names_the_app_itself_is_explained() -> None:
    said = "error: `/tmp/celeryops-1` does not appear to be a Python project"
    assert "uv export --no-emit-project" in way_out(said, "celery_app", "uv")
    assert way_out(said.replace("celeryops-1", "celeryops-1/source"), "celery_app", "uv") == ""
    assert way_out(said, "flower", "uv") == ""


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("celery==5.3.6", "celery"),
        ("celery==5.4.0", ""),
        ("celery==5.*", ""),
        ("celery==5.3.*", "celery"),
        ("celery==4.*", "celery"),
        ("Celery[redis] <= 5.3 ; python_version > '3.8'", "celery"),
        ("celery<=5.4", ""),
        ("celery<5.4", "celery"),
        ("celery<5.5", ""),
        ("celery<6,>=5.3", ""),
        ("celery~=5.3", ""),
        ("celery~=5.3.1", "celery"),
        ("celery~=5.4.1", ""),
        ("celery~=4.4", "celery"),
        ("celery>=5.3", ""),
        ("celery!=5.6", ""),
        ("celery", ""),
        ("kombu===5.3.3", "kombu"),
        ("kombu==5.3.*", ""),
        ("kombu==5.2.0 --hash=sha256:00", "kombu"),
        ("kombu==5.2.0 \\", "kombu"),
        ("celery-redbeat==2.2.0", ""),
        ("# celery==4.4", ""),
        ("shop==1.0  # celery==4.4", ""),
        ("-e git+https://example.org/celery", ""),
        ("celery===odd version", ""),
        ("celery===odd", ""),
        ("celery==5.8", ""),
        ("celery~=6.1", ""),
        ("celery==5.3 --x #", "celery"),
        ("celery==5.3.6 ; python_version >= '3.8' and python_version < '4.0'", "celery"),
        ("celery==5.3.6 ; python_full_version < '3.9'", ""),
        ("celery==5.3.6 ; python_version >= '3.13'", ""),
        ("celery==5.3.6 ; sys_platform == 'win32'", ""),
        ("celery==5.3.6 ; sys_platform != 'win32'", "celery"),
        ("celery==5.3.6 ; platform_machine == 'aarch64'", ""),
        ("celery==5.3.6 ; extra == 'tasks' and python_version > '3.6'", "celery"),
        ("", ""),
    ],
)
def test_lines_that_rule_out_every_supported_version(line: str, name: str) -> None:
    assert too_old(line) == name


def test_a_line_for_another_host_rules_nothing_out() -> None:
    for line in ("celery==5.5.3 ; python_version < '3.9'", "celery==5.5.3 ; sys_platform == 'darwin'"):
        assert not rules_out(line, "celery", (5, 6))
        assert pinned(line) == ("", "")
    assert rules_out("celery==5.5.3 ; python_version >= '3.9'", "celery", (5, 6))
    assert pinned("celery==5.5.3 ; python_version >= '3.9'") == ("celery", "5.5.3")


FROZEN = ("billiard==4.2", "celery==5.7.0", "shop==1.4.2", "vine==5.1")


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (FROZEN, {"billiard", "celery", "shop", "vine"}),
        ((*FROZEN, "Celery_RedBeat[x]==2.4 ; python_version > '3'  # for beat"), {"celery-redbeat"}),
        ((*FROZEN, "gevent==24.1 \\", "    --hash=sha256:00", "--index-url https://x", "# -r y", ""), {"gevent"}),
        ((*FROZEN, "mails @ git+https://git.example.org/mails@abc"), {"mails"}),
        (("billiard", "vine"), {"billiard", "vine"}),
        (FROZEN[1:], set()),
        (FROZEN[:-1], set()),
        ((*FROZEN, "-r base.txt"), set()),
        ((*FROZEN, "--requirement base.txt"), set()),
        ((*FROZEN, "--editable ."), set()),
        ((*FROZEN, "./shop-1.4.2.whl"), set()),
        ((*FROZEN, "git+https://git.example.org/shop"), set()),
        ((), set()),
    ],
)
def test_requirements_that_name_every_package(lines: tuple[str, ...], names: set[str]) -> None:
    found = everything(lines)
    assert names <= found
    assert bool(names) is bool(found)
