"""Templates see only what they are given."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.action.files import expand
from ansible_collections.celeryops.stack.plugins.plugin_utils.output.templating import (
    RenderError,
    quote_environment_file,
    quote_systemd,
    quote_systemd_word,
    render,
)


@pytest.fixture
def role(tmp_path: Path) -> Path:
    (tmp_path / "templates").mkdir()
    (tmp_path / "files" / "package" / "sub").mkdir(parents=True)
    (tmp_path / "files" / "package" / "__pycache__").mkdir()
    (tmp_path / "files" / "package" / "a.py").write_text("a = 1\n")
    (tmp_path / "files" / "package" / "sub" / "b.py").write_text("b = 1\n")
    (tmp_path / "files" / "package" / "__pycache__" / "a.pyc").write_text("x")
    (tmp_path / "templates" / "x.j2").write_text("{% if name %}\n{{ name }} {{ number }}\n{% endif %}\n")
    return tmp_path


def test_a_name_that_was_not_given_is_an_error(role: Path) -> None:
    with pytest.raises(RenderError, match=r"x\.j2: 'number' is undefined"):
        render(role / "templates" / "x.j2", {"name": "a"})


def test_quoting_for_unit_files() -> None:
    assert quote_systemd('a"b\\c%d') == '"a\\"b\\\\c%%d"'
    assert quote_systemd_word("$HOME") == '"$$HOME"'
    assert quote_environment_file('p"$\\`%') == '"p\\"\\$\\\\\\`%"'


def test_each_renders_one_file_per_element(role: Path) -> None:
    item = {"path": "/etc/${unit}.conf", "template": "x.j2", "vars": {"number": 1}, "mode": "0600"}
    entries = expand({**item, "each": [{"unit": "a", "name": "A"}, {"unit": "b", "name": "B", "number": 2}]}, [role])
    assert [(entry["path"], entry["content"], entry["mode"]) for entry in entries] == [
        ("/etc/a.conf", "A 1\n", "0600"),
        ("/etc/b.conf", "B 2\n", "0600"),
    ]


def test_a_secret_travels_in_the_argument_that_ansible_hides() -> None:
    (entry,) = expand({"path": "/etc/x", "content": "s3cret", "secret": True}, [])
    assert entry["secret_content"] == "s3cret"
    assert "content" not in entry


@pytest.mark.parametrize("content", [{"a": True}, [1, 2], {}, ("a",)])
def test_content_that_became_data_is_refused_and_not_shown(content: object) -> None:
    with pytest.raises(ValueError, match=r"^/etc/x: content is not text: end its template with `\| string`$"):
        expand({"path": "/etc/x", "content": content, "secret": True}, [])


def test_content_that_is_a_number_or_empty_is_text() -> None:
    assert [expand({"path": "/x", "content": value}, [])[0]["content"] for value in (5, "", True)] == ["5", "", "True"]


def test_a_tree_brings_its_files_and_removes_the_others(role: Path) -> None:
    entries = expand({"path": "/opt/runtime", "tree": "package"}, [role])
    assert [entry["path"] for entry in entries if entry.get("state") == "directory"] == [
        "/opt/runtime",
        "/opt/runtime/package",
        "/opt/runtime/package/sub",
    ]
    assert [entry["path"] for entry in entries if "content" in entry] == [
        "/opt/runtime/package/a.py",
        "/opt/runtime/package/sub/b.py",
    ]
    assert entries[-1] == {"path": "/opt/runtime/package", "state": "only", "keep": ["a.py", "sub/b.py"]}


def test_a_missing_template_and_a_contradiction_are_told(role: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing\.j2 is in no templates/ directory"):
        expand({"path": "/etc/x", "template": "nothing.j2"}, [role])
    with pytest.raises(ValueError, match="template and content exclude each other"):
        expand({"path": "/etc/x", "template": "x.j2", "content": "x"}, [role])


def test_blocks_leave_no_lines_and_the_last_line_its_end(tmp_path: Path) -> None:
    template = tmp_path / "x.j2"
    template.write_text("a\n  {% if true %}\nb <&>\n  {% endif %}\nc\n")
    assert render(template, {}) == "a\nb <&>\nc\n"


def test_filters_of_templates(tmp_path: Path) -> None:
    template = tmp_path / "x.j2"
    template.write_text("{{ a | to_json }} {{ 1 | bool }} {{ a.b | quote_systemd }}")
    assert render(template, {"a": {"b": "ü", "a": [1]}}) == '{\n  "b": "ü",\n  "a": [\n    1\n  ]\n} True "ü"'


def test_what_cannot_be_rendered_names_the_template(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match=r"none\.j2: '?none\.j2"):
        render(tmp_path / "none.j2", {})
    (tmp_path / "x.j2").write_text("{% if %}")
    with pytest.raises(RenderError, match=r"x\.j2: Expected an expression"):
        render(tmp_path / "x.j2", {})


def test_an_element_may_say_how_its_own_file_is_validated(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "unit.j2").write_text("{{ name }}\n")
    item = {
        "path": "/etc/${name}",
        "template": "unit.j2",
        "each": [{"name": "a", "validate": "try a"}, {"name": "b", "validate": ""}],
    }
    first, second = expand(item, [tmp_path])
    assert first["validate"] == "try a"
    assert "validate" not in second
