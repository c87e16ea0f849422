"""Which packages a failed build asks for."""

from __future__ import annotations

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.releases.build_hints import build_hint


@pytest.mark.parametrize(
    ("output", "packages"),
    [
        ("error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory", ["gcc", "python3-dev"]),
        ("error: [Errno 2] No such file or directory: 'gcc'", ["gcc", "python3-dev"]),
        ("ERROR: Unknown compiler(s): [['cc'], ['gcc'], ['clang']]", ["gcc", "python3-dev"]),
        ("  foo.c:1:10: fatal error: Python.h: No such file or directory", ["python3-dev"]),
        ("lz4/_version.c:33:10: fatal error: lz4.h: No such file or directory", ["liblz4-dev"]),
        ("Error: pg_config executable not found.", ["libpq-dev"]),
        ("/usr/bin/ld: cannot find -lpq: No such file or directory", ["libpq-dev"]),
        ("/bin/sh: 1: mysql_config: not found", ["default-libmysqlclient-dev"]),
        ("The headers or library files could not be found for jpeg,", ["libjpeg-dev"]),
        ("error: can't find Rust compiler", ["cargo"]),
        ("Package 'xmlsec1' was not found in the pkg-config search path", ["libxmlsec1-dev", "pkg-config"]),
        ("Error: Please make sure the libxml2 and libxslt development packages are installed.", ["libxslt1-dev"]),
        ("Specify MYSQLCLIENT_CFLAGS and MYSQLCLIENT_LDFLAGS env vars manually", ["default-libmysqlclient-dev"]),
        ("A GDAL API version must be specified. Provide a path to gdal-config", ["libgdal-dev"]),
        ("  raise RequiredDependencyException: zlib", ["zlib1g-dev"]),
        ("error: linker `cc` not found", ["gcc"]),
        ('../meson.build:1:0: ERROR: Dependency "openblas" not found, tried pkgconfig', ["libopenblas-dev"]),
        ("CMake Error: CMAKE_C_COMPILER not set, after EnableLanguage", ["gcc"]),
        ("  Git executable not found. Ensure that Git is installed and available.", ["[git]"]),
        ("ERROR: Cannot find command 'git' - do you have 'git' installed and in your PATH?", ["[git]"]),
        ("x.c:2:10: fatal error: strange.h: No such file or directory", ["the Debian package of the file"]),
    ],
)
def test_a_build_that_lacks_something_names_the_variable(output: str, packages: list[str]) -> None:
    hint = build_hint(f"Building wheel for x\n{output}\nerror: Failed building wheel for x")
    assert "write celery_app_system_packages: [" in hint
    for package in packages:
        assert package in hint


@pytest.mark.parametrize(
    "output",
    [
        "No solution found when resolving dependencies: celery[redis]==5.6.3 and celery>=5.7",
        "error: Failed to fetch: `https://index.example.org/simple/celery/`: dns error",
        "error: Distribution not found at: file:///tmp/gcc",
        "ModuleNotFoundError: No module named 'rust_helpers'",
        'No space left on device (os error 28) at path "/opt/celeryops/shop/lib/python3.13/zlib.h"',
        "",
    ],
)
def test_another_failure_gets_no_hint(output: str) -> None:
    assert build_hint(output) == ""
