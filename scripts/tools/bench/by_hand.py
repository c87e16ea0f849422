"""A cluster of RabbitMQ and workers of stock Celery, as a person puts them up by the manuals of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.bench.common import PASSWORD
from tools.chaos.scenario import APP, ENVIRONMENT, LEDGER, PYTHON, SCENARIO, Scenario, results_of, run

if TYPE_CHECKING:
    from pathlib import Path

#: What Celery's own loader reads (celeryconfig.py): quorum queues, late acknowledgement and publisher
#: confirms, as Celery's page on quorum queues has them; all nodes in the order in which they were written down.
CONFIGURATION = """
broker_url = {brokers!r}
result_backend = "redis://{redis}/0"
broker_transport_options = {{"confirm_publish": True}}
task_default_queue, task_default_queue_type, task_default_exchange_type = "swift", "quorum", "topic"
worker_detect_quorum_queues = True
task_acks_late = task_reject_on_worker_lost = True
task_routes = {{f"{{name}}.*": {{"queue": name}} for name in {classes!r}}}
"""
INSTALL = "export DEBIAN_FRONTEND=noninteractive; apt-get -qq update; apt-get -qq install -y --no-install-recommends"
NODE = f"""set -eu
{INSTALL} rabbitmq-server iptables > /dev/null
systemctl stop rabbitmq-server
printf bench-cluster-cookie > /var/lib/rabbitmq/.erlang.cookie
systemctl start rabbitmq-server
"""
JOIN = "rabbitmqctl -q stop_app && rabbitmqctl -q join_cluster rabbit@{first} && rabbitmqctl -q start_app"
ACCOUNT = f"""set -eu
rabbitmqctl -q add_vhost {APP}
rabbitmqctl -q add_user {APP} {PASSWORD}
rabbitmqctl -q set_permissions -p {APP} {APP} '.*' '.*' '.*'
"""
REDIS = f"""set -eu
{INSTALL} redis-server > /dev/null
sed -i -e 's/^bind .*/bind 0.0.0.0/' -e 's/^protected-mode .*/protected-mode no/' /etc/redis/redis.conf
systemctl restart redis-server
"""
HOST = f"""set -eu
{INSTALL} python3-venv > /dev/null
id {APP} > /dev/null 2>&1 || useradd --system {APP}
python3 -m venv {PYTHON.removesuffix("/bin/python")}
PIP_CERT=/etc/ssl/certs/ca-certificates.crt {PYTHON} -m pip install -q /root/app 'celery[redis]>=5.7'
mkdir -p /opt/config {ENVIRONMENT.removesuffix("/celery.env")}
printf 'CELERY_LOADER=default\\nPYTHONPATH=/opt/config\\nCHAOS_LEDGER={LEDGER}\\n' > {ENVIRONMENT}
"""


class ByHand(Scenario):
    """The same hosts, load and faults, with another stack."""

    @property
    def results(self) -> Path:
        """Return the folder with what it finds, beside that of the stack of the collection."""
        return results_of(f"{self.name}-by-hand", "")

    def deploy(self) -> None:
        """Put the cluster, the store of the results, and the workers on the hosts."""
        for node in self.nodes:
            self.on(NODE, host=node)
        for node in self.nodes[1:]:
            self.on(JOIN.format(first=self.nodes[0]), host=node)
        self.on(ACCOUNT, host=self.nodes[0])
        self.on(REDIS)
        brokers = [f"amqp://{APP}:{PASSWORD}@{node}:5672/{APP}" for node in self.nodes]
        text = CONFIGURATION.format(brokers=brokers, redis=self.stack, classes=tuple(self.classes))
        for host in (*self.workers, self.web):
            run(["docker", "cp", SCENARIO / "app", f"{host}:/root/app"], log=self.log)
            self.on(HOST, host=host)
            self.on(f"cat > /opt/config/celeryconfig.py <<'END'\n{text}END", host=host)
        for host, classes in ((self.stack, tuple(self.classes)), (self.workers[-1], ("steady",))):
            for group in classes:
                self._start(host, group)

    def _start(self, host: str, group: str) -> None:
        unit = f"systemd-run --quiet --unit={self.unit(group)} --property=User={APP} --property=Restart=always"
        worker = f"{PYTHON} -m celery -A chaos_app.celery worker -Q {group} -n {group}@%h -c {self.concurrency}"
        self.on(f"{unit} --property=EnvironmentFile={ENVIRONMENT} --property=KillMode=mixed {worker}", host=host)

    def faults_of_cluster(self) -> list[str]:
        """Nobody promises that it becomes whole again by itself."""
        return []
