"""What a run's own account must say, given what the cables saw; and the table at the end."""

import json

# Every worker's own count must be a multiple of what one flow sent, or a flow was on several workers.
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


def load(boot, name):
    """A JSON document that the guest left, or None, which is a failed check."""
    try:
        with open(f"{boot.share}/{name}.json") as file:
            document = json.load(file)
    except (OSError, ValueError) as error:
        boot.check(False, f"{name}: a JSON document: {error}")
        return None
    boot.result["reports"][name] = document
    return document


JUDGES = {}


def table(results):
    """One line for each model."""
    rows = [("model", "queues", "a to b", "b to a", "both", "lost", "RSS share", "NICs on nodes", "checks", "seconds")]
    for r in results:
        if r.get("emulator_failed"):
            rows.append((r["model"], "-", "-", "-", "-", "-", "-", "-", "emulator failed", "-"))
            continue
        rate = {}
        lost = 0
        for name, seen in r["traffic"].items():
            lost += sum(d["lost"] for d in seen["directions"].values())
            for index, d in seen["directions"].items():
                if name.startswith("one"):
                    rate.setdefault(name.partition("-")[2], []).append(d["kpps"])
        held = sum(c["held"] for c in r["checks"])
        cell = lambda key: " + ".join(f"{k:.0f}" for k in rate[key]) if key in rate else "-"
        rows.append(
            (
                r["model"],
                " ".join(r["facts"].get("queue_count", ["-"])),
                cell("ab"),
                cell("ba"),
                cell("both"),
                str(lost),
                " ".join(r["facts"].get("queues", ["-"])).strip(),
                " ".join(r["facts"].get("node", ["-"])),
                f"{held} of {len(r['checks'])}",
                str(r["seconds"]),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print("\nRates in kpps, as the cables saw them; \"both\" is both directions at once, with frames of 60 to 1514 bytes.")
