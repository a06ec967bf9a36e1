import shutil
import subprocess
import sys

import pytest
from helpers.launch import ROOT

from lib.weights.results_table import END, START, replace_table, results_table
from ops.utils.errors import UserError


@pytest.fixture(scope="module")
def table():
    return results_table()


def test_readme_is_up_to_date(table):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert replace_table(text, table) == text, "run python tools/results_table.py"


def test_every_script_of_a_published_table_has_one_row(table):
    for script in (ROOT / "scripts").glob("*/*.sh"):
        name = script.relative_to(ROOT / "scripts")
        assert table.count(f"(scripts/{name})") == 1, name


@pytest.mark.parametrize(
    ("script", "expected", "weights"),
    [
        ("tdn/sthv1_r50_8f.sh", "**52.3** (8 frames x 1 crop x 1 clip, 224)", "`tdn_r50_8f_sthv1`"),
        ("tsm/k400_r50_8f.sh", "**72.8** (8 frames x 10 crops x 1 clip, 224)", "`tsm_r50_8f_k400`"),
        ("tsm/k400_r50_8f.sh", "**71.2** (8 frames x 1 crop x 1 clip, 224)", "`tsm_r50_8f_k400`"),
        ("tdn/sthv1_r50_8f16f.sh", "not published", "`tdn_r50_8f_sthv1`<br>`tdn_r50_16f_sthv1`"),
        ("tin/sthv1_r50_8f.sh", "**44.04**", "`mmaction2_tin_r50_8f_sthv1`"),
    ],
)
def test_accuracy_and_weights_of_a_script(table, script, expected, weights):
    (row,) = [line for line in table.splitlines() if f"(scripts/{script})" in line]
    assert expected in row and weights in row


def test_another_accuracy_in_a_recipe_changes_the_table(table, tmp_path):
    scripts = shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    path = scripts / "tdn" / "sthv1_r50_8f.toml"
    path.write_text(path.read_text().replace("52.3 %", "99.9 %"))
    changed = results_table(scripts)
    differing = set(changed.splitlines()) - set(table.splitlines())
    assert [("**99.9**" in line, "sthv1_r50_8f.sh" in line) for line in differing] == [(True, True)]


def test_text_around_the_table_is_kept():
    text = f"# Title\n{START}\nold\n{END}\nlast line\n"
    assert replace_table(text, "new") == f"# Title\n{START}\nnew\n{END}\nlast line\n"
    for broken in ("no marker", START, END):
        with pytest.raises(UserError):
            replace_table(broken, "new")


def test_check_finds_the_readme_current():
    command = [sys.executable, "tools/results_table.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
