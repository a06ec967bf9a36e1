"""ops/utils/text.py: numbers with their nouns."""

from ops.utils.text import counted


def test_a_number_with_its_noun():
    assert [counted(count, "video") for count in (0, 1, 2)] == ["0 videos", "1 video", "2 videos"]
    assert [counted(count, "process", "processes") for count in (1, 3)] == [
        "1 process",
        "3 processes",
    ]
