"""A measurement as people read it."""

SCALES = {
    "s": [(1, "s"), (1e-3, "ms"), (1e-6, "µs")],
    "B": [(2**20, "MB"), (2**10, "KB"), (1, "B")],
    "B/s": [(1e6, "MB/s"), (1e3, "kB/s")],
    "×": [(1, "×")],
    "instructions": [(1, "instructions")],
}


def table(measurement, result):
    """Lines: a table of the variants, fastest first, then the goals."""
    rows = [["", "median", "min … max", "processor", *(["a piece"] if measurement.pieces else [])]]
    for name, sample in sorted(result["variants"].items(), key=lambda item: item[1]["median"]):
        row = [
            name,
            quantity(sample["median"], measurement.unit),
            f"{quantity(sample['min'], measurement.unit)} … {quantity(sample['max'], measurement.unit)}",
            quantity(sample["cpu_seconds"], "s"),
        ]
        if measurement.pieces:
            row.append(quantity(sample["median"] / measurement.pieces, measurement.unit))
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  " + "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
    for goal in result["goals"]:
        verdict = "met" if goal["met"] else "MISSED"
        if goal["against"]:
            reached, limit = f"{goal['ratio']:.2f} × {goal['against']}", goal["limit"]
        else:
            reached, limit = (quantity(goal[what], measurement.unit) for what in ("ratio", "limit"))
        yield f"  {goal['of']}: {reached}; goal ≤ {limit}: {verdict}"


def quantity(value, unit):
    """A number with three digits that count, in a unit of fitting size."""
    for scale, word in SCALES[unit]:
        if abs(value) >= scale:
            break
    number = value / scale
    return f"{number:,.0f} {word}" if abs(number) >= 1000 else f"{number:.3g} {word}"
