"""One seed's story: what befalls the world, then peace, then the last check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType

import federation.log
import federation.view
from proto.frames import Farewell
from tests.simulation.checks import Violation
from tests.simulation.process import Process
from tests.simulation.world import World

CHAOS_MS = 40_000
PEACE_MS = 16_000
TOOLS = 12


class Failure(AssertionError):
    """A seed that violates an invariant, with what led to it."""


def run(seed: int, *, chaos_ms: int = CHAOS_MS) -> World:
    """Raises `Failure`, whose text holds the seed and the end of the transcript."""
    names = ["a", "b", "c", "d", "e", "f"][: 3 + seed % 4]
    small = seed % 3 == 0
    try:
        with ExitStack() as bounds:
            # Small bounds, so that logs overflow, snapshots and deltas come in parts, and views grow old.
            bounds.enter_context(_bound(federation.log, LOG_MIN=6))
            if small:
                bounds.enter_context(_bound(federation.log, PART_RECORDS=2, PART_NAMES=3))
            if seed % 5 == 0:
                bounds.enter_context(_bound(federation.view, GRACE_MS=3_000, KEEP_MS=8_000, LOADING_MS=2_000))
            world = World(seed, names)
            world.checks.whole = not small
            _live(world, chaos_ms)
    except Violation as e:
        raise Failure(
            f"seed {seed}, step {world.steps}, {world.now_ms} ms: {e}\n"
            + "\n".join(world.transcript)
            + f"\nreplay: make sim SEED={seed}"
        ) from e
    return world


@contextmanager
def _bound(module: ModuleType, **bounds: int) -> Iterator[None]:
    """Other bounds of a core, for as long as one seed runs."""
    before = {name: getattr(module, name) for name in bounds}
    vars(module).update(bounds)
    try:
        yield
    finally:
        vars(module).update(before)


def _live(world: World, chaos_ms: int) -> None:
    rng = world.rng
    for name in world.names:
        process = world.start(name, loaded_after_ms=rng.choice((0, 0, 1500)))
        process.publish([world.record(name, i) for i in range(rng.randrange(TOOLS))], [])
        for other in world.names:
            world.network.delay_ms[name, other] = rng.choice((1, 5, 40, 150))
    while world.now_ms < chaos_ms:
        world.run_until(world.now_ms + rng.randrange(20, 1_200))
        weights, deeds = zip(*_DEEDS, strict=True)
        rng.choices(deeds, weights)[0](world)
    _peace(world)


def _peace(world: World) -> None:
    world.heal()
    for name in world.names:
        # What the alarm asks for: a name that was cloned has all its processes stopped, and one started anew.
        if name in world.cloned:
            for process in list(world.processes[name]):
                world.crash(process)
        for process in world.processes[name]:
            process.draining = False
        if not world.processes[name]:
            process = world.start(name)
            process.publish([world.record(name, i) for i in range(3)], [])
    world.run_until(world.now_ms + PEACE_MS)
    world.checks.at_rest()


def _someone(world: World) -> Process | None:
    running = world.running()
    return world.rng.choice(running) if running else None


def _pair(world: World) -> tuple[str, str]:
    a, b = world.rng.sample(world.names, 2)
    return a, b


def churn(world: World) -> None:
    if (process := _someone(world)) is not None:
        rng = world.rng
        puts = [world.record(process.name, rng.randrange(TOOLS)) for _ in range(rng.randrange(1, 4))]
        if world.seed % 2 and rng.random() < 0.2:
            world.checks.governed = True
            puts.append(world.rule(process.name, rng.randrange(2)))
        puts = list({r.key: r for r in puts}.values())
        held = list(process.log.records)
        deletes = rng.sample(held, min(len(held), rng.randrange(3)))
        world.note(f"{process.name} publishes {[r.id for r in puts]}, deletes {[k.id for k in deletes]}")
        process.publish(puts, deletes)


def smuggle(world: World) -> None:
    if (process := _someone(world)) is not None:
        record = world.bad_record(process.name, world.rng.randrange(TOOLS))
        world.note(f"{process.name} sends {record.id} with a digest that is not its own")
        world.smuggle(process, record)


def crash(world: World) -> None:
    if (process := _someone(world)) is not None:
        world.crash(process)
        _return(world, process.name)


def lose_disk(world: World) -> None:
    if (process := _someone(world)) is not None:
        world.crash(process)
        world.note(f"{process.name} has lost its disk")
        world.disks[process.name] = type(process.disk)()
        world.skew_ms[process.name] -= world.rng.choice((0, 0, 3_600_000))
        _return(world, process.name)


def restart(world: World) -> None:
    if (process := _someone(world)) is not None:
        world.stop(process, Farewell.RESTART)
        _return(world, process.name)


def leave(world: World) -> None:
    if (process := _someone(world)) is not None:
        world.stop(process, Farewell.LEAVE)
        _return(world, process.name)


def _return(world: World, name: str) -> None:
    rng = world.rng

    def start() -> None:
        if not world.processes[name]:
            process = world.start(name, loaded_after_ms=rng.choice((0, 400, 2500)))
            process.publish([world.record(name, i) for i in range(rng.randrange(TOOLS))], [])

    world.at(rng.choice((50, 500, 3_000, 9_000)), start)


def clone(world: World) -> None:
    if (process := _someone(world)) is not None and len(world.processes[process.name]) == 1:
        twin = world.start(process.name, clone_of=process, anew=world.rng.random() < 0.5)
        twin.publish([world.record(twin.name, i) for i in range(world.rng.randrange(1, TOOLS))], [])


def cut(world: World) -> None:
    a, b = _pair(world)
    world.note(f"nothing of {a} reaches {b}")
    world.network.cut(a, b, world.now_ms)


def partition(world: World) -> None:
    names = world.rng.sample(world.names, len(world.names))
    split = world.rng.randrange(1, len(names))
    world.note(f"{sorted(names[:split])} and {sorted(names[split:])} are parted")
    for a in names[:split]:
        for b in names[split:]:
            world.network.cut(a, b, world.now_ms)
            world.network.cut(b, a, world.now_ms)


def heal(world: World) -> None:
    world.heal()


def lose_stream(world: World) -> None:
    if (process := _someone(world)) is not None and process.streams:
        world.reset(world.rng.choice(list(process.streams.values())))


def lossy(world: World) -> None:
    a, b = _pair(world)
    world.note(f"what {a} sends to {b} often ends its stream")
    world.network.loss[a, b] = 0.2


def freeze(world: World) -> None:
    if (process := _someone(world)) is not None:
        world.freeze(process, world.rng.choice((400, 3_500, 7_000)))


def slow(world: World) -> None:
    if (process := _someone(world)) is not None:
        world.slow(process, world.rng.choice((300, 1_500, 4_000)), world.rng.choice((3_000, 10_000)))


def jump(world: World) -> None:
    world.jump(world.rng.choice(world.names), world.rng.choice((-86_400_000, -5_000, 5_000, 86_400_000)))


def drain(world: World) -> None:
    if (process := _someone(world)) is not None:
        process.draining = not process.draining
        world.note(f"{process.name} {'drains' if process.draining else 'stays'}")


def grant_or_revoke(world: World) -> None:
    name = world.rng.choice(world.names)
    world.regard(name, authority=name not in world.roles)


def archive(world: World) -> None:
    world.archive_disk(world.rng.choice(world.names))


def restore_old_disk(world: World) -> None:
    if (process := _someone(world)) is not None and process.name in world.archive:
        world.crash(process)
        world.note(f"{process.name} has an old copy of its disk")
        world.disks[process.name] = world.archive.pop(process.name)
        world.skew_ms[process.name] -= world.rng.choice((0, 0, 3_600_000))
        _return(world, process.name)


def doom(world: World) -> None:
    """It crashes amid carrying out what its cores have decided."""
    if (process := _someone(world)) is not None and process.doomed is None:
        process.doomed = world.rng.randrange(8)
        world.note(f"{process.name} will crash after {process.doomed} effects")
        _return(world, process.name)


def call(world: World) -> None:
    running = world.running()
    for _ in range(world.rng.choice((1, 3, 20))):
        caller, owner = world.rng.choice(running or [None]), world.rng.choice(running or [None])
        if caller is not None and owner is not None and caller.name != owner.name:
            world.calls.begin(caller, owner)


def break_calls(world: World) -> None:
    world.calls.break_some()


def calm(world: World) -> None:
    """Long enough for every doubt to end."""
    if world.rng.random() < 0.5:
        world.heal()
    world.run_until(world.now_ms + 10_000)


_DEEDS: list[tuple[int, Callable[[World], None]]] = [
    (30, churn),
    (3, smuggle),
    (6, crash),
    (3, lose_disk),
    (4, restart),
    (2, leave),
    (1, clone),
    (6, cut),
    (3, partition),
    (8, heal),
    (8, lose_stream),
    (3, lossy),
    (5, freeze),
    (4, slow),
    (3, jump),
    (2, drain),
    (3, grant_or_revoke),
    (2, archive),
    (2, restore_old_disk),
    (2, doom),
    (14, call),
    (6, break_calls),
    (2, calm),
]
