"""The rules that make events of scores, on streams of which every gesture is known."""

from dataclasses import dataclass

import numpy as np
import pytest

from ops.data.label_orders import FOLDER
from ops.streaming.smoothing import (
    DEMO_IGNORED_NAMES,
    IDLE_NAMES,
    DemoRule,
    Event,
    Smoother,
    labels_of,
)
from ops.utils.errors import UserError

RATE = 15  # frames per second
CLASSES = 27
IDLE = (0, 2)  # Doing other things, No gesture
MINUTES = 15


def scores_of(label, height=8.0, classes=4):
    logits = np.zeros(classes)
    logits[label] = height
    return logits


def run(rule, labels, rate=10, **options):
    """Events of a stream in which one class after another is sure."""
    events = []
    for number, label in enumerate(labels):
        events += rule.update(scores_of(label, **options), number / rate)
    return events


@dataclass
class Gesture:
    label: int
    start: float
    end: float
    found_after: float | None = None  # seconds


def gesture_stream(seed):
    """Logits of gestures of 1 to 1.6 s with pauses, in noise that lasts for some frames.

    Returns:
        (logits ``[n, 27]``, a list of gestures).
    """
    height, deviation, memory, rise = 6.0, 2.3, 0.8, 0.2  # logits, logits, of a frame, seconds
    rng = np.random.default_rng(seed)
    count = MINUTES * 60 * RATE
    labels = np.full(count, IDLE[1])
    gestures = []
    start = 2.0
    while start < MINUTES * 60 - 4:
        label = int(rng.choice(np.setdiff1d(np.arange(CLASSES), IDLE)))
        end = start + rng.uniform(1, 1.6)
        gestures.append(Gesture(label, start, end))
        labels[int(start * RATE) : int(end * RATE)] = label
        start = end + rng.uniform(1, 3)
    mean = scores_of(IDLE[1], height, CLASSES)
    noise = np.zeros(CLASSES)
    logits = np.empty((count, CLASSES))
    for number, label in enumerate(labels):
        goal = scores_of(label, height, CLASSES)
        mean = mean + (1 - np.exp(-1 / RATE / rise)) * (goal - mean)
        noise = memory * noise + np.sqrt(1 - memory**2) * rng.standard_normal(CLASSES)
        logits[number] = mean + deviation * noise
    return logits, gestures


def judge(rule, logits, gestures):
    """(share of gestures found, false events per minute, mean seconds until a gesture is found)."""
    false = 0
    for gesture in gestures:
        gesture.found_after = None
    for number, own in enumerate(logits):
        seconds = number / RATE
        for event in rule.update(own, seconds):
            if event.end is None:
                false += not find(gestures, event.label, seconds)
    found = [gesture.found_after for gesture in gestures if gesture.found_after is not None]
    return len(found) / len(gestures), false / MINUTES, np.mean(found)


def find(gestures, label, seconds):
    """Whether an event is the first one of a gesture, or of one that ended up to 1 s ago."""
    for gesture in gestures:
        is_near = gesture.start <= seconds <= gesture.end + 1
        if gesture.label == label and is_near and gesture.found_after is None:
            gesture.found_after = seconds - gesture.start
            return True
    return False


def test_half_the_false_events_of_the_demo_at_equal_delay():
    logits, gestures = gesture_stream(seed=0)
    found, false, delay = judge(Smoother(idle=IDLE), logits, gestures)
    demo_found, demo_false, demo_delay = judge(DemoRule(idle=IDLE), logits, gestures)
    assert false <= demo_false / 2
    assert delay <= demo_delay + 1 / RATE  # of one frame
    assert found >= demo_found - 0.05


def test_the_mean_is_of_logits_and_in_seconds():
    """The same stream at two frame rates has the same mean at the same time."""
    slow, fast = Smoother(tau=0.5), Smoother(tau=0.5)
    for second in range(3):
        slow.update(scores_of(1, second), second)
    for tenth in range(21):
        fast.update(scores_of(1, np.ceil(tenth / 10)), tenth / 10)
    mean = 1 * (1 - np.exp(-2))
    mean += (2 - mean) * (1 - np.exp(-2))
    expected = np.exp(scores_of(1, mean))
    expected /= expected.sum()
    np.testing.assert_allclose(slow.probabilities, expected)
    np.testing.assert_allclose(fast.probabilities, expected)


def test_an_event_begins_after_the_hold_and_ends_below_off():
    rule = Smoother(tau=0, on=0.5, off=0.3, hold=0.2)
    assert run(rule, [1, 1]) == []  # 0.1 s
    (began,) = rule.update(scores_of(1), 0.2)
    assert (began.label, began.start, began.end) == (1, 0.0, None)
    assert rule.label == 1
    between = np.log([0.2, 0.4, 0.2, 0.2])  # below on, above off
    assert rule.update(between, 0.3) == [] and rule.label == 1
    (ended,) = rule.update(np.zeros(4), 0.4)
    assert (ended.label, ended.start, ended.end) == (1, 0.0, 0.4)
    assert ended.probability == pytest.approx(began.probability) and rule.label is None


def test_a_short_hold_has_no_effect_at_a_low_rate():
    """A score that stands for half a second is a hold of 0.2 s."""
    rule = Smoother(tau=0, hold=0.2)
    assert [event.label for event in run(rule, [0, 1, 2], rate=2)] == [1, 1, 2]


def test_another_class_takes_the_place():
    rule = Smoother(tau=0, hold=0.2)
    events = run(rule, [1, 1, 1, 2, 1, 2, 2, 2])
    assert [(event.label, event.end is None) for event in events] == [
        (1, True),
        (1, False),  # one frame of class 2 ends it, as it is below "off" there
        (2, True),
    ]


def test_a_switch_waits_for_the_hold():
    rule = Smoother(tau=0, on=0.25, off=0.1, hold=0.2)
    both = np.log([0.01, 0.4, 0.58, 0.01])
    run(rule, [1, 1, 1])
    assert rule.update(both, 0.3) == [] and rule.label == 1
    ended, began = rule.update(both, 0.4)
    assert (ended.label, ended.end, began.label, began.start) == (1, 0.3, 2, 0.3)


def test_events_do_not_overlap():
    rule = Smoother(tau=0, on=0.25, off=0.2, hold=0.2)
    run(rule, [1, 1, 1])
    rule.update(np.log([0.01, 0.4, 0.58, 0.01]), 0.3)  # class 2 is probable, for 0.1 s
    (ended,) = rule.update(np.log([0.4, 0.1, 0.49, 0.01]), 0.35)
    (began,) = rule.update(scores_of(2), 0.4)
    assert (ended.end, began.start) == (0.35, 0.35)


def test_idle_classes_are_no_event():
    assert run(Smoother(idle=(1, 3)), [1, 3, 1, 3, 1, 1, 1]) == []
    assert run(DemoRule(idle=(1, 3)), [1, 3, 1, 3, 1, 1, 1]) == []


def test_the_end_of_a_stream_ends_its_event():
    for rule, new in ((Smoother(), Smoother()), (DemoRule(), DemoRule())):
        run(rule, [1] * 6)
        (event,) = rule.finish()
        assert (event.label, event.end) == (1, 0.5) and rule.label is None
        assert rule.finish() == []
        assert run(rule, [2, 2, 2, 1, 1]) == run(new, [2, 2, 2, 1, 1]) != []


def test_several_labels_are_sigmoids():
    rule = Smoother(multi_label=True)
    rule.update(np.array([0.0, 0.0, 2.0]), 0)
    np.testing.assert_allclose(rule.probabilities, 1 / (1 + np.exp([0, 0, -2])))


@pytest.mark.parametrize(
    ("option", "value"), [("on", 1.5), ("off", 0.9), ("off", -1), ("tau", -1), ("hold", np.nan)]
)
def test_invalid_options_raise(option, value):
    with pytest.raises(UserError, match=f"--{option}"):
        Smoother(**{option: value})


def test_the_sequence_of_the_demo():
    """online_demo/main.py, process_output with history [2, 2], run on these classes."""
    rule = DemoRule(frames=1, idle=(2,))
    seen = []
    for number, label in enumerate([5, 9, 5, 5, 9, 9, 2, 9, 9, 9]):
        rule.update(scores_of(label, classes=CLASSES), number / RATE)
        seen.append(2 if rule.label is None else rule.label)
    assert seen == [5, 5, 5, 5, 9, 9, 2, 2, 9, 9]


def test_the_demo_sums_twelve_frames_and_ignores_classes():
    rule = DemoRule(ignored=(3,))
    assert run(rule, [1] * 12)[0] == Event(1, 0.0, None, pytest.approx(1, abs=0.01))
    assert run(rule, [3] * 20) == [] and rule.label == 1


def test_labels_of_names():
    names = (FOLDER / "jester_sorted.txt").read_text(encoding="utf-8").splitlines()
    assert labels_of(names, IDLE_NAMES) == list(IDLE)
    assert labels_of(names, DEMO_IGNORED_NAMES) == [3, 7, 8, 21, 22]
    assert labels_of(names, ["THUMB UP"]) == [20]
    assert labels_of(None, IDLE_NAMES) == [] and labels_of(["running"], IDLE_NAMES) == []
