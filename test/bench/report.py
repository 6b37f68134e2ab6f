"""Figures for people and programs: the table, JSON, and plots as SVG by gnuplot."""

import datetime
import json
import os
import platform
import subprocess
import textwrap

from servers import BIN

COLOURS = ["#1f5fa8", "#c8501e", "#2b8a3e", "#7b3fa0", "#8a6d00", "#555555"]
HEADER = f"{'':<5}{'what':<58}{'apm':>12}  {'least..greatest':<19}{'yardstick':>12}  {'least..greatest':<19}{'ratio':>7}  bound"


def machine():
	"""What the figures are measured on."""
	with open("/proc/cpuinfo", encoding="utf-8") as info:
		model = next((text.split(":", 1)[1].strip() for text in info if text.startswith("model name")), "unknown")
	with open("/proc/meminfo", encoding="utf-8") as info:
		memory = int(next(text.split()[1] for text in info if text.startswith("MemTotal")))
	return {"processor": model, "cores": os.cpu_count(), "memory_gb": round(memory / 1048576, 1),
			"kernel": platform.release(), "postgresql": version(f"{BIN}/postgres", "--version"),
			"openssl": version("openssl", "version"), "load_before": round(os.getloadavg()[0], 2)}


def version(*command):
	"""What a program says of itself; its name if it is not there."""
	try:
		return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
	except OSError:
		return command[0] + ", version unknown"


def heading(on):
	"""The machine in two lines."""
	return (f"{on['processor']}, {on['cores']} cores, {on['memory_gb']} GB, Linux {on['kernel']}, load {on['load_before']} before\n"
			f"{on['postgresql']}; {on['openssl']}; default settings, fsync on\n")


def short(value):
	"""A number with three digits that count."""
	if value == 0 or abs(value) >= 100:
		return f"{value:,.0f}"
	return f"{value:.3g}" if abs(value) < 1 else f"{value:.{1 if abs(value) >= 10 else 2}f}"


def bound(line):
	"""What the ratio is held against, and whether it holds."""
	if line["ratio"] is None or (line["at_least"] is None and line["at_most"] is None):
		return ""
	sign, limit = (">=", line["at_least"]) if line["at_least"] is not None else ("<=", line["at_most"])
	aim = f", aim {line['aim']}" if line["aim"] is not None else ""
	return f"{sign} {limit}{aim}  {'met' if line['met'] else 'MISSED'}"


def row(line):
	"""One line of the table, and a second one with what the yardstick is."""
	def side(values):
		if values is None:
			return f"{'':>12}  {'':<19}"
		return f"{short(values['median']):>12}  {short(values['least']) + '..' + short(values['greatest']):<19}"

	ratio = f"{line['ratio']:>7.2f}" if line["ratio"] is not None else f"{'':>7}"
	what = f"{line['what']}, {line['unit']}"
	return (f"{line['id']:<5}{what:<58}{side(line['ours'])}{side(line['theirs'])}{ratio}  {bound(line)}".rstrip()
			+ (f"\n{'':<5}  beside {line['yardstick']}" if line["yardstick"] else ""))


def table(name, figures):
	"""Everything that one benchmark found, as text."""
	settings = ", ".join(f"{key} {value}" for key, value in figures.get("settings", {}).items())
	print(f"{name}: {figures['what']}" + (f"\n     {settings}" if settings else ""))
	print(HEADER)
	for line in figures["lines"]:
		print(row(line))
	for note in figures.get("notes", []):
		print(textwrap.fill(note, 150, initial_indent=" " * 5, subsequent_indent=" " * 7, break_on_hyphens=False))
	print(flush=True)


def entry(figures, on):
	"""A benchmark's figures with when and where they were measured, as they stand in the JSON file."""
	return {"measured_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "machine": on, **figures}


def write_json(path, entries):
	"""Puts entries into the file; those of other benchmarks that are there stay."""
	os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
	kept = {}
	if os.path.exists(path):
		with open(path, encoding="utf-8") as file:
			kept = json.load(file)
	with open(path, "w", encoding="utf-8") as file:
		json.dump({**kept, **entries}, file, indent=1)
		file.write("\n")


def plot(directory, curve):
	"""Draws one curve into directory/FILE.svg; nothing where there is no gnuplot."""
	os.makedirs(directory, exist_ok=True)
	path = os.path.join(directory, curve["file"] + ".svg")
	blocks, parts = [], []
	for number, series in enumerate(curve["series"]):
		points = "\n".join(f"{x!r} {y!r}" for x, y in series["points"])
		blocks.append(f"$data{number} << END\n{points}\nEND\n")
		style = "linespoints pt 7 ps 0.5" if len(series["points"]) <= 60 else "lines"
		parts.append(f"$data{number} using 1:2 with {style} lw 2 lc rgb {quoted(COLOURS[number % len(COLOURS)])}"
					 f" title {quoted(series['name'])}")
	least = "" if curve["logy"] else "set yrange [0:*]\n"
	script = (f"set terminal svg size 800,480 dynamic font 'sans-serif,13' background rgb 'white'\n"
			  f"set title {quoted(curve['title'])} noenhanced\nset xlabel {quoted(curve['x'])} noenhanced\n"
			  f"set ylabel {quoted(curve['y'])} noenhanced\nset grid lc rgb '#dddddd'\nset key below noenhanced\nset tics nomirror\n"
			  f"set format '%.10g'\nset border 3\n{'set logscale x' if curve['logx'] else ''}\n{'set logscale y' if curve['logy'] else ''}\n{least}"
			  + "".join(blocks) + "plot " + ", ".join(parts) + "\n")
	try:
		drawn = subprocess.run(["gnuplot"], input=script, text=True, check=True, stdout=subprocess.PIPE).stdout
	except FileNotFoundError:
		print(f"     (no gnuplot: {curve['file']}.svg is not drawn)")
		return
	with open(path, "w", encoding="utf-8") as out:
		out.writelines(line.rstrip() + "\n" for line in drawn.splitlines())


def quoted(text):
	"""A string of gnuplot's that nothing in it is looked at."""
	return "'" + text.replace("'", "''") + "'"
