"""What the doctor's jobs tell of the network: ports, MPI, and how fast each pair of nodes is."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Any, NamedTuple

from hpctf.admin.doctor.jobs import Outcome, Request
from hpctf.admin.doctor.report import Check, Report, failed, ok, skipped
from hpctf.site.model import MpiSettings, PortRange

SAMPLES = 8
"""Ports of the site's range that are tried."""
OTHERS = ((20000, 29999), (10000, 19999), (30000, 32767), (33000, 39999), (40000, 49999))
"""Ranges that are tried besides, the best first: those above 32768 are Linux's ephemeral ports."""
SAMPLES_OF_OTHERS = 4
SLOW = 3.0
"""A node is slow if even its fastest link is so many times worse than the median node's."""
SLOW_LATENCY_S = 100e-6
"""Latencies that differ by less are noise of machines that do something else as well."""


def samples(first: int, last: int, count: int) -> list[int]:
    """Return `count` ports spread over a range, both ends included."""
    step = (last - first) / (count - 1)
    return sorted({first + round(step * number) for number in range(count)})


def ports_to_try(ports: PortRange) -> tuple[int, ...]:
    """Return the ports of the site's range that are tried, and those of other ranges."""
    tried = samples(ports.first, ports.last, SAMPLES)
    for first, last in OTHERS:
        tried += samples(first, last, SAMPLES_OF_OTHERS)
    return tuple(sorted(set(tried)))


def judge_ports(report: Report, request: Request, outcomes: Iterable[Outcome]) -> None:
    """Say whether nodes reach each other on the site's ports, and on which else if not."""
    name, ports = "ports", request.site.ports
    links = [
        (str(one["host"]), link)
        for outcome in outcomes
        for one in outcome.facts
        for link in one.get("links", ())
    ]
    if not links:
        report.add(skipped(name, "no two nodes have met"))
        return
    inside = range(ports.first, ports.last + 1)
    blocked = [
        (f"{host} → {link['to']}:{port}", why)
        for host, link in links
        for port, why in link["blocked"].items()
        if int(port) in inside
    ]
    if not blocked:
        tried = {port for _, link in links for port in link["open"] if port in inside}
        span = f"{ports.first}-{ports.last}"
        report.add(ok(name, f"{span}: {len(tried)} of them tried between all nodes, both ways"))
        return
    more = f", and {len(blocked) - 1} more" if len(blocked) > 1 else ""
    found = working_range(ports, links)
    if any("name" in why and "known" in why for _, why in blocked):
        remedy = "network.host_suffix: the names of the nodes with it must be known to the nodes."
    elif found:
        remedy = (
            f"ports: {{first: {found[0]}, last: {found[1]}}} in the site file, which is open; or "
            f"let the admin open TCP {ports.first}-{ports.last} between nodes."
        )
        report.proposals.update({"ports.first": found[0], "ports.last": found[1]})
    else:
        remedy = (
            f"Let the admin open TCP {ports.first}-{ports.last} between nodes (nft list ruleset); "
            "no other range that was tried is open."
        )
    report.add(failed(name, f"{blocked[0][0]}: {blocked[0][1]}{more}", remedy))


def working_range(
    ports: PortRange, links: list[tuple[str, dict[str, Any]]]
) -> tuple[int, int] | None:
    """Return a range in which every port tried was open on every link: the longest run of the
    site's own if it has one of some length, else the first of `OTHERS`."""
    shut = {int(port) for _, link in links for port in link["blocked"]}
    free = {port for _, link in links for port in link["open"]} - shut
    tried = free | shut
    best: list[int] = []
    run: list[int] = []
    for port in sorted(one for one in tried if ports.first <= one <= ports.last):
        run = [] if port in shut else [*run, port]
        best = max(best, run, key=len)
    if len(best) >= SAMPLES_OF_OTHERS - 1:
        return best[0], best[-1]
    for first, last in OTHERS:
        those = samples(first, last, SAMPLES_OF_OTHERS)
        if all(port in free for port in those):
            return first, last
    return None


class Way(NamedTuple):
    """A way to start MPI ranks, as a site file says it."""

    launcher: str
    plugin: str

    @classmethod
    def of(cls, settings: MpiSettings) -> Way:
        """Return a site's way."""
        return cls(settings.launcher, settings.plugin or "" if settings.launcher == "srun" else "")

    def __str__(self) -> str:
        return f"srun --mpi={self.plugin}" if self.plugin else self.launcher


def judge_mpi(report: Report, request: Request, outcome: Outcome) -> None:
    """Say whether the site's launcher makes one world of all ranks; if so, how fast it is."""
    way = Way.of(request.site.mpi)
    sizes = sorted(int(world["size"]) for world in outcome.worlds)
    if sizes == [request.nodes] * request.nodes:
        world = outcome.worlds[0]
        software = f"{world['library']}, mpi4py {world['mpi4py']}"
        report.add(ok("MPI", f"{way}: one world of {request.nodes} ranks ({software})"))
        _judge_speed(report, outcome.worlds, str(way))
        return
    report.add(failed("MPI", f"{way}: {_what(outcome, sizes)}", _mpi_remedy(report, outcome)))
    working = _working(outcome)
    if working is None:
        report.add(skipped("MPI speed", "MPI does not work"))
    else:
        _judge_speed(report, outcome.others, str(working))


def _what(outcome: Outcome, sizes: list[int]) -> str:
    """Return what went wrong, in words that name the cause where it has a well-known sign."""
    if sizes and set(sizes) == {1}:
        return (
            f"{len(sizes)} ranks, each alone in a world of size 1: the MPI library does not know "
            "this launcher, the sign of a wrong PMI plugin"
        )
    if sizes:
        return f"worlds of sizes {', '.join(map(str, sizes))} instead of one"
    ends = [(str(one["host"]), one["mpi"]) for one in outcome.facts if "mpi" in one]
    text = "\n".join(str(end["err"]) for _, end in ends) or "\n".join(outcome.log)
    for sign, words in _SIGNS:
        if sign in text:
            return words
    late = [host for host, end in ends if end["late"]]
    if late:
        return f"no end within the time on {', '.join(late)}: the ranks do not reach each other"
    lines = [line.strip() for line in text.splitlines() if any(map(str.isalnum, line))]
    return f"no rank came through: {lines[-1] if lines else 'nothing was said'}"


_SIGNS = (
    (
        "PMI support",
        "MPI_Init fails: the MPI library has no support for this launcher's PMI (its own words: "
        "not built with SLURM's PMI support)",
    ),
    (
        "from an IP address that is\nunexpected",
        "the ranks wait for ever: connections come from an address that the other rank does not "
        "expect (nodes with several addresses; network.interfaces chooses)",
    ),
    ("No module named", "the training Python has no mpi4py"),
    ("cannot load MPI library", "mpi4py finds no MPI library on the nodes (libmpi.so)"),
    ("libmpi.so", "mpi4py finds no MPI library on the nodes (libmpi.so)"),
    ("Invalid MPI type", "srun does not know this plugin"),
    ("Couldn't find the specified plugin name for mpi", "srun does not know this plugin"),
)


def _working(outcome: Outcome) -> Way | None:
    works = (Way(one["launcher"], one["plugin"]) for one in outcome.tried if one["works"])
    return next(works, None)


def _mpi_remedy(report: Report, outcome: Outcome) -> str:
    way = _working(outcome)
    if way is not None:
        report.proposals["mpi.launcher"] = way.launcher
        if way.plugin:
            report.proposals["mpi.plugin"] = way.plugin
        setting = f"mpi.plugin: {way.plugin}" if way.plugin else "mpi.launcher: mpirun"
        return f"{setting} in the site file: {way} made one world of all ranks in the same job."
    have = f"srun has the plugins {', '.join(outcome.plugins)}. " if outcome.plugins else ""
    if outcome.tried:
        names = ", ".join(str(Way(one["launcher"], one["plugin"])) for one in outcome.tried)
        return (
            f"{have}None of {names} worked either: load the site's MPI (modules: in the site "
            "file), and an mpi4py that is built for it; network.interfaces if ranks hang."
        )
    return f"{have}mpi.launcher and mpi.plugin in the site file choose another."


def _judge_speed(report: Report, worlds: list[dict[str, Any]], way: str) -> None:
    """Say how fast the pairs are, started in a way, and which node is slower than the others."""
    hosts = worlds[0]["hosts"]
    pairs = [pair for world in worlds for pair in world["pairs"]]
    measured = [
        {
            "nodes": [hosts[rank] for rank in pair["ranks"]],
            "latency_us": round(pair["latency_s"] * 1e6, 2),
            "bandwidth_mb_s": round(pair["bandwidth"] / 1e6, 1),
        }
        for pair in pairs
    ]
    allreduce = max(world["allreduce_s"] for world in worlds)
    reduced_ms = round(allreduce * 1e3, 3)
    report.measured |= {"way": way, "pairs": measured, "allreduce_1mib_ms": reduced_ms}
    shown = [
        f"{'–'.join(one['nodes'])} {one['latency_us']:g} µs, {one['bandwidth_mb_s']:g} MB/s"
        for one in measured[:6]
    ]
    more = f"; {len(measured) - 6} more pairs: --json" if len(measured) > 6 else ""
    detail = f"{way}: {'; '.join(shown)}{more}; allreduce of 1 MiB {allreduce * 1e3:.2f} ms"
    report.add(ok("MPI speed", detail), _slow(measured))


def _slow(measured: list[dict[str, Any]]) -> Check:
    """Name the nodes whose fastest link is far worse than the median node's fastest. The fastest,
    for the links of a good node to a slow one are slow as well."""
    name = "slow nodes"
    nodes = sorted({node for pair in measured for node in pair["nodes"]})
    if len(nodes) < 3:
        return skipped(name, "two nodes cannot tell which of them is slow", "--nodes 3")
    links = {node: [pair for pair in measured if node in pair["nodes"]] for node in nodes}
    latency = {node: min(pair["latency_us"] for pair in links[node]) for node in nodes}
    width = {node: max(pair["bandwidth_mb_s"] for pair in links[node]) for node in nodes}
    usual_latency, usual_width = median(latency.values()), median(width.values())
    slow = []
    for node in nodes:
        late = latency[node] > SLOW * usual_latency
        if late and (latency[node] - usual_latency) * 1e-6 > SLOW_LATENCY_S:
            slow.append(f"{node}: {latency[node]:g} µs at best, the median is {usual_latency:g} µs")
        if width[node] < usual_width / SLOW:
            slow.append(f"{node}: {width[node]:g} MB/s at best, the median is {usual_width:g} MB/s")
    rule = f"more than {SLOW:g} times worse than the median node"
    if slow:
        remedy = (
            "Leave the node out (--sbatch exclude=NODE), and report it to the admin: its cable or "
            "its link speed."
        )
        return failed(name, f"{'; '.join(slow)} ({rule})", remedy)
    return ok(name, f"none is {rule}")
