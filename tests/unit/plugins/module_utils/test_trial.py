"""Running a program of an app with what is not in use yet."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.celeryops.stack.plugins.module_utils import trial
from ansible_collections.celeryops.stack.plugins.module_utils.releases.verify import CHECK

ME = trial.account_of(pwd.getpwuid(os.getuid()).pw_name)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(trial, "PLACE", str(tmp_path))
    return tmp_path


def test_files_are_laid_beside_those_in_use_and_go_again(place: Path) -> None:
    files = [
        {"path": "/etc/shop/celery.json", "content": "{}"},
        {"path": "/opt/shop/runtime/pkg/a.py", "content": "ä = 1\n"},
    ]
    with trial.staged(files, os.getgid()) as root:
        assert Path(root + "/etc/shop/celery.json").read_text(encoding="utf-8") == "{}"
        assert Path(root + "/opt/shop/runtime/pkg/a.py").read_text(encoding="utf-8") == "ä = 1\n"
        modes = {path.stat().st_mode & 0o777 for path in [Path(root), *Path(root).rglob("*")]}
        assert modes == {0o750, 0o640}
    assert list(place.iterdir()) == []


def test_they_go_when_the_trial_fails(place: Path) -> None:
    with pytest.raises(RuntimeError), trial.staged([{"path": "/a", "content": ""}], os.getgid()):
        raise RuntimeError
    assert list(place.iterdir()) == []


def test_nothing_is_made_for_nothing(place: Path) -> None:
    with trial.staged([], 0) as root:
        assert (root, list(place.iterdir())) == ("", [])


def test_the_environment_leads_to_what_was_laid_beside() -> None:
    variables = {
        "CELERYOPS_CONFIG": "/etc/shop/celery.json",
        "PYTHONPATH": "/opt/shop/runtime:/srv/own:",
        "OTHER": "/etc/shop",
    }
    files = [{"path": "/etc/shop/celery.json", "content": ""}, {"path": "/opt/shop/runtime/pkg/a.py", "content": ""}]
    with trial.staged(files, os.getgid()) as root:
        found = trial.redirected(variables, root)
        assert found["CELERYOPS_CONFIG"] == f"{root}/etc/shop/celery.json"
        assert found["PYTHONPATH"] == f"{root}/opt/shop/runtime:/srv/own:"
        assert found["OTHER"] == "/etc/shop"
    assert trial.redirected(variables, "") == variables


def test_a_program_runs_with_its_environment_and_nothing_else() -> None:
    code = "import os, sys; print(sorted(os.environ)); print('wrong', file=sys.stderr); sys.exit(3)"
    status, output = trial.run_as(ME, [sys.executable, "-I", "-c", code], {"ONE": "1", "LC_CTYPE": "C"}, "/", 30)
    assert status == 3
    assert sorted(output.splitlines()) == ["['LC_CTYPE', 'ONE']", "wrong"]


def test_what_takes_too_long_is_ended_with_its_children() -> None:
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as error:
        trial.run_as(ME, ["sh", "-c", "echo begun; sleep 60 & sleep 60"], {"PATH": "/usr/bin:/bin"}, "/", 1)
    assert time.monotonic() - began < 20
    assert error.value.output == "begun\n"


@pytest.mark.parametrize("daemon", ["sleep 20", "setsid sleep 20"])
def test_nobody_waits_for_what_a_program_leaves_behind(daemon: str) -> None:
    began = time.monotonic()
    left = f"{daemon} & echo $!"
    status, output = trial.run_as(ME, ["sh", "-c", f"{left}; sleep 0.3"], {"PATH": "/usr/bin:/bin"}, "/", 10)
    os.kill(int(output), signal.SIGKILL)
    assert status == 0
    with pytest.raises(subprocess.TimeoutExpired) as error:
        trial.run_as(ME, ["sh", "-c", f"{left}; sleep 60"], {"PATH": "/usr/bin:/bin"}, "/", 1)
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(error.value.output), signal.SIGKILL)
    assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    ("variables", "files"),
    [
        ({"A": "1", "B": "2"}, [{"path": "/x", "sha256": "1"}]),
        ({"A": "2"}, [{"path": "/x", "sha256": "1"}]),
        ({"A": "1"}, [{"path": "/x", "sha256": "2"}]),
        ({"A": "1"}, [{"path": "/y", "sha256": "1"}]),
        ({"A": "1"}, []),
    ],
)
def test_whatever_changes_makes_another_digest(variables: dict[str, str], files: list[dict[str, str]]) -> None:
    assert trial.digest(variables, files) != trial.digest({"A": "1"}, [{"path": "/x", "sha256": "1"}])


def test_the_order_makes_none() -> None:
    one, two = {"path": "/x", "sha256": "1"}, {"path": "/y", "sha256": "2"}
    assert trial.digest({"A": "1", "B": 2}, [one, two]) == trial.digest({"B": "2", "A": "1"}, [two, one])


APP = "from celery import Celery\napp = Celery('x', broker='memory://')\n@app.task\ndef one(): pass\n"


def tried(tmp_path: Path, source: str = APP, **settings: object) -> tuple[int, str]:
    (tmp_path / "proj.py").write_text(
        source + "".join(f"app.conf.{key} = {value!r}\n" for key, value in settings.items())
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "LANG": "C.UTF-8"}
    return trial.run_as(ME, [sys.executable, "-c", CHECK, "proj:app"], environment, "/", 60)


def test_a_sound_app_tells_its_tasks(tmp_path: Path) -> None:
    status, output = tried(tmp_path)
    assert status == 0, output
    assert output.splitlines()[-1] == '{"celeryops": {"tasks": ["proj.one"], "loader": "celery.loaders.app:AppLoader"}}'


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("imports", "no_such_module"), ("worker_consumer", "no.such:Consumer"),
        ("worker_autoscaler", "celery.worker:Nothing"),
        ("beat_scheduler", "no.such:Scheduler"), ("result_backend", "nosuchbackend://"), ("broker_url", "nosuch://x"),
        ("worker_log_format", "%(message"), ("timezone", "Mars/Phobos"), ("task_annotations", "no.such:annotations"),
    ],
)  # fmt: skip
def test_settings_with_which_no_worker_starts_are_found(tmp_path: Path, setting: str, value: str) -> None:
    status, output = tried(tmp_path, **{setting: value})
    assert status != 0, output
    assert f"'{value.partition('.')[0]}'" in output or value.partition(":")[0] in output or setting in output


def certificate(folder: Path) -> tuple[str, str]:
    """Write a certificate and its key, and return their paths."""
    found = str(folder / "certificate.pem"), str(folder / "key.pem")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=a",
    ]
    subprocess.run([*command, "-out", found[0], "-keyout", found[1]], check=True, capture_output=True)
    return found


TLS = [
    ("the broker", "", {"broker_url": "amqps://a:b@localhost//"}, "broker_use_ssl"),
    ("the result backend", "ssl_", {"result_backend": "rediss://a:b@localhost/0"}, "redis_backend_use_ssl"),
]


@pytest.mark.parametrize("lacks", ["", "ca_certs", "certfile", "keyfile"])
@pytest.mark.parametrize(("what", "prefix", "settings", "name"), TLS)
def test_files_of_tls_are_read(
    tmp_path: Path, what: str, prefix: str, settings: dict[str, object], name: str, lacks: str
) -> None:
    public, key = certificate(tmp_path)
    files = {"ca_certs": public, "certfile": public, "keyfile": key, "cert_reqs": "required"}
    files.update({lacks: str(tmp_path / "none.pem")} if lacks else {})
    options = {f"{prefix}{name}": value for name, value in files.items()}
    status, output = tried(tmp_path, **settings, **{name: options})
    assert bool(status) == bool(lacks), output
    if lacks:
        assert f"a worker cannot use {what} with TLS, {tmp_path}/none.pem: FileNotFoundError" in output


@pytest.mark.parametrize("password", ["of-the-key", "another", None])
def test_a_key_with_a_password_is_opened_with_it(tmp_path: Path, password: str | None) -> None:
    """That of the key, not that of the account, which the backend has beside it."""
    public, plain = certificate(tmp_path)
    key = str(tmp_path / "locked.pem")
    lock = ["openssl", "ec", "-aes256", "-passout", "pass:of-the-key", "-in", plain, "-out", key]
    subprocess.run(lock, check=True, capture_output=True)
    options = {"ssl_cert_reqs": "required", "ssl_ca_certs": public, "ssl_certfile": public, "ssl_keyfile": key}
    options |= {"ssl_password": password} if password else {}
    status, output = tried(tmp_path, result_backend="rediss://a:of-the-key@localhost/0", redis_backend_use_ssl=options)
    assert bool(status) == (password != "of-the-key"), output


def test_a_file_of_tls_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate\n")
    status, output = tried(
        tmp_path, broker_url="amqps://localhost", broker_use_ssl={"ca_certs": str(tmp_path / "ca.pem")}
    )
    assert status != 0
    assert f"the broker with TLS, {tmp_path}/ca.pem: SSLError" in output


OWN = {"owner": ME.name, "group": grp.getgrgid(ME.gid).gr_name, "mode": "0640", "own": True}


def test_what_is_not_there_stands_in_its_place_for_the_trial_alone(place: Path, tmp_path: Path) -> None:
    target = tmp_path / "etc" / "files" / "a.py"
    files = [{"path": str(target), "content": "new\n", **OWN}, {"path": "/etc/shop/celery.json", "content": "{}"}]
    with trial.staged(files, ME.gid) as root, trial.standing_in(files, root) as views:
        assert views == []
        assert target.read_text() == "new\n"
        assert target.stat().st_mode & 0o777 == 0o640
        assert Path(root + trial.OWN + str(target)).stat().st_mode & 0o777 == 0o640
    assert list(place.iterdir()) == []
    with pytest.raises(RuntimeError), trial.staged(files, ME.gid) as root, trial.standing_in(files, root):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_of_what_is_there_only_the_program_that_is_tried_sees_another(place: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.conf"
    target.write_text("old\n")
    files = [{"path": str(target), "content": "new\n", **OWN}]
    with trial.staged(files, ME.gid) as root, trial.standing_in(files, root) as views:
        assert views == [(root + trial.OWN + str(target), str(target))]
        status, output = trial.run_as(ME, ["cat", str(target)], {"PATH": "/usr/bin:/bin"}, "/", 30, views)
        assert (status, output) == (0, "new\n")
        assert target.read_text() == "old\n"
    assert [entry.name for entry in place.iterdir()] == ["a.conf"]
    assert target.read_text() == "old\n"


def test_code_beside_a_file_of_the_apps_own_is_found_in_the_trial(tmp_path: Path) -> None:
    folder = tmp_path / "srv"
    folder.mkdir()
    (folder / "shop.py").write_text("import local_settings\n")
    files = [{"path": f"{folder}/local_settings.py", "content": "x = 1\n", **OWN}]
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder)}
    with trial.staged(files, ME.gid) as root, trial.standing_in(files, root):
        environment = trial.redirected(variables, root)
        assert environment["PYTHONPATH"] == str(folder)
        status, output = trial.run_as(ME, [sys.executable, "-c", "import shop"], environment, "/", 30)
    assert (status, output) == (0, "")


def test_what_is_there_as_it_is_to_be_needs_no_view(tmp_path: Path) -> None:
    target = tmp_path / "a.conf"
    target.write_text("same\n")
    target.chmod(0o640)
    files = [{"path": str(target), "content": "same\n", **OWN}]

    def seen(**other: str) -> int:
        wanted = [{**files[0], **other}]
        with trial.staged(wanted, ME.gid) as root, trial.standing_in(wanted, root) as views:
            return len(views)

    assert (seen(), seen(content="new\n"), seen(mode="0600")) == (0, 1, 1)


def test_what_the_account_may_not_read_the_trial_may_not_either(tmp_path: Path) -> None:
    nobody = trial.account_of("nobody")
    target = tmp_path / "a.conf"
    target.write_text("old\n")
    tmp_path.chmod(0o755)
    shown = tmp_path / "new"
    shown.write_text("new\n")
    shown.chmod(0o600)
    program = ["sh", "-c", f"id -un; cat {shown}; grep -c ^Cap.*[1-9a-f] /proc/self/status"]
    _status, output = trial.run_as(nobody, program, {"PATH": "/usr/bin:/bin"}, "/", 30, [(str(shown), str(target))])
    assert output.splitlines()[0] == "nobody"
    assert "new" not in output.splitlines()
    assert "Permission denied" in output


def test_who_may_read_a_file_is_tried_as_well() -> None:
    file = {"path": "/x", "sha256": "1", **OWN}
    assert trial.digest({}, [file]) != trial.digest({}, [{**file, "mode": "0600"}])
