"""Frames into the emulated NICs and out again, over the emulator's datagram sockets.

One datagram is one frame, so this is the cable of each NIC. Every frame is numbered and is expected
back once, unchanged, from the other NIC. A window keeps the number on the way below what the NICs'
rings hold: what is lost was lost by the machine under test, not by a full ring.
"""

import os
import select
import socket
import struct
import time

MAGIC = b"lnlb"
HEADERS = 14 + 20 + 8
# Bytes of a frame without its FCS: the shortest and the longest that Ethernet has, and what is between.
SIZES = (60, 61, 64, 127, 128, 590, 1024, 1513, 1514)


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def addresses(direction, flow):
    """Source and destination address and port: the other direction has them exchanged."""
    # Irregular, so that a hash does not share them out evenly: an even share would prove less.
    left = (bytes([10, 0, flow % 3, 1 + flow * flow % 29]), 10000 + flow * flow * 7 % 4093)
    right = (bytes([10, 0, 100, 1]), 5000)
    return (left, right) if direction == 0 else (right, left)


def build(direction, macs, number, flow, size):
    """A UDP datagram in IPv4 in Ethernet, with right checksums, that says which it is."""
    (source, sport), (target, tport) = addresses(direction, flow)
    payload = MAGIC + struct.pack("!BBHI", direction, 0, flow, number)
    payload += bytes((number + i) & 0xFF for i in range(size - HEADERS - len(payload)))
    length = 8 + len(payload)
    udp = struct.pack("!HHHH", sport, tport, length, 0) + payload
    pseudo = source + target + struct.pack("!BBH", 0, 17, length)
    udp = udp[:6] + struct.pack("!H", checksum(pseudo + udp) or 0xFFFF) + udp[8:]
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + length, number & 0xFFFF, 0, 64, 17, 0, source, target)
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return macs[direction] + bytes([2, 0, 0, 0, 0, direction]) + b"\x08\x00" + header + udp


class Direction:
    """The frames that enter one NIC, and what became of them."""

    def __init__(self, direction, macs, count, flows, mixed):
        self.index = direction
        self.frames = [
            build(direction, macs, n, n % flows, SIZES[n // flows % len(SIZES)] if mixed else SIZES[0])
            for n in range(count)
        ]
        self.seen = bytearray(count)
        self.last = [-1] * flows
        self.sent = self.returned = 0
        self.duplicated = self.changed = self.reordered = 0
        self.began = self.ended = None

    def summary(self):
        seconds = (self.ended or 0) - (self.began or 0)
        return {
            "sent": self.sent,
            "returned": self.returned,
            "lost": self.sent - self.returned,
            # Which, for somebody who looks into it: number and size.
            "lost_frames": [(n, len(self.frames[n])) for n in range(self.sent) if not self.seen[n]][:20],
            "duplicated": self.duplicated,
            "changed": self.changed,
            "reordered": self.reordered,
            "kpps": round(self.returned / seconds / 1000, 1) if seconds > 0 else 0.0,
        }


class Cables:
    """Our ends of the cables of two NICs."""

    def __init__(self, directory, macs):
        self.macs = macs
        self.sockets, self.theirs = [], []
        for i in range(2):
            ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            ours.bind(os.path.join(directory, f"host{i}"))
            ours.setblocking(False)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                ours.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
            self.sockets.append(ours)
            self.theirs.append(os.path.join(directory, f"nic{i}"))

    def close(self):
        for ours in self.sockets:
            ours.close()

    def arguments(self, i):
        """What the emulator is told to be at the other end."""
        ours = self.sockets[i].getsockname()
        return f"dgram,id=net{i},local.type=unix,local.path={self.theirs[i]},remote.type=unix,remote.path={ours}"

    def empty(self):
        """Throws away what a kernel said before the program under test had the NIC."""
        for ours in self.sockets:
            try:
                while True:
                    ours.recv(2048)
            except BlockingIOError:
                pass

    def run(self, directions, count, flows, mixed=False, loop=False, window=96, patience=4.0):
        """Sends `count` frames in each direction, evenly over `flows`, and collects what returns.

        In a `loop` a NIC sends what it received. Stops when all are back, or when nothing has moved for `patience` seconds.
        """
        work = [Direction(d, self.macs, count, flows, mixed) for d in directions]
        by_index = {w.index: w for w in work}
        foreign = 0
        self.empty()
        poller = select.poll()
        for ours in self.sockets:
            poller.register(ours, select.POLLIN)
        moved = time.monotonic()
        for w in work:
            w.began = moved
        while True:
            progress = False
            for w in work:
                ours, nic, frames = self.sockets[w.index], self.theirs[w.index], w.frames
                limit = min(len(frames), w.returned + window)
                try:
                    while w.sent < limit:
                        ours.sendto(frames[w.sent], nic)
                        w.sent += 1
                        progress = True
                except BlockingIOError:
                    pass
            for side, ours in enumerate(self.sockets):
                try:
                    for _ in range(window):
                        data = ours.recv(2048)
                        # What leaves one NIC has entered the other; in a loop, the same.
                        w = by_index.get(side if loop else 1 - side)
                        if data[42:46] != MAGIC or w is None or data[46] != w.index:
                            foreign += 1
                            continue
                        progress = True
                        number = int.from_bytes(data[50:54], "big")
                        if number >= w.sent or data != w.frames[number]:
                            w.changed += 1
                        elif w.seen[number]:
                            w.duplicated += 1
                        else:
                            w.seen[number] = 1
                            w.returned += 1
                            flow = number % flows
                            if number < w.last[flow]:
                                w.reordered += 1
                            w.last[flow] = number
                            if w.returned == len(w.frames):
                                w.ended = time.monotonic()
                except BlockingIOError:
                    pass
            if all(w.ended for w in work):
                # Something that comes twice comes soon.
                time.sleep(0.1)
                break
            now = time.monotonic()
            if progress:
                moved = now
            elif now - moved > patience:
                break
            else:
                poller.poll(20)
        for w in work:
            w.ended = w.ended or moved
        for side, ours in enumerate(self.sockets):
            try:
                while True:
                    data = ours.recv(2048)
                    w = by_index.get(side if loop else 1 - side)
                    if data[42:46] == MAGIC and w is not None:
                        w.duplicated += 1
                    else:
                        foreign += 1
            except BlockingIOError:
                pass
        return {"flows": flows, "foreign": foreign, "directions": {w.index: w.summary() for w in work}}
