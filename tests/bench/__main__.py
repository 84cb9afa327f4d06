"""`python -m tests.bench [NAME ...]`: run benchmarks; each prints one JSON object as its last line."""

import importlib
import json
import pkgutil
import sys
import traceback
from pathlib import Path

NAMES = sorted(
    m.name.removeprefix("bench_")
    for m in pkgutil.iter_modules([str(Path(__file__).parent)])
    if m.name.startswith("bench_")
)


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all. One that fails is told, and the others still run: then the exit code is 1."""
    for name in names:
        if name not in NAMES:
            print(f"There is no benchmark {name!r}; there are {', '.join(NAMES)}.", file=sys.stderr)
            return 2
    failed = []
    for name in names or NAMES:
        try:
            figures = importlib.import_module(f"tests.bench.bench_{name}").main()
        except Exception:  # noqa: BLE001 - whatever it was, it is printed, and ends this one only
            traceback.print_exc()
            failed.append(name)
        else:
            print(json.dumps({"bench": name, **figures}), flush=True)
    if failed:
        print(f"Failed: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
