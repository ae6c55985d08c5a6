"""Calls between nodes: one long-lived bidi `Forward` stream per pair, many calls on it by call id.

    entry node (asking)                       owner (answering)
    Open [Chunk…]            ──>              checked; refused here means: never ran
                             <──  Accepted    it has been taken; left out where the answer is quicker
                             <──  Event…      notifications of the running call
                             <──  Request     the server asks the client … (long ones after their chunks)
    Reply [Chunk…]           ──>              … and is answered
    Cancel                   ──>              the run is cancelled, its end is still reported
                             <──  [Chunk…] Result | Error

A stream may break; a call goes on. The asking side opens another stream and sends `Query`; the owner joins it to
the running call or returns what it kept (`dedupe`). The owner names its process life in the stream's initial
metadata (`greeting`): under another one nobody can say what became of the call. The owner cancels a run that
nobody has claimed for a while, and every run at its deadline.
"""

from federation.answering import ForwardServer
from federation.asking import ForwardClient

__all__ = ["ForwardClient", "ForwardServer"]
