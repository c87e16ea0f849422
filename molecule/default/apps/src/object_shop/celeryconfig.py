"""Settings of a developer's machine."""

broker_url = "redis://broker.invalid:6379/3"
broker_write_url = "redis://writes.invalid:6379/3"
result_backend = "rpc://"
include = ["object_shop.tasks"]
task_serializer = "yaml"
result_serializer = "yaml"
accept_content = ["yaml", "pickle"]
result_accept_content = ["yaml", "pickle"]
task_default_queue = "developer"
task_default_exchange = "developer"
task_queues = {"developer": {"exchange": "developer", "routing_key": "developer"}}
task_routes = {"object_shop.*": {"queue": "nobody-reads-this"}, "probe.*": {"queue": "nobody-reads-this"}}
broker_transport_options = {"confirm_publish": False, "visibility_timeout": 5}
result_expires = 7
task_acks_late = False
worker_prefetch_multiplier = 64
beat_schedule = {"tick": {"task": "object_shop.tasks.tick", "schedule": 1.0}}
