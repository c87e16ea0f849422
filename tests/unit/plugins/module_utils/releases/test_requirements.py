"""What an installer is asked for, and where it finds packages."""

from __future__ import annotations

from ansible_collections.celeryops.stack.plugins.module_utils.releases import requirements

PIP = {"type": "pip", "packages": ["shop==1.4.2"]}


def test_requirements() -> None:
    extra = ["celery[redis]"]
    assert requirements.requirement_lines(PIP, extra, None, None) == ["shop==1.4.2", *extra]
    tree = {"type": "git", "extras": ["web"], "requirements_file": "requirements.txt", "packages": ["x"]}
    assert requirements.requirement_lines(tree, extra, "/w/source", "/w/source") == [
        "/w/source[web]",
        "-r /w/source/requirements.txt",
        "x",
        *extra,
    ]
    hashed = {"type": "pip", "requirements": "a==1 \\\n --hash=x", "require_hashes": True}
    assert requirements.requirement_lines(hashed, extra, None, None) == ["a==1 \\", " --hash=x"]
    # The app itself has no hash: it is installed by itself, afterwards.
    assert requirements.requirement_lines({**hashed, "type": "path"}, extra, "/w/source", "/w/source") == [
        "a==1 \\",
        " --hash=x",
    ]


def test_passwords_go_through_the_environment() -> None:
    source = {"index_url": "https://u:p@h/s"}
    assert requirements.index_environment(source) == {
        "UV_DEFAULT_INDEX": "https://u:p@h/s", "UV_INDEX": "https://u:p@h/s", "PIP_INDEX_URL": "https://u:p@h/s"
    }  # fmt: skip
    assert requirements.index_environment(PIP) == {}


def test_the_index_that_is_named_first_is_asked_first() -> None:
    """uv asks those of UV_INDEX in their order, and the default one last."""
    further = ["https://a/s", "https://b/s"]
    environment = requirements.index_environment({"index_url": "https://own/s", "extra_index_urls": further})
    assert environment["UV_INDEX"].split() == ["https://own/s", *further]
    # In place of PyPI; and alone it comes before what the requirements name, all the same.
    assert environment["UV_DEFAULT_INDEX"] == "https://own/s"
    assert requirements.index_environment({"index_url": "https://own/s"})["UV_INDEX"] == "https://own/s"
    assert environment["PIP_INDEX_URL"] == "https://own/s"
    assert environment["PIP_EXTRA_INDEX_URL"].split() == further
    # Of two of a name uv takes the first, which would be the default.
    named = requirements.index_environment({"index_url": "corp=https://own/s?a=b", "extra_index_urls": further})
    assert named["UV_INDEX"].split()[0] == "corp=https://own/s?a=b"
    assert named["UV_DEFAULT_INDEX"] == named["PIP_INDEX_URL"] == "https://own/s?a=b"
    # Each gets what it understands: a name is uv's alone.
    named_further = ["corp=https://u:p@a/s?a=b", "other.one=/srv/simple", *further]
    environment = requirements.index_environment({"extra_index_urls": named_further})
    assert environment["UV_INDEX"].split() == named_further
    assert environment["PIP_EXTRA_INDEX_URL"].split() == ["https://u:p@a/s?a=b", "/srv/simple", *further]
    # Without it PyPI is the one that comes last.
    environment = requirements.index_environment({"extra_index_urls": further})
    assert environment == {"UV_INDEX": " ".join(further), "PIP_EXTRA_INDEX_URL": " ".join(further)}
