import json
import subprocess
import sys

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
