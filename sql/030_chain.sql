-- The chain: setting it up, and what its guards refuse to whom.  The tests of workers
-- and crashes are in test/t.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apm CASCADE;
SELECT count(*) > 0 AS keys FROM apm_keygen();
\set VERBOSITY terse

-- what apm_setup refuses
SELECT apm_setup(-1);
SELECT apm_setup(49);
SELECT apm_setup(access => 'everybody');
SELECT apm_setup(NULL);
CREATE ROLE regress_apm_nobody;
SET ROLE regress_apm_nobody;
SELECT apm_setup();
SELECT apm_accept_rollback();
SELECT * FROM apm_verify();
RESET ROLE;

-- one chain a database, whoever asks for a second
DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM apm.chain) THEN
		PERFORM apm_setup(8);
	END IF;
END
$$;
SELECT apm_setup();

-- what genesis is made of
SELECT position, kind, verdict, rule FROM apm.ledger WHERE height = 0 ORDER BY position;
SELECT height, transactions, previous = repeat('0', 64) AS first FROM apm.block_info WHERE height = 0;
SELECT ok, height, position, fault FROM apm_verify(0, 0);
SELECT ok, height, fault FROM apm_verify(0, 1);
SELECT ok, height, fault FROM apm_verify(7);
SELECT hash_fits, apm.header_hash('\x00') = decode(hash, 'hex') AS any_header FROM apm.block_info;
SELECT count(*) FILTER (WHERE member = 1) AS nodes, count(*) FILTER (WHERE member = 2) AS origins FROM apm.member;
SELECT relation::regclass FROM apm.cloud_target;

-- names of the codes
SELECT apm.rule_name(5::smallint), apm.rule_text(5::smallint), apm.rule_name(99::smallint);
SELECT apm.kind_name(2::smallint), apm.kind_name(0::smallint);

-- rows of the ledger are added and never changed, by nobody
UPDATE apm.block SET height = height + 1;
DELETE FROM apm.block WHERE false;
TRUNCATE apm.block;
UPDATE apm.leaf SET rule = 1;
DELETE FROM apm.leaf;
TRUNCATE apm.leaf;
UPDATE apm.body SET nonce = nonce WHERE false;
DELETE FROM apm.body;
TRUNCATE apm.body;
TRUNCATE apm.block, apm.leaf, apm.body CASCADE;
MERGE INTO apm.block AS b USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE;
SET session_replication_role = replica;
UPDATE apm.block SET height = height + 1;
DELETE FROM apm.leaf;
TRUNCATE apm.body;
RESET session_replication_role;

-- nor are the tables around it emptied at once
DO $$
DECLARE
	emptied text;
	told text;
BEGIN
	FOREACH emptied IN ARRAY ARRAY['chain', 'tip', 'member', 'contract_item', 'ledger_patient', 'ledger_record', 'ledger_token',
		'ledger_query', 'ledger_consent', 'ledger_export', 'ledger_count', 'submission',
		'queue', 'pool', 'candidate', 'final_queue', 'outbox']
	LOOP
		BEGIN
			EXECUTE format('TRUNCATE apm.%I', emptied);
			RAISE EXCEPTION '% was truncated', emptied;
		EXCEPTION WHEN SQLSTATE 'AP006' THEN
			GET STACKED DIAGNOSTICS told = CONSTRAINT_NAME;
			RAISE WARNING '%', told;
		END;
	END LOOP;
END
$$;

-- A block after the tip, with whatever fields are given and a nonce that meets the difficulty.
CREATE FUNCTION new_block(field text DEFAULT '', value bytea DEFAULT '', mined boolean DEFAULT true) RETURNS bytea
LANGUAGE plpgsql AS $$
DECLARE
	tip apm.block%ROWTYPE;
	start bytea;
	header bytea;
	bits integer;
	parts bytea[];
	names text[] := ARRAY['tag', 'version', 'chain', 'height', 'previous', 'root', 'count', 'history', 'contract',
		'time', 'bits', 'node'];
	history bytea;
	tree bytea[];
BEGIN
	SELECT b.* INTO tip FROM apm.block AS b JOIN apm.tip AS t ON t.hash = b.hash;
	-- root over all earlier blocks, RFC 6962
	SELECT array_agg(sha256('\x00'::bytea || b.hash) ORDER BY b.height) INTO tree FROM apm.block AS b;
	history := regress_root(tree);
	parts := ARRAY[substring(tip.header FROM 1 FOR 1), substring(tip.header FROM 2 FOR 1),
		substring(tip.header FROM 3 FOR 32), int8send(tip.height + 1), tip.hash, sha256(''), int4send(0), history,
		substring(tip.header FROM 143 FOR 32), substring(tip.header FROM 175 FOR 8), substring(tip.header FROM 183 FOR 4),
		substring(tip.header FROM 187 FOR 32)];
	IF field <> '' THEN
		parts[array_position(names, field)] := value;
	END IF;
	SELECT string_agg(p, ''::bytea ORDER BY o) INTO start FROM unnest(parts) WITH ORDINALITY AS u (p, o);
	bits := least(get_byte(parts[11], 3), 20);
	FOR nonce IN 0 .. 100000000
	LOOP
		header := start || int8send(nonce);
		EXIT WHEN mined = (('x' || encode(substring(sha256(sha256(header)) FROM 1 FOR 4), 'hex'))::bit(32)
			& ~(B'11111111111111111111111111111111' >> bits) = B'0'::bit(32));
	END LOOP;
	RETURN header;
END
$$;
CREATE FUNCTION regress_root(leaves bytea[]) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	n integer := cardinality(leaves);
	k integer := 1;
BEGIN
	IF n = 1 THEN
		RETURN leaves[1];
	END IF;
	WHILE k * 2 < n
	LOOP
		k := k * 2;
	END LOOP;
	RETURN sha256('\x01'::bytea || regress_root(leaves[1:k]) || regress_root(leaves[k + 1:n]));
END
$$;
-- What inserting a block by hand is refused with.
CREATE FUNCTION refused(header bytea, hash bytea DEFAULT NULL, height bigint DEFAULT NULL, signature bytea DEFAULT NULL,
	OUT state text, OUT rule text) LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO apm.block VALUES (coalesce(hash, sha256(sha256(header))),
		coalesce(height, ('x' || encode(substring(header FROM 35 FOR 8), 'hex'))::bit(64)::bigint), header,
		coalesce(signature, decode(repeat('01', 64), 'hex')));
	RAISE EXCEPTION 'it was let in';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, rule = CONSTRAINT_NAME;
	IF rule = '' THEN
		rule := SQLERRM;
	END IF;
END
$$;

-- a block made by hand, wrong in one thing each
SELECT * FROM refused(new_block('tag', '\x00', false));
SELECT * FROM refused(new_block(), hash => sha256('other'));
SELECT * FROM refused(new_block(), height => 0);
SELECT * FROM refused(new_block(), height => -1);
SELECT * FROM refused(new_block('height', int8send(9223372036854775807)));
SELECT * FROM refused(new_block('height', '\xffffffffffffffff'), height => 0);
SELECT * FROM refused(new_block('chain', sha256('other')));
SELECT * FROM refused(new_block('previous', sha256('other')));
SELECT * FROM refused(new_block('history', sha256('other')));
SELECT * FROM refused(new_block('time', int8send(0)));
SELECT * FROM refused(new_block('bits', int4send(0)));
SELECT * FROM refused(new_block(mined => false));
SELECT * FROM refused(new_block('count', int4send(5000)));
SELECT * FROM refused(new_block('contract', sha256('other')));
SELECT * FROM refused(new_block('node', sha256('other')));
SELECT * FROM refused(new_block());
SELECT * FROM refused(substring(new_block() FROM 2));
SET session_replication_role = replica;
SELECT * FROM refused(new_block());
RESET session_replication_role;
\set VERBOSITY default
INSERT INTO apm.block SELECT sha256(sha256(h)), 1, h, decode(repeat('01', 64), 'hex')
	FROM (SELECT new_block('previous', '\x0000000000000000000000000000000000000000000000000000000000000001')) AS n (h);
\set VERBOSITY terse

-- a second copy of a block that is there
INSERT INTO apm.block SELECT * FROM apm.block WHERE height = 0;

-- leaves and bodies that cannot stand in any block
INSERT INTO apm.leaf SELECT block, 4096, tid, kind, rule, leaf FROM apm.leaf LIMIT 1;
INSERT INTO apm.leaf SELECT block, -1, tid, kind, rule, leaf FROM apm.leaf LIMIT 1;
INSERT INTO apm.leaf SELECT block, 100, tid, 0, rule, leaf FROM apm.leaf LIMIT 1;
INSERT INTO apm.leaf SELECT block, 100, tid, 9, rule, leaf FROM apm.leaf LIMIT 1;
INSERT INTO apm.leaf SELECT block, 100, tid, kind, 99, leaf FROM apm.leaf LIMIT 1;
INSERT INTO apm.leaf SELECT block, 100, tid, kind, rule, sha256(leaf) FROM apm.leaf LIMIT 1;
INSERT INTO apm.leaf SELECT block, 100, NULL, kind, rule, leaf FROM apm.leaf LIMIT 1;
INSERT INTO apm.body SELECT tid, sha256(nonce), transaction, proof FROM apm.body LIMIT 1;
INSERT INTO apm.body SELECT tid, nonce, transaction || '\x00'::bytea, proof FROM apm.body LIMIT 1;
INSERT INTO apm.body SELECT tid, nonce, transaction, proof || '\x00'::bytea FROM apm.body LIMIT 1;
INSERT INTO apm.body SELECT gen_random_uuid(), nonce, transaction, proof FROM apm.body LIMIT 1;
COPY apm.leaf FROM STDIN;
\\x00	0	00000000-0000-0000-0000-000000000000	1	0	\\x00
\.

-- a write that is not ours is noticed, whatever it does, also after a savepoint was rolled back
BEGIN;
DELETE FROM apm.pool WHERE false;
SAVEPOINT before;
UPDATE apm.tip SET height = height;
ROLLBACK TO before;
UPDATE apm.tip SET height = height;
INSERT INTO apm.leaf SELECT sha256(block), position, tid, kind, rule, leaf FROM apm.leaf;
INSERT INTO apm.queue (tid, sealed, queued_at) VALUES (gen_random_uuid(), '', now());
SET session_replication_role = replica;
DELETE FROM apm.outbox;
RESET session_replication_role;
SELECT relation FROM apm.load_notice ORDER BY relation COLLATE "C";
ROLLBACK;
SELECT count(*) FROM apm.load_notice;

-- becoming the workers' role does not make a write ours
BEGIN;
GRANT apm_worker TO CURRENT_USER;
SET LOCAL ROLE apm_worker;
DELETE FROM apm.pool;
RESET ROLE;
SELECT relation FROM apm.load_notice;
ROLLBACK;

-- a sealed row for the contract must open
INSERT INTO apm.verdict (seq, pt) VALUES (1, '\x00');
INSERT INTO apm.verdict (seq, pt) VALUES (1, NULL);
INSERT INTO apm.verdict (pt) VALUES ('\x00');

-- our trigger functions serve our tables only
CREATE TABLE block (LIKE apm.block);
CREATE TRIGGER a BEFORE UPDATE ON block FOR EACH ROW EXECUTE FUNCTION apm.guard_keep();
INSERT INTO block SELECT * FROM apm.block WHERE height = 0;
UPDATE block SET height = 1;
DROP TRIGGER a ON block;
CREATE TRIGGER a BEFORE INSERT ON block FOR EACH ROW EXECUTE FUNCTION apm.contract();
INSERT INTO block SELECT * FROM apm.block WHERE height = 0;
DROP TRIGGER a ON block;
CREATE TRIGGER a AFTER INSERT ON block FOR EACH ROW EXECUTE FUNCTION apm.guard_block();
INSERT INTO block SELECT * FROM apm.block WHERE height = 0;
DROP TRIGGER a ON block;
CREATE TRIGGER a AFTER INSERT ON block FOR EACH STATEMENT EXECUTE FUNCTION apm.guard_notice();
INSERT INTO block SELECT * FROM apm.block WHERE height = 0;
DROP TABLE block;
BEGIN;
CREATE TRIGGER a BEFORE INSERT ON apm.block FOR EACH ROW EXECUTE FUNCTION apm.guard_block();
INSERT INTO apm.block SELECT * FROM apm.block WHERE height = 0;
ROLLBACK;
SELECT apm.guard_keep();

-- nothing of this is left behind
SELECT ok, fault FROM apm_verify();
SELECT apm_accept_rollback() ~ 'nothing to accept' AS nothing_to_accept;
DROP FUNCTION new_block, regress_root, refused;
DROP ROLE regress_apm_nobody;
