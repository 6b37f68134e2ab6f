-- Digests and proofs: what stands in the ledger proves itself to whoever has a digest, and nothing else does.
-- Goes on where 051_records ended: the chain has records, amendments and queries in many blocks.
CREATE ROLE regress_apm_doctor;
GRANT apm_clinician TO regress_apm_doctor;
CREATE ROLE regress_apm_sensor;
GRANT apm_sensor TO regress_apm_sensor;
CREATE ROLE regress_apm_outsider;
-- the state and the message, hint included, of the error of a statement
CREATE FUNCTION regress_fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'it does not fail';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' / ', SQLSTATE, SQLERRM, NULLIF(hint, ''));
END $$;

-- somebody whom the chain does not know: a query that is refused, and kept
SET ROLE regress_apm_doctor;
SELECT regress_fails($$ SELECT count(*) FROM apm_fetch('not a patient of ours') $$);
RESET ROLE;

-- the digest of any block, put together from the tables as doc/format.md says
CREATE FUNCTION regress_digest(at bigint) RETURNS jsonb LANGUAGE sql STABLE
RETURN (SELECT jsonb_build_object('type', 'apm digest', 'version', 1, 'chain', encode(substring(b.header FROM 3 FOR 32), 'hex'),
		'height', b.height, 'time', to_char(timestamptz 'epoch' + interval '1 us'
			* ('x' || encode(substring(b.header FROM 175 FOR 8), 'hex'))::bit(64)::bigint, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
		'hash', encode(b.hash, 'hex'), 'header', encode(b.header, 'hex'), 'signature', encode(b.signature, 'hex'),
		'node', encode(m.spki, 'hex'))
	FROM apm.block AS b JOIN apm.member AS m ON m.id = substring(b.header FROM 187 FOR 32) AND m.member = 1 WHERE b.height = at);
SET TimeZone = 'UTC';
SELECT apm_digest() = regress_digest((SELECT max(height) FROM apm.block)) AS the_last_block;

-- who may
SET ROLE regress_apm_doctor;
SELECT regress_fails('SELECT apm_digest()'), regress_fails('SELECT apm_export_ledger()');
SELECT regress_fails('SELECT apm_prove(gen_random_uuid())'), regress_fails('SELECT apm_prove_read(gen_random_uuid())');
SET ROLE regress_apm_sensor;
SELECT regress_fails($$ SELECT apm_prove_consistency('{}') $$);
SELECT regress_fails($$ SELECT apm_verify_proof('{}', '{}') $$);
SELECT regress_fails($$ SELECT apm_verify_consistency('{}', '{}', '{}') $$);
SET ROLE regress_apm_outsider;
SELECT regress_fails($$ SELECT apm_prove_consistency('{}') $$);
SELECT regress_fails($$ SELECT apm_verify_proof('{}', '{}') $$);
SELECT regress_fails($$ SELECT apm_verify_consistency('{}', '{}', '{}') $$);
RESET ROLE;

-- chains of 1, 2, 3, ... blocks: every record to the digest of its own block and of each one after it
CREATE TEMP TABLE heads AS SELECT h, regress_digest(h) AS digest FROM generate_series(0, least(32, (SELECT max(height) FROM apm.block))) AS h;
SELECT count(*) > 12 AS enough FROM heads;
CREATE TEMP TABLE proofs AS
	SELECT r.rid, r.tid, r.height, r.position, h.h, h.digest, apm_prove(r.rid, h.digest) AS proof
	FROM (SELECT DISTINCT ON (height, position < 2) * FROM apm.ledger_record ORDER BY height, position < 2, position) AS r
		JOIN heads AS h ON h.h >= r.height;
SELECT count(*) > 20 AS enough, count(*) FILTER (WHERE v.ok AND v.fault IS NULL AND v.tid = p.tid AND v.kind = 'primary' AND v.rule IS NULL
		AND v.height = p.height AND v.position = p.position AND v.rid = p.rid AND v.recorded_at = i.block_time) = count(*) AS all_good,
	bool_and((proof ->> 'head')::bigint = h) AS heads, bool_and((proof -> 'history' = '[]') = (h = p.height)) AS of_the_head_itself
	FROM proofs AS p CROSS JOIN LATERAL apm_verify_proof(p.proof, p.digest) AS v JOIN apm.block_info AS i ON i.height = p.height;
-- as many hashes as the logarithm allows, and no more
SELECT bool_and(jsonb_array_length(proof -> 'history') <= ceil(log(2, greatest(h, 1)))) AS history,
	bool_and(jsonb_array_length(proof -> 'path') <= ceil(log(2, i.transactions::numeric))) AS path
	FROM proofs AS p JOIN apm.block_info AS i USING (height);
-- to the end of the chain, every record; a record of a block with many
SELECT count(*) > 2500 AS many, bool_and(v.ok AND v.rid = r.rid) AS good, max(jsonb_array_length(p -> 'path')) > 5 AS a_large_block
	FROM apm.ledger_record AS r CROSS JOIN LATERAL apm_prove(r.rid) AS p CROSS JOIN LATERAL apm_verify_proof(p, apm_digest()) AS v;
-- reads, allowed and refused
SELECT bool_and(v.ok AND v.tid = q.tid AND v.kind = 'query' AND v.rid IS NULL) AS good,
	bool_and(v.rule IS NOT DISTINCT FROM apm.rule_name(NULLIF(q.rule, 0))) AS rules, bool_or(v.rule = 'patient') AS refused, bool_or(v.rule IS NULL) AS allowed
	FROM apm.ledger_query AS q CROSS JOIN LATERAL apm_verify_proof(apm_prove_read(q.tid), apm_digest()) AS v;

-- a proof leads to the digest that it was made for, and to no other
SELECT count(*) FILTER (WHERE v.ok) AS good, array_agg(DISTINCT v.fault) AS fault
	FROM proofs AS p JOIN heads AS h ON h.h <> p.h CROSS JOIN LATERAL apm_verify_proof(p.proof, h.digest) AS v;
SELECT count(*) FILTER (WHERE v.ok) AS good, array_agg(DISTINCT v.fault) AS fault
	FROM proofs AS p JOIN heads AS h ON h.h <> p.h
		CROSS JOIN LATERAL apm_verify_proof(jsonb_set(p.proof, '{head}', to_jsonb(h.h)), h.digest) AS v;

-- each member altered, in every way that its type has
CREATE FUNCTION regress_altered(whole jsonb, OUT member text, OUT altered jsonb) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	was jsonb;
	other text;
BEGIN
	FOR member, was IN SELECT * FROM jsonb_each(whole)
	LOOP
		altered := whole - member;
		RETURN NEXT;
		altered := whole || jsonb_build_object(member, 'null'::jsonb);
		RETURN NEXT;
		altered := whole || jsonb_build_object(member, jsonb_build_array(was));
		RETURN NEXT;
		IF jsonb_typeof(was) = 'number' THEN
			FOR other IN SELECT unnest(ARRAY[(was::bigint + 1)::text, (was::bigint - 1)::text, was::text || '.0', was::text || '.5', format('"%s"', was), '9223372036854775808'])
			LOOP
				altered := whole || jsonb_build_object(member, other::jsonb);
				RETURN NEXT;
			END LOOP;
		ELSIF jsonb_typeof(was) = 'array' THEN
			FOR i IN 0 .. jsonb_array_length(was) - 1
			LOOP
				altered := whole || jsonb_build_object(member, was - i);
				RETURN NEXT;
				altered := jsonb_set(whole, ARRAY[member, i::text], to_jsonb(translate(was ->> i, '0123456789abcdef', '123456789abcdef0')));
				RETURN NEXT;
				altered := jsonb_set(whole, ARRAY[member, i::text], to_jsonb(upper(was ->> i || 'a')));
				RETURN NEXT;
				altered := jsonb_insert(whole, ARRAY[member, i::text], was -> i);
				RETURN NEXT;
			END LOOP;
			altered := whole || jsonb_build_object(member, was || to_jsonb(repeat('0', 64)));
			RETURN NEXT;
			altered := whole || jsonb_build_object(member, (SELECT jsonb_agg(repeat('0', 64)) FROM generate_series(1, 300)));
			RETURN NEXT;
		ELSE
			other := was #>> '{}';
			FOR other IN SELECT overlay(other PLACING CASE substring(other FROM i FOR 1) WHEN '1' THEN '2' ELSE '1' END FROM i FOR 1)
				FROM generate_series(1, least(length(other), 200)) AS i
				UNION ALL VALUES (''), (other || '0'), (left(other, -1)), (left(other, -2)), (' ' || other), (upper(other) || 'A')
			LOOP
				altered := whole || jsonb_build_object(member, other);
				RETURN NEXT;
			END LOOP;
		END IF;
	END LOOP;
	member := 'another';
	altered := whole || '{"more": 1}';
	RETURN NEXT;
	altered := to_jsonb(whole::text);
	RETURN NEXT;
	altered := '{}';
	RETURN NEXT;
	altered := jsonb_build_array(whole);
	RETURN NEXT;
END $$;
SELECT a.member, count(*) > 3 AS ways, count(*) FILTER (WHERE v.ok) AS let_through, count(*) FILTER (WHERE v.fault IS NULL) AS without_reason
	FROM (SELECT * FROM proofs WHERE height > 0 AND h > height + 3 AND jsonb_array_length(proof -> 'path') > 0 ORDER BY height, position, h LIMIT 1) AS p
		CROSS JOIN LATERAL regress_altered(p.proof) AS a CROSS JOIN LATERAL apm_verify_proof(a.altered, p.digest) AS v
	GROUP BY a.member ORDER BY a.member;
-- a query that was allowed is not proved to have been refused, nor the other way round
SELECT q.rule > 0 AS was_refused, count(*) FILTER (WHERE v.ok) AS let_through
	FROM apm.ledger_query AS q CROSS JOIN LATERAL apm_prove_read(q.tid) AS p
		CROSS JOIN LATERAL apm_verify_proof(jsonb_set(p, '{rule}', CASE WHEN q.rule > 0 THEN '0' ELSE '6' END::jsonb), apm_digest()) AS v
	GROUP BY 1 ORDER BY 1;
-- a digest is refused as an argument
CREATE FUNCTION regress_refused(call text, digest jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE call USING digest;
	RETURN 'it is let through';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
SELECT a.member, count(*) > 3 AS ways, array_agg(DISTINCT regress_refused(c.call, a.altered)) AS refused_with
	FROM regress_altered(apm_digest()) AS a, (VALUES ('SELECT apm_verify_proof($$[]$$, $1)'), ('SELECT apm_prove_consistency($1)'),
		('SELECT apm_prove((SELECT rid FROM apm.ledger_record LIMIT 1), $1)'), ('SELECT apm_verify_consistency($$[]$$, $1, $1)')) AS c (call)
	GROUP BY a.member ORDER BY a.member;

-- consistency between all pairs
CREATE TEMP TABLE growth AS
	SELECT o.h AS old, n.h AS new, o.digest AS old_digest, n.digest AS new_digest, apm_prove_consistency(o.digest, n.digest) AS proof
	FROM heads AS o JOIN heads AS n ON n.h >= o.h;
SELECT count(*) > 90 AS enough, bool_and(v.ok AND v.fault IS NULL) AS good,
	bool_and(jsonb_array_length(g.proof -> 'history') <= ceil(log(2, greatest(new, 1))) + 1
		AND jsonb_array_length(g.proof -> 'inclusion') <= ceil(log(2, greatest(new, 1)))) AS logarithmic,
	bool_and((g.proof -> 'history' = '[]') = (old IN (0, new))) AS history, bool_and((g.proof -> 'inclusion' = '[]') = (old = new OR new = 1)) AS inclusion
	FROM growth AS g CROSS JOIN LATERAL apm_verify_consistency(g.proof, g.old_digest, g.new_digest) AS v;
SELECT count(*) FILTER (WHERE v.ok) AS good, array_agg(DISTINCT v.fault) AS fault
	FROM growth AS g JOIN heads AS h ON h.h <> g.new CROSS JOIN LATERAL apm_verify_consistency(g.proof, g.old_digest, h.digest) AS v;
SELECT count(*) FILTER (WHERE v.ok) AS good, array_agg(DISTINCT v.fault) AS fault
	FROM growth AS g JOIN heads AS h ON h.h <> g.old AND h.h <= g.new
		CROSS JOIN LATERAL apm_verify_consistency(jsonb_set(g.proof, '{old}', to_jsonb(h.h)), h.digest, g.new_digest) AS v WHERE g.new BETWEEN 2 AND 9;
SELECT a.member, count(*) > 3 AS ways, count(*) FILTER (WHERE v.ok) AS let_through
	FROM growth AS g CROSS JOIN LATERAL regress_altered(g.proof) AS a
		CROSS JOIN LATERAL apm_verify_consistency(a.altered, g.old_digest, g.new_digest) AS v
	WHERE g.old = 5 AND g.new = 12 GROUP BY a.member ORDER BY a.member;
SELECT v.* FROM growth AS g CROSS JOIN LATERAL apm_verify_consistency(apm_prove_consistency(g.old_digest), g.old_digest, apm_digest()) AS v
	WHERE g.old = 5 AND g.new = 12;

-- what cannot be proved
SELECT regress_fails($$ SELECT apm_prove(gen_random_uuid()) $$);
SELECT regress_fails($$ SELECT apm_prove_read((SELECT tid FROM apm.ledger_record LIMIT 1)) $$);
SELECT regress_fails($$ SELECT apm_prove((SELECT rid FROM apm.ledger_record ORDER BY height DESC LIMIT 1), (SELECT digest FROM heads WHERE h = 0)) $$);
SELECT regress_fails($$ SELECT apm_prove_consistency((SELECT digest FROM heads WHERE h = 5), (SELECT digest FROM heads WHERE h = 4)) $$);
SELECT apm_prove(NULL) IS NULL AND apm_prove_read(NULL) IS NULL AND apm_prove_consistency(NULL) IS NULL AS nothing_of_nothing;

-- the ledger in lines: what stands in the tables, in its order
CREATE TEMP TABLE line AS SELECT row_number() OVER () - 1 AS nr, decode(l, 'base64') AS b, l FROM apm_export_ledger() AS l;
SELECT count(*) = (SELECT count(*) FROM apm.block) AS a_line_a_block, bool_and(strpos(l, E'\n') = 0) AS whole_lines FROM line;
SELECT bool_and(substring(l.b FROM 1 FOR 2) = '\x5801' AND substring(l.b FROM 3 FOR 8) = int8send(k.height) AND substring(l.b FROM 11 FOR 32) = k.hash
		AND substring(l.b FROM 43 FOR 4 + 226) = int4send(226) || k.header AND substring(l.b FROM 273 FOR 4 + 64) = int4send(64) || k.signature
		AND substring(l.b FROM 341) = int4send((SELECT count(*)::integer FROM apm.leaf WHERE block = k.hash))
			|| (SELECT string_agg(int4send(f.position) || uuid_send(f.tid) || int2send(f.kind) || int2send(f.rule) || f.leaf
					|| CASE WHEN d.tid IS NULL THEN '\x00' ELSE '\x01' || int4send(32) || d.nonce || int4send(octet_length(d.transaction)) || d.transaction
						|| int4send(octet_length(d.proof)) || d.proof END, '' ORDER BY f.position)
				FROM apm.leaf AS f LEFT JOIN apm.body AS d USING (tid) WHERE f.block = k.hash)) AS as_stored
	FROM line AS l FULL JOIN apm.block AS k ON k.height = l.nr;
SELECT count(*) FROM (SELECT apm_export_ledger() LIMIT 3) AS few;
-- one snapshot: a block that is appended while lines are read is in none of them
CREATE FUNCTION regress_cursor(OUT grown boolean, OUT as_of_its_start boolean) LANGUAGE plpgsql AS $$
DECLARE
	lines CURSOR FOR SELECT apm_export_ledger();
	line text;
	before bigint := (SELECT count(*) FROM apm.block);
	n bigint := 1;
BEGIN
	OPEN lines;
	FETCH lines INTO line;
	SET LOCAL ROLE regress_apm_doctor;
	PERFORM regress_fails('SELECT count(*) FROM apm_fetch($q$not a patient of ours$q$)');
	RESET ROLE;
	grown := (SELECT count(*) FROM apm.block) > before;
	LOOP
		FETCH lines INTO line;
		EXIT WHEN NOT FOUND;
		n := n + 1;
	END LOOP;
	as_of_its_start := n = before;
END $$;
SELECT * FROM regress_cursor();
SELECT count(*) = (SELECT count(*) FROM apm.block) AS and_the_next_has_it FROM apm_export_ledger();

DROP FUNCTION regress_fails(text), regress_digest(bigint), regress_altered(jsonb), regress_refused(text, jsonb), regress_cursor();
DROP ROLE regress_apm_doctor, regress_apm_sensor, regress_apm_outsider;
