"""S7: apm_verify() against the hashing and signature checks alone, and the memory that it takes.

Memory is the peak of a backend that does nothing but verify, over the whole ledger and over its
first tenth: flat means that the two do not differ by what ten times the transactions would need.
"""

import os
import subprocess
import threading
import time

from measuring import BIN, RECORDS, alternate, hospital, line, register, scaled, submit, yardstick

PATIENTS = scaled(1000)


def timed_verification(server, to_height=None):
	"""Seconds that the whole of apm_verify() takes, its answer, and the peak memory of the backend in kB."""
	process = subprocess.Popen(
		[f"{BIN}/psql", "-XAtq", "-h", server.socket, "-U", "postgres", "-d", "hospital"],
		stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
	process.stdin.write("SELECT pg_backend_pid();\n")
	process.stdin.flush()
	pid = int(process.stdout.readline())
	sampler = Peak(pid)
	sampler.start()
	started = time.monotonic()
	process.stdin.write(f"SELECT ok, transactions FROM apm_verify(0, {to_height if to_height is not None else 'NULL'});\n")
	process.stdin.flush()
	answer = process.stdout.readline().strip()
	seconds = time.monotonic() - started
	sampler.stop()
	process.stdin.close()
	process.wait()
	ok, transactions = answer.split("|")
	if ok != "t":
		raise RuntimeError("the ledger does not verify")
	return {"seconds": seconds, "transactions": int(transactions), "peak_kb": sampler.peak}


class Peak(threading.Thread):
	"""Private memory of a process while it runs: what it allocated, not the shared buffers that it looked at."""

	def __init__(self, pid):
		super().__init__(daemon=True)
		self.pid, self.peak, self.ended = pid, 0, threading.Event()

	def run(self):
		while not self.ended.wait(0.02):
			self.look()

	def look(self):
		try:
			with open(f"/proc/{self.pid}/status", encoding="utf-8") as status:
				anonymous = next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
			self.peak = max(self.peak, anonymous)
		except (OSError, StopIteration):
			pass

	def stop(self):
		self.look()
		self.ended.set()
		self.join()


def run(root):
	server = hospital(root)
	try:
		register(server, PATIENTS)
		submit(server, RECORDS, PATIENTS)
		server.run("VACUUM ANALYZE;")
		ledger = os.path.join(root, "ledger")
		server.save("SELECT apm_export_ledger();", "postgres", ledger)
		ours, theirs = alternate(lambda: timed_verification(server),
								 lambda: float(yardstick("verify", ledger, 1).split()[0]))
		tip = int(server.value("SELECT max(height) FROM apm.block"))
		part = timed_verification(server, tip // 10)
		size = os.path.getsize(ledger)
	finally:
		server.stop()
	transactions = ours[0]["transactions"]
	return {
		"what": "apm_verify() of a whole ledger",
		"settings": {"transactions": transactions, "blocks": tip + 1, "ledger bytes": size},
		"lines": [
			line("S7", "apm_verify()", "transactions/s", [transactions / each["seconds"] for each in ours],
				 [transactions / seconds for seconds in theirs], "the hashing and signature checks alone in C", at_least=0.5, aim=0.7),
			line("S7", "peak memory, whole ledger beside its first tenth", "kB", [each["peak_kb"] for each in ours], [part["peak_kb"]],
				 "the first tenth of the blocks", at_most=1.2)],
	}
