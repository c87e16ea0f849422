# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The current contents of RabbitMQ's queues, read from the queue processes.

The management API tells what was counted up to five seconds ago, and nothing at all in the first seconds after a start,
when a queue with messages looks like one without. What may delete a queue, or has to notice that one is gone, asks the
queues themselves, in one call of ``rabbitmqctl eval`` for all of them.

Facts used here, seen on RabbitMQ 3.10.8, 4.0.5 and 4.3.6: ``rabbit_amqqueue:stat/1`` asks a queue of any type for its
ready messages and its consumers. A classic queue tells its unacknowledged messages through ``rabbit_amqqueue:info/2``;
of a quorum queue that reads a table which is empty after a start, so the replicated state is asked
(``rabbit_fifo:query_messages_total/1``: ready, unacknowledged, and on their way to a dead letter exchange). RabbitMQ
4.3 takes a tuple for that, and refuses a function before it asks (ra 3.1.10, ``leader_query/2``); an older one would
crash on the tuple. A classic queue must never get that question: it would crash. A stream counts 0 for some seconds
after a start; that nothing was ever written to it, its committed offset tells, which is -1 then. Of a classic queue
only the persistent messages survive a restart (https://www.rabbitmq.com/docs/persistence-conf); a quorum queue and a
stream write all of them.

A queue that did not come up, as all of a virtual host whose store cannot be read, is in ``list_down/1`` alone while
Mnesia keeps the tables, and ``lookup/1`` does not find it. Its messages are on the disk still, and nobody can connect
to that virtual host (seen on 3.10.8; rabbit_amqqueue.erl, rabbit_vhost_sup_sup.erl of 4.0.5 and 4.3.5).

What a time limits is limited by an argument of the queue or by a policy, and the shorter one counts
(https://www.rabbitmq.com/docs/ttl); ``rabbit_policy:get/2`` knows a queue's policy and operator policy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

QueueKey = tuple[str, str]

#: What goes after a longer time is not excused by a restart, which takes seconds: one day, in milliseconds. Messages
#: that go on to an exchange, as delayed tasks do, are, whenever their time is up.
_SOON = 86_400_000
#: Defines Tell/1 (a queue's line) and Within/1 (a virtual host's lines). Names are in hexadecimal: any sign may be in
#: them.
_LIBRARY = """
Hex = fun(Name) -> [io_lib:format("~2.16.0b", [Byte]) || <<Byte>> <= Name] end,
Limits = fun(Argument, Policy, Queue) ->
  Set = case rabbit_misc:table_lookup(amqqueue:get_arguments(Queue), Argument) of
    {_, Value} -> [Value];
    undefined -> []
  end,
  [Limit || Limit <- [rabbit_policy:get(Policy, Queue) | Set], Limit =/= undefined]
end,
Soon = fun(Limits) -> lists:any(fun(Limit) -> is_integer(Limit) andalso Limit =< DAY end, Limits) end,
Persistent = fun(Queue, Messages) ->
  case amqqueue:get_type(Queue) of
    rabbit_classic_queue ->
      [{messages_persistent, Kept}] = rabbit_amqqueue:info(Queue, [messages_persistent]),
      Kept;
    _ -> Messages
  end
end,
Held = fun(Queue) ->
  {ok, Ready, Consumers} = rabbit_amqqueue:stat(Queue),
  All = case amqqueue:get_type(Queue) of
    rabbit_quorum_queue ->
      Leader = amqqueue:get_pid(Queue),
      {ok, {_, Total}, _} = try ra:leader_query(Leader, fun rabbit_fifo:query_messages_total/1)
      catch error:function_clause -> ra:leader_query(Leader, {rabbit_fifo, query_messages_total, []}) end,
      Total;
    rabbit_classic_queue ->
      [{messages, Total}] = rabbit_amqqueue:info(Queue, [messages]),
      Total;
    rabbit_stream_queue ->
      [{committed_offset, Offset}] = rabbit_amqqueue:info(Queue, [committed_offset]),
      true = is_integer(Offset),
      Offset + 1
  end,
  [{consumers, Readers}] = rabbit_amqqueue:info(Queue, [consumers]),
  {max(Ready, All), max(Consumers, if is_integer(Readers) -> Readers; true -> 0 end)}
end,
Tell = fun(Queue) ->
  {resource, Vhost, queue, Name} = amqqueue:get_name(Queue),
  {Messages, Consumers} = try Held(Queue) catch _:_ -> {unknown, unknown} end,
  Saved = try Persistent(Queue, Messages) catch _:_ -> unknown end,
  Fleeting = not amqqueue:is_durable(Queue) orelse amqqueue:is_auto_delete(Queue)
    orelse amqqueue:get_exclusive_owner(Queue) =/= none
    orelse Soon(Limits(<<"x-expires">>, <<"expires">>, Queue)),
  Times = Limits(<<"x-message-ttl">>, <<"message-ttl">>, Queue),
  Onward = Limits(<<"x-dead-letter-exchange">>, <<"dead-letter-exchange">>, Queue) =/= [],
  Passing = Soon(Times) orelse (Times =/= [] andalso Onward),
  Kept = if Fleeting -> fleeting; Passing -> passing; true -> lasting end,
  io:format("queue ~s ~s ~p ~p ~p ~p~n", [Hex(Vhost), Hex(Name), Kept, Messages, Saved, Consumers])
end,
Within = fun(Vhost) ->
  Connections = try
    true = rabbit_vhost_sup_sup:is_vhost_alive(Vhost),
    [] = rabbit_amqqueue:list_down(Vhost),
    length(rabbit_connection_tracking:list(Vhost))
  catch _:_ -> unknown end,
  io:format("vhost ~s ~p~n", [Hex(Vhost), Connections]),
  lists:foreach(Tell, rabbit_amqqueue:list(Vhost))
end,
Seek = fun(Vhost, Name) ->
  Full = rabbit_misc:r(Vhost, queue, Name),
  case rabbit_amqqueue:lookup(Full) of
    {ok, Queue} -> Tell(Queue);
    {error, not_found} ->
      case lists:any(fun(Queue) -> amqqueue:get_name(Queue) =:= Full end, rabbit_amqqueue:list_down(Vhost)) of
        true -> io:format("queue ~s ~s lasting unknown unknown unknown~n", [Hex(Vhost), Hex(Name)]);
        false -> io:format("gone ~s ~s~n", [Hex(Vhost), Hex(Name)])
      end
  end
end,
""".replace("DAY", str(_SOON))


@dataclass(frozen=True)
class Queue:
    """What one queue says of itself.

    Arguments:
        kind: ``lasting``; ``passing`` when its messages go by themselves, after a short time or to another queue;
            ``fleeting`` when the queue itself goes, with a restart, soon, or with those who use it.
        messages: how many it holds, those included that a consumer has; None when it does not answer.
        persistent: how many of them a restart keeps; None when it does not answer.
        consumers: how many consumers it has; None when it does not answer.
    """

    kind: str
    messages: int | None
    persistent: int | None
    consumers: int | None

    @property
    def to_keep(self) -> int | None:
        """How many messages a restart must not lose: all of them, when it is not known which are persistent."""
        return self.messages if self.persistent is None else self.persistent

    @property
    def idle(self) -> bool:
        """Whether it is proven that it holds nothing and serves nobody."""
        return self.messages == 0 and self.consumers == 0


@dataclass
class Contents:
    """What was asked for, as far as it was answered.

    Arguments:
        queues: (virtual host, name) -> the queue.
        gone: queues that do not exist any more.
        connections: virtual host -> how many clients are connected to it; None when that is not known.
    """

    queues: dict[QueueKey, Queue] = field(default_factory=dict)
    gone: set[QueueKey] = field(default_factory=set)
    connections: dict[str, int | None] = field(default_factory=dict)

    def idle_queue(self, key: QueueKey) -> bool:
        """Whether it is proven that nobody misses a queue; one that was not told of counts as in use."""
        return key in self.gone or (key in self.queues and self.queues[key].idle)

    def idle_vhost(self, name: str) -> bool:
        """Whether it is proven that a virtual host has neither messages nor clients, whatever queues it has."""
        inside = [queue for (vhost, _name), queue in self.queues.items() if vhost == name]
        return self.connections.get(name) == 0 and all(queue.idle for queue in inside)


def look_at(queues: Iterable[QueueKey], vhosts: Iterable[str]) -> str:
    """Return the program that tells of some queues, and of all that is in some virtual hosts."""
    calls = [f"Seek({_binary(vhost)}, {_binary(name)})" for vhost, name in queues]
    calls += [f"Within({_binary(name)})" for name in vhosts]
    return _LIBRARY + ",\n".join([*calls, "ok."])


def look_at_all() -> str:
    """Return the program that tells of every virtual host and queue."""
    return _LIBRARY + "lists:foreach(Within, rabbit_vhost:list_names()), ok."


def command(program: str, options: Sequence[str] = ()) -> list[str]:
    """Return the command line that runs a program in the node of this host."""
    return ["rabbitmqctl", *options, "--silent", "--timeout", "60", "eval", program]


def parse(output: str) -> Contents:
    """Return what such a program printed; lines of another form are left out, as nothing is known then."""
    contents = Contents()
    for line in output.splitlines():
        words = line.split(" ")
        try:
            if words[0] == "queue" and len(words) == 7:
                key = _text(words[1]), _text(words[2])
                contents.queues[key] = Queue(words[3], *(_number(word) for word in words[4:]))
            elif words[0] == "gone" and len(words) == 3:
                contents.gone.add((_text(words[1]), _text(words[2])))
            elif words[0] == "vhost" and len(words) == 3:
                contents.connections[_text(words[1])] = _number(words[2])
        except ValueError:
            continue
    return contents


def missing(before: Contents, after: Contents) -> list[str]:
    """Return what a server that was restarted lacks, in words: virtual hosts, durable queues, persistent messages.

    Consumers may have taken messages meanwhile, and the time of others was up: fewer messages in a queue that has, or
    had, a consumer are no loss. Of a queue that does not answer (yet) nothing is known. Messages that the restart need
    not keep are missed with their queue alone, which it must keep.

    Arguments:
        before: everything, before the restart.
        after: everything, after it.
    """
    lost = [f"virtual host {name}" for name in before.connections if name not in after.connections]
    for key, queue in before.queues.items():
        vhost, name = key
        if queue.kind == "fleeting" or vhost not in after.connections:
            continue
        where = f"queue {name} in virtual host {vhost}"
        now = after.queues.get(key)
        if now is None:
            lost.append(f"{where} with {queue.messages} messages" if queue.messages else where)
        elif (
            queue.kind == "lasting"
            and queue.to_keep
            and now.messages == 0
            and not queue.consumers
            and not now.consumers
        ):
            lost.append(f"{queue.to_keep} messages of {where}")
    return lost


def summary(contents: Contents) -> Mapping[str, int]:
    """Return how much there is: ``vhosts``, ``queues``, ``messages``."""
    return {
        "vhosts": len(contents.connections),
        "queues": len(contents.queues),
        "messages": sum(queue.messages or 0 for queue in contents.queues.values()),
    }


def _binary(text: str) -> str:
    """Return a text as an Erlang binary, whatever is in it."""
    return "<<" + ",".join(str(byte) for byte in text.encode("utf-8")) + ">>"


def _text(digits: str) -> str:
    return bytes.fromhex(digits).decode("utf-8", errors="surrogateescape")


def _number(word: str) -> int | None:
    return int(word) if word.isdigit() else None
