"""Run all benchmarks, or the named ones: `python -m bench [NAME...]`."""

import pkgutil
import sys
from importlib import import_module

import bench


def main() -> int:
    names = [module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_")]
    wanted = sys.argv[1:] or names
    unknown = [name for name in wanted if name not in names]
    if unknown:
        print(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(names)}", file=sys.stderr)
        return 2
    sys.argv[1:] = []  # each main parses its own arguments
    for name in wanted:
        print(f"== {name}", flush=True)
        import_module(f"bench.{name}").main()
        print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
