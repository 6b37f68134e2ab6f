"""S7: apm_verify() against the hashing and signature checks alone, and the memory that it takes.

By default it shares the blocks out among the backend and parallel workers; by one backend is measured as well, since the
yardstick has one core.  Memory is the peak of one of these processes, which do nothing but verify, over the whole ledger and over
its first half: flat means that twice the transactions do not need more.
"""

import os
import subprocess
import threading
import time

from measuring import BIN, RECORDS, alternate, hospital, line, register, scaled, submit, yardstick

PATIENTS = scaled(1000)
WARMED_UP = 100000		# records behind which a process has met the largest of everything


def timed_verification(server, to_height=None, settings=""):
	"""Seconds that the whole of apm_verify() takes, how many transactions there are, and the peak memory in kB."""
	process = subprocess.Popen(
		[f"{BIN}/psql", "-XAtq", "-h", server.socket, "-U", "postgres", "-d", "hospital"],
		stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
	process.stdin.write(f"{settings} SELECT pg_backend_pid();\n")
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


def workers_of(backend):
	"""The parallel workers of a backend, by what PostgreSQL says in their titles."""
	for name in filter(str.isdigit, os.listdir("/proc")):
		try:
			with open(f"/proc/{name}/cmdline", encoding="utf-8", errors="replace") as title:
				if f"parallel worker for PID {backend} " in title.read().replace("\0", " "):
					yield int(name)
		except OSError:
			pass


def anonymous_kb(process):
	try:
		with open(f"/proc/{process}/status", encoding="utf-8") as status:
			return next((int(line.split()[1]) for line in status if line.startswith("RssAnon")), 0)
	except OSError:
		return 0


class Peak(threading.Thread):
	"""Private memory of a backend or one of its workers, whichever has most: what it allocated, not the shared buffers it looked at."""

	def __init__(self, pid):
		super().__init__(daemon=True)
		self.pid, self.peak, self.ended = pid, 0, threading.Event()

	def run(self):
		while not self.ended.wait(0.05):
			self.look()

	def look(self):
		self.peak = max(self.peak, *(anonymous_kb(process) for process in [self.pid, *workers_of(self.pid)]), 0)

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
		ours, alone, theirs = alternate(lambda: timed_verification(server),
										lambda: timed_verification(server, settings="SET max_parallel_maintenance_workers = 0;"),
										lambda: float(yardstick("verify", ledger, 1).split()[0]))
		tip = int(server.value("SELECT max(height) FROM apm.block"))
		part = timed_verification(server, tip // 2, "SET force_parallel_mode = on;")
		size = os.path.getsize(ledger)
	finally:
		server.stop()
	transactions = ours[0]["transactions"]
	yardsticks = [transactions / seconds for seconds in theirs]
	checks = "the hashing and signature checks alone in C, one core"
	return {
		"what": "apm_verify() of a whole ledger",
		"settings": {"transactions": transactions, "blocks": tip + 1, "ledger bytes": size},
		"lines": [
			line("S7", "apm_verify()", "transactions/s", [transactions / each["seconds"] for each in ours],
				 yardsticks, checks, at_least=0.5, aim=0.7),
			line("S7", "apm_verify() by one backend", "transactions/s", [transactions / each["seconds"] for each in alone],
				 yardsticks, checks),
			line("S7", "peak memory of a process, whole ledger beside its first half", "kB", [each["peak_kb"] for each in ours], [part["peak_kb"]],
				 "the first half of the blocks", at_most=1.2 if RECORDS >= WARMED_UP else None, less_is_better=True)],
	}
