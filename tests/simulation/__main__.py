"""`python -m tests.simulation --seed N | --seeds K [--first F]`: replay one seed, or run many."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.chaos import Failure, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one and print how it went")
    parser.add_argument("--seeds", type=int, default=200, help="how many to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    args = parser.parse_args()
    seeds = [args.seed] if args.seed is not None else range(args.first, args.first + args.seeds)
    began, steps = time.monotonic(), 0
    alarms: dict[str, int] = {}
    for seed in seeds:
        try:
            world = run(seed)
        except Failure as e:
            print(e, file=sys.stderr)
            return 1
        steps += world.steps
        for name, count in world.alarms.items():
            alarms[name] = alarms.get(name, 0) + count
        if args.seed is not None:
            print("\n".join(world.transcript))
    took = time.monotonic() - began
    print(
        f"{len(seeds)} seeds, {steps} steps without a violation in {took:.1f} s; alarms {dict(sorted(alarms.items()))}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
