"""What benches/forward, benches/uring, benches/xdp, benches/turns, benches/idle and benches/flows share.

A contender is run by a function that gives figures by name. Contenders take turns, in an order that is
reversed from round to round, so that a machine that changes its mood is unfair to nobody; a ratio is
taken within a round, and its median over the rounds is what counts.
"""

import argparse
import contextlib
import json
import os
import re
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
QUIET_NS = 110
HUGE = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
TESTPMD_MIB = 256
SPARE_PAGES = 32


class CannotRun(Exception):
    """What is missing here, and what would bring it."""


class Failed(Exception):
    """Something that was started did not do its work."""


def arguments(description, seconds=3.0, rounds=5):
    """The options that all scripts have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--rounds", type=int, default=rounds, metavar="N", help=f"rounds, each with every contender (default {rounds})")
    add("--seconds", type=float, default=seconds, metavar="S", help=f"length of one measurement (default {seconds:g})")
    add("--only", default="", metavar="REGEX", help="only contenders whose 'group: name' matches")
    add("--json", action="store_true", help="one JSON object on standard output, tables on standard error")
    add("--binary", metavar="FILE", help="use this linecard instead of building it")
    add("--patience", type=float, default=20, metavar="S", help="wait so long for a quiet machine (default 20)")
    return parser


def enter_namespace():
    """Runs the script again in a network namespace of its own, which ends with it."""
    if os.environ.get("LINECARD_BENCH_INSIDE"):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    os.environ["LINECARD_BENCH_INSIDE"] = "1"
    for how in (["--net"], ["--user", "--map-root-user", "--net"]):
        if subprocess.run(["unshare", *how, "true"], stderr=subprocess.DEVNULL).returncode == 0:
            os.execvp("unshare", ["unshare", *how, sys.executable, *sys.argv])
    sys.exit("no network namespace can be made here: run this as root, or allow user namespaces "
             "(sysctl kernel.unprivileged_userns_clone=1)")


class Process:
    """A process that we started. It ends with us at the latest."""

    def __init__(self, command, stdin=None):
        words = [str(word) for word in command]
        self.name = next(Path(word).name for word in words if word != "env" and "=" not in word)
        self.out, self.err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
        self.popen = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *words],
                                      stdin=stdin, stdout=self.out, stderr=self.err, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        self.out.close()
        self.err.close()

    def text(self, stream="out"):
        file = getattr(self, stream)
        return os.pread(file.fileno(), 1 << 22, 0).decode(errors="replace")

    def await_text(self, pattern, stream="out", seconds=20, start=0):
        """Waits until the output, from a position on, matches."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text(stream)[start:], re.S)):
            if self.popen.poll() is not None or time.monotonic() > end:
                raise Failed(f"{self.name} did not come to {pattern!r}: {self.last_words()}")
            time.sleep(0.01)
        return found

    def last_words(self):
        lines = (self.text("err") or self.text()).strip().splitlines()
        return " / ".join(lines[-3:]) or "without a word"

    def cpu_ns(self):
        """Processor time of all its threads."""
        tasks = Path(f"/proc/{self.popen.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)

    def finish(self, seconds=20, interrupt=True):
        """Asks it to end and gives the JSON object that it then prints."""
        if interrupt:
            self.popen.send_signal(signal.SIGINT)
        # To the moment, where Popen.wait() looks every 50 ms.
        ended = os.pidfd_open(self.popen.pid)
        try:
            if not select.select([ended], [], [], seconds)[0]:
                raise Failed(f"{self.name} did not end within {seconds} s")
        finally:
            os.close(ended)
        code = self.popen.wait()
        if code != 0:
            raise Failed(f"{self.name} ended with {code}: {self.last_words()}")
        return json.loads(self.text().strip().splitlines()[-1])


class Testpmd(Process):
    """DPDK's testpmd at its prompt, with one forwarding core, bursts of 32 and no PCI device."""

    def __init__(self, bench, vdevs, mode, *options):
        bench.top_up()
        # Into a file it would write by the block.
        super().__init__([
            "stdbuf", "-oL", bench.testpmd(), "--no-pci", "--no-telemetry", *bench.dpdk_memory, "--main-lcore=0",
            f"--lcores=0@{bench.other},1@{bench.worker}", *(f"--vdev={v}" for v in vdevs),
            "--", "-i", f"--forward-mode={mode}", "--burst=32", "--nb-cores=1", "--total-num-mbufs=16384", *options,
        ], stdin=subprocess.PIPE)
        self.ports, self.name = len(vdevs), "dpdk-testpmd"
        self.await_text("testpmd> ")

    def say(self, command, until):
        position = len(self.text())
        print(command, file=self.popen.stdin, flush=True)
        self.await_text(until, start=position)
        return self.text()[position:]

    def start(self, tx_first=0):
        self.say(f"start tx_first {tx_first}" if tx_first else "start", "testpmd> ")

    def rates(self, sent=False):
        """Received (or sent) packets a second since the last call, of all ports, by testpmd's own clock."""
        text = self.say("show port stats all", r"(Tx-pps.*?#{20,}.*?)" * self.ports)
        return sum(map(int, re.findall(rf"{'Tx' if sent else 'Rx'}-pps:\s+(\d+)", text)))

    def stop(self):
        """Received packets in all, and cycles a packet if they were recorded."""
        text = self.say("stop", r"Done\.")
        rx = int(re.search(r"Accumulated.*?RX-packets:\s+(\d+)", text, re.S)[1])
        cycles = re.search(r"cycles/packet=([\d.]+)", text)
        return rx, float(cycles[1]) if cycles else None


class Bench:
    """One run of a script: options, tools, measurements, results."""

    def __init__(self, name, args, command=True):
        """With `command`, the script runs the built linecard."""
        self.name, self.args, self.command = name, args, command
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) < 2:
            sys.exit("this needs two cores: one for the traffic, one for the contender")
        self.other, self.worker = cpus[:2]
        self.results, self.bases, self.left_out, self.quiet, self.failed = {}, {}, {}, [], False
        self.no_hugepages = ["--no-huge", "-m", "256", "--iova-mode=va"]
        self.dpdk_memory = self.no_hugepages
        self.has_dpdk = subprocess.run(["pkg-config", "--atleast-version=22.11", "libdpdk"], capture_output=True).returncode == 0 \
            if shutil.which("pkg-config") else False
        self.exit = contextlib.ExitStack()
        # So that Ctrl-C and SIGTERM pass through every `finally`.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def __enter__(self):
        self.dir = Path(self.exit.enter_context(tempfile.TemporaryDirectory(prefix="linecard-bench-")))
        self.linecard_path = self.args.binary or (build_linecard(self.has_dpdk) if self.command else None)
        self.tsc_hz = self.ping_pong()["tsc_hz"]
        self.wait_for_quiet()
        return self

    def __exit__(self, *exception):
        return self.exit.__exit__(*exception)

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    # --- tools ---------------------------------------------------------------------------------------

    def peer(self, name, libraries=()):
        """Compiles benches/peers/NAME.c, once; `libraries` as pkg-config knows them."""
        program = self.dir / name
        if not program.exists():
            if not shutil.which("cc"):
                raise CannotRun("no C compiler: install gcc")
            source = HERE / "peers" / f"{name}.c"
            command = ["cc", "-O2", "-Wall", "-pthread", "-o", program, source, *self.flags_of(libraries)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise Failed(f"{source.name} does not compile: {done.stderr.strip().splitlines()[0]}")
        return program

    def flags_of(self, libraries):
        if not libraries:
            return []
        if not shutil.which("pkg-config"):
            raise CannotRun("no pkg-config: scripts/setup --bench")
        done = subprocess.run(["pkg-config", "--cflags", "--libs", *libraries], capture_output=True, text=True)
        if done.returncode != 0:
            raise CannotRun(f"{' and '.join(libraries)} are not here: scripts/setup --bench")
        return done.stdout.split()

    def start_peer(self, name, *arguments, libraries=()):
        process = Process([self.peer(name, libraries), *arguments])
        process.await_text("ready")
        return process

    def testpmd(self):
        path = shutil.which("dpdk-testpmd")
        if not path:
            raise CannotRun("dpdk-testpmd is not here: scripts/setup --bench")
        return path

    def linecard(self, *arguments, settle=0.4, hugepages=None):
        """`linecard fwd` on the worker's core, once its ports are open; DPDK's memory as said."""
        pages = [] if hugepages is None else ["env", f"LINECARD_DPDK_PAGES={'huge' if hugepages else 'normal'}"]
        process = Process([*pages, self.linecard_path, "fwd", "--lcores", self.worker, "--stats-interval", "0s", "--json", *arguments])
        try:
            process.await_text("pool size", "err")
            time.sleep(settle)
            if process.popen.poll() is not None and process.popen.returncode != 0:
                raise Failed(f"linecard fwd {' '.join(map(str, arguments))}: {process.last_words()}")
        except BaseException:
            process.__exit__()
            raise
        return process

    def hugepages(self):
        """Has pages for testpmd (Linecard takes some if its pools need them) until the end."""
        try:
            before = (HUGE / "nr_hugepages").read_text()
            (HUGE / "nr_hugepages").write_text(before)
        except OSError:
            self.say("# no hugepages can be reserved: testpmd runs with --no-huge, at about 0.8 of its rate")
            return
        self.exit.callback((HUGE / "nr_hugepages").write_text, before)
        self.dpdk_memory = ["--in-memory", "-m", str(TESTPMD_MIB)]
        self.top_up()

    def top_up(self):
        """Before each testpmd, because others may have taken pages since the last."""
        if "--in-memory" not in self.dpdk_memory:
            return
        free, all_pages = (int((HUGE / f"{name}_hugepages").read_text()) for name in ("free", "nr"))
        missing = max(0, TESTPMD_MIB // 2 + SPARE_PAGES - free)
        (HUGE / "nr_hugepages").write_text(str(all_pages + missing))
        free = int((HUGE / "free_hugepages").read_text())
        if free < TESTPMD_MIB // 2:
            raise CannotRun(f"{TESTPMD_MIB // 2} hugepages of 2 MiB are needed and {free} can be had")

    # --- quietness -----------------------------------------------------------------------------------

    def ping_pong(self):
        run = subprocess.run([self.peer("quiet"), str(self.other), str(self.worker)], capture_output=True, text=True, check=True)
        return json.loads(run.stdout)

    def wait_for_quiet(self):
        end = time.monotonic() + self.args.patience
        while (ns := self.ping_pong()["ns"]) > QUIET_NS and time.monotonic() < end:
            time.sleep(0.5)
        if ns > QUIET_NS:
            self.say(f"# NOT QUIET: {ns:.0f} ns from core to core; below {QUIET_NS} is quiet")
        else:
            self.say(f"# quiet: {ns:.0f} ns from core to core")

    # --- measuring -----------------------------------------------------------------------------------

    def compare(self, group, contenders, bases):
        """Lets contenders (name → function) take turns; `bases` says with whom each is compared."""
        chosen = {n: f for n, f in contenders.items() if re.search(self.args.only, f"{group}: {n}")}
        if not chosen:
            return
        figures = {name: [] for name in chosen}
        for number in range(self.args.rounds):
            order = list(chosen)
            for name in order if number % 2 == 0 else reversed(order):
                if name not in chosen:
                    continue
                self.quiet.append(self.ping_pong()["ns"])
                try:
                    result = chosen[name]()
                except (CannotRun, Failed) as why:
                    self.left_out[f"{group}: {name}"] = str(why)
                    self.failed |= isinstance(why, Failed)
                    self.say(f"# left out, {group}: {name}: {why}")
                    del chosen[name]
                    continue
                figures[name].append(result)
                shown = ", ".join(f"{k} {v:.4g}" for k, v in result.items() if v is not None)
                self.say(f"# {number + 1}/{self.args.rounds} {group}: {name}: {shown} ({self.quiet[-1]:.0f} ns)")
        self.results[group] = {n: f for n, f in figures.items() if n in chosen and f}
        self.bases[group] = bases

    def summary(self):
        """Medians and spans by group, contender and figure, and ratios within rounds."""
        groups = {}
        for group, contenders in self.results.items():
            rows = {name: {key: span([f[key] for f in rounds]) for key in rounds[0]} for name, rounds in contenders.items()}
            ratios = {}
            for name, others in self.bases[group].items():
                for base in others:
                    if name in contenders and base in contenders:
                        pairs = list(zip(contenders[name], contenders[base]))
                        ratios[f"{name} / {base}"] = {
                            key: span([a[key] / b[key] if a[key] is not None and b.get(key) else None for a, b in pairs])
                            for key in contenders[name][0]
                        }
            groups[group] = {"figures": rows, "ratios": ratios}
        return groups

    def finish(self, notes):
        """Prints the results and gives the exit code."""
        groups = self.summary()
        loud = sum(ns > QUIET_NS for ns in self.quiet)
        verdict = "quiet" if loud == 0 else f"NOT QUIET in {loud} of {len(self.quiet)} runs"
        out = sys.stderr if self.args.json else sys.stdout
        print(f"\n{self.name}: {self.args.rounds} rounds of {self.args.seconds:g} s; {verdict}; "
              f"median (minimum–maximum); {describe_machine()}, TSC {self.tsc_hz / 1e9:.3f} GHz", file=out)
        for group, content in groups.items():
            print_table(group, content["figures"], out)
            print_table(f"{group}, ratios", content["ratios"], out)
        for note in notes:
            print(f"note: {note}", file=out)
        for what, why in self.left_out.items():
            print(f"left out: {what}: {why}", file=out)
        if self.args.json:
            print(json.dumps({
                "benchmark": self.name, "machine": describe_machine(), "tsc_hz": self.tsc_hz, "rounds": self.args.rounds,
                "seconds": self.args.seconds, "quiet_ns": self.quiet, "loud_runs": loud, "groups": groups,
                "rounds_by_group": self.results, "left_out": self.left_out, "notes": list(notes),
            }))
        return 1 if self.failed else 0


def build_linecard(dpdk=False):
    """The command, built with optimisations."""
    command = ["cargo", "build", "--release", "-p", "linecard", "--bin", "linecard", "--message-format=json"]
    command += ["--features", "dpdk"] if dpdk else []
    done = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit("linecard does not build")
    built = (json.loads(line).get("executable") for line in done.stdout.splitlines() if '"executable"' in line)
    return [path for path in built if path][-1]


def span(values):
    """Median, minimum, maximum."""
    known = [v for v in values if v is not None]
    if not known:
        return None
    return {"median": statistics.median(known), "min": min(known), "max": max(known)}


def print_table(title, rows, out):
    keys = list(dict.fromkeys(key for row in rows.values() for key, value in row.items() if value))
    if not keys:
        return
    cells = [[title, *keys]]
    for name, row in rows.items():
        cells.append([name, *(show(row.get(key)) for key in keys)])
    widths = [max(map(len, column)) for column in zip(*cells)]
    print(file=out)
    for row in cells:
        print(row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:])), sep="  ", file=out)


def show(value):
    return "–" if value is None else "{} ({}–{})".format(*(short(value[k]) for k in ("median", "min", "max")))


def short(number):
    """Three digits at least."""
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"


def describe_machine():
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    kernel = os.uname().release.split("-")[0]
    return f"{model[1] if model else os.uname().machine}, {os.cpu_count()} cores, Linux {kernel}"


# --- interfaces, in the namespace of enter_namespace() -------------------------------------------------


def command(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotRun(f"{' '.join(words)}: {done.stderr.strip()}")


def ip(*words):
    command("ip", *words)


def silent_up(*names):
    """Switches interfaces on, without an address from which the kernel would send."""
    for name in names:
        ip("link", "set", name, "addrgenmode", "none", "up")


def received(name):
    """Frames that the kernel has received on an interface, or thrown away there."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        if line.strip().startswith(name + ":"):
            return int(line.split(":")[1].split()[1])
    raise Failed(f"there is no interface {name}")
