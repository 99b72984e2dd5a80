"""What benches/uring and benches/xdp share: cables, the source, and how a contender is measured on them."""

import time

from lib import Bench, Failed, Testpmd, ip, received, silent_up

FRAME = 60  # without FCS
SETTLE_S = 0.3


class Veth(Bench):
    def cable(self, near, far, *, live=False):
        """A veth pair; `live`: what comes over it to `far` may come from the XDP source."""
        ip("link", "add", near, "type", "veth", "peer", "name", far)
        silent_up(near, far)
        if live and self.has_xdp():
            self.exit.enter_context(self.start_peer("xdp", "pass", far, self.other))

    def has_xdp(self):
        """Whether programs may be loaded here; decides about the source, once."""
        if not hasattr(self, "xdp"):
            try:
                ip("link", "add", "try", "type", "veth", "peer", "name", "try-peer")
                silent_up("try", "try-peer")
                with self.start_peer("xdp", "pass", "try-peer", self.other):
                    with self.start_peer("xdp", "send", "try", self.other, 0.01, FRAME) as source:
                        source.finish(interrupt=False)
                self.xdp = received("try-peer") > 0
            except Failed as why:
                self.say(f"# the source is sendmmsg and may be the bottleneck: {why}")
                self.xdp = False
        return self.xdp

    def source(self, interface, seconds):
        """Starts it; it ends after a while."""
        if self.has_xdp():
            return self.start_peer("xdp", "send", interface, self.other, seconds, FRAME)
        return self.start_peer("send", "mmsg", interface, self.other, FRAME)

    def cycles_ns(self, cycles):
        return cycles and cycles * 1e9 / self.tsc_hz

    # --- contenders, started ----------------------------------------------------------------------------

    def ours(self, mode, *ports, idle=None):
        args = self.args
        return self.linecard(*(w for p in ports for w in ("--port", p)), "--mode", mode,
                             "--idle", idle or args.idle, "--burst", args.burst)

    def af_packet(self, mode, *interfaces):
        vdevs = [f"net_af_packet{i},iface={name},blocksz=65536,framesz=2048,framecnt=4096,qdisc_bypass=1"
                 for i, name in enumerate(interfaces)]
        pmd = Testpmd(self, vdevs, mode, f"--txpkts={FRAME}", "--record-core-cycles", f"--burst={self.args.burst}")
        pmd.start()
        return pmd

    def peer_idle(self):
        return "spin" if self.args.idle == "spin" else "wait"

    # --- measured ----------------------------------------------------------------------------------------

    def receive(self, receiver):
        """Runs the source as long as the measurement lasts; a receiver gives its count at the end."""
        with receiver as process:
            reached, cpu = received("rx-port"), process.cpu_ns()
            with self.source("rx-wire", self.args.seconds) as source:
                start = time.monotonic()
                if not self.has_xdp():
                    time.sleep(self.args.seconds)
                sent = source.finish(self.args.seconds + 30, interrupt=not self.has_xdp())
                seconds = sent.get("seconds", time.monotonic() - start)
            cpu = process.cpu_ns() - cpu
            reached = received("rx-port") - reached
            time.sleep(SETTLE_S)
            if isinstance(process, Testpmd):
                rx, cycles = process.stop()
            else:
                report = process.finish()
                rx = report["rx"] if "rx" in report else report["account"]["rx"]
                cycles = report["workers"][0]["cycles_per_packet"] if "workers" in report else report["cycles_per_packet"]
        if rx == 0:
            raise Failed(f"{process.name} received nothing")
        return {"Mpps": rx / seconds / 1e6, "CPU ns": cpu / rx, "busy ns": self.cycles_ns(cycles), "taken": rx / reached}

    def send(self, sender, counter):
        with sender as process:
            time.sleep(SETTLE_S)
            return self.window(process, counter)

    def window(self, process, counter):
        """Frames by the kernel's count and processor time, between two moments."""
        start, frames, cpu = time.monotonic(), received(counter), process.cpu_ns()
        time.sleep(self.args.seconds)
        seconds, frames, cpu = time.monotonic() - start, received(counter) - frames, process.cpu_ns() - cpu
        if isinstance(process, Testpmd):
            process.stop()
        else:
            process.finish()
        if frames == 0:
            raise Failed(f"{process.name}: nothing arrived at {counter}")
        return {"Mpps": frames / seconds / 1e6, "CPU ns": cpu / frames}

    def pass_on(self, forwarder):
        with forwarder as process, self.source("in-wire", self.args.seconds + 2 * SETTLE_S):
            time.sleep(SETTLE_S)
            return self.window(process, "out-sink")
