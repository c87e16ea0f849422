"""What is told of a unit that does not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import journal, paths, placed
from ansible_collections.celeryops.stack.plugins.module_utils.stand_ins import StandIns
from ansible_collections.celeryops.stack.plugins.modules.units import Units

SAID = """noise
CLIENT = connect("geheim-12345")
KeyError: 'shop', while unseen456 of amqp://shop:unseen123@mq.example.org:5672/shop was read
"""


class Host:
    """Stands for the module and systemd."""

    def __init__(self) -> None:
        self.told = ""

    def run_command(self, words: list[str]) -> tuple[int, str, str]:
        return 0, SAID if words[0] == "journalctl" else "", ""

    def fail_json(self, msg: str) -> None:
        self.told = msg


@pytest.fixture(autouse=True)
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "CONFIG", str(tmp_path))
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "celery.env").write_text('SHOP_API_KEY="unseen456"\n')
    secret = tmp_path / "config.py"
    secret.write_text('CLIENT = connect("geheim-12345")\n')
    secret.chmod(0o640)
    placed.write(str(folder / placed.NAME), {str(secret): {"sha256": ""}})


@pytest.mark.parametrize("unit", [f"celery-shop-high{end}.service" for end in ("", "-2", "_standin")])
@pytest.mark.parametrize("kind", ["units", "roll"])
def test_the_journal_of_an_app_is_told_without_its_secrets(kind: str, unit: str) -> None:
    host = Host()
    if kind == "units":
        Units(host)._fail("not running", [unit])  # type: ignore[arg-type]
    else:
        host.told = StandIns(host, "shop", 9).journal([unit])  # type: ignore[arg-type]
    assert f"--- last lines of {unit}:\nnoise\n" in host.told
    for secret in ("unseen", "geheim"):
        assert secret not in host.told
    assert "KeyError: 'shop', while *** of amqp://" in host.told


def test_those_of_another_app_hide_nothing() -> None:
    shown = journal.last_lines(Host().run_command, "celery-blog-high.service")
    assert "unseen456" in shown
    assert "unseen123" not in shown
