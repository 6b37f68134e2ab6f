"""The hospital and its cloud: the two servers, who works there, and what the story has to remember."""

import os

from servers import Refused, Server, quote, wait_for
from telling import say, show, statement, title

AHMED = "AF89XI96FD24"


class Demo:
	"""The story's servers and what it has to remember from one chapter to the next."""

	def __init__(self, root):
		self.keys = os.path.join(root, "keys")
		os.mkdir(self.keys, 0o700)
		self.cloud = Server("cloud", root, {})
		self.hospital = Server("hospital", root, {
			"shared_preload_libraries": "apm",
			"apm.databases": "hospital",
			"apm.key_directory": self.keys,
			"max_worker_processes": "16"})
		self.rid = None			# of the paper's record
		self.accesses = []		# queries for the paper's patient: who, what kind, which rule refused it
		self.queries = 0		# all queries
		self.influenza = set()	# pids of visitors who had it
		self.records = 0		# records that are in the cloud
		self.erased = 0			# records of who was forgotten
		self.refusals = 0		# transactions that the contract refused

	def setting(self, name, value):
		"""For the whole hospital, until changed again."""
		self.hospital.run(f"ALTER SYSTEM SET {name} = {quote(value)}; SELECT pg_reload_conf();")
		wait_for(f"{name} to change",
				 lambda: self.hospital.value(f"SELECT current_setting('{name}')") == str(value))

	def workers(self):
		return [row[0] for row in self.hospital.run(
			"SELECT backend_type FROM pg_stat_activity WHERE backend_type LIKE 'apm %'"
			" AND backend_type <> 'apm launcher' ORDER BY 1")]

	def stop_workers(self):
		self.setting("apm.databases", "")
		wait_for("the workers to end", lambda: self.workers() == [])

	def start_workers(self):
		self.setting("apm.databases", "hospital")
		wait_for("the workers to start", lambda: len(self.workers()) == 4)

	def depth(self, table):
		return int(self.hospital.value(f"SELECT count(*) FROM apm.{table}"))

	def note(self, who, access, rule):
		"""A query for the paper's patient, to be held against his history at the end."""
		self.accesses.append([who, access, rule])
		self.note_queries(1, refused=1 if rule else 0)

	def note_queries(self, number, refused=0):
		self.queries += number
		self.refusals += refused

	def attempt(self, who, access, text):
		"""Asks for the paper's patient: rows, or the Refused that answers."""
		outcome = self.hospital.attempt(text, who)
		self.note(who, access, outcome.rule if isinstance(outcome, Refused) and outcome.sqlstate == "AP001" else "")
		return outcome

	def query(self, who, access, text):
		"""The same where rows must come."""
		outcome = self.attempt(who, access, text)
		if isinstance(outcome, Refused):
			raise outcome
		return outcome

	def enter(self, who, text):
		"""Statements whose transactions are final afterwards."""
		statement(text)
		self.hospital.run(text, who)
		self.wait_until_quiet()

	def wait_until_quiet(self):
		wait_for("everything on its way to arrive", lambda: self.hospital.value(
			"SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool)"
			" AND NOT EXISTS (SELECT FROM apm.final_queue) AND NOT EXISTS (SELECT FROM apm.outbox)") == "t")


def set_up(demo):
	title("Two servers")
	demo.cloud.start()
	demo.cloud.run("CREATE DATABASE cloud;", database="postgres")
	demo.cloud.run("CREATE TABLE health_record (rid uuid PRIMARY KEY, apid text NOT NULL, apr bytea NOT NULL,"
				   " tokens bytea[] NOT NULL) WITH (toast_tuple_target = 8160);"
				   "CREATE INDEX ON health_record USING gin (tokens) WHERE tokens <> '{}';"
				   "CREATE INDEX ON health_record (apid);"
				   "CREATE ROLE hospital LOGIN; GRANT SELECT, INSERT, DELETE ON health_record TO hospital;")
	demo.hospital.start()
	demo.hospital.run("CREATE DATABASE hospital;", database="postgres")
	demo.hospital.run(f"""
		CREATE EXTENSION apm CASCADE;
		SELECT apm_keygen();
		SELECT apm_setup();
		CREATE EXTENSION postgres_fdw;
		CREATE SERVER cloud FOREIGN DATA WRAPPER postgres_fdw
			OPTIONS (host '{demo.cloud.socket}', dbname 'cloud', batch_size '100');
		CREATE USER MAPPING FOR apm_worker SERVER cloud OPTIONS (user 'hospital', password_required 'false');
		CREATE FOREIGN TABLE cloud_record (rid uuid NOT NULL, apid text COLLATE "C" NOT NULL, apr bytea NOT NULL,
			tokens bytea[] NOT NULL)
			SERVER cloud OPTIONS (table_name 'health_record');
		SELECT apm_cloud_attach('cloud_record');
		CREATE ROLE registrar LOGIN IN ROLE apm_registrar;
		CREATE ROLE dr_salma LOGIN IN ROLE apm_clinician;
		CREATE ROLE cardiology;
		CREATE ROLE dr_nadia LOGIN IN ROLE apm_clinician, cardiology;
		CREATE ROLE auditor LOGIN IN ROLE apm_auditor;
		CREATE ROLE chief LOGIN IN ROLE apm_admin;
		CREATE ROLE scholar LOGIN IN ROLE apm_researcher;
		CREATE ROLE reception LOGIN;""")
	wait_for("the workers to start", lambda: len(demo.workers()) == 4)
	say("""A hospital's server with the extension, and a cloud's without it, which has one table of four columns. The hospital
		has made its keys and the first block of its chain, and reaches the cloud's table through postgres_fdw. Its
		workers run:""")
	show(["worker", "role"], demo.hospital.run(
		"SELECT backend_type, usename FROM pg_stat_activity WHERE backend_type LIKE 'apm %' ORDER BY 1"))
	say("Its keys, as SQL sees them: ids, never a key.")
	show(["kind", "key id", "generation"], demo.hospital.run("SELECT kind, key_id, generation FROM apm.key ORDER BY 1"))
