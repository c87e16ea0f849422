"""On which host of an app the commands around a release run, by the variables of the role."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("__celery_app_first", "__celery_app_due", "__celery_app_after")


@pytest.mark.parametrize(
    ("releases", "after"),
    [
        # Both are about to switch; nobody is; the second is.
        ([{"switches": True}, {"switches": True}], "app1"),
        ([{"switches": False}, {"switches": False, "due": False}], ""),
        ([{"switches": False}, {"switches": True}], "app2"),
        # The first has switched in a run that ended then: it owes the commands, whoever else switches now.
        ([{"switches": False, "due": True}, {"switches": True}], "app1"),
        ([{"switches": False, "due": True}, {"switches": False}], "app1"),
        # Of another app.
        ([{"switches": True, "app": "blog"}, {"switches": False, "due": True}], "app2"),
    ],
)
def test_what_comes_after_a_release_runs_on_the_host_that_owes_it(releases: list[dict[str, Any]], after: str) -> None:
    hosts = {
        f"app{number}": {
            "inventory_hostname": f"app{number}",
            "__celery_app": {"plan": {"app": release.pop("app", "shop")}},
            "__celery_app_release": release,
        }
        for number, release in enumerate(releases, 1)
    }
    text = yaml.safe_load((ROOT / "roles" / "celery_app" / "vars" / "main.yml").read_text())
    variables = {name: trust_as_template(text[name]) for name in NAMES} | {
        "ansible_play_hosts_all": [*hosts],
        "hostvars": hosts,
        "__celery_app": {"plan": {"app": "shop"}},
    }
    templar = Templar(loader=DataLoader(), variables=variables)
    assert templar.template(trust_as_template("{{ __celery_app_after }}")) == after
    # The note of what is owed is left by that host alone, and the commands run there.
    for place in ("roles/celery_app/tasks/after.yml", "roles/celery_app/tasks/install.yml", "playbooks/deploy.yml"):
        assert "inventory_hostname == __celery_app_after" in (ROOT / place).read_text()
