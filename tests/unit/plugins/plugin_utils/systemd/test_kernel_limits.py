"""What the kernel hands to a new process, asked of the kernel."""

from __future__ import annotations

import subprocess

from ansible_collections.celeryops.stack.plugins.plugin_utils.systemd.kernel_limits import (
    LONGEST,
    MOST,
    environment_problems,
    size,
)


def starts(environment: dict[str, str]) -> bool:
    try:
        subprocess.run(["/bin/true"], env=environment, check=True)
    except OSError:
        return False
    return True


def test_the_longest_variable_is_what_the_kernel_takes() -> None:
    value = "x" * (LONGEST - len("A="))
    assert starts({"A": value})
    assert not starts({"A": value + "x"})
    assert list(environment_problems("e", {"A": value})) == []
    (problem,) = environment_problems("e", {"A": value + "x", "B": "y"})
    assert problem.variable == "e.A"
    assert "x" * 10 not in str(problem)


def test_all_together_leave_room() -> None:
    environment = {f"V{number:02}": "x" * 131000 for number in range(14)}
    assert list(environment_problems("e", environment)) == []
    assert starts(environment)
    (problem,) = environment_problems("e", {**environment, "V98": "x" * 131000})
    assert problem.variable == "e"
    assert f"the kernel takes {MOST}" in problem.reason


def test_bytes_count_and_not_characters() -> None:
    assert size("A", "ü") == 4
    assert [problem.variable for problem in environment_problems("e", {"A": "ü" * 70000, "B": 1})] == ["e.A"]
