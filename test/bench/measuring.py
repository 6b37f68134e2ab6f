"""What all benchmarks need: a hospital's server, records in bulk, and numbers side by side."""

import json
import os
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "demo"))

from servers import BIN, Server, wait_for				# noqa: E402,F401

HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS = 5						# of each side, in alternation
RECORD_BYTES = 600


def hospital(root, settings=None):
	"""A running server with a chain of its own and the embedded cloud store; fsync is on, as everywhere here."""
	keys = os.path.join(root, "keys")
	os.mkdir(keys, 0o700)
	server = Server("hospital", root, {
		"shared_preload_libraries": "apm",
		"apm.databases": "hospital",
		"apm.key_directory": keys,
		"apm.salting_rounds": "4",		# registrations are not what is measured
		"max_worker_processes": "16",
		**(settings or {})})
	server.start()
	server.run("CREATE DATABASE hospital;", database="postgres")
	server.run("CREATE EXTENSION apm CASCADE; SELECT apm_keygen(); SELECT apm_setup();"
			   " CREATE ROLE doctor LOGIN IN ROLE apm_clinician, apm_registrar;")
	return server


def register(server, patients):
	"""Patients P1 to Pn."""
	server.run(f"SET ROLE doctor; SELECT count(apm_register_patient('P' || i, '{{\"Firstname\": \"A\", \"Lastname\": \"B\"}}'))"
			   f" FROM generate_series(1, {patients}) AS i;")
	wait_until_quiet(server)


def submit(server, records, patients, batch=10000):
	"""So many records of RECORD_BYTES bytes of JSON, in statements of batch rows."""
	for first in range(0, records, batch):
		rows = min(batch, records - first)
		server.run(f"""SET ROLE doctor; INSERT INTO apm.patient_record (pid, record)
			SELECT 'P' || (1 + i % {patients}), jsonb_build_object('n', i, 'Note', repeat(md5(i::text), {RECORD_BYTES // 32}))
			FROM generate_series({first}, {first + rows - 1}) AS i;""")
		wait_until_quiet(server)


def wait_until_quiet(server):
	"""Until everything that was submitted is in the cloud."""
	wait_for("everything on its way to arrive", lambda: server.value(
		"SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool)"
		" AND NOT EXISTS (SELECT FROM apm.final_queue) AND NOT EXISTS (SELECT FROM apm.outbox)") == "t")


def alternate(ours, yardstick):
	"""ROUNDS of each, one after the other: two lists of what they answer."""
	pairs = [(ours(), yardstick()) for _ in range(ROUNDS)]
	return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def spread(values):
	"""Median, and the least and greatest."""
	return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def machine():
	"""What the figures were measured on."""
	with open("/proc/cpuinfo", encoding="utf-8") as info:
		model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), "unknown")
	return {"processor": model, "cores": os.cpu_count()}


def write_json(path, figures):
	with open(path, "w", encoding="utf-8") as out:
		json.dump(figures, out, indent=1)
		out.write("\n")
