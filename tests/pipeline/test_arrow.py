import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.outputs import make_output

PROGRAM = """
import json, sys
from pipeline.arrow import forgo_pandas
forgo_pandas()
import pyarrow as pa
table = pa.table({"uri": ["a", "b"], "row": pa.array([1, 2])})
without, restored = "pandas" not in sys.modules, "_Hiding" not in map(lambda it: type(it).__name__, sys.meta_path)
frame = table.to_pandas()
print(json.dumps([without, frame.row.tolist(), restored]))
forgo_pandas()
import pandas
print(pa.array(pandas.Series([1.5])).to_pylist())
"""


def test_pyarrow_makes_arrays_without_importing_pandas() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert json.loads(first) == [True, [1, 2], True]
    assert second == "[1.5]"


COMMAND = """
import sys
from pipeline.cli import main
code = main(sys.argv[1:])
print(code, sorted({"pandas", "tensorflow"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "OUT", "--thumbnails", "2"],
        ["show", "OUT"],
        ["show", "OUT", "--label", "green", "--csv"],
        ["show", "OUT", "--query", "SELECT label, count(*) AS n FROM predictions GROUP BY label", "--jsonl"],
        ["evaluate", "OUT", "--truth", "TRUTH"],
        ["verify", "OUT"],
    ],
)
def test_commands_on_outputs_import_no_pandas(tmp_path: Path, arguments: list[str]) -> None:
    made = make_output(tmp_path / "out")
    lines = [f"https://user:pw@host/{number}.png?sig={number},{number % 3}\n" for number in range(10)]
    (tmp_path / "truth.csv").write_text("uri,label_index\n" + "".join(lines))
    paths = {"OUT": str(made.path), "TRUTH": str(tmp_path / "truth.csv")}
    command = [sys.executable, "-c", COMMAND, *(paths.get(word, word) for word in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("\n0 []\n"), done.stderr + done.stdout
