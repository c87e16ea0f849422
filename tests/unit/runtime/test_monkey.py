"""gevent's patching of the standard library, in the middle of which Celery asks for this package's loader.

gevent is no dependency of the tests: what stands in for it asks an object of Celery's for its class, as gevent does
with every object there is, while it patches threads and before it patches the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

GEVENT = """
import select as own, sys, time as clock

def select(*args): raise AssertionError
def sleep(seconds): raise AssertionError

def patch_time(): clock.sleep = sleep
def patch_select(): own.select = select
def patch_selectors(): print("selectors")
def patch_ssl(): print("ssl")

def patch_thread():
    import celery.local
    from celery._state import current_app
    asks = celery.local.Proxy(lambda: current_app.loader.conf and current_app)
    isinstance(asks, dict)

def patch_all(time=True, select=True, ssl=False, thread=True):
    patch_thread()
    assert "kombu.utils.eventio" in sys.modules
    patch_time()
    patch_select()
"""

PROGRAM = """
import gevent.monkey
gevent.monkey.patch_all()
from celeryops_runtime import follow
from kombu.utils import eventio
print(eventio._selectf is gevent.monkey.select, follow._sleep is gevent.monkey.sleep)
"""


@pytest.fixture
def beside_gevent(
    fresh_python: Callable[..., CompletedProcess[str]], environment: dict[str, str], tmp_path: Path
) -> Callable[[str], CompletedProcess[str]]:
    """Run a program that can import what stands in for gevent."""
    (tmp_path / "gevent").mkdir()
    (tmp_path / "gevent" / "__init__.py").touch()
    (tmp_path / "gevent" / "monkey.py").write_text(GEVENT, encoding="utf-8")
    path = os.pathsep.join([environment["PYTHONPATH"], str(tmp_path)])
    return lambda code: fresh_python(
        "-c", code, env={"PYTHONPATH": path, "CELERY_BROKER_URL": "redis://broker.invalid/0"}
    )


def test_kombu_keeps_what_gevent_patches(beside_gevent: Callable[[str], CompletedProcess[str]]) -> None:
    ran = beside_gevent(PROGRAM)
    assert ran.stdout.split("\n")[:2] == ["selectors", "True True"], ran.stderr


def test_nothing_is_patched_where_nobody_patches(beside_gevent: Callable[[str], CompletedProcess[str]]) -> None:
    code = "import gevent.monkey, celeryops_runtime, select; print(select.select is gevent.monkey.select)"
    assert beside_gevent(code).stdout == "False\n"
