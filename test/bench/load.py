"""A hospital with its cloud on a second server, clients that put load on it, and what became of their records."""

import glob
import os
import re
import subprocess

import measuring
from measuring import BIN, HERE

DIFFICULTY = 16					# bits of the proof of work, as a chain begins with
ROWS = 10						# of each statement of a steady load


class Site:
	"""The two servers; a context, at whose end they are stopped."""

	def __init__(self, root, settings=None):
		self.hospital = measuring.hospital(root, settings)
		self.cloud = measuring.cloud(root, self.hospital)

	def __enter__(self):
		return self

	def __exit__(self, *_):
		self.hospital.stop()
		self.cloud.stop()


class Session:
	"""A session of psql, which is asked one thing after the other."""

	def __init__(self, server, role="postgres"):
		self.process = subprocess.Popen(
			[f"{BIN}/psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", server.socket, "-U", role, "-d", server.name],
			stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

	def ask(self, text):
		"""The one row that a statement answers."""
		self.process.stdin.write(text + "\n")
		answer = self.process.stdout.readline()
		if answer == "":
			raise RuntimeError("a session of the benchmark ended")
		return answer.rstrip("\n")

	def close(self):
		self.process.stdin.close()
		self.process.wait()


class Clients:
	"""
	pgbench beside us: clients that run a script, and how long each of its transactions took.  The options say how long, and at
	which rate.
	"""

	def __init__(self, server, script, clients, *options, role="doctor"):
		self.prefix = os.path.join(server.socket, f"clients{len(glob.glob(server.socket + '/clients*.sql'))}")
		with open(self.prefix + ".sql", "w", encoding="utf-8") as out:
			out.write(script)
		self.process = subprocess.Popen(
			[f"{BIN}/pgbench", "-n", "-M", "prepared", "-h", server.socket, "-U", role, "-f", self.prefix + ".sql",
			 "-c", str(clients), "-j", str(min(clients, 2)), "-l", "--log-prefix", self.prefix + ".log", *options, server.name],
			stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

	def wait(self):
		"""To the end: transactions a second."""
		written, errors = self.process.communicate()
		found = re.search(r"^tps = ([0-9.]+)", written, re.M)
		if self.process.returncode != 0 or not found or re.search(r"failed transactions: [1-9]", written):
			raise RuntimeError("pgbench: " + (errors or written))
		return float(found.group(1))

	def stop(self):
		"""Ends them before their time."""
		self.process.terminate()
		self.process.communicate()

	def latencies(self):
		"""Of each transaction: when it ended, in seconds of the epoch, and how long it took, in milliseconds."""
		found = []
		for path in glob.glob(glob.escape(self.prefix) + ".log.*"):
			with open(path, encoding="utf-8") as log:
				lines = [fields for fields in map(str.split, log) if len(fields) >= 6 and fields[2].isdigit()]
			found += [(int(fields[4]) + int(fields[5]) / 1e6, int(fields[2]) / 1e3) for fields in lines]
		return sorted(found)


def steady(server, rate, seconds, patients):
	"""Four clients that submit so many records a second, in statements of ROWS."""
	number = "(:first + i)"
	return Clients(server, "\\set first random(1, 1000000000)\n"
				   f"INSERT INTO apm.patient_record (pid, record) SELECT 'P' || (1 + {number} % {patients}),"
				   f" {measuring.record(number)} FROM generate_series(1, {ROWS}) AS i;\n",
				   4, "-T", str(seconds), "-R", str(rate / ROWS))


def arrivals(server, edges, column):
	"""How many records a second came as far as that column of apm.final_transaction says, from each edge (epoch) to the next."""
	rows = server.run(f"SELECT width_bucket(extract(epoch FROM {column}), ARRAY[{','.join(map(str, edges))}]), count(*)"
					  f" FROM apm.final_transaction WHERE kind = 2 AND {column} IS NOT NULL GROUP BY 1;")
	counted = {int(bucket): int(count) for bucket, count in rows}
	return [counted.get(i + 1, 0) / (edges[i + 1] - edges[i]) for i in range(len(edges) - 1)]


def parts(start, end, number):
	"""The edges of so many parts of a span."""
	return [start + (end - start) * i / number for i in range(number + 1)]


def proof_of_work_ms(searches=400):
	"""How long a block's proof of work takes on average, in milliseconds."""
	done = subprocess.run([os.path.join(HERE, "yardstick-mining"), str(DIFFICULTY), str(searches)],
						  check=True, capture_output=True, text=True)
	return float(done.stdout) * 1000


def distribution(values):
	"""Points of a curve: the share that does not exceed a value."""
	ordered = sorted(values)
	step = max(1, len(ordered) // 200)
	return [(value, (i + 1) / len(ordered)) for i, value in enumerate(ordered) if i % step == 0 or i == len(ordered) - 1]
