"""ops/jobs/meeting.py: who comes, who does not, and stores that remember the dead."""

import threading

import pytest
import torch.distributed as dist
from ranks import HOST, free_port

from ops.errors import UserError
from ops.jobs import meeting


@pytest.fixture
def environment(monkeypatch):
    """What launchers set, for a store of process 0 itself; a function that changes it."""

    def change(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    change(MASTER_ADDR="127.0.0.1", MASTER_PORT=free_port())
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    monkeypatch.setattr(meeting, "JOIN", 20)
    return change


@pytest.fixture
def store(environment):
    """A store that outlives all processes, as torchrun's does."""
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment(MASTER_PORT=server.port, TORCHELASTIC_USE_AGENT_STORE="True")
    return server


def meet(*ranks, size):
    """What these processes find, by rank: a Meeting or an error."""
    found = {}

    def come(rank):
        try:
            found[rank] = meeting.meet(rank, size)
        except UserError as error:
            found[rank] = error

    threads = [threading.Thread(target=come, args=(rank,)) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def test_all_find_the_same_meeting(environment):
    found = meet(0, 1, 2, size=3)
    assert len({one.name for one in found.values()}) == 1 and all(
        one.hosts == [HOST] * 3 for one in found.values()
    )


def test_a_store_that_remembers_the_dead(store, environment, monkeypatch):
    """Of whole meetings and of a try in vain; torchrun's number of restarts may differ from machine to machine."""
    names = {meet(0, 1, size=2)[0].name for _ in range(3)}
    monkeypatch.setattr(meeting, "JOIN", 0.3)
    monkeypatch.setattr(meeting, "NOTE", 0.1)
    for rank in (0, 1):  # the other one is there only in the memory of the store
        assert "some (counted from 0) did not come" in str(meet(rank, size=2)[rank])
    monkeypatch.setattr(meeting, "JOIN", 20)
    found = meet(0, 1, size=2)
    assert found[0].name == found[1].name and len(names | {found[0].name}) == 4


def test_one_that_comes_again_replaces_the_one_that_came_before(store, monkeypatch):
    monkeypatch.setattr(meeting, "NOTE", 0.1)
    monkeypatch.setattr(meeting, "JOIN", 0.3)
    assert "1 (counted from 0) did not come" in str(meet(0, size=2)[0])
    monkeypatch.setattr(meeting, "JOIN", 20)
    assert meet(1, 0, size=2)[0].hosts == [HOST] * 2


@pytest.mark.parametrize(
    "variables, message",
    [
        ({"MASTER_ADDR": ""}, "MASTER_ADDR .* must be, too"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT 0"),
        ({"MASTER_PORT": "many"}, "MASTER_PORT is 'many'; launchers set a whole number"),
    ],
)
def test_an_environment_that_no_launcher_sets(environment, variables, message):
    environment(**variables)
    with pytest.raises(UserError, match=message):
        meeting.meet(0, 2)


def test_a_rank_beyond_the_others(environment):
    with pytest.raises(UserError, match="RANK is 2, but WORLD_SIZE 2"):
        meeting.meet(2, 2)


def test_a_port_that_is_taken(store, environment):
    environment(TORCHELASTIC_USE_AGENT_STORE="False")
    with pytest.raises(
        UserError,
        match=rf"cannot open MASTER_PORT {store.port} on {HOST} \(it is taken, .*another one",
    ):
        meeting.meet(0, 2)


def test_a_name_without_an_address(environment, monkeypatch):
    monkeypatch.setattr(meeting, "JOIN", 0)
    environment(MASTER_ADDR="no-such-machine.invalid")
    with pytest.raises(
        UserError, match=r"nobody has answered at no-such-machine.invalid:\d+ in 0 s \(.+\)"
    ):
        meeting.meet(1, 2)
