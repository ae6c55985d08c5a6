"""What a node says to each RPC, and to each frame as the first of its stream, by whose certificate is shown.

    tls      the handshake fails             who      UNAUTHENTICATED, whoever is named
    welcome  a subscriber's Welcome          reply    an answer
    hid      an error: there is no such server, call or target for this principal
    frame    INVALID_ARGUMENT: nothing begins so       none     UNIMPLEMENTED
    passed   nothing is said, and the stream goes on   away     no such call is known: it did not run
    off      ABORTED: this node has nothing of the kind

`bare` shows no certificate, `foreign` one of another authority for the same mesh, `ended` one that has ended, `agent`
one that opens the listener of agents, `itself` the node's own; `peer` is a node of the mesh, `authority` one with that
role. What a node makes of frames that an owner says (`SyncDown`, `CallDown`) is in tests/wire.
"""

from __future__ import annotations

COLUMNS = ("bare", "foreign", "ended", "agent", "itself", "peer", "authority")

TABLE = """
#rpc      first frame  bare foreign ended agent itself  peer     authority
Sync      hello        tls  tls     tls   tls   who     welcome  welcome
Sync      ack          tls  tls     tls   tls   who     frame    frame
Sync      reject       tls  tls     tls   tls   who     frame    frame
Sync      refuse       tls  tls     tls   tls   who     frame    frame
Forward   open         tls  tls     tls   tls   who     hid      hid
Forward   query        tls  tls     tls   tls   who     away     away
Forward   reply        tls  tls     tls   tls   who     passed   passed
Forward   cancel       tls  tls     tls   tls   who     passed   passed
Forward   window       tls  tls     tls   tls   who     passed   passed
Forward   chunk        tls  tls     tls   tls   who     passed   passed
Witness   -            tls  tls     tls   tls   who     reply    reply
Present   -            tls  tls     tls   tls   who     reply    reply
Join      -            tls  tls     tls   tls   none    none     none
Renew     -            tls  tls     tls   tls   none    none     none
Vectors   -            tls  tls     tls   tls   who     off      off
"""


def rows() -> dict[tuple[str, str], tuple[str, ...]]:
    """(RPC, frame) → what each of `COLUMNS` gets."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for line in TABLE.splitlines():
        if line and not line.startswith("#"):
            rpc, frame, *cells = line.split()
            assert len(cells) == len(COLUMNS), line
            found[rpc, frame.replace("-", "")] = tuple(cells)
    return found
