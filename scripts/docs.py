#!/usr/bin/env python
"""Write what is generated in the READMEs: each role's variables, the check's rules, the table of supported versions.

The text of a variable stands in one place, the role's meta/argument_specs.yml; what was tested stands in
tests/support.json, which `make test-all` writes. Prose around the marked blocks is nobody's but its author's.

    scripts/docs.py            write
    scripts/docs.py --check    fail, naming the files, if writing would change something
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import run_suites
import suites_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
ROLE_MARKS = ("<!-- BEGIN_ANSIBLE_DOCS -->", "<!-- END_ANSIBLE_DOCS -->")
SUPPORT_MARKS = ("<!-- BEGIN_SUPPORT -->", "<!-- END_SUPPORT -->")
SETTINGS_MARKS = ("<!-- BEGIN_SETTINGS -->", "<!-- END_SETTINGS -->")
VERSIONS_MARKS = ("<!-- BEGIN_VERSIONS -->", "<!-- END_VERSIONS -->")
GENERATIONS_MARKS = ("<!-- BEGIN_GENERATIONS -->", "<!-- END_GENERATIONS -->")
RULES_MARKS = ("<!-- BEGIN_RULES -->", "<!-- END_RULES -->")
SUPPORT = Path("tests/support.json")
#: Debian's suites, the oldest first.
SUITES = ("bookworm", "trixie", "forky")
LONGEST_DEFAULT = 60

# The markup of Ansible's documentation, as far as plain text in Markdown needs it.
LINK = re.compile(r"\bL\(([^,()]+),\s*([^()]+)\)")
CODE = re.compile(r"\b[CVOE]\(([^()]*(?:\([^()]*\)[^()]*)*)\)")
BOLD = re.compile(r"\bB\(([^()]+)\)")
ITALIC = re.compile(r"\bI\(([^()]+)\)")
ADDRESS = re.compile(r"\bU\(([^()]+)\)")


class DocsError(Exception):
    """A file that cannot be written; the text names it."""


def markdown(text: str) -> str:
    text = LINK.sub(r"[\1](\2)", text)
    text = CODE.sub(r"`\1`", text)
    text = BOLD.sub(r"**\1**", text)
    text = ITALIC.sub(r"*\1*", text)
    return ADDRESS.sub(r"<\1>", text)


def cell(text: str) -> str:
    """Text for a table: one line, and no bar outside of what Markdown would take for the next column."""
    return " ".join(text.split()).replace("|", "\\|")


def paragraphs(description: str | list[str]) -> list[str]:
    lines = [description] if isinstance(description, str) else description
    return [markdown(str(line)) for line in lines]


def type_of(option: Mapping[str, Any]) -> str:
    kind = str(option.get("type", "str"))
    if kind == "list" and "elements" in option:
        kind = f"list of {option['elements']}"
    return kind


def default_of(option: Mapping[str, Any]) -> str:
    if option.get("required"):
        return "**required**"
    if "default" not in option or option["default"] is None:
        return ""
    value = option["default"]
    text = value if isinstance(value, str) and value else json.dumps(value)
    return f"`{text}`" if len(text) <= LONGEST_DEFAULT else "see `defaults/main.yml`"


def table(options: Mapping[str, Mapping[str, Any]], parent: str = "") -> Iterator[str]:
    """The table of one level of options, then one for each option that has keys of its own."""
    yield "| Variable | Type | Default | Meaning |" if not parent else "| Key | Type | Default | Meaning |"
    yield "|---|---|---|---|"
    nested = []
    for name, option in options.items():
        meaning = " ".join(paragraphs(option["description"]))
        if option.get("choices"):
            meaning += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
        if option.get("options"):
            nested.append((name, option))
            meaning += " Its keys are in a table below."
        yield f"| `{name}` | {type_of(option)} | {cell(default_of(option))} | {cell(meaning)} |"
    for name, option in nested:
        path = f"{parent}.{name}" if parent else name
        yield ""
        yield f"**`{path}`**, each entry" if option.get("type") == "list" else f"**`{path}`**"
        yield ""
        yield from table(option["options"], path)


def role_block(role: Path) -> str:
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    lines: list[str] = []
    for entry, spec in specs.items():
        lines += ["## Variables" if entry == "main" else f"## Variables of the entry point `{entry}`", ""]
        lines += list(table(spec.get("options") or {})) if spec.get("options") else ["None."]
        lines.append("")
    return "\n".join(lines).rstrip()


def support_rows(seen: Mapping[str, Mapping[str, Any]], stacks: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Return one entry for each stack that passed, the oldest Debian first.

    Args:
        seen: name of a run -> what came of it (scripts/suites_record.py).
        stacks: row of the table -> the runs of which it is made: each on a host of its own, all on the same tree. Their
            tests are added up; while one of them is missing or has failed, there is no row.
    """
    found = []
    for row, names in stacks.items():
        tree = seen.get(names[0], {}).get("tree", "")
        if suites_record.missing(seen, names, tree):
            continue
        entries = [seen[name] for name in names]
        found.append(
            {
                "row": row,
                "suite": entries[0]["suite"],
                "tree": tree,
                "date": max(entry["date"] for entry in entries),
                "passed": sum(entry["passed"] for entry in entries),
                "versions": {name: text for entry in reversed(entries) for name, text in entry["versions"].items()},
            }
        )
    return sorted(found, key=lambda entry: (SUITES.index(entry["suite"]), entry["row"]))


def support_block(seen: Mapping[str, Mapping[str, Any]], stacks: Mapping[str, Sequence[str]]) -> str:
    """What `make test-all` saw of each stack when it ran last."""
    parts = ("RabbitMQ", "Redis", "Valkey", "systemd", "Python", "Celery", "kombu", "ansible-core")
    heads = ("Debian", *parts, "Application", "Tested")
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for entry in support_rows(seen, stacks):
        versions = entry["versions"]
        cells = [f"{versions.get('debian', '')} ({entry['suite']})"]
        for name in parts:
            found = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", versions.get(name.lower(), ""))
            cells.append(found[1] if found else "-")
        cells.append(versions.get("application", "-"))
        lines.append(f"| {' | '.join(cells)} | {entry['date']}, {entry['passed']} tests of {entry['tree']} |")
    return "\n".join(lines) if len(lines) > 2 else "Nothing yet: `make test-all` writes this table."


def rules_block() -> str:
    """The rules of the check, in the order in which their findings are told."""
    sys.path.insert(0, str(ROOT / "collections"))
    from ansible_collections.celeryops.stack.plugins.plugin_utils.rules.catalogue import RULES

    lines = ["| Rule | What it finds | Can be accepted |", "|---|---|---|"]
    for rule in RULES:
        acceptable = "a warning: yes" if rule.unwise else "yes" if rule.acceptable else "no"
        lines.append(f"| `{rule.name}` | {cell(rule.meaning)} | {acceptable} |")
    return "\n".join(lines)


def versions_block() -> str:
    """What the supported versions of Celery bring, the oldest first."""
    sys.path.insert(0, str(ROOT / "collections"))
    from ansible_collections.celeryops.stack.plugins.module_utils import celery_versions as versions

    def new(known: Mapping[str, tuple[int, ...]], minor: tuple[int, ...]) -> str:
        return ", ".join(f"`{name}`" for name, since in known.items() if since == minor)

    lines = [
        "| Celery | kombu | Python, the least and the newest seen | From here on | New settings and worker options |",
        "|---|---|---|---|---|",
    ]
    before = None
    for minor, able in versions.TABLE.items():
        won = [meaning for name, meaning in versions.MEANING.items() if before and able.has(name) > before.has(name)]
        kombu = versions.kombu_range(versions.text(minor)).removeprefix("kombu")
        words = ", ".join(filter(None, (new(versions.SETTINGS, minor), new(versions.WORKER_OPTIONS, minor))))
        oldest, newest = able.python
        lines.append(f"| {versions.text(minor)} | `{kombu}` | 3.{oldest} to 3.{newest} | {'; '.join(won)} | {words} |")
        before = able
    return "\n".join(lines)


def settings_block() -> str:
    """What the role celery_app sets of Celery's settings with its defaults, for each broker."""
    sys.path.insert(0, str(ROOT / "collections"))
    from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.celery_app_settings import (
        base_settings,
        durations,
        place_of,
    )

    defaults = yaml.safe_load((ROOT / "roles" / "celery_app" / "defaults" / "main.yml").read_text())
    values = {name.removeprefix("celery_app_"): value for name, value in defaults.items()} | {
        "key_prefix": "shop:", "prefetch_multiplier": 1, "longest_task": "30m", "visibility_timeout": "",
        "result_backend": "redis://cache/0",
    }  # fmt: skip
    times, _problems = durations(values)
    found = [base_settings(values, broker, times) for broker in ("rabbitmq", "redis")]
    lines = ["| Setting | With RabbitMQ | With Redis as the broker | Another value |", "|---|---|---|---|"]
    for name in sorted({name for settings in found for name in settings}):
        shown = [f"`{json.dumps(settings[name])}`" if name in settings else "" for settings in found]
        other = place_of(name)
        other = f"`{other}`" if re.fullmatch(r"[\w.]+", other) else other
        lines.append(f"| `{name}` | {cell(shown[0])} | {cell(shown[1])} | {cell(other)} |")
    return "\n".join(lines)


def within(path: Path, text: str, marks: tuple[str, str], block: str) -> str:
    """The text of a file with `block` between its marks."""
    begin, end = marks
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise DocsError(f"{path.relative_to(ROOT)}: needs one line {begin} and, below it, one line {end}")
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    return f"{before}{begin}\n{block}\n{end}{after}"


def between(path: Path, marks: tuple[str, str], block: str) -> str:
    """The same of a file as it is."""
    return within(path, path.read_text(), marks, block)


def generations_block() -> str:
    """What the series of RabbitMQ differ in where a cluster is concerned."""
    sys.path.insert(0, str(ROOT / "collections"))
    from ansible_collections.celeryops.stack.plugins.plugin_utils.topology.rabbitmq_generations import (
        DIFFERENCES,
        GENERATIONS,
    )

    lines = [f"| | {' | '.join(GENERATIONS)} | Why |", "|---" * (len(GENERATIONS) + 2) + "|"]
    lines += [f"| {' | '.join(map(cell, (one.subject, *one.of, one.reason)))} |" for one in DIFFERENCES]
    return "\n".join(lines)


def wanted() -> Iterator[tuple[Path, str]]:
    """Every file that has a generated part, with the text that it should have."""
    for role in sorted((ROOT / "roles").iterdir()):
        if role.is_dir():
            text = between(role / "README.md", ROLE_MARKS, role_block(role))
            if role.name == "rabbitmq":
                text = within(role / "README.md", text, GENERATIONS_MARKS, generations_block())
            yield role / "README.md", text
    yield ROOT / "docs" / "check.md", between(ROOT / "docs" / "check.md", RULES_MARKS, rules_block())
    settings = ROOT / "docs" / "settings.md"
    yield settings, between(settings, SETTINGS_MARKS, settings_block())
    releases = ROOT / "docs" / "releases.md"
    yield releases, between(releases, VERSIONS_MARKS, versions_block())
    seen = json.loads((ROOT / SUPPORT).read_text()) if (ROOT / SUPPORT).exists() else {}
    yield ROOT / "README.md", between(ROOT / "README.md", SUPPORT_MARKS, support_block(seen, run_suites.stacks()))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not up to date")
    options = parser.parse_args()
    try:
        files = [(path, text) for path, text in wanted() if path.read_text() != text]
    except (DocsError, FileNotFoundError) as problem:
        sys.stderr.write(f"docs: {problem}\n")
        return 1
    for path, text in files:
        if options.check:
            name = str(path.relative_to(ROOT))
            difference = difflib.unified_diff(
                path.read_text().splitlines(keepends=True), text.splitlines(keepends=True), name, f"{name} as generated"
            )
            sys.stdout.writelines(difference)
        else:
            path.write_text(text)
            sys.stdout.write(f"  wrote {path.relative_to(ROOT)}\n")
    if options.check and files:
        sys.stdout.write("Not up to date: run `make docs`.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
