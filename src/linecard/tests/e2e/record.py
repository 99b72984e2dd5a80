"""Writes what arrives at an interface to a capture file until it is told to stop: record.py INTERFACE FILE."""
import errno
import select
import socket
import struct
import sys

sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
# SO_RCVBUFFORCE, which Python has no name for.
sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)
sock.bind((sys.argv[1], 0))
print("recording", flush=True)
out = open(sys.argv[2], "wb")
out.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1))
sock.setblocking(False)
done = False
while True:
    ready, _, _ = select.select([sock] if done else [sock, sys.stdin], [], [], 0.1 if done else None)
    if not ready:
        break
    if sys.stdin in ready:
        # What is queued by now is still written.
        done = True
    if sock in ready:
        try:
            frame, address = sock.recvfrom(65536)
        except OSError as error:
            # Told once; what came before is still there.
            if error.errno != errno.ENETDOWN:
                raise
            continue
        # 4 is what this interface's own side sent.
        if address[2] != 4:
            out.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)
out.close()
