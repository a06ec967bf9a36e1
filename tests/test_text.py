"""ops/utils/text.py: what a terminal gets of texts from strangers, and numbers with their nouns."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tqdm import tqdm

from ops.utils.text import EscapingStream, counted, escape_controls, printable

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "text, escaped",
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("bell\x07", r"bell\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("abc\u202efdp", r"abc\u202efdp"),
        ("\u2066x\u2069 \u200f \ufeff", r"\u2066x\u2069 \u200f \ufeff"),
        ("line\u2028feed\x85", r"line\u2028feed\x85"),
        ("over\rwritten", r"over\rwritten"),
        ("\udcff", r"\udcff"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_controls_are_escaped(text, escaped):
    assert escape_controls(text) == escaped


@pytest.mark.parametrize(
    "text", ["plain\ttext\n", "видео 视频\u3000비디오", "café e\u0301", "C:\\a 'b'"]
)
def test_other_text_stays(text):
    assert escape_controls(text) == text


def test_printable_values_are_short_and_on_one_line():
    assert printable("a\n\x1b" + "b" * 200) == r"a\n\x1b" + "b" * 97
    assert len(printable(list(range(1000)))) < 100
    assert printable(10**5000) == "<int>"


def test_a_progress_bar_passes_through():
    plain, escaping = io.StringIO(), io.StringIO()
    for file in (plain, EscapingStream(escaping)):
        for position in (0, 1):
            bar = tqdm(total=3, file=file, position=position, mininterval=0, miniters=1, ncols=30)
            bar.format_dict["elapsed"] = 0
            bar.close()
    moves = [text for text in ("\r", "\n", "\x1b[A") if text in plain.getvalue()]
    assert moves and all(text in escaping.getvalue() for text in moves)
    assert "\\" not in escaping.getvalue()


def output_of(program, **environment):
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        env={**os.environ, **environment},
    )
    return run.returncode, run.stdout.decode("latin-1"), run.stderr.decode("latin-1")


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_names_that_the_terminal_cannot_show(environment):
    program = (
        "from ops.utils.errors import UserError, run_cli\n"
        "def main():\n"
        "    print('class \\u89c6\\u9891')\n"
        "    raise UserError('\\u0432\\u0438\\u0434\\u0435\\u043e\\udcff.txt:1: no label')\n"
        "run_cli(main)\n"
    )
    status, out, err = output_of(program, **environment)
    assert status == 2
    assert out == "class \\u89c6\\u9891\n"
    assert err == "error: \\u0432\\u0438\\u0434\\u0435\\u043e\\udcff.txt:1: no label\n"


def test_controls_do_not_reach_the_terminal_by_any_way():
    program = (
        "import sys, warnings\n"
        "from ops.utils.errors import run_cli\n"
        "evil = 'v\\x1b]0;title\\x07\\x9b\\u202e'\n"
        "def main():\n"
        "    print('a', evil, sep='\\t')\n"
        "    print(evil, file=sys.stderr)\n"
        "    warnings.warn(evil)\n"
        "    sys.stdout.writelines([evil])\n"
        "    raise RuntimeError(evil)\n"
        "run_cli(main)\n"
    )
    status, out, err = output_of(program, PYTHONIOENCODING="utf-8")
    assert status == 1
    assert out.count(r"\x1b]0;title\x07\x9b\u202e") == 2
    assert err.count(r"\x1b]0;title\x07\x9b\u202e") == 3
    assert not set("\x1b\x07\x9b") & set(out + err)


def test_a_number_with_its_noun():
    assert [counted(count, "video") for count in (0, 1, 2)] == ["0 videos", "1 video", "2 videos"]
    assert [counted(count, "process", "processes") for count in (1, 3)] == [
        "1 process",
        "3 processes",
    ]
