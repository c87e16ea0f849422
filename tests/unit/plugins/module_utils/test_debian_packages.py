"""Which Debian packages a host lacks, by every name that apt takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.debian_packages import absent_packages, missing_packages

#: As dpkg-query of Debian 12 prints it.
LISTING = """\
installed\tlibpq5\tamd64\t15.14-0+deb12u1\t
installed\tzlib1g-dev\tamd64\t1:1.2.13.dfsg-1\tlibz-dev
installed\tmawk\tamd64\t1.3.4.20200120-3.1\tawk, other (= 3), third:any
not-installed\tgawk\tamd64\t\t
config-files\tnginx\tamd64\t1.22.1-9\thttpd
"""


@pytest.mark.parametrize(
    "there",
    [
        "libpq5", "libpq5:amd64", "libpq5:any", "libpq5=15.14-0+deb12u1", "libpq5=15.*", "libpq5>=15", "libz-dev",
        "zlib1g-dev:amd64=1:1.2.*", "awk", "other", "third",
    ],
)  # fmt: skip
def test_a_package_is_there_by_every_name_that_apt_takes(there: str) -> None:
    assert absent_packages([there], LISTING, lambda version, least: version >= least) == []


@pytest.mark.parametrize(
    "absent",
    [
        "libpq",
        "libpq5:arm64",
        "libpq5=14.*",
        "libpq5>=16",
        "gawk",
        "nginx",
        "httpd",
        "libpq5-dev",
        "libpq*",
        "libpq5=15.*=1",
    ],
)
def test_what_a_host_lacks_is_asked_for(absent: str) -> None:
    assert absent_packages(["libpq5", absent], LISTING, lambda version, least: version >= least) == [absent]


def test_the_host_is_asked_for_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """dpkg-query ends with 1 where it knows a package by its name alone."""
    (tmp_path / "listing").write_text(LISTING)
    (tmp_path / "dpkg-query").write_text(f"#!/bin/sh\ncat {tmp_path}/listing; exit 1\n")
    (tmp_path / "dpkg").write_text('#!/bin/sh\n[ "$*" = "--compare-versions 15.14-0+deb12u1 ge 15" ]\n')
    for name in ("dpkg", "dpkg-query"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert missing_packages(["libpq5>=15", "libpq5>=16", "awk", "gawk"]) == ["libpq5>=16", "gawk"]
    monkeypatch.setenv("PATH", "/nowhere")
    assert missing_packages([]) == [], "nobody is asked for nothing"
