"""What Linecard's own reports must say, given what the cables saw; and the table at the end."""

import json

from traffic import addresses

# As in the `wire` crate: the symmetric key, and how a hash becomes a queue.
KEY = bytes([0x6D, 0x5A]) * 20
RETA = 128


def toeplitz(data):
    """The hash of Microsoft's RSS specification, under the symmetric key."""
    key = int.from_bytes(KEY, "big")
    result = 0
    for i in range(len(data) * 8):
        if data[i // 8] >> (7 - i % 8) & 1:
            result ^= key >> (len(KEY) * 8 - 32 - i) & 0xFFFFFFFF
    return result


def predicted(direction, flows, of_each, queues, with_ports):
    """Frames that each queue of the NIC receives."""
    result = [0] * queues
    for flow in range(flows):
        (source, sport), (target, tport) = addresses(direction, flow)
        data = source + target
        if with_ports:
            data += sport.to_bytes(2, "big") + tport.to_bytes(2, "big")
        result[toeplitz(data) % RETA % queues] += of_each
    return result


def load(boot, name):
    """A JSON document that the guest left, or None, which is a failed check."""
    try:
        with open(f"{boot.share}/{name}.json") as file:
            document = json.load(file)
    except (OSError, ValueError) as error:
        boot.check(False, f"{name}: it reports as JSON: {error}")
        return None
    boot.result["reports"][name] = document
    return document


def entries(document, address):
    """Every object in a document that has an address as one of its values."""
    if isinstance(document, dict):
        if address in document.values():
            yield document
        for value in document.values():
            yield from entries(value, address)
    elif isinstance(document, list):
        for value in document:
            yield from entries(value, address)


def judge_ports(boot, name, driver, *nics):
    """`linecard ports` must list each NIC, with its node and with who drives it."""
    document = load(boot, name)
    if document is None:
        return
    for nic in nics:
        address, _, node = nic.partition("=")
        found = list(entries(document, address))
        if not found:
            boot.check(False, f"{name}: lists {address}")
            continue
        # Where it is listed twice, as an interface and as a device, both must be right.
        nodes = {e["node"] for e in found if "node" in e}
        drivers = {e[k] for e in found for k in ("driver", "kernel_driver") if isinstance(e.get(k), str)}
        # A virtio device has two: one for the PCI function, one for what is behind it.
        right = {driver} | ({"virtio_net"} if driver == "virtio-pci" else set())
        good = nodes == {int(node)} and drivers and drivers <= right
        boot.check(good, f"{name}: lists {address} on node {sorted(map(str, nodes))} (it is {node}), with {sorted(drivers)} (it is {driver})")


def judge_fwd(boot, name, traffic, kind="plain", value="0"):
    """A forwarder's report against the cables: every frame in one count, and the same count."""
    report = load(boot, name)
    if report is None:
        return
    sent, returned, loop = [0, 0], [0, 0], kind == "on-node"
    for part in traffic.split(","):
        seen = boot.result["traffic"][part]
        for index, d in seen["directions"].items():
            sent[index] += d["sent"]
            returned[index if loop else 1 - index] += d["returned"] + d["duplicated"] + d["changed"]
    expected = [1] if loop else [0, 1]
    ports, workers, account = report["ports"], report["workers"], report["account"]
    for port, side in zip(ports, expected):
        says = (port["rx"], port["rx_misses"] + port["rx_errors"], sum(port["drops"].values()), port["tx"])
        boot.check(
            len(ports) == len(expected) and says == (sent[side], 0, 0, returned[side]),
            f"{name}: {port['name']} received {says[0]}, missed {says[1]}, dropped {says[2]}, sent {says[3]};"
            f" its cable carried {sent[side]} in and {returned[side]} out",
        )
    total = sum(sent)
    by_worker = [w["rx"] for w in workers]
    boot.check(
        account["rx"] == sum(by_worker) == total
        and account["tx"] == sum(returned)
        and account["drops"] == account["in_flight"] == account["unaccounted"] == 0
        and all(p["leaked"] == 0 for p in report["pools"])
        and all(w["failure"] is None for w in workers),
        f"{name}: its account: received {account['rx']}, sent {account['tx']}, dropped {account['drops']},"
        f" unaccounted {account['unaccounted']}, leaked {sum(p['leaked'] for p in report['pools'])}",
    )
    if kind == "rss":
        judge_rss(boot, name, boot.result["traffic"][traffic], workers, int(value))
    if kind in ("on-node", "on-nodes"):
        # Workers and memory are where the NICs are, and nowhere else.
        have = [sorted({x["node"] for x in report[what]}) for what in ("workers", "pools")]
        want = sorted({int(node) for node in value.split(",")})
        boot.check(have == [want, want], f"{name}: workers on nodes {have[0]}, pools on {have[1]}; the NICs are on {want}")


def judge_rss(boot, name, seen, workers, of_each):
    """Each worker of a node has had whole flows of the NIC there, and those that the hash gives its queue.

    The two NICs carry the same flows with their ends exchanged, so what is equal on both is symmetric too.
    """
    nodes = sorted({w["node"] for w in workers})
    by_node = [[w["rx"] for w in workers if w["node"] == node] for node in nodes]
    shares = "; ".join(" ".join(f"{n / max(1, sum(counts)):.0%}" for n in counts) for counts in by_node)
    boot.result["facts"].setdefault("share", []).append(shares)
    boot.check(all(n > 0 for counts in by_node for n in counts), f"{name}: every worker had a share: {shares}")
    boot.check(
        all(n % of_each == 0 for counts in by_node for n in counts),
        f"{name}: of whole flows: {[[round(n / of_each, 2) for n in counts] for counts in by_node]} of {of_each} frames each",
    )
    ways = {}
    for with_ports, way in ((True, "addresses and ports"), (False, "addresses")):
        ways[way] = [predicted(d, seen["flows"], of_each, len(by_node[0]), with_ports) for d in (0, 1)]
    by = [way for way, counts in ways.items() if counts == by_node]
    boot.check(by, f"{name}: as the symmetric hash of {by[0]} says" if by else f"{name}: as the symmetric hash says: {by_node}, not {ways}")


JUDGES = {"ports": judge_ports, "fwd": judge_fwd}


def table(results):
    """One line for each model."""
    rows = [("model", "a to b", "b to a", "both", "lost", "share of queues", "NIC nodes", "checks", "seconds")]
    for r in results:
        if r.get("emulator_failed"):
            rows.append((r["model"], "-", "-", "-", "-", "-", "-", "emulator failed", "-"))
            continue
        rate = {}
        lost = 0
        for name, seen in r["traffic"].items():
            lost += sum(d["lost"] for d in seen["directions"].values())
            for d in seen["directions"].values():
                if name.startswith("one-"):
                    rate.setdefault(name[4:], []).append(d["kpps"])
        held = sum(c["held"] for c in r["checks"])

        def cell(key):
            return " + ".join(f"{k:.0f}" for k in rate[key]) if key in rate else "-"

        rows.append(
            (
                r["model"],
                cell("ab"),
                cell("ba"),
                cell("both"),
                str(lost),
                " ".join(r["facts"].get("share", ["-"])),
                " ".join(r["facts"].get("node", ["-"])),
                f"{held} of {len(r['checks'])}" + (" FAILED" if held < len(r["checks"]) else ""),
                str(r["seconds"]),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print('\nkpps as the cables saw them, with one worker, in frames of 64 bytes; "both": both ways at once, 64 to 1518 bytes.')
