"""The variables of hosts that are alike are worked out once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory import HostVariables


class Worked:
    """Stands for Ansible's templating, and counts."""

    def __init__(self, **hosts: Mapping[str, Any]) -> None:
        self.hosts = hosts
        self.asked: list[Any] = []
        self.variables = HostVariables(self.hosts.__getitem__, self.template)

    def template(self, variables: Mapping[str, Any], value: Any) -> Any:
        self.asked.append(value)
        return str(value).replace("{{ inventory_hostname }}", str(variables.get("inventory_hostname")))


def test_hosts_that_differ_by_name_and_address_are_alike() -> None:
    worked = Worked(
        a={"inventory_hostname": "a", "ansible_host": "10.0.0.1", "group_names": ["x"], "port": 1},
        b={"inventory_hostname": "b", "ansible_host": "10.0.0.2", "group_names": ["x", "y"], "port": 1},
        c={"inventory_hostname": "c", "ansible_host": "10.0.0.3", "port": 2},
    )
    assert [worked.variables.get(host, "port") for host in "abc"] == ["1", "1", "2"]
    assert worked.asked == [1, 2]
    assert [worked.variables.get(host, "ansible_host") for host in "ab"] == ["10.0.0.1", "10.0.0.2"]
    assert worked.variables.get("a", "nothing", 7) == 7
    assert worked.variables.view("a", ["port", "nothing"]) == {"port": "1"}


def test_a_template_that_asks_for_the_host_makes_a_difference() -> None:
    worked = Worked(
        a={"inventory_hostname": "a", "name": "{{ inventory_hostname }}", "text": "groups"},
        b={"inventory_hostname": "b", "name": "{{ inventory_hostname }}", "text": "groups"},
    )
    assert [worked.variables.get(host, "name") for host in "ab"] == ["a", "b"]
    plain = Worked(a={"text": "our groups and inventory_hostname"}, b={"text": "our groups and inventory_hostname"})
    assert plain.variables.kind("a") == plain.variables.kind("b")


def test_only_the_facts_that_plans_ask_for_are_told() -> None:
    worked = Worked(a={"ansible_facts": {"memtotal_mb": 512, "date_time": "now"}}, b={})
    assert worked.variables.facts("a") == {"memtotal_mb": 512}
    assert worked.variables.facts("b") == {}


def test_what_json_does_not_know_is_alike_when_it_is_the_same() -> None:
    vaulted = object()
    worked = Worked(a={"password": vaulted}, b={"password": vaulted}, c={"password": object()})
    assert worked.variables.kind("a") == worked.variables.kind("b")
    assert worked.variables.kind("a") != worked.variables.kind("c")
