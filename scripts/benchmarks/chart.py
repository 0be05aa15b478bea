"""A chart as SVG text: lines over a logarithmic scale, from zero up."""

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 60, 150, 20, 50
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


def lines(places, values, across, up):
    """`values`: for each line, by its name, a number for each of the places, which are at equal distances."""
    highest = max(max(line) for line in values.values()) * 1.15
    step = (WIDTH - LEFT - RIGHT) / max(1, len(places) - 1)

    def x(index):
        return LEFT + index * step

    def y(value):
        return HEIGHT - BOTTOM - value / highest * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for tick in ticks(highest):
        parts.append(f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for index, place in enumerate(places):
        parts.append(f'<text x="{x(index):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{place:,}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{across}</text>')
    parts.append(f'<text x="8" y="14">{up}</text>')
    for colour, (name, line) in zip(COLOURS, values.items()):
        points = " ".join(f"{x(index):.1f},{y(value):.1f}" for index, value in enumerate(line))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{y(line[-1]) + 4:.1f}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def ticks(highest):
    """Round numbers from zero to the highest, about five of them."""
    size = next(size for power in range(-9, 10) for size in (10**power, 2 * 10**power, 5 * 10**power) if highest / size <= 6)
    return [round(number * size, 9) for number in range(int(highest / size) + 1)]
