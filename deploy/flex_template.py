"""What Dataflow starts to make the job of the flex template: see `pipeline.flex_template`."""

import sys
from pathlib import Path

from pipeline.flex_template import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__).resolve().parents[1] / "configs"))
