"""How the processes of a job find each other, and see that all are there, before anything else is done."""

import hashlib
import json
import os
import secrets
import socket
import sys
import time
from datetime import timedelta
from typing import NamedTuple

import torch.distributed as dist

from ops.errors import UserError

JOIN = 600  # seconds in which all processes of a job must have come; reading the libraries from a slow disk counts
NOTE = 30  # seconds after which a process says for which ones it waits


class Meeting(NamedTuple):
    """The TCPStore of the job and its (host, port), a name that no other meeting at that store has, and the machine of each
    process in rank order."""

    store: dist.Store
    address: tuple[str, int]
    name: str
    hosts: list[str]


def variable(name, default):
    """A whole number that a launcher set in the environment."""
    text = os.environ.get(name, default)
    try:
        return int(text)
    except ValueError:
        raise UserError(
            f"the environment variable {name} is {text!r}; launchers set a whole number"
        ) from None


def _address(rank, size):
    """(host, port) of the job's store, from the environment."""
    host, port = os.environ.get("MASTER_ADDR"), variable("MASTER_PORT", 0)
    if not 0 <= rank < size:
        raise UserError(f"RANK is {rank}, but WORLD_SIZE {size}: ranks are 0 to {size - 1}")
    if not host or not 0 < port < 2**16:
        raise UserError(
            f"RANK and WORLD_SIZE are set, so MASTER_ADDR (the machine of rank 0) and MASTER_PORT (a free port "
            f"there) must be, too; MASTER_ADDR is {host!r}, MASTER_PORT {port}"
        )
    return host, port


def _open_store(host, port, rank, deadline):
    """The TCPStore of the job: torchrun keeps one, else process 0 does. Raises UserError if it cannot be reached."""
    serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    while not serves:
        try:
            socket.create_connection((host, port), 5).close()
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"nobody has answered at {host}:{port} in {JOIN} s ({error.strerror or error}): was process 0 "
                    f"started there, has it printed an error, does a firewall let that port pass?"
                ) from None
            time.sleep(0.2)
    try:
        return dist.TCPStore(
            host,
            port,
            is_master=serves,
            wait_for_workers=False,
            multi_tenant=True,
            timeout=timedelta(seconds=JOIN),
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        if "EADDRINUSE" in reason:
            reason = "it is taken, perhaps by another job or a second process 0"
        raise UserError(
            f"process 0 cannot open MASTER_PORT {port} on {socket.gethostname()} ({reason}); give all processes "
            f"another one"
        ) from None


def meet(rank, size):
    """Wait at the job's store until all processes have come there, at most ``JOIN`` seconds; returns the :class:`Meeting`.

    torchrun's store outlives processes, and what it holds of dead ones must not be taken for those of today (its number of
    restarts may differ from machine to machine): so process 0 lists what each has written, each says which list it has found
    itself in, and process 0 says when all agree. Raises UserError for an environment that no launcher would have set, a
    store that cannot be opened or reached, and processes that have not come.
    """
    host, port = _address(rank, size)
    start, place, noted = time.monotonic(), f"{host}:{port}", False
    store = _open_store(host, port, rank, start + JOIN)
    try:
        for people in _agreement(store, rank, size):
            if people:
                hosts = [person.split(" ", 1)[1] for person in json.loads(people)]
                return Meeting(store, (host, port), _digest(people).decode(), hosts)
            waited = time.monotonic() - start
            if waited > (JOIN if noted else NOTE):
                missing = [
                    str(number) for number in range(size) if not store.check([f"here {number}"])
                ] or ["some"]
                who = f"of {size} processes, {', '.join(missing)} (counted from 0)"
                if noted:
                    raise UserError(
                        f"{who} did not come to {place} in {JOIN} s: were they started, have they printed errors, "
                        f"have they the same MASTER_ADDR, MASTER_PORT and WORLD_SIZE?"
                    )
                print(f"process {rank} is waiting: {who} are not yet at {place}", file=sys.stderr)
                noted = True
            time.sleep(0.02 + size / 500)
    except dist.DistError:
        raise UserError(
            f"the store at {place} closed the connection while process {rank} waited for the others: process 0 or "
            f"its launcher has ended; see what it says"
        ) from None


def _agreement(store, rank, size):
    """Tries without end to find the list of the processes that all agree on; yields it, or None after a vain try."""
    me = f"{secrets.token_hex(8)} {socket.gethostname()}"
    here, agreed = ([f"{key} {number}" for number in range(size)] for key in ("here", "agreed"))
    listed = signed = None
    store.set(here[rank], me)
    while True:
        if rank == 0 and store.check(here):
            found = json.dumps([value.decode() for value in store.multi_get(here)]).encode()
            if found != listed:
                store.set("list", listed := found)
            elif store.check(agreed) and set(store.multi_get(agreed)) == {_digest(listed)}:
                store.set("agreed by all", _digest(listed))
        people = store.get("list") if store.check(["list"]) else b"[]"
        if me in json.loads(people) and people != signed:
            store.set(agreed[rank], _digest(signed := people))
        done = (
            signed
            and store.check(["agreed by all"])
            and store.get("agreed by all") == _digest(signed)
        )
        yield signed if done else None


def _digest(people):
    return hashlib.sha256(people).hexdigest()[:16].encode()
