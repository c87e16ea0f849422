"""redis-py's own locks: whoever holds one may take it again."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celeryops_runtime import locks


@pytest.fixture
def restarted() -> Iterator[tuple[int, list[bytes]]]:
    """A server that ends its first connection after a subscription, as one that is restarted; what each said to it."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []

    def serve(connection: socket.socket, until: bytes) -> None:
        told = b""
        while until not in told and (more := connection.recv(4096)):
            connection.sendall(b"+OK\r\n" * more.count(b"SETINFO"))
            told += more
        heard.append(told)

    def run() -> None:
        first, _other = listener.accept()
        serve(first, b"one")
        # A reset, so that the client's next write fails.
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        first.close()
        second, _other = listener.accept()
        with second:
            serve(second, b"two")
            over.wait(10)

    over = threading.Event()
    server = threading.Thread(target=run, daemon=True)
    server.start()
    yield listener.getsockname()[1], heard
    over.set()
    listener.close()


def test_a_subscription_goes_on_after_a_restart_of_redis(restarted: tuple[int, list[bytes]]) -> None:
    locks.mend()
    locks.mend()
    port, heard = restarted
    again = Retry(NoBackoff(), 2)
    client = redis.Redis(port=port, protocol=2, retry=again, retry_on_error=[redis.exceptions.ConnectionError])
    subscription = client.pubsub()
    subscription.subscribe("one")

    def subscribe() -> None:
        # The first write after a reset may still go out.
        while len(heard) < 2:
            subscription.subscribe("two")
            time.sleep(0.05)

    caller = threading.Thread(target=subscribe, daemon=True)
    caller.start()
    caller.join(10)
    assert not caller.is_alive(), "it waits for a lock that it holds"
    assert b"one" in heard[1], "what was subscribed to is subscribed to again"


def test_a_pool_takes_back_a_connection_while_it_looks_for_another() -> None:
    """As the garbage collector does, in the middle of anything."""
    locks.mend()
    pool = redis.ConnectionPool()
    with pool._lock:
        assert pool._lock.acquire(timeout=1)
        pool._lock.release()
    pool.reset()
    assert not isinstance(pool._lock, type(threading.Lock()))
