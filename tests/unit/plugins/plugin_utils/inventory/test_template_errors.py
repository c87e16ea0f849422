"""Of a template that fails the cause is told, and never a secret."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.template_errors import (
    failing,
    first_line,
    not_worked_out,
)

GENERAL = "redis_bind: could not be evaluated; it may use an undefined variable: "
FACT = (
    "redis_bind: needs a fact, and the check contacts no host: it knows facts only where a fact cache holds them ({}); "
    "write the value, or gather facts into a cache before (fact_caching in ansible.cfg)"
)


def told(error: str, written: Any = "{{ x }}", *, hidden: bool = False, **others: Any) -> str:
    return str(not_worked_out("redis_bind", ValueError(error), {"redis_bind": written, **others}, hidden=hidden))


LOCKED = "redis_bind: cannot be decrypted: it is encrypted with Ansible Vault, and no vault password "
GIVE = "; run with --ask-vault-pass or --vault-password-file"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        ("Attempting to decrypt but no vault secrets found", "was given"),
        ("Undecryptable variable: Attempting to decrypt but no vault secrets found.", "was given"),
        ("Decryption failed (no vault secrets were found that could decrypt)", "that was given opens it"),
        ("Attempt to use undecryptable variable: hunter2", "that was given opens it"),
        ("input is no vault\nDecryption failed on hunter2", "that was given opens it"),
    ],
)
def test_a_vault_that_nothing_opens_is_told_and_nothing_of_it(error: str, why: str) -> None:
    assert told(error) == told(error, hidden=True) == f"{LOCKED}{why}{GIVE}"


@pytest.mark.parametrize(
    "error",
    [
        "Syntax error in template: Missing end of comment tag.",
        "template error while templating string: Missing end of comment tag. String: hunter{#2. Missing end of comment",
    ],
)
def test_a_text_that_is_no_template_is_told_as_one(error: str) -> None:
    """A password with a brace and a number sign, in the words of ansible-core 2.19 to 2.21, and of 2.18."""
    instead = "; write one, or !unsafe in front of a text with {{, {% or {# that is not meant as one"
    begin = "redis_bind: is not a template of Jinja, or a variable in it is none"
    assert told(error, hidden=True) == begin + instead
    assert told(error) == f"{begin} ({error.partition('. String')[0].rstrip('.')}){instead}"


def test_the_variables_of_all_hosts_are_not_gone_through() -> None:
    class All(dict[str, Any]):
        def items(self) -> Any:
            raise AssertionError

    lacks, every = "has no attribute 'processor_vcpus'", {"hostvars": All(), "vars": All(), "ansible_facts": All()}
    written = "{{ hostvars['a'].ansible_facts.processor_vcpus + vars.x }}"
    assert told(f"'dict object' {lacks}", written, **every) == FACT.format(lacks)


@pytest.mark.parametrize("hidden", [True, False])
def test_a_fact_is_told_as_one(hidden: bool) -> None:
    lacks = "'ansible_default_ipv4' is undefined"
    assert told(lacks, hidden=hidden) == FACT.format(lacks)
    key = "has no attribute 'processor_vcpus'"
    for written in (
        "{{ ansible_facts['processor_vcpus'] }}",
        ["{{ ansible_facts.processor_vcpus * 2 }}"],
        {"high": {"concurrency": '{{ ansible_facts["processor_vcpus"] }}'}},
        "{{ hostvars['a'].ansible_facts.processor_vcpus }}",
    ):
        assert told(f"object of type 'dict' {key}", written, hidden=hidden) == FACT.format(key)
    deep = {"x": "{{ y }}", "y": "{{ ansible_facts.processor_vcpus }} {{ x }}"}
    assert told(f"'dict object' {key}", hidden=hidden, **deep) == FACT.format(key)
    injected = "has no attribute 'ansible_eth0'"
    assert told(f"'dict object' {injected}", "{{ hostvars['a'].ansible_eth0 }}") == FACT.format(injected)


@pytest.mark.parametrize(
    ("error", "written"),
    [
        ("'ansible_host' is undefined", "{{ ansible_host }}"),
        ("'ansible_ssh_common_args' is undefined", "{{ ansible_ssh_common_args }}"),
        ("'processor_vcpus' is undefined", "{{ ansible_facts.processor_vcpus + processor_vcpus }}"),
        ("object of type 'dict' has no attribute 'port'", "{{ shop.port }} {{ ansible_facts.hostname }}"),
        ("object of type 'dict' has no attribute 'host'", "{{ ansible_facts.hostname }}"),
    ],
)
def test_what_is_no_fact_is_told_as_it_is(error: str, written: str) -> None:
    assert told(error, written) == GENERAL + error


def test_of_what_may_be_a_secret_only_what_it_lacks_is_told() -> None:
    assert told("'shop' is undefined near hunter2", hidden=True) == f"{GENERAL}'shop' is undefined"
    assert told("no filter named hunter2", hidden=True) == f"{GENERAL}the template is not shown"


@pytest.mark.parametrize("cause", ["Missing end of comment tag", "'x' is undefined"])
def test_what_was_templated_is_no_part_of_what_is_told(cause: str) -> None:
    """As ansible-core 2.18 says it of a variable in a variable."""
    about = "An unhandled exception occurred while templating 'hunter2\n{#'. Error was a <class 'AnsibleError'>"
    said = f"template error while templating string: {cause}. String: hunter2\n{{#. {cause}"
    assert first_line(ValueError(f"{about}, original message: {said}")) == said.partition(". String")[0]
    mixed = f"Unexpected templating type error occurred on (hunter2\n {{{{ 1 + (2) }}}}): {cause}. {cause}"
    assert first_line(ValueError(f"{about}, original message: {mixed}")) == f"{cause}. {cause}"


def test_the_first_line_without_secrets_is_told() -> None:
    assert first_line(ValueError("redis://:hunter2@a failed\nline 4")) == "redis://:***@a failed"
    assert first_line(ValueError()) == "ValueError"
    assert told("Recursive loop: maximum recursion depth exceeded") == f"{GENERAL}Recursive loop"


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize(
    "error",
    [
        # In the words of ansible-core 2.19 to 2.21, and of 2.18.
        "The lookup plugin 'file' failed: Unable to access the file 'a/key': File not found. Use -vvvvv to see paths.",
        "The 'file' lookup had an issue accessing the file 'a/key'. file not found, use -vvvvv to see paths searched",
        "The lookup plugin 'template' failed: the template file a/key could not be found for the lookup",
        "The lookup plugin 'unvault' failed: Unable to find file matching \"a/key\"",
    ],
)
def test_a_file_that_a_lookup_does_not_find_is_told(error: str, hidden: bool) -> None:
    reason = "a lookup finds no file a/key on this machine; write the path of one that is there"
    assert told(error, hidden=hidden) == f"redis_bind: could not be evaluated: {reason}"


def test_a_host_that_is_not_in_the_inventory_is_told() -> None:
    said = "redis_bind: could not be evaluated: mq-1.invalid is not a host of the inventory; write the name of one"
    assert told("hostvars['mq-1.invalid']", hidden=True) == said
    assert told("'HostVarsVars object' has no attribute 'db-1.invalid'", hidden=True).endswith("'db-1.invalid'")
    assert told("hunter2 in hostvars['a'] fails", hidden=True) == f"{GENERAL}the template is not shown"


def test_the_places_that_fail_are_named() -> None:
    def template(value: Any) -> Any:
        if "{{" in str(value):
            raise ValueError(str(value))

    written = {"a": "x", "b": ["y", "{{ 1 }}", {"c": "{{ 2 }}", "d": {}}], "e": {"f": "{{ 3 }}"}}
    found = [(place, str(error)) for place, error in failing(written, "v", ValueError("all"), template)]
    assert found == [("v.b[1]", "{{ 1 }}"), ("v.b[2].c", "{{ 2 }}"), ("v.e.f", "{{ 3 }}")]
    # What only fails as a whole, and what has no inside.
    whole = ValueError("all")
    for value in ({"a": "x"}, ["x"], "{{ 1 }}", 5):
        assert [*failing(value, "v", whole, template)] == [("v", whole)]
