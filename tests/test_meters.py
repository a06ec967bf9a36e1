import time

import pytest
import torch

from ops.data.clips import Failure
from ops.distributed import World
from ops.training.meters import PARTS, Meters, Stopwatch, advice

CPU = torch.device("cpu")


def test_stopwatch_adds_time_to_its_part():
    watch = Stopwatch(CPU)
    for part, seconds in (("data", 0.03), (None, 0.05), ("forward", 0.02), ("data", 0.03)):
        time.sleep(seconds)
        watch.lap(part)
    seconds = watch.read()
    assert list(seconds) == list(PARTS) and seconds["backward"] == 0
    assert 0.06 <= seconds["data"] < 0.1 and 0.02 <= seconds["forward"] < 0.05
    assert Stopwatch(CPU, seconds).read() == seconds


def meters(**state):
    return Meters(
        CPU,
        {
            "sums": [6.0, 3.0, 4.0, 1.0],
            "failures": [(1, "v", 2, "why")],
            "seconds": 10.0,
            "parts": {"data": 4.0, "backward": 5.0},
            **state,
        },
    )


def test_texts_and_result_of_meters():
    learned, pace = meters().accuracy_text(), meters().speed_text(frames=8, processes=2)
    assert learned == "loss 1.5000 Prec@1 75.00"
    assert pace == "0.8 videos/s, 6 images/s; data 40% forward 0% backward 50% optimiser 0%"
    result = meters().result(8, World(0, 1, CPU))
    assert result == {
        "loss": 1.5,
        "top1": 75.0,
        "videos": 4,
        "skipped": 1,
        "skipped_steps": 1,
        "seconds": pytest.approx(10, abs=0.1),
        "videos_per_second": pytest.approx(0.4, abs=0.01),
        "images_per_second": pytest.approx(3.2, abs=0.1),
        "data_share": pytest.approx(0.4, abs=0.01),
        "forward_share": 0,
        "backward_share": pytest.approx(0.5, abs=0.01),
        "optimiser_share": 0,
    }


def test_meters_resume_from_their_state():
    state = meters().state()
    again = Meters(CPU, state)
    assert again.sums.tolist() == [6, 3, 4, 1] and again.failures == [Failure(1, "v", 2, "why")]
    assert again.seconds >= 10 and again.watch.read()["data"] == 4


def test_advice_for_long_waits_only():
    assert advice(0.1, 0) is None
    assert "43% of the time" in advice(0.43, 0) and "more data-loading workers (-j 0 now" in advice(
        0.43, 0
    )
    assert "more data-loading workers" not in advice(0.43, 10_000)
