import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[1] / "tools"
COMMANDS = sorted(TOOLS.glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.stem)
def test_every_file_in_tools_is_a_command_with_help(command, tmp_path):
    answer = subprocess.run(
        [sys.executable, command, "--help"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,  # works from any folder
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(f"usage: {command.name}")
