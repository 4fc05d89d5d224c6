"""`python -m tests.scale memory|cluster|join`: the long forms of what the tests show in small, with their figures."""

import argparse
import sys
import tempfile


def main() -> int:
    """Parse the command line and run one; 1 if what it is to show does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description=__doc__)
    parser.add_argument("--folder", help="where to put what is made, and deleted at the end (default: a temporary one)")
    verbs = parser.add_subparsers(dest="verb", required=True)
    memory = verbs.add_parser("memory", help="heads on features larger than the memory they may take")
    memory.add_argument("--gigabytes", type=float, default=3.0)
    memory.add_argument("--limit-gigabytes", type=float, default=1.5)
    memory.add_argument("--limit-by", choices=["ulimit", "cgroup"], default="ulimit")
    memory.add_argument("--width", type=int, default=1024)
    memory.add_argument("--model", nargs="+", default=["ridge", "linear"])
    cluster = verbs.add_parser("cluster", help="extraction by processes of a Dask cluster, one killed on the way")
    cluster.add_argument("--workers", nargs="+", type=int, default=[1, 2, 4])
    cluster.add_argument("--dataset", default="digits")
    cluster.add_argument("--image-size", type=int, default=112)
    cluster.add_argument("--layer", default="layer3")
    cluster.add_argument("--limit", type=int)
    join = verbs.add_parser("join", help="how long files of many shards take to join and to open")
    join.add_argument("--shards", nargs="+", type=int, default=[10, 1000, 10_000])
    options = parser.parse_args()
    from tests.scale import joining, memory, spreading

    show = {"memory": memory.show, "cluster": spreading.show, "join": joining.show}[options.verb]
    with tempfile.TemporaryDirectory(prefix="scale-", dir=options.folder) as folder:
        return show(options, folder)


if __name__ == "__main__":
    sys.exit(main())
