#!/usr/bin/python3
"""Method 1 and Method 2 of the paper's Chapter III, without apm.

Written from doc/paper-profile.md, with Debian's python3-bcrypt, python3-rsa and
python3-pycryptodome, so that apm's own can be held against something that shares no line
with it.

    method.py keys DIRECTORY
        makes paper-rsa.pem and paper-aes.key
    method.py anonymize DIRECTORY SALT < {"pid": ..., "identifying": {...}, "attributes": {...}}
        writes the paper's JSON (Method 1)
    method.py deanonymize DIRECTORY PROFILES < the paper's JSON
        PROFILES is a file with a JSON list of {"pid": ..., "identifying": {...}};
        writes the record (Method 2)
    method.py hash SALT VALUE...
        writes the digest of each, without setting and salt, as the paper's Table 7 does
"""

import base64
import json
import os
import subprocess
import sys
import uuid

import bcrypt
import rsa
from Cryptodome.Cipher import AES

SETTING_LEN = 29


def text_of(value):
	"""What stands between a text's quotation marks; JSON for all else."""
	return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def hashed(value, setting):
	return bcrypt.hashpw(text_of(value).encode(), setting.encode()).decode()


def read_keys(directory):
	with open(os.path.join(directory, "paper-aes.key"), "rb") as file:
		aes = file.read()
	# the rsa module reads PKCS#1, the file is PKCS#8
	pem = subprocess.run(["openssl", "rsa", "-traditional", "-in", os.path.join(directory, "paper-rsa.pem")],
						 check=True, capture_output=True).stdout
	return aes, rsa.PrivateKey.load_pkcs1(pem)


def make_keys(directory):
	os.umask(0o077)
	with open(os.path.join(directory, "paper-aes.key"), "xb") as file:
		file.write(os.urandom(32))
	subprocess.run(["openssl", "genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048",
					"-out", os.path.join(directory, "paper-rsa.pem")], check=True)


def encrypted(value, aes, public):
	iv = os.urandom(16)
	hidden = AES.new(aes, AES.MODE_CFB, iv).encrypt(text_of(value).encode())
	sealed = rsa.encrypt(base64.b64encode(hidden), public)
	return {"iv": base64.b64encode(iv).decode(), "value": base64.b64encode(sealed).decode()}


def decrypted(item, aes, private):
	hidden = base64.b64decode(rsa.decrypt(base64.b64decode(item["value"]), private), validate=True)
	return AES.new(aes, AES.MODE_CFB, base64.b64decode(item["iv"])).decrypt(hidden).decode()


def anonymized(record, salt, aes, public):
	"""Method 1."""
	out = {"Rid": str(uuid.uuid4()), "aPid": hashed(record["pid"], salt)}
	for name, value in record["identifying"].items():
		out[name] = hashed(value, salt)
	for name, value in record["attributes"].items():
		out[name] = encrypted(value, aes, public)
	return out


def anonymize(directory, salt):
	aes, private = read_keys(directory)
	record = anonymized(json.load(sys.stdin), salt, aes, rsa.PublicKey(private.n, private.e))
	json.dump(record, sys.stdout, ensure_ascii=False)


def deanonymize(directory, profiles_file):
	aes, private = read_keys(directory)
	record = json.load(sys.stdin)
	with open(profiles_file, encoding="utf-8") as file:
		profiles = json.load(file)
	for profile in profiles:
		if hashed(profile["pid"], record["aPid"][:SETTING_LEN]) == record["aPid"]:
			break
	else:
		sys.exit("no profile has this aPid")
	out = {}
	for name, value in record.items():
		if name in ("Rid", "aPid"):
			continue
		if isinstance(value, dict):
			out[name] = decrypted(value, aes, private)
		elif hashed(profile["identifying"][name], value[:SETTING_LEN]) == value:
			out[name] = profile["identifying"][name]
		else:
			sys.exit("an identifying attribute is not the patient's")
	json.dump(out, sys.stdout, ensure_ascii=False, sort_keys=True)


def main():
	command, *rest = sys.argv[1:] or [""]
	if command == "keys" and len(rest) == 1:
		make_keys(*rest)
	elif command == "anonymize" and len(rest) == 2:
		anonymize(*rest)
	elif command == "deanonymize" and len(rest) == 2:
		deanonymize(*rest)
	elif command == "hash" and len(rest) >= 2:
		for value in rest[1:]:
			print(hashed(value, rest[0])[SETTING_LEN:])
	else:
		sys.exit(__doc__)


if __name__ == "__main__":
	main()
