"""`python -m tests.simulation --seed N | --seeds K [--first F] [--jobs J]`: replay one seed, or run many."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation.batches import Outcome, outcomes
from tests.simulation.chaos import Failure, run


def replay(seed: int) -> int:
    try:
        world = run(seed)
    except Failure as e:
        print(e, file=sys.stderr)
        return 1
    print("\n".join(world.transcript))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one and print how it went")
    parser.add_argument("--seeds", type=int, default=200, help="how many to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes share them")
    parser.add_argument("--keep-going", action="store_true", help="tell of every seed that fails, not only the first")
    args = parser.parse_args()
    if args.seed is not None:
        return replay(args.seed)
    began, told, failed = time.monotonic(), Outcome(0, 0, 0, 0, Counter(), ()), 0
    for one in outcomes(range(args.first, args.first + args.seeds), args.jobs):
        told = Outcome(*(a + b for a, b in zip(told[:4], one[:4], strict=True)), told.alarms + one.alarms, ())
        for failure in one.failures:
            failed += 1
            print(failure, file=sys.stderr, flush=True)
            if not args.keep_going:
                return 1
    took = time.monotonic() - began
    print(
        f"{told.seeds} seeds, {told.steps} steps, {told.calls} calls, {told.offers} offers "
        f"{'without a violation' if not failed else f'and {failed} violations'} in {took:.1f} s; "
        f"alarms {dict(sorted(told.alarms.items()))}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
