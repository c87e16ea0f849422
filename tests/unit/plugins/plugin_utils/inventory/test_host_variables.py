"""The variables of hosts that are alike are worked out once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.host_variables import HostVariables
from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.this_run import this_run


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
        a={"inventory_hostname": "a", "ansible_host": "10.0.0.1", "group_names": ["x"], "redis_port": 1},
        b={"inventory_hostname": "b", "ansible_host": "10.0.0.2", "group_names": ["x", "y"], "redis_port": 1},
        c={"inventory_hostname": "c", "ansible_host": "10.0.0.3", "redis_port": 2},
    )
    assert [worked.variables.get(host, "redis_port") for host in "abc"] == ["1", "1", "2"]
    assert worked.asked == [1, 2]
    assert [worked.variables.get(host, "ansible_host") for host in "ab"] == ["10.0.0.1", "10.0.0.2"]
    assert worked.variables.get("a", "nothing", 7) == 7


def test_a_template_that_asks_for_the_host_makes_a_difference() -> None:
    worked = Worked(
        a={"inventory_hostname": "a", "redis_name": "{{ inventory_hostname }}", "text": "groups"},
        b={"inventory_hostname": "b", "redis_name": "{{ inventory_hostname }}", "text": "groups"},
    )
    assert [worked.variables.get(host, "redis_name") for host in "ab"] == ["a", "b"]
    text = "our groups and inventory_hostname"
    plain = Worked(a={"redis_text": text}, b={"redis_text": text})
    assert plain.variables.kind("a") == plain.variables.kind("b")


def test_only_the_facts_that_plans_ask_for_are_told() -> None:
    worked = Worked(a={"ansible_facts": {"memtotal_mb": 512, "date_time": "now"}}, b={})
    assert worked.variables.facts("a") == {"memtotal_mb": 512}
    assert worked.variables.facts("b") == {}


def test_what_an_earlier_run_saw_of_a_host_is_left_to_the_cache() -> None:
    held = {"memtotal_mb": 512, "celeryops_rabbitmq": {"nodes": ["rabbit@old"]}, "celeryops_redis": {"redis": {}}}
    runs = {"a": {"run": "1-1"}, "b": {}, "c": {"run": this_run()}}
    worked = Worked(
        **{host: {"ansible_facts": {**held, "celeryops_machine": machine}} for host, machine in runs.items()}
    )
    assert worked.variables.facts("a") == worked.variables.facts("b") == {"memtotal_mb": 512}
    assert worked.variables.facts("c") == held


def test_what_json_does_not_know_is_alike_when_it_is_the_same() -> None:
    vaulted = object()
    worked = Worked(a={"redis_password": vaulted}, b={"redis_password": vaulted}, c={"redis_password": object()})
    assert worked.variables.kind("a") == worked.variables.kind("b")
    assert worked.variables.kind("a") != worked.variables.kind("c")


def test_what_no_role_reads_makes_no_difference() -> None:
    worked = Worked(
        a={"server_id": 1, "zone": "eu", "redis_port": 1},
        b={"server_id": 2, "zone": "eu", "redis_port": 1, "other": "{{ inventory_hostname }}"},
    )
    assert worked.variables.kind("a") == worked.variables.kind("b")
    assert [worked.variables.get(host, "server_id") for host in "ab"] == ["1", "2"]


def test_what_a_template_leads_to_makes_a_difference() -> None:
    def hosts(**own: Any) -> Worked:
        shared = {"redis_port": {"a": ["{{\nfirst }}"]}, "first": "{% if second %}1{% endif %}"}
        return Worked(a={**shared, "second": 1, **own}, b={**shared, "second": 1})

    assert hosts().variables.kind("a") == hosts().variables.kind("b")
    for own in ({"second": 2}, {"first": "{{ second }}"}, {"second": "{{\ninventory_hostname }}"}):
        worked = hosts(**own)
        assert worked.variables.kind("a") != worked.variables.kind("b")


def test_keys_of_several_kinds_are_told_apart() -> None:
    keys: list[Any] = [{22: "ssh", "https": 443, True: None, None: 1.5}, {"22": "ssh", "https": 443, "true": None}]
    worked = Worked(a={"redis_settings": keys[0]}, b={"redis_settings": keys[1]}, c={"redis_settings": {**keys[0]}})
    assert worked.variables.kind("a") != worked.variables.kind("b")
    assert worked.variables.kind("a") == worked.variables.kind("c")


def test_the_other_hosts_are_not_read_on_the_way() -> None:
    worked = Worked(a={"redis_port": "{{ hostvars.b.port }}", "hostvars": {"b": object()}}, b={"redis_port": 1})
    assert worked.variables.kind("a") == 'a: redis_port: "{{ hostvars.b.port }}"'
