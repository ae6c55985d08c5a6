"""The network that the lab's relay imitates, by itself: no root, no devices, no time but what is handed in."""

from __future__ import annotations

from tests.lab.wan import QUEUE_BYTES_MAX, Wan


def drained(wan: Wan) -> list[bytes]:
    return [packet for _, packet in wan.arrived(float("inf"))]


def test_a_packet_arrives_after_its_delay_and_not_before() -> None:
    wan = Wan(("a", "b"))
    wan.links["a", "b"].delay_ms = 40
    wan.send("a", "b", b"x", now=1.0)
    assert wan.next_due() == 1.04
    assert wan.arrived(1.039) == []
    assert wan.arrived(1.04) == [("b", b"x")]
    assert wan.next_due() is None


def test_jitter_lets_no_packet_overtake_another_of_its_link() -> None:
    wan = Wan(("a", "b"), seed=3)
    wan.links["a", "b"].jitter_ms = 50
    sent = [bytes([i]) for i in range(200)]
    for i, packet in enumerate(sent):
        wan.send("a", "b", packet, now=i / 1000)
    assert drained(wan) == sent


def test_a_slow_link_does_not_hold_up_another() -> None:
    wan = Wan(("a", "b", "c"))
    wan.links["a", "b"].delay_ms = 90
    wan.send("a", "b", b"slow", now=0)
    wan.send("a", "c", b"fast", now=0)
    assert wan.arrived(0) == [("c", b"fast")]


def test_a_cut_takes_what_is_under_way_and_is_one_way() -> None:
    wan = Wan(("a", "b"))
    link = wan.links["a", "b"]
    link.delay_ms = 40
    wan.send("a", "b", b"under way", now=0)
    link.cut = True
    wan.send("a", "b", b"after", now=0)
    wan.send("b", "a", b"back", now=0)
    assert drained(wan) == [b"back"]
    assert (link.cut_off, link.carried, link.waiting_bytes) == (2, 0, 0)
    wan.heal()
    wan.send("a", "b", b"healed", now=1)
    assert drained(wan) == [b"healed"]


def test_losses_are_about_as_many_as_asked_for() -> None:
    wan = Wan(("a", "b"))
    wan.links["a", "b"].loss_percent = 2
    for i in range(10_000):
        wan.send("a", "b", b"x", now=i)
    assert 150 < wan.links["a", "b"].lost < 250
    assert len(drained(wan)) == 10_000 - wan.links["a", "b"].lost


def test_a_full_queue_drops_what_comes_and_counts_it() -> None:
    wan = Wan(("a", "b"))
    wan.links["a", "b"].delay_ms = 40
    packet = bytes(QUEUE_BYTES_MAX // 4)
    for _ in range(6):
        wan.send("a", "b", packet, now=0)
    assert wan.links["a", "b"].overflowed == 2
    assert len(drained(wan)) == 4
    wan.send("a", "b", packet, now=1)
    assert len(drained(wan)) == 1
