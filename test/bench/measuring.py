"""What all benchmarks need: servers, records in bulk, clients, and numbers side by side.

A benchmark is a module here, named in BENCHES of scripts/bench, with a function

	run(root) -> {"what": ..., "settings": {...}, "lines": [line(...)...], "curves": [curve(...)...], "notes": [...]}

where root is an empty directory of its own.  What it measures goes into lines (ours beside a yardstick, ROUNDS of each in
alternation), what cannot be said in a line into curves and notes.  Sizes are multiplied by scaled(), so that
BENCH_RECORDS makes all of them smaller or greater; a benchmark that takes long has a short form unless LONG.
"""

import os
import re
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "demo"))

from servers import BIN, Server, wait_for				# noqa: E402,F401

HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS = 5						# of each side, in alternation
RECORD_BYTES = 600
USUAL_RECORDS = 20000
RECORDS = int(os.environ.get("BENCH_RECORDS") or USUAL_RECORDS)
LONG = bool(os.environ.get("BENCH_LONG"))
PRELOADED = {
	"shared_preload_libraries": "apm",
	"apm.databases": "hospital",
	"apm.salting_rounds": "4",		# registrations are not what is measured
	"max_worker_processes": "16",
}


def scaled(number):
	"""A size that is meant for the usual number of records, for the number that was asked for."""
	return max(1, number * RECORDS // USUAL_RECORDS)


# --- what a benchmark answers

def line(id, what, unit, ours, theirs=None, yardstick="", at_least=None, at_most=None, aim=None, less_is_better=None):
	"""
	One line of the table: id is that of the requirement (S1), ours and theirs are the values of all rounds, in unit.  The bounds
	are of the ratio of the medians, ours to theirs.  A bound that is no ratio is a yardstick of one value.
	"""
	if less_is_better is None:
		less_is_better = at_most is not None
	made = {"id": id, "what": what, "unit": unit, "ours": spread(ours), "theirs": None, "ratio": None, "yardstick": yardstick,
			"at_least": at_least, "at_most": at_most, "aim": aim, "less_is_better": less_is_better, "met": None}
	if theirs is not None:
		made["theirs"] = spread(theirs)
		made["ratio"] = made["ours"]["median"] / made["theirs"]["median"]
		made["met"] = ((at_least is None or made["ratio"] >= at_least) and (at_most is None or made["ratio"] <= at_most)
					   if at_least is not None or at_most is not None else None)
	return made


def curve(file, title, x, y, series, logx=False, logy=False):
	"""A plot, in file.svg: series are {name: [(x, y), ...]}."""
	return {"file": file, "title": title, "x": x, "y": y, "logx": logx, "logy": logy,
			"series": [{"name": name, "points": [list(point) for point in points]} for name, points in series.items()]}


def spread(values):
	"""Median, and the least and greatest."""
	return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def alternate(*sides):
	"""ROUNDS of each side, one after the other: as many lists of what they answer."""
	rounds = [[side() for side in sides] for _ in range(ROUNDS)]
	return [list(answers) for answers in zip(*rounds)]


def yardstick(name, *arguments):
	"""What a yardstick in C, yardstick_<name>.c, writes."""
	return subprocess.run([os.path.join(HERE, "yardstick-" + name), *map(str, arguments)],
						  check=True, capture_output=True, text=True).stdout


# --- servers

def hospital(root, settings=None, database="hospital"):
	"""
	A running server with a chain of its own and the embedded cloud store; fsync is on, as everywhere here.  The clerk registers
	patients, the doctor submits and reads.
	"""
	keys = os.path.join(root, "keys")
	os.mkdir(keys, 0o700)
	server = Server("hospital", root, {**PRELOADED, "apm.key_directory": keys, **(settings or {})})
	server.start()
	server.run(f"CREATE DATABASE {database};", database="postgres")
	server.run("CREATE EXTENSION apm CASCADE; SELECT apm_keygen(); SELECT apm_setup();"
			   " CREATE ROLE clerk LOGIN IN ROLE apm_registrar; CREATE ROLE doctor LOGIN IN ROLE apm_clinician;", database=database)
	return server


def cloud(root, server):
	"""A second running server, attached to the first as its cloud, through postgres_fdw."""
	other = Server("cloud", root, {})
	other.start()
	other.run("CREATE DATABASE cloud;", database="postgres")
	other.run("""
		CREATE ROLE hospital LOGIN;
		CREATE TABLE health_record (rid uuid PRIMARY KEY, apid text COLLATE "C" NOT NULL, apr bytea NOT NULL, tokens bytea[] NOT NULL)
			WITH (toast_tuple_target = 8160);
		CREATE INDEX ON health_record (apid);
		CREATE INDEX ON health_record USING gin (tokens) WHERE tokens <> '{}';
		GRANT SELECT, INSERT, DELETE ON health_record TO hospital;""")
	server.run(f"""
		CREATE EXTENSION postgres_fdw;
		CREATE SERVER cloud FOREIGN DATA WRAPPER postgres_fdw
			OPTIONS (host '{other.socket}', dbname 'cloud', batch_size '100', fetch_size '1000');
		CREATE USER MAPPING FOR apm_worker SERVER cloud OPTIONS (user 'hospital', password_required 'false');
		CREATE FOREIGN TABLE cloud_record (rid uuid NOT NULL, apid text COLLATE "C" NOT NULL, apr bytea NOT NULL,
			tokens bytea[] NOT NULL)
			SERVER cloud OPTIONS (table_name 'health_record');
		SELECT apm_cloud_attach('cloud_record');""")
	return other


def processor_seconds(*servers):
	"""
	Processor time that all processes of these servers have taken, those that ended included: what survives a busy machine.
	"""
	of_postmasters = {server.process.pid for server in servers}
	ticks = 0
	for name in os.listdir("/proc"):
		if not name.isdigit():
			continue
		try:
			with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as stat:
				fields = stat.read().rpartition(")")[2].split()
		except OSError:
			continue
		if int(name) in of_postmasters:
			ticks += sum(int(field) for field in fields[11:15])		# and those of children that ended
		elif int(fields[1]) in of_postmasters:
			ticks += int(fields[11]) + int(fields[12])
	return ticks / os.sysconf("SC_CLK_TCK")


# --- records

def register(server, patients, first=1):
	"""Patients P<first> to P<patients>."""
	server.run(f"SET ROLE clerk; SELECT count(apm_register_patient('P' || i, '{{\"Firstname\": \"A\", \"Lastname\": \"B\"}}'))"
			   f" FROM generate_series({first}, {patients}) AS i;")
	wait_until_quiet(server)


def record(number="i"):
	"""An SQL expression: a record of RECORD_BYTES bytes of JSON, another for each number."""
	return f"jsonb_build_object('n', {number}, 'Note', repeat(md5({number}::text), {RECORD_BYTES // 32}))"


def insertion(first, rows, patients):
	"""One statement that submits so many records, round robin to the patients."""
	return (f"INSERT INTO apm.patient_record (pid, record) SELECT 'P' || (1 + i % {patients}), {record()}"
			f" FROM generate_series({first}, {first + rows - 1}) AS i;")


def submit(server, records, patients, batch=10000, first=0):
	"""So many records, in statements of batch rows, each waited for."""
	for start in range(first, first + records, batch):
		server.run("SET ROLE doctor; " + insertion(start, min(batch, first + records - start), patients))
		wait_until_quiet(server)


def wait_until_quiet(server):
	"""Until everything that was submitted is in the cloud."""
	wait_for("everything on its way to arrive", lambda: server.value(
		"SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool)"
		" AND NOT EXISTS (SELECT FROM apm.final_queue) AND NOT EXISTS (SELECT FROM apm.outbox)") == "t")


# --- clients

def pgbench(server, script, clients, *options, role="doctor", database=None):
	"""
	Runs a script of pgbench's language with prepared statements, and answers transactions a second.  The options say how long:
	"-t", "1000" or "-T", "10"; "-l" with "--log-prefix" leaves every transaction's latency in files.
	"""
	path = os.path.join(server.socket, "pgbench.sql")
	with open(path, "w", encoding="utf-8") as out:
		out.write(script)
	done = subprocess.run([f"{BIN}/pgbench", "-n", "-M", "prepared", "-h", server.socket, "-U", role, "-c", str(clients),
						   "-j", str(min(clients, 2)), "-f", path, *options, database or server.name],
						  capture_output=True, text=True)
	found = re.search(r"^tps = ([0-9.]+)", done.stdout, re.M)
	if done.returncode != 0 or not found or re.search(r"failed transactions: [1-9]", done.stdout):
		raise RuntimeError("pgbench: " + (done.stderr or done.stdout))
	return float(found.group(1))
