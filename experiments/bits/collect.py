"""results.csv, results.json and accuracy.svg of what run.sh made.

    python3 collect.py OUT FOLDER
"""

import csv
import json
import statistics
import sys
from pathlib import Path

out, folder = Path(sys.argv[1]), Path(sys.argv[2])
rows = []
for path in sorted(out.glob("export-*.json")):
    export = json.loads(path.read_text())
    parts = path.stem.split("-")[1:]
    row = {"widths": parts[0], "method": "progressive", "seed": int(parts[-1]), "epochs": "recipe", "planned": ""}
    if len(parts) == 4:
        name = "-".join(parts[:3])
        planned = json.loads((out / f"{name}.json").read_text())["choice"]["planned"]
        row |= {"method": parts[1], "seed": int(parts[2]), "epochs": parts[3], "planned": planned}
    row |= {key: round(export[key], 2) for key in ["float", "fake_quant", "integer"]}
    rows.append(row)

with open(folder / "results.csv", "w", newline="") as file:
    table = csv.DictWriter(file, rows[0])
    table.writeheader()
    table.writerows(rows)

summary = []
for key in sorted({(r["widths"], r["method"], r["epochs"]) for r in rows}):
    group = [r for r in rows if (r["widths"], r["method"], r["epochs"]) == key]
    lost = [round(r["float"] - r["integer"], 2) for r in group]
    integer = [r["integer"] for r in group]
    summary.append(
        {
            "widths": key[0],
            "method": key[1],
            "epochs": key[2],
            "seeds": len(group),
            "planned": [r["planned"] for r in group],
            "integer_mean": round(statistics.mean(integer), 2),
            "integer": integer,
            "points_lost": lost,
            "points_lost_mean": round(statistics.mean(lost), 2),
        }
    )
(folder / "results.json").write_text(json.dumps(summary, indent=1) + "\n")

# Mean accuracy, one bar a row, the seeds as dots.
colour = {"uniform": "#b0b0b0", "macs": "#e0a030", "hessian": "#3070c0", "progressive": "#409060"}
width, left, line = 760, 230, 22
low = min(min(s["integer"]) for s in summary) // 5 * 5
scale = lambda v: left + (v - low) / (100 - low) * (width - left - 20)
svg = [
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{line * len(summary) + 50}" '
    'font-family="sans-serif" font-size="12">',
    f'<text x="{left}" y="15">integer accuracy, % of 1,000 test images; a dot a seed</text>',
]
for i, s in enumerate(summary):
    y = 25 + i * line
    svg.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{s["widths"]} {s["method"]}, epochs: {s["epochs"]}</text>')
    svg.append(f'<rect x="{left}" y="{y}" width="{scale(s["integer_mean"]) - left:.1f}" height="16" fill="{colour[s["method"]]}"/>')
    svg += [f'<circle cx="{scale(v):.1f}" cy="{y + 8}" r="3"/>' for v in s["integer"]]
    svg.append(f'<text x="{scale(max(s["integer"])) + 6:.1f}" y="{y + 13}">{s["integer_mean"]}</text>')
for v in range(int(low), 101, 10):
    svg.append(f'<text x="{scale(v):.1f}" y="{35 + line * len(summary)}" text-anchor="middle">{v}</text>')
(folder / "accuracy.svg").write_text("\n".join(svg + ["</svg>"]) + "\n")
for s in summary:
    print(s)
