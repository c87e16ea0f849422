"""What must not be shown of the secret files of an app."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import masking, placed
from ansible_collections.celeryops.stack.plugins.module_utils.masking import masked
from ansible_collections.celeryops.stack.plugins.module_utils.secret_files import secrets_in, secrets_placed


def test_of_a_secret_file_no_line_is_shown_and_the_cause_is() -> None:
    content = 'import os\nPASSWORD = "geheim-12345"\nLANG = "de"\nNUMBER = int("geheim-99999")\nURL = "postgres://shop:other-678@db/x"\n'
    files = [{"path": "/a.py", "content": content, "secret": True}, {"path": "/b", "content": "PUBLIC = 12345678"}]
    said = (
        'File "/a.py", line 2\n    PASSWORD = "geheim-12345"\nImportError: import os: geheim-12345, other-678\n'
        "no file de; PUBLIC = 12345678\nValueError: invalid literal for int() with base 10: 'geheim-99999'"
    )
    shown = masked(said, secrets_in(files))
    assert "geheim" not in shown
    assert "other-678" not in shown
    for kept in ('File "/a.py", line 2', "ImportError: import os", "no file de; PUBLIC = 12345678"):
        assert kept in shown
    assert secrets_in([{"path": "/t", "content": "token-abc-123\n", "secret": True}]) == ["token-abc-123"]
    for alone in ("correct horse battery staple", "hunter2"):
        assert secrets_in([{"path": "/t", "content": f"{alone}\n", "secret": True}]) == [alone]


def test_a_line_of_code_hides_its_literal_and_no_word_of_the_language() -> None:
    found = secrets_in([{"path": "/etc/shop.py", "content": "PASSWORD = int('s3cret-1')\n", "secret": True}])
    assert {"s3cret-1", "PASSWORD = int('s3cret-1')"} <= {*found}
    assert "int(" not in found


@pytest.mark.parametrize("secret", ["c2VjcmV0cw==", "a=b", "to: be", "correct horse battery"])
def test_a_file_of_nothing_but_a_secret_hides_it_in_every_form(secret: str) -> None:
    found = secrets_in([{"path": "/etc/token", "content": f"{secret}\n", "secret": True}])
    assert {*masking.secrets_of({"SECRET": secret})} <= {*found}


@pytest.mark.parametrize(
    ("mode", "secret"), [(0o640, True), (0o600, True), (0o643, True), (0o644, False), (0o604, False)]
)
def test_of_what_is_on_the_host_that_is_secret_which_not_everybody_may_read(
    tmp_path: Path, mode: int, secret: bool
) -> None:
    file = tmp_path / "token"
    file.write_text("token-abc-123\n")
    file.chmod(mode)
    placed.write(str(tmp_path / "files.json"), {str(file): {"sha256": ""}, str(tmp_path / "gone"): {"sha256": ""}})
    assert secrets_placed(str(tmp_path / "files.json")) == (["token-abc-123"] if secret else [])
