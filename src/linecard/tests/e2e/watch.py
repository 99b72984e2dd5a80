# Prints the frames of one ethertype that arrive at cable0, in hexadecimal: watch.py COUNT ETHERTYPE
import socket, struct, sys

SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING, SO_RCVBUFFORCE = 263, 8, 23, 33
VLAN_VALID, TPID_VALID = 0x10, 0x40

count, wanted = int(sys.argv[1]), int(sys.argv[2])
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
s.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
s.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
try:
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
except PermissionError:
    pass  # In a user namespace.
s.bind(("cable0", 3))  # ETH_P_ALL
print("watching", file=sys.stderr, flush=True)
while count > 0:
    frame, control, _, _ = s.recvmsg(65536, 64)
    for level, kind, data in control:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", data)
            if status & VLAN_VALID:
                # The kernel has taken the tag out.
                tag = struct.pack("!HH", tpid if status & TPID_VALID else 0x8100, tci)
                frame = frame[:12] + tag + frame[12:]
    if int.from_bytes(frame[12:14], "big") == wanted:
        print(frame.hex())
        count -= 1
