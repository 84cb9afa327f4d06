"""`python -m tests.bench [NAME ...]`: run benchmarks; each prints one JSON object as its last line."""

import importlib
import json
import pkgutil
import sys
from pathlib import Path

NAMES = sorted(
    m.name.removeprefix("bench_")
    for m in pkgutil.iter_modules([str(Path(__file__).parent)])
    if m.name.startswith("bench_")
)


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all."""
    for name in names or NAMES:
        if name not in NAMES:
            print(f"There is no benchmark {name!r}; there are {', '.join(NAMES)}.", file=sys.stderr)
            return 2
        figures = importlib.import_module(f"tests.bench.bench_{name}").main()
        print(json.dumps({"bench": name, **figures}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
