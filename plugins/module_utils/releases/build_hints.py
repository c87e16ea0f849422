# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Derives from an installer's errors which Debian packages a build lacks. No I/O here."""

from __future__ import annotations

import re

_COMPILER = r"(?:[\w.-]+-)?(?:gcc|cc|g\+\+|c\+\+)(?:-\d+)?"
#: What a failed build says, by the tools that say it (distutils, setuptools, meson, scikit-build, setuptools-rust, the
#: compiler and the linker themselves). Without one of these the cause is another, and a hint would mislead.
_SIGNS = (
    r"fatal error: \S+\.h(?:pp)?: No such file",
    r"cannot find -l[\w-]+",
    rf"command '{_COMPILER}' failed",
    rf"No such file or directory: '\S*(?:{_COMPILER}|cmake|cargo|rustc|\w+[-_]config|pkg-config)'",
    rf"\b(?:{_COMPILER}|cmake|cargo|rustc|\w+[-_]config|pkg-config): (?:command )?not found",
    r"\w+_config(?: executable)? (?:is )?(?:required|not found)",
    r"[Uu]nknown compiler",
    r"no acceptable C compiler",
    r"can't find Rust|Rust (?:toolchain|compiler)|[Cc]argo[^\n]*not installed",
    r"[Pp]kg-?[Cc]onfig[^\n]*not found|Package '?[\w.+-]+'?[^\n]* was not found",
    r"[Dd]ependency [^\n]* not found",
    r"CMake must be installed|Problem with the CMake installation|CMAKE_C(?:XX)?_COMPILER not set",
    r"headers or library files could not be found for \w+|RequiredDependencyException: \w+",
    rf"linker `{_COMPILER}` not found",
    # lxml, mysqlclient and GDAL say it in words of their own; uv and pip where a requirement is in a repository.
    r"libxml2 and libxslt development packages",
    r"Specify MYSQLCLIENT_CFLAGS",
    r"GDAL API version must be specified",
    r"Git executable not found|Cannot find command 'git'",
)
_SIGN = re.compile("|".join(_SIGNS))
#: What stands in such a line -> the packages of Debian 12 to 14 that have it.
_PACKAGES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        rf"'\S*{_COMPILER}'|`{_COMPILER}`|{_COMPILER}: |CMAKE_C|[Uu]nknown compiler|acceptable C compiler",
        ("gcc", "python3-dev"),
    ),
    (r"g\+\+|c\+\+|cc1plus", ("g++",)),
    (r"Python\.h", ("gcc", "python3-dev")),
    (r"pg_config|libpq-fe\.h|-lpq\b", ("gcc", "libpq-dev")),
    (r"(?:mysql|mariadb)_config|mysql\.h|mysqlclient|MYSQLCLIENT", ("gcc", "default-libmysqlclient-dev", "pkg-config")),
    (r"lz4\w*\.h", ("liblz4-dev",)),
    (r"ffi\.h|-lffi\b", ("libffi-dev",)),
    (r"openssl/\w+\.h|-lssl\b|[Oo]pen[Ss][Ss][Ll]", ("libssl-dev",)),
    (r"zlib\.h|-lz\b|for zlib|: zlib", ("zlib1g-dev",)),
    (r"jpeglib\.h|for jpeg|: jpeg", ("libjpeg-dev",)),
    (r"libxml/\w+\.h|xml2-config|libxml-2", ("libxml2-dev",)),
    (r"libxslt/\w+\.h|xslt-config|libxslt", ("libxslt1-dev",)),
    (r"xmlsec", ("libxmlsec1-dev", "pkg-config")),
    (r"lber\.h|ldap\.h", ("libldap-dev",)),
    (r"sasl\.h", ("libsasl2-dev",)),
    (r"curl-config|curl/curl\.h", ("libcurl4-openssl-dev",)),
    (r"snappy(?:-c)?\.h", ("libsnappy-dev",)),
    (r"zstd\.h", ("libzstd-dev",)),
    (r"sqlite3\.h", ("libsqlite3-dev",)),
    (r"\byaml\.h", ("libyaml-dev",)),
    (r"gssapi|krb5-config", ("libkrb5-dev",)),
    (r"gdal-config|GDAL|gdal\.h", ("libgdal-dev", "g++")),
    (r"openblas", ("libopenblas-dev", "gfortran")),
    (r"[Gg]it executable|'git'", ("git",)),
    (r"\bcairo\b", ("libcairo2-dev", "pkg-config")),
    (r"[Pp]kg-?[Cc]onfig", ("pkg-config",)),
    (r"[Rr]ust|[Cc]argo", ("cargo",)),
    (r"[Cc][Mm]ake", ("cmake", "g++")),
)


def build_hint(output: str) -> str:
    """Return what a build lacked, and which variable installs it, as part of a sentence; empty for other failures.

    Arguments:
        output: everything that the installer printed.
    """
    lines = "\n".join(line for line in output.splitlines() if _SIGN.search(line))
    if not lines:
        return ""
    names = [name for pattern, packages in _PACKAGES if re.search(pattern, lines) for name in packages]
    if names:
        instead = f"[{', '.join(dict.fromkeys(names))}]"
    else:
        instead = "[gcc, python3-dev] and the Debian package of the file that is missing"
    return (
        "a package was built from source, for which the host lacks something; "
        f"write celery_app_system_packages: {instead}"
    )
