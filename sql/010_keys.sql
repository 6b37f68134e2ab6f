-- Settings and keys: what each setting accepts and from whom, keys made once.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apm CASCADE;
RESET client_min_messages;

-- every setting, its default, and who may change it
SELECT name, vartype, context, boot_val, min_val, max_val, enumvals
	FROM pg_settings WHERE name LIKE 'apm.%' ORDER BY name COLLATE "C";
SET apm.unheard_of = 1;
SET apm.key_directory = '/nowhere';
SET apm.salting_rounds = 3;
SET apm.salting_rounds = 15;
SET apm.pseudonym = 'plain';
SET apm.pseudonym = 'random';
RESET apm.pseudonym;
CREATE ROLE regress_apm_nobody;
SET ROLE regress_apm_nobody;
SET apm.salting_rounds = 10;
SET apm.pseudonym = 'random';
SET apm.allow_paper_profile = on;
SET apm.max_queue = 1;
SHOW apm.key_directory;
SHOW apm.secret_command;
SELECT * FROM apm_keygen();
SELECT * FROM apm.key;
RESET ROLE;
DROP ROLE regress_apm_nobody;

-- the second time, none is made
SELECT kind, length(key_id) FROM apm_keygen();
SELECT count(*) AS made FROM apm_keygen() WHERE created;
SELECT kind, generation, active, has_private FROM apm.key;
SELECT count(DISTINCT key_id) AS ids, bool_and(key_id ~ '^[0-9a-f]{16}$') AS hexadecimal FROM apm.key;
