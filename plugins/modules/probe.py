# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: probe
short_description: Send a task through every queue of an app and wait for an answer
version_added: 0.1.0
description:
  - Runs C(python -m celeryops_runtime probe) in the app's current release, as the account of the app, with the
    variables of its environment file. The broker's password is in that environment only, never in argv or output.
  - The task is C(celeryops.probe) of the runtime, which every worker has. Its answer does not need a result
    backend.
  - If all workers of a queue are busy, the answer is late. A probe that still waits is a warning, not a failure.
extends_documentation_fragment: [celeryops.stack.attributes.reads]
options:
  current:
    description: The link to the app's current release.
    type: path
    required: true
  environment_file:
    description: The app's environment file, which only root can read.
    type: path
    required: true
  user:
    description: The account to run as.
    type: str
    required: true
  queues:
    description: The queues.
    type: list
    elements: str
    required: true
  releases:
    description: The releases that may answer; any if empty.
    type: list
    elements: str
    default: []
  timeout:
    description: How many seconds to wait for all answers.
    type: int
    default: 60
  tolerate:
    description: Whether to return a failure as RV(problem), so that the play can roll back.
    type: bool
    default: false
attributes:
  check_mode: {details: Sends nothing.}
author: celeryops.stack contributors (@celeryops)
"""

EXAMPLES = r"""
- name: Verify that every queue has a worker
  celeryops.stack.probe:
    current: /opt/celeryops/shop/current
    environment_file: /etc/celeryops/shop/celery.env
    user: shop
    queues: [default, payments]
"""

RETURN = r"""
answers:
  description: Queue -> C(node), C(pid), C(release) and C(seconds) of the worker that answered, or C(waiting), a number.
  type: dict
  returned: always
problem:
  description: What went wrong; empty on success.
  type: str
  returned: always
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.celeryops.stack.plugins.module_utils.runtime import CommandError, run_runtime


def judge(answers: dict[str, dict[str, Any]], releases: list[str], timeout: int) -> tuple[str, list[str]]:
    """Return what is wrong with the answers, and what is only to be told.

    Arguments:
        answers: queue -> what came of its probe (see celeryops_runtime.probe.ask).
        releases: of which an answer may come; any when empty.
        timeout: seconds that were waited.
    """
    wrong, told = [], []
    for queue, answer in sorted(answers.items()):
        if "node" in answer:
            if releases and answer.get("release") not in releases:
                wrong.append(
                    f"{queue}: {answer['node']} answered from the release {answer.get('release')}, "
                    f"and not from {' or '.join(releases)}"
                )
        elif answer.get("waiting"):
            told.append(
                f"{queue}: the probe still waits behind {answer['waiting'] - 1} other messages after {timeout} s; "
                "its workers are busy, so this queue was not tested to its end"
            )
        else:
            wrong.append(f"{queue}: a worker took the probe and did not answer within {timeout} s")
    return "; ".join(wrong), told


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "current": {"type": "path", "required": True},
            "environment_file": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "queues": {"type": "list", "elements": "str", "required": True},
            "releases": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 60},
            "tolerate": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    asked = module.params
    if module.check_mode or not asked["queues"]:
        module.exit_json(changed=False, answers={}, problem="")
    words = ["probe", "--timeout", str(asked["timeout"])]
    words += [f"--queue={queue}" for queue in asked["queues"]]
    answers: dict[str, dict[str, Any]] = {}
    problem = ""
    try:
        report = run_runtime(
            asked["current"], asked["environment_file"], asked["user"], words, timeout=asked["timeout"] + 60
        )
        problem = str(report.get("message")) if report.get("failed") else ""
        answers = report.get("answers", {})
    except CommandError as error:
        problem = str(error)
    if not problem:
        problem, told = judge(answers, asked["releases"], asked["timeout"])
        for text in told:
            module.warn(text)
    if problem:
        problem = f"the probe failed: {problem}"
    if problem and not asked["tolerate"]:
        module.fail_json(msg=problem, answers=answers, problem=problem)
    module.exit_json(changed=False, answers=answers, problem=problem)


if __name__ == "__main__":
    main()
