"""Prints, as one JSON object, what each app of the precedence table ends up with. Run by test_loader.py.

Every app wants other values than the shared configuration (see conftest.py): its own broker, backend, time limit,
routes, transport options and acknowledgement.
"""

from __future__ import annotations

import json
import sys
import types
from typing import Any

from celery import Celery
from celery.utils.collections import DictAttribute

OWN: dict[str, Any] = {
    "broker_url": "amqp://own.invalid//",
    "broker_read_url": "amqp://own-reads.invalid//",
    "broker_write_url": "amqp://own-writes.invalid//",
    "broker_use_ssl": {"keyfile": "/own"},
    "redis_backend_use_ssl": {"ssl_cert_reqs": "none"},
    "result_backend": "redis://own.invalid/9",
    "task_time_limit": 5,
    "task_acks_late": False,
    "task_routes": {"shop.*": {"queue": "own"}},
    "task_queues": {"own": {"exchange": "own"}},
    "task_default_queue": "own",
    "broker_transport_options": {"visibility_timeout": 5},
    "worker_prefetch_multiplier": 9,
    "accept_content": ["pickle"],
    "result_accept_content": ["pickle"],
}
OLD = {
    "BROKER_URL": "amqp://own.invalid//",
    "CELERY_RESULT_BACKEND": "redis://own.invalid/9",
    "CELERYD_TASK_TIME_LIMIT": 5,
    "CELERY_ACKS_LATE": False,
    "CELERY_ROUTES": {"shop.*": {"queue": "own"}},
    "CELERY_QUEUES": {"own": {"exchange": "own"}},
    "CELERY_DEFAULT_QUEUE": "own",
    "BROKER_TRANSPORT_OPTIONS": {"visibility_timeout": 5},
    "CELERYD_PREFETCH_MULTIPLIER": 9,
    "CELERY_ACCEPT_CONTENT": ["pickle"],
}


def module(name: str, values: dict[str, Any]) -> str:
    """Make an importable settings module."""
    made = types.ModuleType(name)
    vars(made).update(values)
    sys.modules[name] = made
    return name


def plain() -> Celery:
    """Say nothing."""
    return Celery("shop")


def constructor() -> Celery:
    """Give everything to the constructor."""
    more = {k: v for k, v in OWN.items() if k not in {"broker_url", "result_backend"}}
    return Celery("shop", broker=OWN["broker_url"], backend=OWN["result_backend"], **more)


def from_object() -> Celery:
    """Name a settings module."""
    app = Celery("shop")
    app.config_from_object(module("own_settings", OWN))
    return app


def from_object_forced() -> Celery:
    """Name a settings module, read at once, and again after it was read."""
    app = Celery("shop")
    app.config_from_object(module("own_settings", OWN), force=True)
    app.config_from_object(module("own_settings_2", OWN))
    return app


def conf_update() -> Celery:
    """Update before anything is read."""
    app = Celery("shop", broker=OWN["broker_url"], backend=OWN["result_backend"])
    app.conf.update(OWN)
    return app


def attributes() -> Celery:
    """Set attributes."""
    app = Celery("shop")
    for key, value in OWN.items():
        setattr(app.conf, key, value)
    return app


def read_then_update() -> Celery:
    """Read a setting, which loads the configuration, and update only then."""
    app = Celery("shop")
    app.config_from_object(module("own_settings", OWN))
    assert app.conf.task_serializer
    app.conf.update(OWN)
    app.conf["task_time_limit"] = 6
    return app


def after_finalize() -> Celery:
    """Update after the app is finalized and its router was built, in every way there is."""
    app = Celery("shop")
    app.finalize()
    assert app.amqp.router
    app.conf.update(OWN)
    app.conf.task_time_limit = 6
    app.conf.setdefault("task_time_limit", 6)
    app.conf.pop("task_time_limit")
    app.conf.clear()
    app.add_defaults(OWN)
    return app


def defaults() -> Celery:
    """Use add_defaults before and after the configuration is read."""
    app = Celery("shop")
    app.add_defaults(OWN)
    app.add_defaults(lambda: OWN)
    assert app.conf.task_serializer
    app.add_defaults(OWN)
    return app


def own_receiver() -> Celery:
    """Finalize in a receiver of on_after_configure, as setup_periodic_tasks does."""
    app = Celery("shop")
    app.conf.update(OWN)

    def setup(sender: Celery, **_signal: Any) -> None:
        sender.finalize()

    app.on_after_configure.connect(setup, weak=False)
    return app


def namespace() -> Celery:
    """Django's way: prefixed names in an object."""
    app = Celery("shop")
    app.config_from_object(DictAttribute(types.SimpleNamespace(**prefixed())), namespace="CELERY")
    return app


def prefixed() -> dict[str, Any]:
    """The app's wishes as Django settings."""
    return {f"CELERY_{key.upper()}": value for key, value in OWN.items()}


def namespace_late() -> Celery:
    """Prefixed names set on the configuration itself, before and after it is read."""
    app = namespace()
    app.conf.update(prefixed())
    assert app.conf.task_serializer
    app.conf.update(prefixed())
    return app


def old_names() -> Celery:
    """A settings module from the days of Celery 3."""
    app = Celery("shop")
    app.config_from_object(module("old_settings", OLD))
    return app


def old_names_update() -> Celery:
    """Old names through conf.update, before and after reading."""
    app = Celery("shop")
    app.conf.update(OLD)
    assert app.conf.task_serializer
    app.conf.update(OLD)
    return app


def subclass() -> Celery:
    """An app class of the project's own that sets things when it is made."""

    class Own(Celery):  # type: ignore[misc]  # Celery has no type information
        def on_init(self) -> None:
            self.conf.update(OWN)

    return Own("shop")


def own_loader() -> Celery:
    """The documented exception: the app chooses its own loader."""
    app = Celery("shop", loader="celery.loaders.app:AppLoader")
    app.conf.update(OWN)
    return app


def report(app: Celery) -> dict[str, Any]:
    """What counts: settings, the URLs in use, a task's acknowledgement, and where messages would go."""

    def nothing() -> None:
        pass

    for name in ("shop.pay", "shop.other"):
        app.task(name=name, shared=False)(nothing)
    conf = app.conf
    route = {name: app.amqp.router.route({}, name) for name in ("shop.pay", "shop.other")}
    return {
        "broker": conf.broker_url,
        "write": app.connection_for_write().hostname,
        "read": app.connection_for_read().hostname,
        "tls": [conf.broker_use_ssl, app.connection_for_write().ssl, conf.redis_backend_use_ssl],
        "backend": conf.result_backend,
        "time_limit": conf.task_time_limit,
        "bracket": conf["task_time_limit"],
        "visibility": conf.broker_transport_options.get("visibility_timeout"),
        "acks_late": [conf.task_acks_late, app.tasks["shop.pay"].acks_late],
        "accept": list(conf.accept_content),
        "accept_results": conf.result_accept_content,
        "queues": sorted(app.amqp.queues),
        "routed": {name: found["queue"].name for name, found in route.items()},
        "exchange": {q.exchange.name + ":" + q.exchange.type for q in app.amqp.queues.values()}.pop(),
        "prefetch": conf.worker_prefetch_multiplier,
        "shown": sorted(conf.table()),
    }


if __name__ == "__main__":
    made = {name: globals()[name] for name in sys.argv[1:]}
    print(json.dumps({name: report(make()) for name, make in made.items()}))
