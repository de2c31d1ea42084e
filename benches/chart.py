#!/usr/bin/env python3
"""Draws docs/performance.svg from the JSON of `cargo bench --bench throughput`, or prints its tables.

    benches/chart.py [--table] [target/bench/throughput.json]

Needs Python 3 and nothing else.
"""
import json
import sys
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
COLOURS = {
    "nginx": ("#2e7d32", "#81c784"),
    "haproxy": ("#1565c0", "#64b5f6"),
    "stayput": ("#c62828", "#ef9a9a"),
    "nginx-tuned": ("#558b2f", "#aed581"),
    "haproxy-tuned": ("#00838f", "#80deea"),
}


def balancers(scenario):
    return [row for row in scenario["rows"] if row["name"] in COLOURS]


def budget(scenario):
    if scenario["ratio"] is None:
        return ""
    aim = f", aim {scenario['aim']}" if scenario["aim"] else ""
    return f"{scenario['ratio']:.2f} x {scenario['against']} (must <= {scenario['must']}{aim})"


def tables(report):
    for scenario in report["scenarios"]:
        print(f"\n**{scenario['name']}**: {scenario['about']}. {budget(scenario)}\n")
        print("| balancer | CPU us (user + system) | lowest..highest | requests/s | p50 | p99 | p99.9 us |")
        print("| --- | --: | --: | --: | --: | --: | --: |")
        for row in balancers(scenario):
            median = row["median"]
            costs = [run["cpu_us_per_request"] for run in row["runs"]]
            print(
                f"| {row['name']} | {median['cpu_us_per_request']:.1f}"
                f" ({median['user_us_per_request']:.1f} + {median['system_us_per_request']:.1f})"
                f" | {min(costs):.1f}..{max(costs):.1f} | {median['requests_per_second']:,.0f}"
                f" | {median['p50_us']:,.0f} | {median['p99_us']:,.0f} | {median['p999_us']:,.0f} |"
            )
        for row in balancers(scenario):
            shaken = row["handshakes"]
            if shaken["made"]:
                resumed, tickets = (shaken[what] / shaken["made"] for what in ("resumed", "tickets"))
                print(f"\n{row['name']}: {resumed:.0%} of handshakes resumed, {tickets:.0f} tickets each.")
    if report["idle"]:
        print("\n| idle connections | | balancer | KiB each | KiB without |\n| --: | --- | --- | --: | --: |")
        for row in report["idle"]:
            print(f"| {row['connections']:,} | {row['scenario']} | {row['name']} | {row['kib_each']:.2f} | {row['base_kib']:,} |")
    if report["system_calls"]:
        print("\n| balancer | system calls a request | of them |\n| --- | --: | --- |")
        for row in report["system_calls"]:
            calls = ", ".join(f"{name} {share:.2f}" for name, share in row["a_request"])
            print(f"| {row['name']} | {sum(share for _, share in row['a_request']):.2f} | {calls} |")
    if report["dying_target"]:
        print("\n| balancer | errors in the second after | p99 us before | after |\n| --- | --: | --: | --: |")
        for row in report["dying_target"]:
            print(f"| {row['name']} | {row['errors']} | {row['p99_us_before']:,.0f} | {row['p99_us_after']:,.0f} |")


def chart(report):
    """Bars of each scenario against its dearest: user time dark, system time light."""
    bar, gap, left, width = 16, 30, 130, 560
    lines, y = [], 60
    for scenario in report["scenarios"]:
        rows = balancers(scenario)
        most = max(row["median"]["cpu_us_per_request"] for row in rows)
        lines.append(f'<text x="10" y="{y}" class="name">{escape(scenario["name"])}</text>')
        lines.append(f'<text x="{left}" y="{y}" class="note">{escape(budget(scenario))}</text>')
        y += 8
        for row in rows:
            median, (dark, light) = row["median"], COLOURS[row["name"]]
            user = width * median["user_us_per_request"] / most
            system = width * median["system_us_per_request"] / most
            lines.append(f'<text x="{left - 6}" y="{y + 12}" class="row">{row["name"]}</text>')
            lines.append(f'<rect x="{left}" y="{y}" width="{user:.1f}" height="{bar - 3}" fill="{dark}"/>')
            lines.append(
                f'<rect x="{left + user:.1f}" y="{y}" width="{system:.1f}" height="{bar - 3}" fill="{light}"/>'
            )
            cost = f'{median["cpu_us_per_request"]:.1f} us'
            lines.append(f'<text x="{left + user + system + 6:.1f}" y="{y + 12}" class="cost">{cost}</text>')
            y += bar
        y += gap
    style = (
        "text{font:12px sans-serif;fill:#222}.name{font-weight:bold}.row{text-anchor:end}.note{fill:#555}"
        ".title{font-size:15px;font-weight:bold}"
    )
    title = "CPU microseconds a request: user (dark) and system (light)"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="780" height="{y}" viewBox="0 0 780 {y}">'
        f"<style>{style}</style><rect width=\"780\" height=\"{y}\" fill=\"#fff\"/>"
        f'<text x="10" y="28" class="title">{title}</text>\n' + "\n".join(lines) + "\n</svg>\n"
    )


def main():
    words = [word for word in sys.argv[1:] if word != "--table"]
    report = json.loads(Path(words[0] if words else HERE / "target/bench/throughput.json").read_text())
    if "--table" in sys.argv:
        tables(report)
    else:
        (HERE / "docs/performance.svg").write_text(chart(report))


if __name__ == "__main__":
    main()
