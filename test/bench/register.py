"""S9: registrations from parallel sessions against bcrypt on all cores.

A registration makes two pseudonyms, the patient's and his identity's, and is written, sealed, sent, judged and mined: all of
that is to take no more than a twentieth of what the two bcrypts take.
"""

import os

from measuring import alternate, hospital, line, pgbench, processor_seconds, scaled, wait_until_quiet, yardstick

ROUNDS_OF_BCRYPT = 12			# the default of apm.salting_rounds
BCRYPTS = 2						# a registration
CORES = os.cpu_count()
SESSIONS = 2 * CORES			# some wait for the disk or the chain while others compute
EACH = scaled(8)				# registrations a session and round
SCRIPT = """SELECT apm_register_patient(gen_random_uuid()::text, '{"Firstname": "Ahmed", "Lastname": "Ali"}');\n"""


def run(root):
	server = hospital(root, {"apm.salting_rounds": str(ROUNDS_OF_BCRYPT)})

	def registrations():
		"""Bcrypts a second by the clock, and a second of all the server's processor time."""
		before = processor_seconds(server)
		by_clock = pgbench(server, SCRIPT, SESSIONS, "-t", str(EACH), role="clerk")
		wait_until_quiet(server)
		return by_clock * BCRYPTS, SESSIONS * EACH * BCRYPTS / (processor_seconds(server) - before)

	def bcrypts():
		return [float(rate) for rate in yardstick("register", SESSIONS, ROUNDS_OF_BCRYPT, EACH * BCRYPTS).split()]

	try:
		ours, theirs = alternate(registrations, bcrypts)
	finally:
		server.stop()
	return {
		"what": "Registration of patients, each in a transaction of its own",
		"settings": {"apm.salting_rounds": ROUNDS_OF_BCRYPT, "sessions": SESSIONS, "registrations a round": SESSIONS * EACH,
					 "bcrypts a registration": BCRYPTS},
		"lines": [
			line("S9", "registration, bcrypts of parallel sessions", "bcrypts/s", [rate for rate, _ in ours],
				 [rate for rate, _ in theirs], "crypt_rn in as many processes", at_least=0.95),
			line("S9", "registration, bcrypts by processor time", "bcrypts/s", [rate for _, rate in ours],
				 [rate for _, rate in theirs], "crypt_rn")],
	}
