"""What the runs from a control node take for a failure."""

from __future__ import annotations

import pytest
import yaml

import run_control_nodes as nodes

DEPRECATED = """\
[DEPRECATION WARNING]: INJECT_FACTS_AS_VARS default to `True` is deprecated, top-level facts will not be auto injected.
Origin: /root/playbooks/vars/stack.yml:7:18

7 celeryops_stack: "{{ celeryops_survey }}"

ok: [a]
"""
DISCOVERED = """\
[WARNING]: Host 'a' is using the discovered Python interpreter at '/usr/bin/python3.13', but future installation of
another Python interpreter could cause a different interpreter to be discovered.
ok: [a]
"""
OLDER = """\
[WARNING]: Platform linux on host a is using the discovered Python
interpreter at /usr/bin/python3.11, but future installation of another Python
changed: [a]
"""
OTHER = "TASK [x] ***\n[WARNING]: the plan was not written\nok: [a]\n"


def test_a_deprecation_and_a_warning_are_told_whole() -> None:
    (told,) = nodes.unexpected(DEPRECATED)
    assert told.startswith("[DEPRECATION WARNING]: INJECT_FACTS_AS_VARS")
    assert "stack.yml:7:18" in told
    assert nodes.unexpected(OTHER) == ["[WARNING]: the plan was not written"]
    assert len(nodes.unexpected(DISCOVERED + DEPRECATED + OLDER + OTHER)) == 2


@pytest.mark.parametrize("text", [DISCOVERED, OLDER, "", "ok: [a]\n"])
def test_what_ansible_says_of_the_interpreter_is_expected(text: str) -> None:
    assert nodes.unexpected(text) == []


def test_the_recap_of_all_hosts_counts() -> None:
    line = "{} : ok=5    changed={}    unreachable={}    failed={}    skipped=0    rescued=0    ignored=0\n"
    assert nodes.recap(line.format("a", 2, 0, 0) + line.format("b-1.c", 1, 1, 1)) == (3, 2)
    with pytest.raises(nodes.StepError):
        nodes.recap("PLAY RECAP ***\n")


def test_every_version_that_is_declared_is_run() -> None:
    wanted = yaml.safe_load((nodes.ROOT / "meta" / "runtime.yml").read_text())["requires_ansible"]
    assert wanted == f">={min(nodes.VERSIONS, key=lambda text: int(text.split('.')[1]))}.0"
    assert [*nodes.VERSIONS] == ["2.18", "2.19", "2.20", "2.21"]


def test_the_page_of_the_broker_is_asked_by_a_program() -> None:
    compile(nodes.PAGES, "pages.py", "exec")
    compile(nodes.ASK, "ask.py", "exec")
    assert r'r"\\(.)", r"\1"' in nodes.PAGES
