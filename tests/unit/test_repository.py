"""What holds for the repository as a whole."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.celeryops.stack.plugins.plugin_utils.inventory.receipts import REGISTERED

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
PHASES = ["validate", "install", "configure", "service", "reconcile"]
#: celery_app runs nothing of its own, a scheduler installs nothing of its own
OPTIONAL_PHASES = {"install", "service", "reconcile"}
#: Formats that know no comments, and files that belong to what runs once they are there.
WITHOUT_COMMENTS = {"celeryops.acl.j2", "enabled_plugins.j2", "state.conf.j2", "users.acl.j2"}


def tracked() -> list[Path]:
    """The files of the repository, those not yet committed too; without git, none."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def text_of(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def tasks_of(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every task of a list, those in blocks too."""
    return [inner for task in listed for inner in (tasks_of(task["block"]) if "block" in task else [task])]


each_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def test_the_checkout_is_the_collection() -> None:
    link = ROOT / "collections" / "ansible_collections" / "celeryops" / "stack"
    assert link.is_symlink()
    assert link.readlink() == Path("../../..")
    assert link.resolve() == ROOT


def test_no_file_names_a_path_of_one_machine() -> None:
    # Put together here, or this file would be found.
    forbidden = re.compile(
        "|".join((r"/" + r"work/", r"/" + r"home/[a-z]", r"/" + r"Users/", re.escape(str(ROOT)) + "(?![a-z])"))
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in tracked()
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if forbidden.search(line)
    ]
    assert found == []


def test_no_product_and_no_secret_is_tracked() -> None:
    forbidden = re.compile(
        r"(^|/)(__pycache__|\.venv|secrets|build|\.ansible)(/|$)|\.(pyc|retry|tar|tar\.gz|deb|key|pem)$"
    )
    assert [str(path.relative_to(ROOT)) for path in tracked() if forbidden.search(str(path.relative_to(ROOT)))] == []


def test_yaml_files_end_in_yml() -> None:
    others = {"changelogs/config.yaml", "changelogs/changelog.yaml"}  # antsibull-changelog's own names
    assert [
        str(path.relative_to(ROOT))
        for path in tracked()
        if path.suffix == ".yaml" and str(path.relative_to(ROOT)) not in others
    ] == []


@each_role
def test_a_role_has_the_files_that_every_role_has(role: Path) -> None:
    wanted = ["README.md", "defaults/main.yml", "meta/main.yml", "meta/argument_specs.yml", "tasks/main.yml"]
    assert [name for name in wanted if not (role / name).is_file()] == []
    assert not (role / "handlers").exists(), "units restarts what has to be restarted: see plugins/modules/units.py"


@each_role
def test_a_role_goes_through_the_same_phases_as_every_role(role: Path) -> None:
    phases = []
    for task in load(role / "tasks" / "main.yml"):
        name = Path(task["ansible.builtin.import_tasks"]).stem
        phases.append(name)
        assert set(task) == {"name", "ansible.builtin.import_tasks", "tags"}, name
        assert {role.name, f"{role.name}_{name}"} <= set(task["tags"]), name
    assert phases == [name for name in PHASES if name in phases]
    assert set(PHASES) - set(phases) <= OPTIONAL_PHASES
    files = {path.stem for path in (role / "tasks").glob("*.yml")} - {"main"}
    assert set(phases) <= files
    assert not (set(PHASES) - set(phases)) & files, "a file of a phase that main.yml does not import"


@each_role
def test_a_phase_can_be_run_alone_by_its_tag(role: Path) -> None:
    """Every phase reads the plan, so the phase that makes it runs with any tag of the role."""
    tasks = load(role / "tasks" / "main.yml")
    wanted = {role.name, *(f"{role.name}_{Path(task['ansible.builtin.import_tasks']).stem}" for task in tasks)}
    assert set(tasks[0]["tags"]) == wanted
    for task in tasks:
        assert set(task["tags"]) <= wanted


@each_role
def test_the_metadata_of_a_role(role: Path) -> None:
    meta = load(role / "meta" / "main.yml")
    info = meta["galaxy_info"]
    assert meta["dependencies"] == []
    assert info["license"] == "Apache-2.0"
    assert info["min_ansible_version"] == "2.18"
    assert {"name": "Debian", "versions": ["bookworm", "trixie"]} in info["platforms"]


@each_role
def test_templates_say_who_writes_them(role: Path) -> None:
    """The file's first line names the role; `units` finds the units to prune by it."""
    line = f"Managed by celeryops.stack (role {role.name}). Local changes are overwritten."
    assert [
        path.name
        for path in sorted((role / "templates").glob("*.j2"))
        if not path.name.endswith(".json.j2")
        and path.name not in WITHOUT_COMMENTS
        and line not in text_of(path).splitlines()[0]
    ] == []


def test_root_is_never_told_to_run_celery() -> None:
    forbidden = "C_FORCE" + "_ROOT"
    code = [path for path in tracked() if path.is_relative_to(ROOT / "roles") and path.suffix in {".j2", ".yml"}]
    assert [str(path.relative_to(ROOT)) for path in code if forbidden in text_of(path)] == []


def test_text_that_may_look_like_data_stays_text() -> None:
    """ansible-core 2.18 makes a list of the password ``["x"]``, and a dictionary of JSON; `string` stops it."""
    files = [path for path in tracked() if path.suffix == ".yml" and path.parent.name in ("tasks", "playbooks")]
    said = re.compile(r"(content|\w*password|\w*secret|login_user|username): (>-)?\s*([\"']?\{\{.*?\}\})", re.DOTALL)
    found = {
        (str(path.relative_to(ROOT)), match.start(), match[1]): match[3]
        for path in files
        for match in said.finditer(text_of(path))
        if not path.is_relative_to(ROOT / "molecule")
    }
    assert len(found) > 10
    assert {place for place, template in found.items() if not re.search(r"\| string \}\}$", template)} == set()


def test_no_url_is_put_together_by_jinja() -> None:
    """A filter does it (celeryops.stack.url): it encodes every part, and knows IPv6 and clusters."""
    files = [path for folder in ("roles", "playbooks") for path in (ROOT / folder).rglob("*.*")]
    files = [path for path in files if path.suffix in (".yml", ".j2") and path.name != "argument_specs.yml"]
    assert ROOT / "playbooks" / "vars" / "stack.yml" in files
    wrong = []
    for path in files:
        text = re.sub(r"(^|\s)#.*$", "", text_of(path), flags=re.MULTILINE)
        wrong += [
            line for line in text.splitlines() if "://" in line and not re.match(r"Documentation=https://\S+$", line)
        ]
        # Nor is anything put in front of one that is finished, or behind it.
        wrong += re.findall(r"stack\.url\([^()]*\)\s*~.*|~\s*\w+\s*\|\s*celeryops\.stack\.url.*", text)
    assert wrong == []


def test_no_role_reads_another_hosts_variables() -> None:
    """Groups and other hosts' variables meet in playbooks/ only."""
    pattern = re.compile(r"\b(hostvars|groups)\s*(\[|\.)")
    code = [path for path in tracked() if path.is_relative_to(ROOT / "roles") and path.suffix in {".j2", ".yml"}]
    assert [str(path.relative_to(ROOT)) for path in code if pattern.search(text_of(path))] == []


def test_a_task_that_may_lose_a_host_does_not_end_the_play() -> None:
    """What is noted is undone later. A host that is ignored is, all the same, an error that may be fatal for all."""
    files = [path for path in tracked() if path.is_relative_to(ROOT / "playbooks" / "tasks") and path.suffix == ".yml"]
    lists = [load(path) for path in files]
    lists += [play.get("tasks", []) for path in (ROOT / "playbooks").glob("*.yml") for play in load(path)]
    found = [task for tasks in lists for task in tasks_of(tasks) if task.get("ignore_unreachable")]
    assert len(found) > 3
    assert [task["name"] for task in found if task.get("any_errors_fatal") is not False] == []
    # run_once is fatal for all hosts by itself (the linear strategy of ansible-core 2.17 to 2.19).
    assert [task["name"] for task in found if task.get("run_once") and not task.get("ignore_errors")] == []


def test_a_unit_that_does_not_end_keeps_what_comes_behind_it_from_starting() -> None:
    """A second scheduler would start; a worker that gives tasks back would have no account any more."""
    plays = [
        play
        for play in load(ROOT / "playbooks" / "site.yml")
        if any("prune" in task.get("celeryops.stack.units", {}) for task in play.get("tasks", []))
    ]
    assert len(plays) == 2
    assert [play["name"] for play in plays if play.get("any_errors_fatal") is not True] == []


def test_what_stops_a_run_stops_it_when_a_host_was_left_out_too() -> None:
    """``any_errors_fatal`` ends a play; Ansible goes on to the next one unless all hosts of the play failed in it."""
    plays = [play for play in load(ROOT / "playbooks" / "site.yml") if play.get("any_errors_fatal")]
    assert len(plays) == 3
    assert [play["name"] for play in plays if play.get("max_fail_percentage") != 0] == []


def test_every_play_keeps_its_hosts_in_step() -> None:
    """With ``strategy = free`` in a user's ansible.cfg the batches of a rolling restart would all begin at once.

    Neither ``run_once`` nor ``any_errors_fatal`` holds there (ansible-core 2.18 to 2.21, plugins/strategy/free.py).
    """
    plays = [play for path in (ROOT / "playbooks").glob("*.yml") for play in load(path) if "hosts" in play]
    assert len(plays) > 20
    assert [play["name"] for play in plays if play.get("strategy") != "ansible.builtin.linear"] == []


def test_what_a_role_needs_beside_itself_is_done_with_its_tag() -> None:
    """`--tags celery_beat` after a move would start a second scheduler, without what the first one knew."""
    roles = dict.fromkeys(("celeryops_lost_beats", "celeryops_moved", "celeryops_unstopped"), "celery_beat")
    found: dict[str, list[str]] = {}
    for play in load(ROOT / "playbooks" / "site.yml"):
        for task in tasks_of(play.get("tasks", [])):
            text = json.dumps(task)
            tags = task.get("tags", [])
            if "ansible.builtin.import_role" not in task:
                assert tags, f"{task['name']}: runs with no tag at all"
            about = set(re.findall(r"'role', 'eq', '(\w+)'", text)) | {roles[name] for name in roles if name in text}
            for role in about:
                assert {role, f"{role}_service"} <= set(tags), task["name"]
                found.setdefault(role, []).append(task["name"])
    assert {role: len(names) for role, names in found.items()} == {"celery_worker": 1, "celery_beat": 4, "flower": 2}


def test_the_tools_are_pinned() -> None:
    pins = [
        line.split(" ;")[0]
        for line in (ROOT / "requirements-dev.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert len(pins) > 20
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][^=]*", pin)] == []


@pytest.mark.parametrize(
    ("files", "licence"), [("plugins/**/*.py", "GPL-3.0-or-later"), ("roles/*/files/**/*.py", "Apache-2.0")]
)
def test_what_ansible_loads_and_what_users_processes_load_say_their_licence(files: str, licence: str) -> None:
    found = [path for path in ROOT.glob(files) if path.stat().st_size]
    line = f"# SPDX-License-Identifier: {licence}\n"
    assert found
    assert [str(path) for path in found if line not in path.read_text()[:400]] == []
    assert (ROOT / "LICENSES" / f"{licence}.txt").read_text().strip()


#: Tells what is wrong with those of a host.
_SPELLS_THEM_STILL = {"plugins/plugin_utils/takeover/host_conflicts.py"}


def test_one_module_spells_the_directories_of_a_host() -> None:
    spelt = re.compile(r"/(opt|etc|run|var/(lib|log|cache|lib/private))/celeryops\b")
    found = set()
    for path in (ROOT / "plugins").rglob("*.py"):
        tree = ast.parse(path.read_text())
        said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        said |= {
            id(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("DOCUMENTATION", "EXAMPLES")
        }
        texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in said)
        if any(isinstance(node.value, str) and spelt.search(node.value) for node in texts):
            found.add(str(path.relative_to(ROOT)))
    assert found - _SPELLS_THEM_STILL == {"plugins/module_utils/paths.py"}


#: Modules that change no host.
LOOKS = {
    *(f"ansible.builtin.{name}" for name in ("assert", "debug", "fail", "meta", "set_fact", "slurp", "stat")),
    *(f"ansible.builtin.{name}" for name in ("import_playbook", "import_role", "import_tasks")),
    *(f"ansible.builtin.{name}" for name in ("include_role", "include_tasks")),
    *(f"celeryops.stack.{name}" for name in ("backlog", "facts", "further", "plan", "rollout", "stranded")),
    *(f"celeryops.stack.{name}" for name in ("redis_info", "unregistered", "workers", "probe")),
}


@pytest.mark.parametrize(
    "path",
    sorted(
        [
            *(ROOT / "roles").glob("*/tasks/*.yml"),
            *(ROOT / "playbooks").glob("tasks/*.yml"),
            *(path for path in (ROOT / "playbooks").glob("*.yml") if "vars/stack.yml" in path.read_text()),
        ]
    ),
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_the_run_knows_what_it_has_changed(path: Path) -> None:
    """By the results that tasks register: then a receipt counts no more (plugin_utils/inventory/receipts.py)."""
    listed = load(path)
    if path.parent.name == "playbooks":
        listed = [task for play in listed for task in play.get("tasks", [])]
    names: list[str] = []
    rescues = [inner for task in listed for inner in task.get("rescue", [])]
    for task in tasks_of([*listed, *rescues]):
        modules = [key for key in task if key.count(".") == 2]
        if not set(modules) <= LOOKS:
            names.append(str(task.get("register", "")))
            assert names[-1].startswith(REGISTERED), f"{task['name']}: {modules} is not registered"
    if path.name == "site.yml" or "roles" in path.parts:
        assert len(set(names)) == len(names), "a task that is skipped takes the place of one that changed something"
