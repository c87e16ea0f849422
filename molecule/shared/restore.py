"""The hosts of the scenario restore: the servers of the scenario cluster, and a machine with two apps."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from cluster import NODES, ROOT, Cluster
from hosts import run_in_app, wait
from playbooks import Run, run_playbook

APPS = ("shop", "billing")
MACHINE = "app1"
#: What somebody else has made in the broker.
LEGACY, PASSWORD = "legacy", "of-another-hand"
_CALL = """
import base64, json, urllib.request, urllib.error
login = base64.b64encode({login!r}.encode()).decode()
headers = {{"Authorization": "Basic " + login, "Content-Type": "application/json"}}
for method, path, body in json.loads({calls!r}):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request("http://127.0.0.1:15672/api/" + path, data, headers, method=method)
    try:
        answer = urllib.request.urlopen(request, timeout=20).read().decode()
    except urllib.error.HTTPError as error:
        answer = json.dumps({{"refused": error.code}})
    print(answer or "null")
"""


class Stack(Cluster):
    """The hosts, and what is done on them."""

    def __init__(self) -> None:
        """Name the containers."""
        super().__init__("restore", (MACHINE,))

    def each(self, command: str) -> dict[str, str]:
        """Run a shell command on every server at once; return host -> what it prints."""
        with ThreadPoolExecutor() as pool:
            return dict(zip(NODES, pool.map(lambda name: self.on(name, command), NODES), strict=True))

    def secret(self, name: str) -> str:
        """Return what was generated on the control machine."""
        return (self.secrets / name).read_text().split()[0]

    def api(self, user: str, password: str, *calls: tuple[str, str, Any], name: str = "mq1") -> list[Any]:
        """Return what the management API of a host answers to an account, to each of some calls."""
        program = _CALL.format(login=f"{user}:{password}", calls=json.dumps(calls))
        return [json.loads(line) for line in self.on(name, f"python3 - <<'END'\n{program}\nEND").splitlines()]

    def python(self, app: str, program: str) -> Any:
        """Run Python in an app, with all that its environment file says, and return what it prints last, as JSON."""
        text = f"import json\nfrom fleet_app import app\n{program}"
        return json.loads(run_in_app(self.hosts[MACHINE], app, text).splitlines()[-1])

    def run_tasks(self, app: str, names: Sequence[str], task: str = "bulk.work") -> list[str]:
        """Have an app run tasks; return their ids when all results were read."""
        program = (
            f"sent = [app.send_task({task!r}, args=(name,)) for name in {list(names)!r}]\n"
            "[one.get(timeout=60) for one in sent]\nprint(json.dumps([one.id for one in sent]))"
        )
        ids: list[str] = self.python(app, program)
        return ids

    def results(self, app: str, ids: Sequence[str]) -> list[str]:
        """Return the state of tasks, as an app reads them."""
        states: list[str] = self.python(
            app, f"print(json.dumps([app.AsyncResult(one).state for one in {list(ids)!r}]))"
        )
        return states

    def notes(self, app: str) -> list[str]:
        """Return the names of the tasks that an app has run, sorted."""
        text = self.on(MACHINE, f"cat /var/lib/celeryops/{app}/notes 2>/dev/null || true")
        return sorted(line.split()[1] for line in text.splitlines() if line.startswith("done "))

    def playbook(self, name: str, *arguments: str, **variables: Any) -> Run:
        """Run a playbook of the collection: playbook("restore", "--check")."""
        return run_playbook(self.inventory, *arguments, variables=variables, playbook=f"playbooks/{name}.yml")

    def lose_the_servers(self) -> None:
        """Have new hosts under the names of the servers, with nothing on them."""
        lab = ROOT / "scripts" / "lab.py"
        for name in NODES:
            subprocess.run([lab, "down", f"{self.prefix}-{name}"], check=True, capture_output=True)
        for step in ("create", "prepare"):
            run = run_playbook(self.inventory, f"--limit={','.join(NODES)}", playbook=f"molecule/default/{step}.yml")
            assert not run.failed, run.output

    def reboot_the_servers(self) -> None:
        """Restart all servers at once, as after a power cut."""
        lab = ROOT / "scripts" / "lab.py"
        with ThreadPoolExecutor() as pool:
            list(
                pool.map(
                    lambda name: subprocess.run(
                        [lab, "restart", f"{self.prefix}-{name}"], check=True, capture_output=True
                    ),
                    NODES,
                )
            )

    def make_legacy(self) -> None:
        """Make what the inventory knows nothing of."""
        queue = {"durable": True, "arguments": {"x-queue-type": "quorum"}}
        answers = self.api(
            "admin",
            self.secret("rabbitmq_admin_password"),
            ("PUT", f"vhosts/{LEGACY}", {}),
            ("PUT", f"users/{LEGACY}", {"password": PASSWORD, "tags": "management"}),
            ("PUT", f"permissions/{LEGACY}/{LEGACY}", {"configure": ".*", "write": ".*", "read": ".*"}),
            ("PUT", f"queues/{LEGACY}/orders", queue),
            ("POST", f"bindings/{LEGACY}/e/amq.topic/q/orders", {"routing_key": "orders.*"}),
        )
        assert answers == [None] * 5

    def legacy_is_there(self, name: str) -> bool:
        """Tell whether all of that is there, as its account sees it with its old password, and the queue is whole."""
        whoami, queue, bindings = self.api(
            LEGACY,
            PASSWORD,
            ("GET", "whoami", None),
            ("GET", f"queues/{LEGACY}/orders", None),
            ("GET", f"bindings/{LEGACY}/e/amq.topic/q/orders", None),
            name=name,
        )
        return (
            whoami.get("name") == LEGACY
            and set(queue["members"]) == set(queue["online"]) == {self.node(one) for one in NODES}
            and [one["routing_key"] for one in bindings] == ["orders.*"]
        )

    def settle(self) -> None:
        """Wait until both sets of servers are whole."""
        for name in NODES:
            wait(partial(self.answers, name), 90, f"Redis or Sentinel of {name} does not listen")
        wait(self.replicated, 60, "the servers of Redis are no set")
        wait(self._whole, 90, "the cluster is not whole")

    def _whole(self) -> bool:
        return self.hosts["mq1"].run("rabbitmqctl --silent await_startup --timeout 5").rc == 0 and self.whole("mq1")

    def agreed(self) -> bool:
        """Tell whether all servers of Redis have the same number of keys, and the Sentinels watch them as before."""
        said = [self.redis(name, "sentinel master celeryops", port=26379).splitlines() for name in NODES]
        watched = [dict(zip(words[::2], words[1::2], strict=True)) for words in said]
        return len({self.keys(name) for name in NODES}) == 1 and {
            (one["flags"], one["down-after-milliseconds"], one["num-slaves"], one["num-other-sentinels"])
            for one in watched
        } == {("master", "3000", "2", "2")}


def fetched(folder: Path) -> dict[str, dict[str, Path]]:
    """Return host -> the end of a name -> that backup."""
    return {name: {path.suffix: path for path in (folder / name).iterdir()} for name in NODES}
