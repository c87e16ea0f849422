"""The plan of the role redis: settings, ACL rules, and every mistake that it has to refuse."""

from __future__ import annotations

from typing import Any

import pytest
from problems import told

from ansible_collections.celeryops.stack.plugins.plugin_utils.messages.problem import Problem
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.redis import plan, reaches_beyond_loopback
from ansible_collections.celeryops.stack.plugins.plugin_utils.plans.redis_users import acl_rules

GIB = 1024**3
EVERYWHERE = "0.0.0.0"
FACTS = {
    "distribution": "Debian",
    "distribution_major_version": "13",
    "distribution_release": "trixie",
    "os_family": "Debian",
    "memtotal_mb": 4096,
}
SECRET = "a-password-of-the-right-length"


def variables(**changes: Any) -> dict[str, Any]:
    """Return the role's defaults with ``changes``."""
    values: dict[str, Any] = {
        "redis_implementation": "redis",
        "redis_purpose": "results",
        "redis_bind": ["127.0.0.1", "-::1"],
        "redis_port": 6379,
        "redis_maxclients": 10000,
        "redis_connections": "0",
        "redis_timeout": "0",
        "redis_tcp_keepalive": "60s",
        "redis_maxmemory": "25%",
        "redis_maxmemory_policy": "noeviction",
        "redis_persistence": "auto",
        "redis_databases": 16,
        "redis_log_level": "notice",
        "redis_settings": {},
        "redis_nodes": [],
        "redis_admin_user": "admin",
        "redis_admin_password": SECRET,
        "redis_users": [],
        "redis_extra_users": [],
        "redis_backup": {},
        "redis_manage_kernel": True,
        "redis_engine_change": "refuse",
        "redis_existing_data": "keep",
        "redis_upgrade": False,
        "redis_backports": False,
        "redis_backports_mirror": "http://mirror.example.org/debian",
    }
    return {**values, **{f"redis_{name}": value for name, value in changes.items()}}


def planned(**changes: Any) -> dict[str, Any]:
    """Return the plan for ``changes``, which must have no mistakes."""
    result, problems = plan(variables(**changes), FACTS)
    assert problems == []
    return result


def refused(facts: dict[str, Any] | None = None, **changes: Any) -> list[str]:
    """Return the variables that are complained about."""
    result, problems = plan(variables(**changes), FACTS if facts is None else facts)
    assert result == {}
    return [problem.variable for problem in problems]


def directives(result: dict[str, Any]) -> dict[str, list[str]]:
    """Return directive -> values of the planned configuration, in order."""
    found: dict[str, list[str]] = {}
    for section in result["sections"]:
        for line in section["lines"]:
            found.setdefault(line["name"], []).append(line["value"])
    return found


def user(**changes: Any) -> dict[str, Any]:
    """Return an item of redis_users."""
    return {"name": "shop", "password": SECRET, **changes}


class TestSettings:
    @pytest.mark.parametrize(
        ("purpose", "appendonly"),
        [("results", "no"), ("broker", "yes"), ("both", "yes")],
    )
    def test_purpose_decides_persistence_and_never_evicts(self, purpose: str, appendonly: str) -> None:
        found = directives(planned(purpose=purpose))
        assert found["appendonly"] == [appendonly]
        assert found["maxmemory-policy"] == ["noeviction"]
        assert found["timeout"] == ["0"]
        assert found["tcp-keepalive"] == ["60"]

    def test_snapshots_are_cleared_before_they_are_set(self) -> None:
        """CONFIG REWRITE leaves save lines in the state file, and such lines add up."""
        assert directives(planned())["save"] == ['""', "3600 1 300 100 60 10000"]
        assert directives(planned(persistence="none"))["save"] == ['""']

    def test_explicit_persistence_wins(self) -> None:
        assert directives(planned(persistence="aof"))["appendonly"] == ["yes"]
        assert directives(planned(purpose="broker", persistence="rdb"))["appendonly"] == ["no"]

    @pytest.mark.parametrize(("wanted", "size"), [("25%", GIB), ("1G", GIB), (GIB, GIB), ("60%", 2457 * 1024**2)])
    def test_memory(self, wanted: Any, size: int) -> None:
        assert directives(planned(maxmemory=wanted))["maxmemory"] == [str(size)]

    def test_more_memory_without_a_fork(self) -> None:
        assert "redis_maxmemory" in refused(maxmemory="3G")
        assert directives(planned(maxmemory="3G", persistence="none"))["maxmemory"] == [str(3 * GIB)]

    def test_own_settings_come_last_and_lists_repeat(self) -> None:
        result = planned(settings={"rename-command": ["A b", "C d"], "lazyfree-lazy-expire": True, "x": ""})
        assert result["sections"][-1]["lines"] == [
            {"name": "rename-command", "value": "A b"},
            {"name": "rename-command", "value": "C d"},
            {"name": "lazyfree-lazy-expire", "value": "yes"},
            {"name": "x", "value": '""'},
        ]

    def test_every_name_follows_the_engine(self) -> None:
        result = planned(implementation="valkey")
        # A backup is the role's, and its files are replaced when the engine changes.
        text = repr({**result, "backup": {}}).replace("celeryops-redis", "")
        assert result["unit"] == "valkey-server.service"
        assert "redis" not in text

    def test_open_files_follow_the_clients(self) -> None:
        assert planned()["limit_nofile"] == 65535
        assert planned(maxclients=70000)["limit_nofile"] > 70000
        assert planned(maxclients=0, connections="70000")["limit_nofile"] > 70000

    @pytest.mark.parametrize(("connections", "clients"), [("0", 10000), ("10000", 10000), (10001, 20000)])
    def test_clients_follow_the_connections(self, connections: object, clients: int) -> None:
        lines = planned(maxclients=0, connections=connections)["sections"][0]["lines"]
        assert {"name": "maxclients", "value": str(clients)} in lines

    def test_kernel_settings_can_be_left_alone(self) -> None:
        assert [setting["key"] for setting in planned()["kernel"]] == ["vm.overcommit_memory", "net.core.somaxconn"]
        assert planned(manage_kernel=False)["kernel"] == []

    def test_truth_values_of_the_command_line_are_text(self) -> None:
        result = planned(manage_kernel="false", upgrade="true", backports="false")
        assert (result["kernel"], result["upgrade"], result["apt_release"]) == ([], True, "")

    def test_no_secret_is_in_the_plan(self) -> None:
        assert SECRET not in repr(planned(users=[user()]))

    def test_nothing_is_said_about_a_host_without_facts(self) -> None:
        assert plan(variables(implementation="valkey"), {})[1] == []


class TestRules:
    def test_results_with_a_prefix(self) -> None:
        assert acl_rules(user(key_prefix="shop:")) == (
            "~shop:celery-task-meta-* ~shop:celery-taskset-meta-* ~shop:chord-unlock-* ~shop:celeryops-once* "
            "~shop:redbeat:* "
            "resetchannels &shop:celery-task-meta-* &shop:celery-taskset-meta-* -@all +@connection +@transaction "
            "-@dangerous +publish +subscribe +unsubscribe +get +mget +set +setex +del +exists +expire +incr +incrby "
            "+zadd +zcount +zrange +rpush +lrange +llen +sadd +sismember +hincrby +hgetall +pttl "
            "+evalsha +eval +script|load +script|exists "
            "+smembers +srem +zrem +zrangebyscore +zrank +hset +hsetnx +hget +pexpire"
        )

    def test_a_broker_has_the_channels_of_each_database(self) -> None:
        rules = acl_rules(user(purpose="broker", key_prefix="shop:", databases=[0, 3])).split()
        assert [rule for rule in rules if rule[0] in "~&"] == [
            "~shop:*",
            "&shop:/0.celery.pidbox",
            "&shop:/0.celeryev/*",
            "&shop:/0.celeryev/worker.*",
            "&shop:/3.celery.pidbox",
            "&shop:/3.celeryev/*",
            "&shop:/3.celeryev/worker.*",
        ]
        assert "+brpop" in rules
        assert "+psubscribe" in rules

    def test_a_broker_without_a_prefix_has_its_queues_and_no_more(self) -> None:
        keys = [rule for rule in acl_rules(user(purpose="broker", queues=["mails", "feeds"])).split() if rule[0] == "~"]
        assert "~mails*" in keys
        assert "~feeds*" in keys
        assert "~*" not in keys
        assert not [key for key in keys if "celery-task-meta" in key]

    def test_both_is_the_sum(self) -> None:
        both = set(acl_rules(user(purpose="both", key_prefix="s:")).split())
        for purpose in ("broker", "results"):
            one = set(acl_rules(user(purpose=purpose, key_prefix="s:")).split())
            assert {rule for rule in one if rule[0] in "+-&"} <= both
        without_prefix = acl_rules(user(purpose="both", queues=["q"])).split()
        assert {"~q*", "~celery-task-meta-*", "~unacked*"} <= set(without_prefix)

    @pytest.mark.parametrize("purpose", ["results", "broker", "both"])
    def test_denied_categories_stand_before_what_is_granted_by_name(self, purpose: str) -> None:
        """Rules apply in order: "-@dangerous" after "+brpop" might take it away again."""
        rules = acl_rules(user(purpose=purpose, key_prefix="s:", rules="+info")).split()
        last_category = max(number for number, rule in enumerate(rules) if "@" in rule)
        first_command = min(number for number, rule in enumerate(rules) if rule[0] == "+" and "@" not in rule)
        assert last_category < first_command
        assert rules[-1] == "+info"
        assert len(rules) == len(set(rules))

    def test_custom_starts_from_nothing(self) -> None:
        assert acl_rules(user(purpose="custom", rules=" ~cache:*\n +@read ")) == (
            "resetkeys resetchannels -@all ~cache:* +@read"
        )


class TestRefusals:
    @pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
    def test_eviction_on_a_broker(self, policy: str) -> None:
        assert refused(purpose="broker", maxmemory_policy=policy) == ["redis_maxmemory_policy"]
        assert refused(purpose="both", maxmemory_policy=policy) == ["redis_maxmemory_policy"]
        assert directives(planned(maxmemory_policy=policy))["maxmemory-policy"] == [policy]

    def test_idle_timeout_on_a_broker(self) -> None:
        assert refused(purpose="broker", timeout="5m") == ["redis_timeout"]
        assert directives(planned(timeout="5m"))["timeout"] == ["300"]

    def test_no_persistence_on_a_broker(self) -> None:
        assert refused(purpose="both", persistence="none") == ["redis_persistence"]

    @pytest.mark.parametrize("wanted", ["0", "1M", "90%", "0%", "61%", "lots", "-1", "25 percent", "3G", "1e9"])
    def test_memory(self, wanted: str) -> None:
        assert refused(maxmemory=wanted) == ["redis_maxmemory"]

    def test_durations(self) -> None:
        assert refused(timeout="soon") == ["redis_timeout"]
        assert refused(tcp_keepalive="soon") == ["redis_tcp_keepalive"]

    @pytest.mark.parametrize(
        ("directive", "value", "identity"),
        [
            ("requirepass", "x", "set-in-another-way"),
            ("bind", EVERYWHERE, "set-in-another-way"),
            ("cluster-enabled", True, "redis-cluster"),
            ("a b", "1", "not-a-directive"),
            *(("x", value, "not-a-value") for value in (None, "1\nport 1", {"y": 1})),
        ],
    )
    def test_directives_that_are_refused(self, directive: str, value: Any, identity: str) -> None:
        assert told([wrong(settings={directive: value})]) == [(identity, f"redis_settings.{directive}")]

    @pytest.mark.parametrize(
        "name",
        ["requirepass", "RequirePass", "masterauth", "primaryauth", "tls-key-file-pass", "tls-client-key-file-pass"],
    )
    def test_a_secret_in_settings_is_refused_and_not_shown(self, name: str) -> None:
        _plan, problems = plan(variables(settings={name: "sesame"}), FACTS)
        assert [problem.variable for problem in problems] == [f"redis_settings.{name}"]
        assert "sesame" not in str(problems[0])

    def test_what_is_named_like_no_secret_may_be_set(self) -> None:
        settings = {"tls-auth-clients": "yes", "tls-key-file": "/etc/ssl/private/redis.key"}
        assert plan(variables(settings=settings), FACTS)[1] == []

    @pytest.mark.parametrize(("bind", "count"), [([], 1), (["localhost"], 1), (["127.0.0.1", "10.0.0"], 1)])
    def test_addresses(self, bind: list[str], count: int) -> None:
        assert refused(bind=bind) == ["redis_bind"] * count

    def test_short_or_missing_passwords(self) -> None:
        assert refused(users=[user(password="")]) == ["redis_users[0].password"]
        assert refused(admin_password="") == ["redis_admin_password"]
        assert planned(users=[user(password="short")])
        assert refused(users=[user(password="short")], bind=[EVERYWHERE]) == ["redis_users[0].password"]
        _plan, problems = plan(variables(users=[user(password="short")], bind=["*"]), FACTS)
        assert "short" not in str(problems[0])

    def test_names(self) -> None:
        assert refused(users=[user(), user()]) == ["redis_users[1].name"]
        assert refused(users=[user()], extra_users=[user()]) == ["redis_users[0].name"]
        assert refused(users=[user(name="admin")]) == ["redis_users[0].name"]
        assert refused(users=[user(name="default")]) == ["redis_users[0].name"]
        assert refused(users=[user(name="a b")]) == ["redis_users[0].name"]

    @pytest.mark.parametrize("prefix", ["shop", "shop_", "sh*p:", "sh op:"])
    def test_prefixes(self, prefix: str) -> None:
        assert refused(users=[user(key_prefix=prefix)]) == ["redis_users[0].key_prefix"]

    def test_scopes(self) -> None:
        assert refused(users=[user(purpose="broker", key_prefix="s:")]) == ["redis_users[0].purpose"]
        assert refused(purpose="both", users=[user(purpose="broker")]) == ["redis_users[0].queues"]
        assert refused(purpose="both", users=[user(purpose="broker", queues=["a*"])]) == ["redis_users[0].queues"]
        assert refused(users=[user(databases=[16])]) == ["redis_users[0].databases"]

    @pytest.mark.parametrize("rule", ["nopass", ">secret", "#abc", "on", "reset"])
    def test_rules_that_undo_the_password(self, rule: str) -> None:
        assert refused(users=[user(rules=f"~x {rule}")]) == ["redis_users[0].rules"]

    def test_a_custom_user_without_rules(self) -> None:
        assert refused(users=[user(purpose="custom")]) == ["redis_users[0].rules"]

    def test_platforms(self) -> None:
        bookworm = {**FACTS, "distribution_major_version": "12", "distribution_release": "bookworm"}
        assert refused(bookworm, implementation="valkey") == ["redis_implementation"]
        assert refused(backports=True, backports_mirror="") == ["redis_backports_mirror"]
        result, problems = plan(variables(implementation="valkey", backports=True), bookworm)
        assert problems == []
        assert result["apt_release"] == "bookworm-backports"
        assert refused({**FACTS, "distribution_major_version": "11"}) == ["ansible_facts['distribution']"]
        assert refused({**FACTS, "distribution": "Fedora", "os_family": "RedHat"}) == ["ansible_facts['distribution']"]
        assert plan(variables(), {**FACTS, "distribution_major_version": "forky/sid"})[1] == []

    def test_all_mistakes_at_once(self) -> None:
        wrong = refused(purpose="broker", maxmemory="x", timeout="x", users=[user(name="default")])
        assert wrong == ["redis_users[0].name", "redis_users[0].purpose", "redis_maxmemory", "redis_timeout"]


@pytest.mark.parametrize(
    ("addresses", "beyond"),
    [
        (["127.0.0.1", "-::1"], False),
        (["127.0.0.5"], False),
        ([EVERYWHERE], True),
        (["*"], True),
        (["::"], True),
        (["127.0.0.1", "-10.0.0.1"], True),
    ],
)
def test_reaches_beyond_loopback(addresses: list[str], beyond: bool) -> None:
    assert reaches_beyond_loopback(addresses) is beyond


def wrong(facts: dict[str, Any] | None = None, **changes: Any) -> Problem:
    """Return the one mistake in ``changes``."""
    (problem,) = plan(variables(**changes), FACTS if facts is None else facts)[1]
    return problem


class TestBoundaries:
    @pytest.mark.parametrize(
        ("name", "least", "most"), [("port", 1, 65535), ("maxclients", 32, 10_000_000), ("databases", 1, 10_000)]
    )
    def test_numbers(self, name: str, least: int, most: int) -> None:
        for value in (least, most):
            planned(**{name: value})
        for value in (least - 1, most + 1):
            problem = wrong(**{name: value})
            assert told([problem]) == [("out-of-range", f"redis_{name}")]
            assert problem.instead.endswith(f" {least} to {most}")

    def test_descriptors(self) -> None:
        assert planned(maxclients=70_000)["limit_nofile"] == 70_064
        assert planned(maxclients=65_471)["limit_nofile"] == 65_535

    @pytest.mark.parametrize(("persistence", "most"), [("auto", 60), ("none", 80)])
    def test_shares_of_the_memory(self, persistence: str, most: int) -> None:
        for share in (1, most):
            planned(maxmemory=f"{share}%", persistence=persistence)
        problem = wrong(maxmemory=f"{most + 1}%", persistence=persistence)
        assert told([problem]) == [("memory-share-out-of-range", "redis_maxmemory")]
        assert f"at most {most}%" in problem.instead

    def test_a_size_is_at_most_that_share(self) -> None:
        assert plan(variables(maxmemory="3G"), {**FACTS, "memtotal_mb": 5120})[1] == []
        problem = wrong(maxmemory="3G")
        assert told([problem]) == [("too-much-for-a-host", "redis_maxmemory")]
        assert " 4G " in problem.reason
        # Three fifths of four gibibytes are 2576980377.6 bytes.
        planned(maxmemory=2_576_980_377)
        assert wrong(maxmemory=2_576_980_378).id == problem.id

    def test_sizes_of_the_memory(self) -> None:
        assert directives(planned(maxmemory="16M"))["maxmemory"] == [str(16 * 1024**2)]
        little, one, none = (wrong(maxmemory=size) for size in (16 * 1024**2 - 1, 1, 0))
        assert told([little, one, none]) == [("no-limit", "redis_maxmemory")] * 3
        assert all("at least 16M" in problem.instead for problem in (little, one, none))
        # Nothing is no limit at all, which is another matter than too little.
        assert little.reason == one.reason != none.reason

    def test_the_memory_of_an_unknown_host(self) -> None:
        assert plan(variables(maxmemory="999G"), {})[1] == []
        assert directives(plan(variables(maxmemory="25%"), {})[0])["maxmemory"] == ["0"]

    def test_databases(self) -> None:
        assert "&shop:/0.celery.pidbox" in acl_rules(user(purpose="broker", key_prefix="shop:")).split()
        planned(databases=1, users=[user()])
        planned(users=[user(databases=[0, 5, 15])])
        for database in (-1, 16, 17):
            problem = wrong(users=[user(databases=[database])])
            assert (*told([problem]), problem.value) == (
                ("no-such-database", "redis_users[0].databases"),
                database,
            )
            assert problem.instead.endswith(" 0 to 15")


class TestMessages:
    def test_a_user_is_found_where_it_is_written(self) -> None:
        names = [user(name=name) for name in ("a", "b", "c", "d", "e f")]
        assert refused(users=names[:2], extra_users=names[2:]) == ["redis_extra_users[2].name"]
        assert refused(users=names) == ["redis_users[4].name"]

    def test_an_empty_password(self) -> None:
        here, everywhere = wrong(admin_password=""), wrong(admin_password="", bind=[EVERYWHERE])
        assert told([here, everywhere]) == [("empty-password", "redis_admin_password")] * 2
        assert "other hosts" in everywhere.reason
        assert "redis_bind" not in here.reason

    @pytest.mark.parametrize(("length", "fits"), [(15, False), (16, True)])
    def test_a_password_that_others_can_guess(self, length: int, fits: bool) -> None:
        password = "aB3dE5gH7jK9mN1p"[:length]
        assert bool(plan(variables(admin_password=password, bind=[EVERYWHERE]), FACTS)[1]) is not fits
        planned(admin_password=password)

    @pytest.mark.parametrize(
        ("rule", "shown"),
        [
            ("nopass", "nopass"),
            ("on", "on"),
            (">secret", "(not shown)"),
            ("<secret", "(not shown)"),
            ("#abc", "(not shown)"),
        ],
    )
    def test_a_rule_that_may_be_a_password(self, rule: str, shown: str) -> None:
        (problem,) = plan(variables(users=[user(rules=rule)]), FACTS)[1]
        assert problem.value == shown


def test_what_the_kernel_and_the_server_are_told() -> None:
    result = planned()
    assert result["kernel"] == [
        {"key": "vm.overcommit_memory", "value": 1, "minimum": False},
        {"key": "net.core.somaxconn", "value": 4096, "minimum": True},
    ]
    found = directives(result)
    assert {name: found[name] for name in ("protected-mode", "unixsocketperm", "appendfsync")} == {
        "protected-mode": ["yes"],
        "unixsocketperm": ["700"],
        "appendfsync": ["everysec"],
    }


class TestBackup:
    """What is backed up is the engine's, by the account that owns its socket."""

    def test_it_asks_the_engine_through_its_socket(self) -> None:
        backup = planned(implementation="valkey", backup={"schedule": "daily"})["backup"]
        [unit, _timer] = [entry["text"].splitlines() for entry in backup["files"]]
        assert "User=valkey" in unit
        [command] = [line for line in unit if line.startswith("ExecStart=")]
        assert "--kind valkey" in command
        assert command.endswith("--user admin --socket /run/valkey/celeryops.sock")
        assert SECRET not in repr(backup)

    def test_its_mistakes_are_told_with_the_others(self) -> None:
        _result, problems = plan(variables(backup={"schedule": "sometimes"}, databases=0), FACTS)
        assert sorted(told(problems)) == [
            ("not-a-calendar-time", "redis_backup.schedule"),
            ("out-of-range", "redis_databases"),
        ]

    def test_what_need_not_outlive_a_restart_is_not_backed_up(self) -> None:
        _result, problems = plan(variables(backup={"schedule": "daily"}, persistence="none"), FACTS)
        assert told(problems) == [("backup-of-nothing", "redis_persistence")]
        assert plan(variables(persistence="none"), FACTS)[1] == []


def test_the_account_for_a_primary_is_read_by_one_of_several_servers_only() -> None:
    assert planned()["includes"] == ["/etc/celeryops/redis/redis.conf"]
    nodes = [{"host": f"10.0.0.{number}", "port": 6379} for number in (1, 2, 3)]
    accounts = {"replication_user": "replica", "sentinel_user": "sentinel"}
    passwords = dict.fromkeys(("replication_password", "sentinel_password"), "x" * 40)
    several = planned(nodes=nodes, announce_ip="10.0.0.1", bind=["127.0.0.1", "10.0.0.1"], **accounts, **passwords)
    assert several["includes"] == ["/etc/celeryops/redis/redis.conf", "/etc/celeryops/redis/replication.conf"]
