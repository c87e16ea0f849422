"""Schedulers that somebody else runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils.schedulers import look, scheduler_of


@pytest.mark.parametrize(
    ("line", "app"),
    [
        ("/srv/shop/bin/python /srv/shop/bin/celery -A shop beat -l info", "shop"),
        ("python -m celery --app=shop.celery:app beat", "shop.celery:app"),
        ("celery beat -A shop", "shop"),
        ("celery -Ashop -b redis://h/0 beat --schedule /tmp/x", "shop"),
        ("[celery beat] -A shop --workdir /srv", "shop"),
        ("python manage.py celery beat", ""),
        ("/usr/bin/celerybeat --app shop", "shop"),
        ("celery beat", ""),
        ("celery -A shop worker -B -l info", "shop"),
        ("celery --app shop worker --beat", "shop"),
        ("celery -A shop worker -EB", "shop"),
        ("celery -A shop worker -Bl info", "shop"),
        ("celery -A shop worker -Q B -n beat@h -E", None),
        ("celery -A shop worker -Q beat -n beat@h", None),
        ("celery -A beat worker", None),
        ("celery -A shop flower", None),
        ("celery -A shop", None),
        ("tail -f /var/log/celery/beat.log", None),
        ("grep -r x /etc/celery beat", None),
        ("/usr/lib/metricbeat beat", None),
        ("", None),
        # However much stands before it.
        ("/usr/bin/env X=1 nice -n 5 ddtrace-run python -m celery -A x beat", "x"),
        ("python3.13 -X dev -W ignore::DeprecationWarning -u -m celery -A x beat", "x"),
        ("python -m debugpy --listen 127.0.0.1:5678 -m celery -A x beat", "x"),
        ("python -m coverage run --branch -m celery -A x beat", "x"),
        ("python /srv/bin/opentelemetry-instrument --service_name shop --logs_exporter none celery -A x beat", "x"),
        ("tini -- celery -A x beat", "x"),
        ("sh -c celery -A x beat", "x"),
        ("taskset -c 0,1 timeout 10m celery -A x worker -B", "x"),
        ("sudo -u celery -g celery /srv/bin/celery -A x beat", "x"),
        ("python /srv/lib/python3.13/site-packages/celery/__main__.py -A x beat", "x"),
        ("python -m celery.bin.celery -A x beat", "x"),
        ("python -O ./manage.py celery beat", ""),
        ("python /srv/bin/weblate celery beat", ""),
        # What has such words and starts nothing, or nothing that schedules.
        ("grep celery beat", None),
        ("sh -c grep celery beat", None),
        ("sudo -u shop grep -r celery beat", None),
        ("sudo -- grep celery beat", None),
        ("timeout 5 tail -f celery beat", None),
        ("vim celery-beat.conf", None),
        ("vim celery beat", None),
        ("env EDITOR=/srv/celery vim celery beat", None),
        ("env X=/srv/celery beat", None),
        ("sudo -u celery tail beat", None),
        ("python3 /usr/bin/supervisorctl restart celery beat", None),
        ("sudo systemctl restart celery beat", None),
        ("celery -A x worker --queues beat", None),
        ("nice -n 5 python -m celery -A x worker -Q celery beat", None),
        ("ssh other celery -A x beat", None),
    ],
)
def test_what_schedules(line: str, app: str | None) -> None:
    assert scheduler_of(line.split(" ")) == app


def test_whose_a_scheduler_is(tmp_path: Path) -> None:
    units = tmp_path / "units"
    units.mkdir()
    (units / "celery-shop-beat.service").write_text("# Managed by celeryops.stack (role celery_beat). No\n")
    (units / "celerybeat.service").write_text("[Unit]\n")

    def process(pid: int, line: str, group: str) -> None:
        folder = tmp_path / "proc" / str(pid)
        folder.mkdir(parents=True)
        (folder / "cmdline").write_bytes(line.replace(" ", "\0").encode() + b"\0")
        (folder / "cgroup").write_text(f"0::/{group}\n")

    process(7, "celery -A shop beat", "system.slice/celery-shop-beat.service")
    process(8, "celery -A shop beat", "system.slice/celerybeat.service")
    process(9, "celery -A crm worker -B", "user.slice/user-1000.slice/session-2.scope")
    process(10, "celery -A crm worker -B", "user.slice/user-1000.slice/session-2.scope")
    process(11, "nginx", "system.slice/nginx.service")
    (tmp_path / "proc" / "12").mkdir()
    (tmp_path / "proc" / "self").mkdir()
    # Its file was removed by hand: the run that mends it is no second scheduler.
    process(14, "celery -A crm beat", "system.slice/celery-crm-beat.service")
    process(13, "celery -A blog beat", "")
    assert look(str(tmp_path / "proc"), str(units)) == [
        {"pid": 8, "unit": "celerybeat.service", "app": "shop"},
        {"pid": 9, "unit": "session-2.scope", "app": "crm"},
        {"pid": 13, "unit": "", "app": "blog"},
    ]
