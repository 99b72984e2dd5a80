"""Boots the emulated machine for each model, is the other end of its cables, and judges the accounts."""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import judge
from traffic import Cables

GUEST = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "guest")

# By model: the kernel's driver for it, and its options beside the usual ones.
MODELS = {
    "igb": ("igb", "igb", ""),
    "e1000e": ("e1000e", "e1000e", ""),
    "vmxnet3": ("vmxnet3", "vmxnet3", ""),
    # Behind an IOMMU only as a device of version 1 that lets itself be translated.
    "virtio-net": ("virtio_net", "virtio-net-pci", ",disable-legacy=on,iommu_platform=on,ats=on"),
}

# The emulator leaves with twice the guest's verdict, which starts at 32, and one; so what is below 65
# or even is its own. It dies now and then of an assertion of its own, or its guest loses a timer and
# stands still: both are tried again, and nothing else is.
TRIES = 3

# A run's directory; the number of its process follows.
PREFIX = "linecard-lab."


class EmulatorFailed(Exception):
    """The emulator did not bring the guest to a verdict."""


class Console:
    """Progress, on standard error; each line with its time since the boot."""

    def __init__(self):
        self.began = time.monotonic()

    def line(self, text):
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", file=sys.stderr, flush=True)


def machine_arguments(options, model, run, cables, macs):
    """The emulated machine: two NUMA nodes with two processors each, an IOMMU, and a NIC on each node."""
    _, device, extra = MODELS[model]
    driver = MODELS[model][0]
    check = "testpmd" if options.program == "testpmd" else "linecard"
    words = " ".join(
        [
            # Without the high-resolution timers and the tickless idle, which the emulation serves badly.
            "console=ttyS0 quiet panic=-1 mitigations=off nohz=off highres=off intel_iommu=on iommu=pt",
            f"hugepages={options.hugepages} lab.check=check-{check} lab.driver={driver}",
            f"lab.limit={options.limit} lab.args={model},{options.packets}{',uring' if options.program == 'uring' else ''}",
        ]
    )
    args = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    args += ["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1536"]
    args += ["-smp", "4,sockets=2,cores=2", "-device", "intel-iommu,intremap=on,caching-mode=on"]
    for node in range(2):
        args += ["-object", f"memory-backend-ram,id=mem{node},size=768M"]
        args += ["-numa", f"node,nodeid={node},cpus={2 * node}-{2 * node + 1},memdev=mem{node}"]
    args += ["-kernel", f"{options.machine}/vmlinux", "-initrd", f"{options.machine}/initramfs.cpio"]
    args += ["-append", words]
    args += ["-chardev", f"file,id=console,path={run}/console.log", "-serial", "chardev:console"]
    args += ["-chardev", f"socket,id=talk,path={run}/talk", "-serial", "chardev:talk"]
    args += ["-device", "isa-debug-exit,iobase=0x501,iosize=1", "-monitor", "none"]
    for tag, path, how, slot in (("host", "/", ",readonly=on,multidevs=remap", "1e.0"), ("share", f"{run}/share", "", "1d.0")):
        args += ["-fsdev", f"local,id={tag},path={path},security_model=none{how}"]
        args += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag},addr={slot}"]
    for i in range(2):
        # Each NIC behind a host bridge of its own, for those belong to a node.
        args += ["-device", f"pxb-pcie,id=node{i},bus_nr={64 * (i + 1)},numa_node={i},bus=pcie.0,addr=0{6 + i}.0"]
        args += ["-device", f"pcie-root-port,id=slot{i},chassis={i + 1},bus=node{i}"]
        mac = ":".join(f"{byte:02x}" for byte in macs[i])
        args += ["-netdev", cables.arguments(i)]
        args += ["-device", f"{device},netdev=net{i},mac={mac},bus=slot{i},romfile={extra}"]
    return args


class Boot:
    """One boot of the machine, with one model."""

    def __init__(self, options, model, console):
        self.options, self.model, self.console = options, model, console
        self.macs = [bytes([0x52, 0x54, 0, 0, 0, i + 1]) for i in range(2)]
        # Short: the path of a socket has about a hundred bytes.
        self.run = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}.")
        self.share = f"{self.run}/share"
        self.result = {"model": model, "checks": [], "notes": [], "facts": {}, "traffic": {}, "reports": {}}
        self.process = None
        self.cables = None

    def check(self, good, text):
        self.result["checks"].append({"held": bool(good), "what": text})
        self.console.line(f"{'ok  ' if good else 'FAIL'}  {text}")

    def start(self):
        os.mkdir(self.share)
        shutil.copytree(GUEST, f"{self.share}/guest")
        if self.options.binary:
            shutil.copy2(self.options.binary, f"{self.share}/linecard")
        self.cables = Cables(self.run, self.macs)
        self.talk = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.talk.bind(f"{self.run}/talk")
        self.talk.listen(1)
        args = machine_arguments(self.options, self.model, self.run, self.cables, self.macs)
        # Gone with this program, even if it is killed; and a Ctrl-C is for this program to handle.
        with open(f"{self.run}/emulator.log", "w") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *args],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def converse(self):
        """Does what the guest's check asks for, until it ends or the time is up."""
        deadline = time.monotonic() + self.options.limit + self.options.boot_limit
        self.talk.settimeout(1)
        line = None
        while line is None:
            try:
                line, _ = self.talk.accept()
            except socket.timeout:
                if self.process.poll() is not None:
                    return
        line.settimeout(1)
        pending = b""
        while time.monotonic() < deadline:
            try:
                data = line.recv(4096)
            except socket.timeout:
                continue
            except ConnectionError:
                break
            if not data:
                break
            *complete, pending = (pending + data).split(b"\n")
            for text in complete:
                answer = self.handle(text.decode(errors="replace").strip())
                if answer is not None:
                    line.sendall(answer.encode() + b"\n")
        line.close()

    def handle(self, text):
        word, _, rest = text.partition(" ")
        if word == "ok":
            self.check(True, rest)
        elif word == "fail":
            self.check(False, rest)
        elif word == "note":
            self.result["notes"].append(rest)
            self.console.line(f"      {rest}")
        elif word == "fact":
            key, _, value = rest.partition(" ")
            self.result["facts"].setdefault(key, []).append(value)
        elif word == "traffic":
            return self.traffic(*rest.split())
        elif word == "judge":
            kind, name, *more = rest.split()
            judge.JUDGES[kind](self, name, *more)
            return "done"
        elif word:
            self.console.line(f"      {text}")
        return None

    def traffic(self, name, way, count, flows, kind=""):
        directions = [0, 1] if way == "both" else [int(way)]
        seen = self.cables.run(directions, int(count), int(flows), kind == "mixed", kind == "loop")
        self.result["traffic"][name] = seen
        for index, d in seen["directions"].items():
            exact = d["sent"] == d["returned"] == int(count)
            exact = exact and not (d["duplicated"] or d["changed"] or d["reordered"] or seen["foreign"])
            text = f"{name}: {way_name(index, kind)}, {d['sent']} frames of {seen['flows']} flows"
            if exact:
                self.check(True, f"{text}, each back once, unchanged, in order: {d['kpps']} kpps")
            else:
                wrong = {k: d[k] for k in ("lost", "duplicated", "changed", "reordered") if d[k]}
                if seen["foreign"]:
                    wrong["foreign"] = seen["foreign"]
                self.check(False, f"{text}: {wrong}")
                if d["lost_frames"]:
                    self.console.line(f"      lost: number and size {d['lost_frames']}")
        lost = sum(d["lost"] for d in seen["directions"].values())
        return f"{'whole' if lost == 0 else 'lost'}"

    def verdict(self):
        """The guest's verdict, by the emulator's exit code."""
        try:
            code = self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            raise EmulatorFailed("the guest stands still") from None
        if code >= 65 and code % 2 == 1:
            return (code >> 1) - 32
        if code in (-signal.SIGABRT, 128 + signal.SIGABRT):
            raise EmulatorFailed("the emulator gave up with an assertion of its own")
        with open(f"{self.run}/emulator.log") as log:
            why = log.read().strip()[-2000:]
        raise SystemExit(f"lab: the emulator ended with {code}: {why}")

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.cables is not None:
            self.cables.close()

    def clean(self):
        self.stop()
        if self.options.keep:
            open(f"{self.run}/kept", "w").close()
            self.console.line(f"kept: {self.run} (console.log, share/)")
        else:
            shutil.rmtree(self.run, ignore_errors=True)


def sweep():
    """Removes the directories of labs that were killed before they could; what was to be kept stays."""
    for name in os.listdir(tempfile.gettempdir()):
        path = os.path.join(tempfile.gettempdir(), name)
        if name.startswith(PREFIX) and not os.path.exists(f"{path}/kept"):
            if not os.path.exists(f"/proc/{name[len(PREFIX):].partition('.')[0]}"):
                shutil.rmtree(path, ignore_errors=True)


def way_name(index, kind):
    here, there = "ab"[index], "ba"[index]
    return f"{here} to {here if kind == 'loop' else there}"


def console_tail(run):
    try:
        with open(f"{run}/console.log", errors="replace") as log:
            return [line.rstrip() for line in log.readlines()[-15:]]
    except OSError:
        return []


def run_model(options, model, console):
    """One model, with another try where the emulator itself failed."""
    for attempt in range(1, TRIES + 1):
        boot = Boot(options, model, console)
        console.began = time.monotonic()
        console.line(f"{model}: booting" + (f", try {attempt}" if attempt > 1 else ""))
        try:
            boot.start()
            boot.converse()
            verdict = boot.verdict()
            if verdict == 62:
                boot.check(False, f"the check ends within {options.limit} s")
            elif verdict != 0:
                boot.check(False, f"the check in the guest ends with 0, not with {verdict}")
            if any(not c["held"] for c in boot.result["checks"]) and verdict:
                for line in console_tail(boot.run):
                    console.line(f"      {line}")
            boot.result["seconds"] = round(time.monotonic() - console.began, 1)
            boot.result["tries"] = attempt
            return boot.result
        except EmulatorFailed as failure:
            console.line(f"{model}: {failure}")
            for line in console_tail(boot.run)[-4:]:
                console.line(f"      {line}")
        finally:
            boot.clean()
    return {"model": model, "checks": [], "notes": [], "facts": {}, "traffic": {}, "reports": {}, "tries": TRIES, "emulator_failed": True}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+", choices=MODELS)
    parser.add_argument("--program", required=True)
    parser.add_argument("--machine", required=True)
    parser.add_argument("--binary")
    parser.add_argument("--packets", type=int, default=20000)
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--boot-limit", type=int, default=45)
    parser.add_argument("--hugepages", type=int, default=256)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    # Ended as by Ctrl-C: the finally clauses clean up.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    sweep()
    console = Console()
    results = []
    try:
        for model in options.models:
            results.append(run_model(options, model, console))
    except KeyboardInterrupt:
        print("lab: interrupted; the emulator is ended and nothing is left", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps({"program": options.program, "packets": options.packets, "models": results}, indent=1))
    else:
        judge.table(results)
    failed = sum(not c["held"] for r in results for c in r["checks"])
    if failed:
        print(f"lab: {failed} of the checks above failed", file=sys.stderr)
        return 1
    if any(r.get("emulator_failed") for r in results):
        print("lab: the emulator itself failed each time; nothing is known about that model", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
