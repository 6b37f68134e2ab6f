"""A PostgreSQL server of ours, and what it answers."""

import json
import os
import re
import signal
import subprocess
import time

BIN = subprocess.run([os.environ.get("PG_CONFIG", "pg_config"), "--bindir"],
					 check=True, capture_output=True, text=True).stdout.strip()
WAIT = 90					# seconds that anything may take before it counts as broken


class Refused(Exception):
	"""What the server answered instead of rows: SQLSTATE and message."""

	def __init__(self, stderr):
		found = re.search(r"(?:ERROR|FATAL):  (\w{5}): (.*)", stderr)
		self.sqlstate, self.message = found.groups() if found else ("", stderr.strip())
		named = re.search(r'rule "(.+)"', self.message)
		self.rule = named.group(1) if named else ""
		super().__init__(f"{self.sqlstate} {self.message}")


class Server:
	"""A PostgreSQL server of ours: its directory, its process."""

	def __init__(self, name, root, settings):
		self.name = name
		self.socket = os.path.join(root, name)
		self.data = os.path.join(self.socket, "data")
		self.process = None
		os.mkdir(self.socket, 0o700)
		subprocess.run([f"{BIN}/initdb", "-D", self.data, "-U", "postgres", "-E", "UTF8", "--locale=C",
						"-A", "trust", "--no-sync", "--no-instructions"],
					   check=True, stdout=subprocess.DEVNULL)
		with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as conf:
			conf.write(f"listen_addresses = ''\nunix_socket_directories = '{self.socket}'\n")
			conf.writelines(f"{key} = '{value}'\n" for key, value in settings.items())

	def start(self):
		log = open(os.path.join(self.socket, "log"), "ab")
		self.process = subprocess.Popen([f"{BIN}/postgres", "-D", self.data], stdout=log, stderr=log)
		log.close()
		wait_for(f"server {self.name} to answer", self.answers)

	def answers(self):
		if self.process.poll() is not None:
			raise RuntimeError(f"server {self.name} ended:\n" + self.log_tail())
		return subprocess.run([f"{BIN}/pg_isready", "-q", "-h", self.socket]).returncode == 0

	def log_tail(self):
		with open(os.path.join(self.socket, "log"), encoding="utf-8", errors="replace") as log:
			return "".join(log.readlines()[-15:])

	def stop(self):
		"""Our own process, by its id: fast shutdown, and immediate if that does not end it."""
		for how in (signal.SIGINT, signal.SIGQUIT):
			if self.process is None or self.process.poll() is not None:
				return
			self.process.send_signal(how)
			try:
				self.process.wait(timeout=20)
			except subprocess.TimeoutExpired:
				pass

	def psql(self, text, role, database, *options):
		"""What psql writes; Refused where a statement fails."""
		command = [f"{BIN}/psql", "-XAtq", "-h", self.socket, "-U", role or "postgres", "-d", database or self.name,
				   "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", *options, "-f", "-"]
		done = subprocess.run(command, input=text, capture_output=True, text=True)
		if done.returncode != 0:
			raise Refused(done.stderr)
		return done.stdout

	def run(self, text, role=None, database=None):
		"""Runs statements, of which one may answer rows: those, as lists of text."""
		written = self.psql(text, role, database, "-F", "\x1f", "-R", "\x1e")
		return [row.split("\x1f") for row in written.rstrip("\n").split("\x1e") if row != ""]

	def save(self, text, role, path):
		"""Writes one column of rows into a file, each and a line feed."""
		self.psql(text, role, None, "-o", path)

	def attempt(self, text, role):
		"""Its rows, or the Refused that it was answered with."""
		try:
			return self.run(text, role)
		except Refused as refused:
			return refused

	def value(self, text, role=None):
		"""The one value of a statement as text; empty for null and for no row."""
		rows = self.run(text, role)
		return rows[0][0] if rows else ""


def wait_for(what, condition):
	"""Polls: nothing here is told by the clock but that it takes too long."""
	deadline = time.monotonic() + WAIT
	while not condition():
		if time.monotonic() > deadline:
			raise RuntimeError(f"waited {WAIT} seconds in vain for {what}")
		time.sleep(0.05)


def quote(value):
	"""A literal for psql's standard input; a program would send a parameter."""
	text = json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)
	return "'" + text.replace("'", "''") + "'"
