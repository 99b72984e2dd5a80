"""Runs a command in a terminal of 80 by 24, waits until a text was drawn, ends it by a key or a signal, and
prints as JSON how it left the terminal.

terminal.py TEXT KEY-OR-SIGNAL COMMAND..."""

import fcntl, json, os, pty, select, signal, struct, sys, termios, time

text, end, command = sys.argv[1].encode(), sys.argv[2], sys.argv[3:]
tty, other = pty.openpty()
fcntl.ioctl(tty, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
before = termios.tcgetattr(other)
pid = os.fork()
if pid == 0:
    os.environ["TERM"] = "xterm-256color"
    os.login_tty(other)
    os.execvp(command[0], command)
drawn = b""
sent = False
deadline = time.monotonic() + 60
ended = None
while time.monotonic() < deadline:
    ready, _, _ = select.select([tty], [], [], 0.1)
    if ready:
        drawn += os.read(tty, 65536)
    elif ended is not None:
        break
    if ended is None:
        gone, status = os.waitpid(pid, os.WNOHANG)
        ended = os.waitstatus_to_exitcode(status) if gone else None
    if text in drawn and not sent:
        sent = True
        if end.startswith("SIG"):
            os.kill(pid, getattr(signal, end))
        else:
            os.write(tty, end.encode())
enter, leave = b"\x1b[?1049h", b"\x1b[?1049l"
print(json.dumps({
    "drawn": sent,
    "status": ended,
    "left": enter in drawn and drawn.rfind(leave) > drawn.rfind(enter),
    "cursor": drawn.rfind(b"\x1b[?25h") > drawn.rfind(b"\x1b[?25l"),
    "modes": termios.tcgetattr(other) == before,
}))
