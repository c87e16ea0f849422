"""The servers of two apps are lost, and come back from their backups.

The tests build on each other, as a person's runs do.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster import NODES
from restore import APPS, LEGACY, Stack, fetched

BACKUPS = "/var/backups/celeryops-"


class Story:
    """What was there when the backups were made."""

    def __init__(self, folder: Path) -> None:
        """Nothing yet."""
        self.folder = folder
        self.ids: dict[str, list[str]] = {}
        self.keys = 0

    def restored(self, stack: Stack) -> None:
        """Require all of it."""
        assert all(stack.legacy_is_there(name) for name in NODES)
        assert {app: set(stack.results(app, self.ids[app])) for app in APPS} == {app: {"SUCCESS"} for app in APPS}
        assert stack.replicated()
        assert stack.agreed()

    def files(self, *hosts: str) -> dict[str, str]:
        """Return the variables of a restore: definitions of one host, data of another."""
        found = fetched(self.folder)
        return {
            "celeryops_restore_rabbitmq": str(found[hosts[0]][".json"]),
            "celeryops_restore_redis": str(found[hosts[1]][".rdb"]),
        }


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(tmp_path_factory.mktemp("backups"))


def test_every_node_is_backed_up_and_keeps_what_is_not_its_own(stack: Stack, story: Story) -> None:
    stack.make_legacy()
    story.ids = {app: stack.run_tasks(app, [f"{app}-before-{number}" for number in range(30)]) for app in APPS}
    timers = "systemctl is-active celeryops-backup-rabbitmq.timer celeryops-backup-redis.timer"
    assert {text.split().count("active") for text in stack.each(timers).values()} == {2}
    engine = stack.engine_of_redis
    names = "-{2020,2021,2022}0101T000000Z"
    own = {name: f"{stack.prefix}-{name}" for name in NODES}
    for name in NODES:
        stack.on(
            name,
            f"bash -c 'touch {BACKUPS}rabbitmq/rabbitmq-{{{own[name]},other}}{names}.json {BACKUPS}rabbitmq/own.json"
            f" {BACKUPS}redis/{engine}-{{{own[name]},other}}{names}.rdb {BACKUPS}redis/own.rdb'",
        )
    run = stack.playbook("backup", celeryops_backup_fetch=str(story.folder))
    assert run.messages == []
    story.keys = stack.keys(stack.primary())
    for name, text in stack.each(f"cd {BACKUPS}rabbitmq && ls; cd {BACKUPS}redis && ls").items():
        kept = set(text.split())
        backups = fetched(story.folder)[name]
        assert {path.stat().st_mode & 0o777 for path in backups.values()} == {0o600}
        assert kept == {
            *(path.name for path in backups.values()),
            "own.json",
            "own.rdb",
            *(f"rabbitmq-other-{year}0101T000000Z.json" for year in (2020, 2021, 2022)),
            *(f"{engine}-other-{year}0101T000000Z.rdb" for year in (2020, 2021, 2022)),
            f"rabbitmq-{own[name]}-20220101T000000Z.json",
            f"{engine}-{own[name]}-20220101T000000Z.rdb",
        }


def test_servers_that_are_lost_come_back_from_their_backups(stack: Stack, story: Story) -> None:
    stack.lose_the_servers()
    run = stack.playbook("site")
    assert run.messages == []
    stack.place_passwords()
    stack.settle()
    assert stack.keys("mq1") == 0
    assert LEGACY not in {one["name"] for one in stack.ask("mq1", "vhosts")}
    # A replica's data are as good as the primary's, and any node's definitions are all of them.
    files = story.files("mq3", "mq2")
    dry = stack.playbook("restore", "--check", **files)
    assert dry.messages == []
    assert stack.keys("mq1") == 0
    run = stack.playbook("restore", **files)
    assert run.messages == []
    assert {stack.keys(name) for name in NODES} == {story.keys}
    run = stack.playbook("site")
    assert run.messages == []
    story.restored(stack)
    assert stack.playbook("site").changed == []


def test_a_restore_over_data_takes_them_from_every_server(stack: Stack, story: Story) -> None:
    late = stack.run_tasks("shop", ["shop-late"])
    refused = stack.playbook("restore", **story.files("mq1", "mq1"))
    assert ["keys, which would be gone" in message for message in refused.messages] == [True]
    run = stack.playbook("restore", **story.files("mq1", "mq1"), celeryops_restore_over=True)
    assert run.messages == []
    assert stack.results("shop", late) == ["PENDING"]
    assert {stack.keys(name) for name in NODES} == {story.keys}
    story.restored(stack)


def test_all_of_it_outlasts_a_restart_of_all_servers(stack: Stack, story: Story) -> None:
    stack.reboot_the_servers()
    stack.settle()
    story.restored(stack)
    for app in APPS:
        assert len(stack.run_tasks(app, [f"{app}-after-{number}" for number in range(10)])) == 10
    assert {app: len([name for name in stack.notes(app) if name.startswith(app)]) for app in APPS} == {
        app: len(stack.notes(app)) for app in APPS
    }
