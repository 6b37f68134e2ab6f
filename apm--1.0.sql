/*
 * apm--1.0.sql
 *	  Objects of the extension, in the order of a record's journey.
 *
 * Entry points are functions apm_* in the schema that the extension is created in;
 * tables and views live in the schema apm.  Everything is revoked from PUBLIC where
 * it is defined.  The C code reads and writes the tables as the role apm_worker,
 * whoever calls it; no caller needs a right on a table.
 */
\echo Use "CREATE EXTENSION apm CASCADE" to load this file. \quit

-- Others may have been able to create objects in the schema that the extension goes to.  A
-- function or operator there that fits a call below better than pg_catalog's own would
-- become part of ours.
SET LOCAL search_path = pg_catalog, pg_temp;

-- ---------------------------------------------------------------------------
-- Roles.  They belong to the server, not to the database: another database may
-- have made them.  A role of that name is refused if it has powers of its own, is in another
-- role, or, being the workers', has a member or lets somebody log in; or whoever planted
-- it would inherit ours.
-- ---------------------------------------------------------------------------
DO LANGUAGE plpgsql $roles$
DECLARE
	wanted pg_catalog.text;
	existing pg_catalog.pg_authid%ROWTYPE;
BEGIN
	FOREACH wanted IN ARRAY ARRAY['apm_admin', 'apm_registrar', 'apm_clinician', 'apm_sensor',
		'apm_researcher', 'apm_auditor', 'apm_peer', 'apm_worker']
	LOOP
		SELECT * INTO existing FROM pg_catalog.pg_authid AS a
			WHERE a.rolname OPERATOR(pg_catalog.=) wanted::pg_catalog.name;
		IF NOT FOUND THEN
			IF wanted OPERATOR(pg_catalog.=) 'apm_worker' THEN
				CREATE ROLE apm_worker LOGIN CONNECTION LIMIT 0;
			ELSE
				EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
			END IF;
		ELSIF existing.rolsuper OR existing.rolcreaterole OR existing.rolcreatedb OR existing.rolreplication
			OR existing.rolbypassrls
			OR existing.rolcanlogin OPERATOR(pg_catalog.<>) (wanted OPERATOR(pg_catalog.=) 'apm_worker')
			OR EXISTS (SELECT FROM pg_catalog.pg_auth_members AS m
				WHERE m.member OPERATOR(pg_catalog.=) existing.oid
				OR m.roleid OPERATOR(pg_catalog.=) existing.oid AND wanted OPERATOR(pg_catalog.=) 'apm_worker')
			OR existing.rolconnlimit OPERATOR(pg_catalog.<>) 0 AND wanted OPERATOR(pg_catalog.=) 'apm_worker' THEN
			RAISE EXCEPTION 'role % exists and has rights beyond its part in apm', wanted
				USING ERRCODE = 'insufficient_privilege',
					HINT = 'Drop the role, or take its attributes and memberships away, then create the extension again.';
		END IF;
	END LOOP;
END
$roles$;

CREATE SCHEMA apm;
REVOKE ALL ON SCHEMA apm FROM PUBLIC;
GRANT USAGE ON SCHEMA apm TO apm_admin, apm_clinician, apm_sensor, apm_researcher, apm_auditor, apm_worker;
COMMENT ON SCHEMA apm IS 'tables and views of the Anonymity Preservation Mechanism';

-- ---------------------------------------------------------------------------
-- 1. Patients: what the APM alone can open
-- ---------------------------------------------------------------------------
CREATE TABLE apm.attribute (
	name text COLLATE "C" CONSTRAINT attribute_pkey PRIMARY KEY,
	class text NOT NULL CONSTRAINT attribute_class CHECK (class IN ('identifying', 'other')),
	builtin boolean NOT NULL DEFAULT false,
	searchable boolean NOT NULL DEFAULT false,
	exportable boolean NOT NULL DEFAULT false,
	CONSTRAINT attribute_identifying CHECK (class <> 'identifying' OR NOT (searchable OR exportable))
);
COMMENT ON TABLE apm.attribute IS 'declared attributes; an identifying one never leaves the profile';
INSERT INTO apm.attribute VALUES ('Firstname', 'identifying', true), ('Lastname', 'identifying', true);

-- index_key = HMAC(index key, pid).  The patient key is wrapped by SK_APM's wrapping key of that generation.
CREATE TABLE apm.patient (
	index_key bytea CONSTRAINT patient_pkey PRIMARY KEY
		CONSTRAINT patient_index_key CHECK (octet_length(index_key) = 32),
	apid text COLLATE "C" NOT NULL CONSTRAINT patient_apid_key UNIQUE,
	identity text COLLATE "C",
	wrapped_key bytea NOT NULL CONSTRAINT patient_wrapped_key CHECK (octet_length(wrapped_key) = 60),
	generation integer NOT NULL,
	registered_at timestamptz NOT NULL,
	erasing boolean NOT NULL DEFAULT false
);
-- what a rotation of the wrapping key has still to do
CREATE INDEX patient_generation_idx ON apm.patient (generation, apid);
COMMENT ON TABLE apm.patient IS 'patient profiles (PP): keyed index, pseudonym, identity pseudonym and wrapped patient key';

-- A version becomes the one that reads use when the chain has it.
CREATE TABLE apm.profile (
	apid text COLLATE "C" NOT NULL,
	version integer NOT NULL,
	sealed bytea NOT NULL,
	tid uuid NOT NULL,
	CONSTRAINT profile_pkey PRIMARY KEY (apid, version)
);
COMMENT ON TABLE apm.profile IS 'sealed attributes of a patient, one row a version; the chain holds the digest of each';

-- The last values of attributes that data rules ask for; sealed under the patient's key, empty while there are none.
CREATE TABLE apm.last_value (
	apid text COLLATE "C" CONSTRAINT last_value_pkey PRIMARY KEY,
	sealed bytea NOT NULL
);
COMMENT ON TABLE apm.last_value IS 'sealed last values of a patient that data rules compare with';

-- Sentences that the chain has a digest of only; sealed under the patient's key.
CREATE TABLE apm.note (
	tid uuid CONSTRAINT note_pkey PRIMARY KEY,
	apid text COLLATE "C" NOT NULL,
	sealed bytea NOT NULL
);
COMMENT ON TABLE apm.note IS 'sealed notes of emergencies; the query of that Tid carries the digest';

-- Patients who are to be forgotten.  Once it is done the row says that it was, and not of whom.
CREATE TABLE apm.erasure (
	id uuid CONSTRAINT erasure_pkey PRIMARY KEY,
	asked_at timestamptz NOT NULL,
	reason smallint NOT NULL,
	state text NOT NULL DEFAULT 'asked'
		CONSTRAINT erasure_state CHECK (state IN ('asked', 'sent', 'done', 'refused')),
	apid text COLLATE "C",
	actor bytea,
	roles smallint,
	tid uuid,
	rule smallint,
	voided bigint,
	finished_at timestamptz
);
CREATE UNIQUE INDEX erasure_apid_idx ON apm.erasure (apid) WHERE apid IS NOT NULL;
COMMENT ON TABLE apm.erasure IS 'requests to forget a patient, and what became of them';

-- Keys of which a new generation was made, and how far what they hold has been moved to it.
CREATE TABLE apm.key_rotation (
	kind text NOT NULL,
	generation integer NOT NULL,
	started_at timestamptz NOT NULL,
	items_total bigint NOT NULL DEFAULT 0,
	items_done bigint NOT NULL DEFAULT 0,
	finished_at timestamptz,
	key bytea,
	CONSTRAINT key_rotation_pkey PRIMARY KEY (kind, generation)
);
COMMENT ON TABLE apm.key_rotation IS 'rotations of keys and their progress; key is the id of one that signs, whose rotation ends when the chain has it';

-- Who a staff pseudonym is.  Written with the transaction that first names it.  login is null where it stands for a
-- role, as in a grant.
-- Not unique: a client that has named somebody and not committed would block the network
-- server, which names the same one for the client's query, while the client waits for its answer.
CREATE TABLE apm.staff (
	pseudonym bytea NOT NULL CONSTRAINT staff_pseudonym CHECK (octet_length(pseudonym) = 16),
	acting name NOT NULL,
	login name,
	first_seen timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX staff_pseudonym_idx ON apm.staff (pseudonym);
COMMENT ON TABLE apm.staff IS 'staff pseudonyms on the chain, resolved at their origin';

-- ---------------------------------------------------------------------------
-- 2. Submission: a record from acknowledgement to the network server
-- ---------------------------------------------------------------------------
-- Kept for ever: the same Rid with the same content again is a no-op.  Of an erased patient's records only the Rid stays:
-- the fingerprint is zeros, the rest is null.
CREATE TABLE apm.submission (
	rid uuid CONSTRAINT submission_pkey PRIMARY KEY,
	fingerprint bytea NOT NULL CONSTRAINT submission_fingerprint CHECK (octet_length(fingerprint) = 32),
	tid uuid,
	submitted_at timestamptz,
	queued_at timestamptz
);
COMMENT ON TABLE apm.submission IS 'every acknowledged Rid with a keyed fingerprint of its content; tid and queued_at are null while it waits in apm.waiting, all but the Rid is blank when its patient was forgotten';

-- From a sensor: sealed for the APM.  It is new until reception has looked for its patient.
CREATE TABLE apm.waiting (
	id bigint GENERATED ALWAYS AS IDENTITY,
	rid uuid CONSTRAINT waiting_pkey PRIMARY KEY,
	index_key bytea NOT NULL,
	generation integer NOT NULL,
	sealed bytea NOT NULL,
	reason text NOT NULL
		CONSTRAINT waiting_reason CHECK (reason IN ('new', 'patient', 'identity', 'failed')),
	since timestamptz NOT NULL
);
CREATE INDEX waiting_new_idx ON apm.waiting (id) WHERE reason = 'new';
-- Not for new rows: what a sensor writes must not depend on whose record it is.
CREATE INDEX waiting_later_idx ON apm.waiting (index_key) WHERE reason <> 'new';
-- what a rotation of the wrapping key has still to do; a new row stands at its end, whoever's it is
CREATE INDEX waiting_generation_idx ON apm.waiting (generation, id);
ALTER TABLE apm.waiting ALTER COLUMN sealed SET STORAGE EXTERNAL;
COMMENT ON TABLE apm.waiting IS 'records of sensors that wait, sealed, for reception or for their patient';

-- A table of the administrator's whose new rows are submitted.  Its triggers say which column is what; here
-- is what outlives them.  position is a key, sealed: where a backfill is.
CREATE TABLE apm.attached_table (
	relation regclass CONSTRAINT attached_table_pkey PRIMARY KEY,
	id uuid NOT NULL CONSTRAINT attached_table_id_key UNIQUE,
	key_columns name[] NOT NULL,
	attached_at timestamptz NOT NULL,
	detached_at timestamptz,
	started_at timestamptz,
	finished_at timestamptz,
	position bytea,
	rows_done bigint NOT NULL DEFAULT 0,
	rows_refused bigint NOT NULL DEFAULT 0,
	rows_estimated bigint
);
COMMENT ON TABLE apm.attached_table IS 'tables that are or were attached: the id that Rids of their rows are derived from, and how far a backfill is';

CREATE TABLE apm.attached_refusal (
	rid uuid CONSTRAINT attached_refusal_pkey PRIMARY KEY,
	id uuid NOT NULL,
	code text NOT NULL,
	refused_at timestamptz NOT NULL
);
COMMENT ON TABLE apm.attached_refusal IS 'rows that a backfill could not submit, by the Rid that they would have, with the SQLSTATE that says why';

CREATE TABLE apm.queue (
	id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT queue_pkey PRIMARY KEY,
	tid uuid NOT NULL,
	sealed bytea NOT NULL,
	queued_at timestamptz NOT NULL,
	tries integer NOT NULL DEFAULT 0,
	not_before timestamptz
) WITH (toast_tuple_target = 8160);
-- not_before: null is ready; else it waits for its patient (tries = 0) or after a failure.
CREATE INDEX queue_ready_idx ON apm.queue (id) WHERE not_before IS NULL;
CREATE INDEX queue_later_idx ON apm.queue (not_before) WHERE not_before IS NOT NULL;
ALTER TABLE apm.queue ALTER COLUMN sealed SET STORAGE EXTERNAL;
COMMENT ON TABLE apm.queue IS 'sealed aPRs on their way from the APM to the network server';

-- What could not be opened or handled, with its reason, after a few tries.
CREATE TABLE apm.quarantine (
	id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT quarantine_pkey PRIMARY KEY,
	stage text NOT NULL CONSTRAINT quarantine_stage CHECK (stage IN ('queue', 'pool', 'final', 'outbox')),
	tid uuid,
	reason text NOT NULL,
	content bytea NOT NULL,
	quarantined_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE apm.quarantine IS 'rows that a stage could not handle; content as it was';

-- ---------------------------------------------------------------------------
-- 3. Chain: pool, contract, ledger
-- ---------------------------------------------------------------------------
CREATE TABLE apm.chain (
	one boolean CONSTRAINT chain_pkey PRIMARY KEY DEFAULT true CONSTRAINT chain_one CHECK (one),
	chain bytea NOT NULL CONSTRAINT chain_id CHECK (octet_length(chain) = 32),
	node bytea NOT NULL CONSTRAINT chain_node CHECK (octet_length(node) = 32),
	origin bytea NOT NULL CONSTRAINT chain_origin CHECK (octet_length(origin) = 32),
	created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE apm.chain IS 'the chain this database takes part in, and as whom';

CREATE TABLE apm.pool (
	seq bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pool_pkey PRIMARY KEY,
	tid uuid NOT NULL CONSTRAINT pool_tid_key UNIQUE,
	pt bytea NOT NULL,
	received_at timestamptz NOT NULL,
	tries integer NOT NULL DEFAULT 0
) WITH (toast_tuple_target = 8160);
ALTER TABLE apm.pool ALTER COLUMN pt SET STORAGE EXTERNAL;
COMMENT ON TABLE apm.pool IS 'PTs and QTs, sealed for the chain, that are in no block yet';

-- The contract's trigger opens pt, judges it, fills the other columns and drops pt.
CREATE UNLOGGED TABLE apm.verdict (
	seq bigint CONSTRAINT verdict_pkey PRIMARY KEY,
	pt bytea,
	tid uuid,
	kind smallint,
	leaf bytea,
	rule smallint,
	judged_at timestamptz
);
COMMENT ON TABLE apm.verdict IS 'validation results (VR) of the pool rows of the block in making; rule 0 is valid';

-- Committed before it is signed; at most one.
CREATE TABLE apm.candidate (
	height bigint CONSTRAINT candidate_pkey PRIMARY KEY,
	hash bytea NOT NULL,
	header bytea NOT NULL,
	entries bytea NOT NULL,
	made_at timestamptz NOT NULL
);
ALTER TABLE apm.candidate ALTER COLUMN entries SET STORAGE EXTERNAL;
COMMENT ON TABLE apm.candidate IS 'the mined block that waits for its signature';

CREATE TABLE apm.block (
	hash bytea CONSTRAINT block_pkey PRIMARY KEY CONSTRAINT block_hash CHECK (octet_length(hash) = 32),
	height bigint NOT NULL CONSTRAINT block_height CHECK (height >= 0),
	header bytea NOT NULL CONSTRAINT block_header CHECK (octet_length(header) = 226),
	signature bytea NOT NULL CONSTRAINT block_signature CHECK (octet_length(signature) = 64),
	stored_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX block_height_idx ON apm.block (height);
-- by the time in the header: what counters of the last hour begin with
CREATE INDEX block_time_idx ON apm.block (substring(header FROM 175 FOR 8), height);
COMMENT ON TABLE apm.block IS 'signed blocks; append only';

CREATE TABLE apm.leaf (
	block bytea NOT NULL CONSTRAINT leaf_block CHECK (octet_length(block) = 32),
	position integer NOT NULL CONSTRAINT leaf_position CHECK (position >= 0),
	tid uuid NOT NULL,
	kind smallint NOT NULL,
	rule smallint NOT NULL,
	leaf bytea NOT NULL CONSTRAINT leaf_leaf CHECK (octet_length(leaf) = 32),
	CONSTRAINT leaf_pkey PRIMARY KEY (block, position)
);
CREATE INDEX leaf_tid_idx ON apm.leaf (tid);
COMMENT ON TABLE apm.leaf IS 'entries of the blocks, kept for ever; rule 0 is valid; append only';

CREATE TABLE apm.body (
	tid uuid CONSTRAINT body_pkey PRIMARY KEY,
	nonce bytea NOT NULL CONSTRAINT body_nonce CHECK (octet_length(nonce) = 32),
	transaction bytea NOT NULL,
	proof bytea NOT NULL
) WITH (toast_tuple_target = 8160);
ALTER TABLE apm.body ALTER COLUMN transaction SET STORAGE EXTERNAL;
COMMENT ON TABLE apm.body IS 'opened transactions with their nonces and origin signatures; prunable by an erasure only';

-- State derived from the ledger; apm_verify() derives it again.
CREATE TABLE apm.tip (
	one boolean CONSTRAINT tip_pkey PRIMARY KEY DEFAULT true CONSTRAINT tip_one CHECK (one),
	height bigint NOT NULL,
	hash bytea NOT NULL,
	frontier bytea NOT NULL
);
COMMENT ON TABLE apm.tip IS 'derived: last final block, and the frontier of the tree over all block hashes';

CREATE TABLE apm.member (
	id bytea NOT NULL,
	member smallint NOT NULL,
	spki bytea NOT NULL,
	height bigint NOT NULL,
	home bytea NOT NULL,
	ended_height bigint,
	ended_time bigint,
	CONSTRAINT member_pkey PRIMARY KEY (id, member)
);
COMMENT ON TABLE apm.member IS 'derived: keys of the nodes (1) and origins (2) that the chain admits; home is the id of the member''s first key; ended_height and ended_time (microseconds since 1970) are of the block that replaced it';

-- What the contract consists of is found by applying these in order (src/core/item.h).
CREATE TABLE apm.contract_item (
	height bigint NOT NULL,
	position integer NOT NULL,
	ordinal integer NOT NULL,
	item bytea NOT NULL,
	block_time bigint NOT NULL,
	CONSTRAINT contract_item_pkey PRIMARY KEY (height, position, ordinal)
);
COMMENT ON TABLE apm.contract_item IS 'derived: items of all contract transactions; block_time in microseconds since 1970';

CREATE TABLE apm.ledger_patient (
	apid text COLLATE "C" CONSTRAINT ledger_patient_pkey PRIMARY KEY,
	origin bytea NOT NULL,
	version integer NOT NULL,
	profile bytea NOT NULL,
	height bigint NOT NULL,
	position integer NOT NULL,
	changed_height bigint NOT NULL,
	erased_height bigint
);
CREATE INDEX ledger_patient_erased_idx ON apm.ledger_patient (apid) WHERE erased_height IS NOT NULL;
COMMENT ON TABLE apm.ledger_patient IS 'derived: registered patients, the origin''s first key, and the digest of their current profile (of one who is erased: zeros)';

CREATE TABLE apm.ledger_profile (
	apid text COLLATE "C" NOT NULL,
	version integer NOT NULL,
	tid uuid NOT NULL,
	height bigint NOT NULL,
	position integer NOT NULL,
	leaf bytea NOT NULL,
	profile bytea NOT NULL,
	CONSTRAINT ledger_profile_pkey PRIMARY KEY (apid, version)
);
COMMENT ON TABLE apm.ledger_profile IS 'derived: registrations and changes of patients who are not erased, with the digest of each version of the profile';

-- What stood in ledger_profile and ledger_record of patients who are erased.  No Rid: it must not lead to the pseudonym.
CREATE TABLE apm.ledger_void (
	tid uuid CONSTRAINT ledger_void_pkey PRIMARY KEY,
	apid text COLLATE "C" NOT NULL,
	kind smallint NOT NULL,
	actor bytea NOT NULL,
	height bigint NOT NULL,
	position integer NOT NULL,
	leaf bytea NOT NULL,
	erasure uuid NOT NULL,
	erasure_height bigint NOT NULL
);
CREATE INDEX ledger_void_apid_idx ON apm.ledger_void (apid, height);
CREATE INDEX ledger_void_erasure_idx ON apm.ledger_void (erasure_height, erasure);
COMMENT ON TABLE apm.ledger_void IS 'derived: transactions that an erasure voided, whose bodies are gone';

CREATE TABLE apm.ledger_record (
	rid uuid CONSTRAINT ledger_record_pkey PRIMARY KEY,
	apid text COLLATE "C" NOT NULL,
	tid uuid NOT NULL,
	height bigint NOT NULL,
	position integer NOT NULL,
	leaf bytea NOT NULL,
	superseded_by uuid
);
CREATE INDEX ledger_record_apid_idx ON apm.ledger_record (apid, height);
COMMENT ON TABLE apm.ledger_record IS 'derived: valid records, which patient''s, and where in the chain';

CREATE TABLE apm.ledger_token (
	token bytea NOT NULL CONSTRAINT ledger_token_token CHECK (octet_length(token) = 16),
	rid uuid NOT NULL,
	CONSTRAINT ledger_token_pkey PRIMARY KEY (token, rid)
);
-- what an erasure has to find
CREATE INDEX ledger_token_rid_idx ON apm.ledger_token (rid);
COMMENT ON TABLE apm.ledger_token IS 'derived: blind tokens of valid records';

CREATE TABLE apm.ledger_query (
	tid uuid CONSTRAINT ledger_query_pkey PRIMARY KEY,
	apid text COLLATE "C",
	scope smallint NOT NULL,
	rule smallint NOT NULL,
	actor bytea NOT NULL,
	acting bytea NOT NULL,
	height bigint NOT NULL,
	position integer NOT NULL
);
CREATE INDEX ledger_query_apid_idx ON apm.ledger_query (apid, height);
CREATE INDEX ledger_query_emergency_idx ON apm.ledger_query (height, position) WHERE scope = 6 AND rule = 0;
COMMENT ON TABLE apm.ledger_query IS 'derived: queries, refused ones too; apid is null in a search';

CREATE TABLE apm.ledger_consent (
	height bigint NOT NULL,
	position integer NOT NULL,
	tid uuid NOT NULL,
	apid text COLLATE "C" NOT NULL,
	action smallint NOT NULL,
	grantee bytea NOT NULL,
	purpose smallint NOT NULL,
	until_us bigint NOT NULL,
	reviewed uuid,
	finding smallint NOT NULL,
	actor bytea NOT NULL,
	CONSTRAINT ledger_consent_pkey PRIMARY KEY (height, position)
);
CREATE INDEX ledger_consent_apid_idx ON apm.ledger_consent (apid, height);
CREATE UNIQUE INDEX ledger_consent_reviewed_idx ON apm.ledger_consent (reviewed) WHERE reviewed IS NOT NULL;
COMMENT ON TABLE apm.ledger_consent IS 'derived: valid grants, revocations and reviews, with the place of each in the chain';

CREATE TABLE apm.ledger_export (
	study bytea NOT NULL,
	release integer NOT NULL,
	tid uuid NOT NULL,
	parameters bytea NOT NULL,
	rows bigint NOT NULL,
	digest bytea NOT NULL,
	actor bytea NOT NULL,
	height bigint NOT NULL,
	position integer NOT NULL,
	CONSTRAINT ledger_export_pkey PRIMARY KEY (study, release)
);
COMMENT ON TABLE apm.ledger_export IS 'derived: datasets that were released';

-- How many valid transactions of each sort an actor has by a block, for those blocks where there are new ones.
CREATE TABLE apm.ledger_count (
	counter smallint NOT NULL,
	actor bytea NOT NULL,
	height bigint NOT NULL,
	total bigint NOT NULL,
	CONSTRAINT ledger_count_pkey PRIMARY KEY (counter, actor, height)
);
COMMENT ON TABLE apm.ledger_count IS 'derived: counters of actors that rules and policies ask for';

-- Not dumped, like the two after it.
CREATE TABLE apm.verified (
	one boolean CONSTRAINT verified_pkey PRIMARY KEY DEFAULT true CONSTRAINT verified_one CHECK (one),
	height bigint NOT NULL,
	hash bytea NOT NULL,
	verified_at timestamptz NOT NULL
);
COMMENT ON TABLE apm.verified IS 'up to which block apm_verify() found the ledger good; where it goes on when asked to resume';

-- The last digest that was given out by itself.
CREATE TABLE apm.digest_published (
	one boolean CONSTRAINT digest_published_pkey PRIMARY KEY DEFAULT true CONSTRAINT digest_published_one CHECK (one),
	height bigint NOT NULL,
	hash bytea NOT NULL,
	published_at timestamptz NOT NULL
);
COMMENT ON TABLE apm.digest_published IS 'the last digest that went to apm.digest_directory and apm.digest_command';

-- Rows say that a table was written past our code, as a restore does.
CREATE TABLE apm.load_notice (
	relation name NOT NULL,
	noticed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE apm.load_notice IS 'writes to ledger, pool or queue that did not come from apm; while there are any, nothing is mined';

-- ---------------------------------------------------------------------------
-- 4. Back from the chain: final transactions, cloud
-- ---------------------------------------------------------------------------
CREATE TABLE apm.final_queue (
	id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT final_queue_pkey PRIMARY KEY,
	height bigint NOT NULL,
	sealed bytea NOT NULL,
	pooled_at timestamptz[] NOT NULL,
	queued_at timestamptz NOT NULL,
	tries integer NOT NULL DEFAULT 0
);
ALTER TABLE apm.final_queue ALTER COLUMN sealed SET STORAGE EXTERNAL, ALTER COLUMN pooled_at SET STORAGE EXTERNAL;
COMMENT ON TABLE apm.final_queue IS 'FTs of one block, sealed for the network server';

CREATE TABLE apm.final_transaction (
	tid uuid CONSTRAINT final_transaction_pkey PRIMARY KEY,
	kind smallint NOT NULL,
	rule smallint NOT NULL,
	height bigint NOT NULL,
	position integer NOT NULL,
	pooled_at timestamptz,
	validated_at timestamptz NOT NULL,
	stored_at timestamptz
) WITH (fillfactor = 45);
CREATE INDEX final_transaction_refused_idx ON apm.final_transaction (validated_at) WHERE rule <> 0;
COMMENT ON TABLE apm.final_transaction IS 'what the transaction validator (TV) found in the FTs; stored_at is when the cloud had the record, pooled_at is null if the server restarted meanwhile';

CREATE TABLE apm.outbox (
	id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT outbox_pkey PRIMARY KEY,
	rid uuid NOT NULL CONSTRAINT outbox_rid_key UNIQUE,
	tid uuid NOT NULL,
	apid text COLLATE "C" NOT NULL,
	apr bytea,
	tokens bytea[] NOT NULL DEFAULT '{}',
	replaces boolean NOT NULL DEFAULT false,
	queued_at timestamptz NOT NULL,
	tries integer NOT NULL DEFAULT 0,
	not_before timestamptz
) WITH (toast_tuple_target = 8160);
CREATE INDEX outbox_later_idx ON apm.outbox (not_before) WHERE not_before IS NOT NULL;
ALTER TABLE apm.outbox ALTER COLUMN apr SET STORAGE EXTERNAL;
COMMENT ON TABLE apm.outbox IS 'records on their way to the cloud; apr is null where it is made from the ledger when it is sent; one that replaces takes the place of what the cloud has for its Rid';

-- Whom the cloud is to forget.
CREATE TABLE apm.cloud_removal (
	apid text COLLATE "C" CONSTRAINT cloud_removal_pkey PRIMARY KEY,
	queued_at timestamptz NOT NULL,
	tries integer NOT NULL DEFAULT 0,
	not_before timestamptz
);
COMMENT ON TABLE apm.cloud_removal IS 'patients who are erased and whose rows outbox and cloud still have to lose';

-- Where a rebuild of the cloud is.
CREATE TABLE apm.cloud_rebuild (
	one boolean CONSTRAINT cloud_rebuild_pkey PRIMARY KEY DEFAULT true CONSTRAINT cloud_rebuild_one CHECK (one),
	started_at timestamptz NOT NULL,
	height bigint NOT NULL,
	last_rid uuid,
	records_total bigint NOT NULL,
	records_done bigint NOT NULL DEFAULT 0,
	records_queued bigint NOT NULL DEFAULT 0,
	rows_removed bigint NOT NULL DEFAULT 0,
	finished_at timestamptz
);
COMMENT ON TABLE apm.cloud_rebuild IS 'how far the last rebuild of the cloud from the ledger is: records of blocks up to height, in the order of their Rids';

CREATE TABLE apm.cloud_target (
	one boolean CONSTRAINT cloud_target_pkey PRIMARY KEY DEFAULT true CONSTRAINT cloud_target_one CHECK (one),
	relation regclass NOT NULL
);
COMMENT ON TABLE apm.cloud_target IS 'the table that is the cloud: foreign, or apm.cloud_record';

CREATE TABLE apm.cloud_record (
	rid uuid CONSTRAINT cloud_record_pkey PRIMARY KEY,
	apid text COLLATE "C" NOT NULL,
	apr bytea NOT NULL,
	tokens bytea[] NOT NULL DEFAULT '{}'
) WITH (toast_tuple_target = 8160);
CREATE INDEX cloud_record_tokens_idx ON apm.cloud_record USING gin (tokens) WHERE tokens <> '{}';
CREATE INDEX cloud_record_apid_idx ON apm.cloud_record (apid);
ALTER TABLE apm.cloud_record ALTER COLUMN apr SET STORAGE EXTERNAL;
COMMENT ON TABLE apm.cloud_record IS 'embedded cloud store, for servers without a foreign one';

-- ---------------------------------------------------------------------------
-- ANALYZE copies values of columns to pg_statistic, where they stay after their rows are gone.  No patient's key or index,
-- nothing that is sealed, and no transaction may outlive an erasure there.  Nobody plans by these columns but
-- those that are looked up through an index.
-- ---------------------------------------------------------------------------
ALTER TABLE apm.patient ALTER COLUMN index_key SET STATISTICS 0, ALTER COLUMN identity SET STATISTICS 0,
	ALTER COLUMN wrapped_key SET STATISTICS 0;
ALTER TABLE apm.profile ALTER COLUMN sealed SET STATISTICS 0;
ALTER TABLE apm.last_value ALTER COLUMN sealed SET STATISTICS 0;
ALTER TABLE apm.note ALTER COLUMN sealed SET STATISTICS 0;
ALTER TABLE apm.submission ALTER COLUMN fingerprint SET STATISTICS 0;
ALTER TABLE apm.waiting ALTER COLUMN index_key SET STATISTICS 0, ALTER COLUMN sealed SET STATISTICS 0;
ALTER TABLE apm.queue ALTER COLUMN sealed SET STATISTICS 0;
ALTER TABLE apm.quarantine ALTER COLUMN content SET STATISTICS 0;
ALTER TABLE apm.pool ALTER COLUMN pt SET STATISTICS 0;
ALTER TABLE apm.body ALTER COLUMN nonce SET STATISTICS 0, ALTER COLUMN transaction SET STATISTICS 0,
	ALTER COLUMN proof SET STATISTICS 0;
ALTER TABLE apm.outbox ALTER COLUMN apr SET STATISTICS 0;
ALTER TABLE apm.cloud_record ALTER COLUMN apr SET STATISTICS 0;

-- ---------------------------------------------------------------------------
-- Rights of the workers, and what a dump carries
-- ---------------------------------------------------------------------------
REVOKE ALL ON ALL TABLES IN SCHEMA apm FROM PUBLIC;
GRANT SELECT, INSERT ON apm.block, apm.leaf, apm.body, apm.load_notice TO apm_worker;
-- what an erasure voids; the guards let nothing else go
GRANT DELETE ON apm.body TO apm_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON apm.attached_table, apm.attached_refusal TO apm_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON
	apm.attribute, apm.patient, apm.profile, apm.last_value, apm.note, apm.staff, apm.submission, apm.waiting,
	apm.queue, apm.quarantine, apm.chain, apm.pool, apm.verdict, apm.candidate, apm.tip, apm.member,
	apm.contract_item, apm.ledger_patient, apm.ledger_record, apm.ledger_token, apm.ledger_query,
	apm.ledger_consent, apm.ledger_export, apm.ledger_count, apm.ledger_profile, apm.ledger_void, apm.final_queue,
	apm.final_transaction, apm.outbox, apm.cloud_target, apm.cloud_record, apm.cloud_removal, apm.cloud_rebuild,
	apm.erasure, apm.key_rotation, apm.verified, apm.digest_published
	TO apm_worker;
-- how many may have come since the last count
GRANT SELECT ON SEQUENCE apm.queue_id_seq, apm.outbox_id_seq, apm.waiting_id_seq TO apm_worker;

-- verdict and candidate belong to a block in making, load_notice to this database alone.
SELECT pg_catalog.pg_extension_config_dump('apm.attribute', 'WHERE NOT builtin');
-- a table that is gone has a number only, which another may have after a restore
SELECT pg_catalog.pg_extension_config_dump('apm.attached_table',
	'WHERE relation IN (SELECT oid FROM pg_catalog.pg_class)');
SELECT pg_catalog.pg_extension_config_dump('apm.attached_refusal', '');
DO LANGUAGE plpgsql $dump$
DECLARE
	wanted pg_catalog.text;
BEGIN
	FOREACH wanted IN ARRAY ARRAY['apm.patient', 'apm.profile', 'apm.last_value', 'apm.note', 'apm.staff',
		'apm.submission', 'apm.waiting', 'apm.waiting_id_seq', 'apm.queue', 'apm.queue_id_seq',
		'apm.quarantine', 'apm.quarantine_id_seq', 'apm.chain',
		'apm.pool', 'apm.pool_seq_seq', 'apm.block', 'apm.leaf', 'apm.body', 'apm.tip', 'apm.member',
		'apm.contract_item', 'apm.ledger_patient', 'apm.ledger_profile', 'apm.ledger_void', 'apm.ledger_record', 'apm.ledger_token', 'apm.ledger_query',
		'apm.ledger_consent', 'apm.ledger_export', 'apm.ledger_count', 'apm.final_queue', 'apm.final_queue_id_seq',
		'apm.final_transaction', 'apm.outbox', 'apm.outbox_id_seq', 'apm.cloud_target', 'apm.cloud_record',
		'apm.cloud_removal', 'apm.cloud_rebuild', 'apm.erasure', 'apm.key_rotation']
	LOOP
		PERFORM pg_catalog.pg_extension_config_dump(wanted::pg_catalog.regclass, '');
	END LOOP;
END
$dump$;

-- ===========================================================================
-- Functions, room by room
-- ===========================================================================

-- set-up and keys (src/keys) -------------------------------------------------

CREATE FUNCTION @extschema@.apm_keygen(OUT kind text, OUT key_id text, OUT created boolean)
	RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_keygen';
COMMENT ON FUNCTION @extschema@.apm_keygen() IS
	'makes the keys that are missing in apm.key_directory, replaces none, and lists the active ones';
REVOKE ALL ON FUNCTION @extschema@.apm_keygen() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_keygen() TO apm_admin;

CREATE FUNCTION @extschema@.apm_keys(OUT kind text, OUT key_id text, OUT generation integer,
	OUT active boolean, OUT has_private boolean)
	RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_keys';
COMMENT ON FUNCTION @extschema@.apm_keys() IS 'the keys that this server has; ids, never a key';
REVOKE ALL ON FUNCTION @extschema@.apm_keys() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_keys() TO apm_admin, apm_auditor;

CREATE VIEW apm.key AS SELECT kind, key_id, generation, active, has_private FROM @extschema@.apm_keys();
COMMENT ON VIEW apm.key IS 'the keys that this server has: kind, id, generation, whether it is the active one, whether its secret half is here';
REVOKE ALL ON apm.key FROM PUBLIC;
GRANT SELECT ON apm.key TO apm_admin, apm_auditor;

CREATE FUNCTION @extschema@.apm_rotate_key(kind text) RETURNS integer
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_rotate_key';
COMMENT ON FUNCTION @extschema@.apm_rotate_key(text) IS
	'gives a key a successor and returns its generation; apm.rotation shows what follows from it';
REVOKE ALL ON FUNCTION @extschema@.apm_rotate_key(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_rotate_key(text) TO apm_admin;

CREATE FUNCTION @extschema@.apm_retire_key(kind text, generation integer) RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_retire_key';
COMMENT ON FUNCTION @extschema@.apm_retire_key(text, integer) IS
	'removes the private key of an old generation that nothing needs any more; what it opened stays closed from then on';
REVOKE ALL ON FUNCTION @extschema@.apm_retire_key(text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_retire_key(text, integer) TO apm_admin;

-- A key that signs is in use when the chain has it, whoever asks.
CREATE VIEW apm.rotation AS
	SELECT r.kind, r.generation, r.started_at,
		CASE WHEN r.key IS NULL THEN r.items_done ELSE count(b.height) END AS items_done,
		r.items_total,
		CASE WHEN r.key IS NULL THEN r.finished_at ELSE min(b.stored_at) END AS finished_at
	FROM ONLY apm.key_rotation AS r
		LEFT JOIN ONLY apm.member AS m ON m.id = r.key
			AND m.member = CASE r.kind WHEN 'node-signing' THEN 1 WHEN 'apm-signing' THEN 2 END
		LEFT JOIN ONLY apm.block AS b ON b.height = m.height
	GROUP BY r.kind, r.generation;
COMMENT ON VIEW apm.rotation IS 'keys that were given a successor, and how far what they hold has been moved to it';
REVOKE ALL ON apm.rotation FROM PUBLIC;
GRANT SELECT ON apm.rotation TO apm_admin, apm_auditor;

-- workers (src/worker) -------------------------------------------------------
CREATE FUNCTION @extschema@.apm_run_network_server() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_run_network_server';
REVOKE ALL ON FUNCTION @extschema@.apm_run_network_server() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_run_network_server() TO apm_admin;
COMMENT ON FUNCTION @extschema@.apm_run_network_server() IS 'does once what the network server does: queue to pool, final transactions to outbox';

CREATE FUNCTION @extschema@.apm_run_miner() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_run_miner';
REVOKE ALL ON FUNCTION @extschema@.apm_run_miner() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_run_miner() TO apm_admin;
COMMENT ON FUNCTION @extschema@.apm_run_miner() IS 'does once what the miner does: pool to ledger';

CREATE FUNCTION @extschema@.apm_run_cloud_sync() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_run_cloud_sync';
REVOKE ALL ON FUNCTION @extschema@.apm_run_cloud_sync() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_run_cloud_sync() TO apm_admin;
COMMENT ON FUNCTION @extschema@.apm_run_cloud_sync() IS 'does once what the cloud worker does: outbox to cloud';

CREATE FUNCTION @extschema@.apm_run_reception() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_run_reception';
REVOKE ALL ON FUNCTION @extschema@.apm_run_reception() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_run_reception() TO apm_admin;
COMMENT ON FUNCTION @extschema@.apm_run_reception() IS 'does once what reception does: what sensors submitted to the queue';

-- A row a worker for this database and for each other that has workers.  refusal is null when the node mines and serves.
CREATE FUNCTION @extschema@.apm_worker_status(
	OUT database name, OUT worker text, OUT pid integer, OUT state text, OUT activity text,
	OUT last_turn timestamptz, OUT turns bigint, OUT errors bigint,
	OUT last_error_code text, OUT last_error text, OUT last_error_at timestamptz, OUT refusal text)
	RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 4 AS 'MODULE_PATHNAME', 'apm_worker_status';
REVOKE ALL ON FUNCTION @extschema@.apm_worker_status() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_worker_status() TO apm_admin, apm_auditor;
COMMENT ON FUNCTION @extschema@.apm_worker_status() IS 'state of the background workers, their last turn and last error, and why the node refuses';

-- chain (src/chain) ----------------------------------------------------------
GRANT DELETE ON apm.load_notice TO apm_worker;

CREATE FUNCTION @extschema@.apm_setup(difficulty integer DEFAULT 16, access text DEFAULT 'clinician',
	require_purpose boolean DEFAULT false) RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_setup';
COMMENT ON FUNCTION @extschema@.apm_setup(integer, text, boolean) IS
	'makes a new chain with this server as its node and origin, and the embedded cloud store; returns the chain id';
REVOKE ALL ON FUNCTION @extschema@.apm_setup(integer, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_setup(integer, text, boolean) TO apm_admin;

CREATE FUNCTION @extschema@.apm_accept_rollback(give_up boolean DEFAULT false) RETURNS text
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_accept_rollback';
COMMENT ON FUNCTION @extschema@.apm_accept_rollback(boolean) IS
	'the operator''s word that this database goes on with its chain after a restore, clone or load; verifies it whole first; give_up: also without blocks that this node has signed and that are not there';
REVOKE ALL ON FUNCTION @extschema@.apm_accept_rollback(boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_accept_rollback(boolean) TO apm_admin;

CREATE FUNCTION @extschema@.apm_verify(from_height bigint DEFAULT 0, to_height bigint DEFAULT NULL,
	resume boolean DEFAULT false,
	OUT ok boolean, OUT height bigint, OUT "position" integer, OUT rule text, OUT fault text,
	OUT blocks bigint, OUT transactions bigint, OUT not_rerun bigint, OUT erased bigint)
	RETURNS record LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_verify';
COMMENT ON FUNCTION @extschema@.apm_verify(bigint, bigint, boolean) IS
	'computes the ledger again from its rows and names the first fault; not_rerun counts refused transactions that were not kept, erased those that an erasure voided; resume goes on behind what was found good before';
REVOKE ALL ON FUNCTION @extschema@.apm_verify(bigint, bigint, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_verify(bigint, bigint, boolean) TO apm_admin, apm_auditor;

CREATE FUNCTION @extschema@.apm_verify(digest jsonb,
	OUT ok boolean, OUT height bigint, OUT "position" integer, OUT rule text, OUT fault text,
	OUT blocks bigint, OUT transactions bigint, OUT not_rerun bigint, OUT erased bigint)
	RETURNS record LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_verify_digest';
COMMENT ON FUNCTION @extschema@.apm_verify(jsonb) IS
	'the same of the whole ledger, which must also have the head of a digest that was kept elsewhere';
REVOKE ALL ON FUNCTION @extschema@.apm_verify(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_verify(jsonb) TO apm_admin, apm_auditor;

-- What leaves this server so that others can check it.  A sensor gets no digest: the height would tell it
-- what became of its records.
CREATE FUNCTION @extschema@.apm_digest() RETURNS jsonb
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_digest';
COMMENT ON FUNCTION @extschema@.apm_digest() IS
	'the head of the chain as its node signed it; kept elsewhere it stands for everything before it';
REVOKE ALL ON FUNCTION @extschema@.apm_digest() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_digest() TO apm_admin, apm_auditor;

CREATE FUNCTION @extschema@.apm_prove(rid uuid, digest jsonb DEFAULT NULL) RETURNS jsonb
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_prove';
COMMENT ON FUNCTION @extschema@.apm_prove(uuid, jsonb) IS
	'proof that a record stands in the ledger, for whoever has the digest, or one of the end of the chain';
REVOKE ALL ON FUNCTION @extschema@.apm_prove(uuid, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_prove(uuid, jsonb) TO apm_admin, apm_auditor;

CREATE FUNCTION @extschema@.apm_prove_read(tid uuid, digest jsonb DEFAULT NULL) RETURNS jsonb
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_prove_read';
COMMENT ON FUNCTION @extschema@.apm_prove_read(uuid, jsonb) IS
	'proof that a query, allowed or refused, stands in the ledger, likewise';
REVOKE ALL ON FUNCTION @extschema@.apm_prove_read(uuid, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_prove_read(uuid, jsonb) TO apm_admin, apm_auditor;

CREATE FUNCTION @extschema@.apm_prove_consistency(old jsonb, new jsonb DEFAULT NULL) RETURNS jsonb
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_prove_consistency';
COMMENT ON FUNCTION @extschema@.apm_prove_consistency(jsonb, jsonb) IS
	'proof that the chain of one digest has grown out of that of an older one; of the end of the chain, if none is given';
REVOKE ALL ON FUNCTION @extschema@.apm_prove_consistency(jsonb, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_prove_consistency(jsonb, jsonb)
	TO apm_admin, apm_registrar, apm_clinician, apm_researcher, apm_auditor;

CREATE FUNCTION @extschema@.apm_verify_proof(proof jsonb, digest jsonb,
	OUT ok boolean, OUT fault text, OUT tid uuid, OUT kind text, OUT rule text, OUT height bigint,
	OUT "position" integer, OUT recorded_at timestamptz, OUT rid uuid)
	RETURNS record LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'apm_verify_proof';
COMMENT ON FUNCTION @extschema@.apm_verify_proof(jsonb, jsonb) IS
	'does this prove a transaction to stand in the chain of the digest, and which one? asks no ledger';
REVOKE ALL ON FUNCTION @extschema@.apm_verify_proof(jsonb, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_verify_proof(jsonb, jsonb)
	TO apm_admin, apm_registrar, apm_clinician, apm_sensor, apm_researcher, apm_auditor;

CREATE FUNCTION @extschema@.apm_verify_consistency(proof jsonb, old jsonb, new jsonb,
	OUT ok boolean, OUT fault text)
	RETURNS record LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'apm_verify_consistency';
COMMENT ON FUNCTION @extschema@.apm_verify_consistency(jsonb, jsonb, jsonb) IS
	'does this prove the chain of the newer digest to have grown out of that of the older one? asks no ledger';
REVOKE ALL ON FUNCTION @extschema@.apm_verify_consistency(jsonb, jsonb, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_verify_consistency(jsonb, jsonb, jsonb)
	TO apm_admin, apm_registrar, apm_clinician, apm_sensor, apm_researcher, apm_auditor;

CREATE FUNCTION @extschema@.apm_export_ledger() RETURNS SETOF text
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1000 AS 'MODULE_PATHNAME', 'apm_export_ledger';
COMMENT ON FUNCTION @extschema@.apm_export_ledger() IS
	'the ledger as it is stored, a line a block, for whoever verifies it elsewhere';
REVOKE ALL ON FUNCTION @extschema@.apm_export_ledger() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_export_ledger() TO apm_admin, apm_auditor;

-- A site rule's name is in the ledger.
CREATE FUNCTION apm.rule_name(rule smallint) RETURNS text
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'apm_rule_name_sql';
COMMENT ON FUNCTION apm.rule_name(smallint) IS
	'name of a rule of the contract, also of one that was added and dropped; null for one that never was';
REVOKE ALL ON FUNCTION apm.rule_name(smallint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION apm.rule_name(smallint) TO apm_admin, apm_auditor;

CREATE FUNCTION apm.rule_text(rule smallint) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'apm_rule_text_sql';
COMMENT ON FUNCTION apm.rule_text(smallint) IS 'what a rule of the contract says of what it refuses, in one sentence';
REVOKE ALL ON FUNCTION apm.rule_text(smallint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION apm.rule_text(smallint) TO apm_admin, apm_auditor;

CREATE FUNCTION apm.kind_name(kind smallint) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'apm_kind_name_sql';
COMMENT ON FUNCTION apm.kind_name(smallint) IS 'name of a kind of transaction; null for one that cannot be read';
REVOKE ALL ON FUNCTION apm.kind_name(smallint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION apm.kind_name(smallint) TO apm_admin, apm_auditor;

CREATE FUNCTION apm.purpose_name(code smallint) RETURNS text
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'apm_purpose_name_sql';
COMMENT ON FUNCTION apm.purpose_name(smallint) IS 'name of a purpose on the chain''s list; null for one that is not on it';
REVOKE ALL ON FUNCTION apm.purpose_name(smallint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION apm.purpose_name(smallint) TO apm_admin, apm_auditor;

CREATE FUNCTION apm.reason_name(code smallint) RETURNS text
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'apm_reason_name_sql';
COMMENT ON FUNCTION apm.reason_name(smallint) IS 'name of a reason on the chain''s list; null for one that is not on it';
REVOKE ALL ON FUNCTION apm.reason_name(smallint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION apm.reason_name(smallint) TO apm_admin, apm_auditor;

CREATE FUNCTION apm.contract_in_force(OUT item text, OUT name text, OUT kind text, OUT detail jsonb, OUT since bigint)
	RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_contract_in_force';
COMMENT ON FUNCTION apm.contract_in_force() IS 'what apm.contract shows';
REVOKE ALL ON FUNCTION apm.contract_in_force() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION apm.contract_in_force() TO apm_admin, apm_auditor;

CREATE VIEW apm.contract AS SELECT item, name, kind, detail, since FROM apm.contract_in_force();
COMMENT ON VIEW apm.contract IS
	'the contract in force: policies, purposes, reasons, templates, rules, data rules; since is the height of the block that brought it, null for a default';
REVOKE ALL ON apm.contract FROM PUBLIC;
GRANT SELECT ON apm.contract TO apm_admin, apm_auditor;

-- The smart contract on the pool.
CREATE FUNCTION apm.contract() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_contract_trigger';
COMMENT ON FUNCTION apm.contract() IS 'opens a PT or QT and gives its validation result';
REVOKE ALL ON FUNCTION apm.contract() FROM PUBLIC;
CREATE TRIGGER verdict_contract BEFORE INSERT ON apm.verdict
	FOR EACH ROW EXECUTE FUNCTION apm.contract();
ALTER TABLE apm.verdict ENABLE ALWAYS TRIGGER verdict_contract;

-- The guards of the ledger.  src/chain/guard.c has the same list and looks that all of them stand.
CREATE FUNCTION apm.guard_keep() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_guard_keep';
COMMENT ON FUNCTION apm.guard_keep() IS 'refuses changes of rows that are kept for ever, and TRUNCATE';
REVOKE ALL ON FUNCTION apm.guard_keep() FROM PUBLIC;

CREATE FUNCTION apm.guard_notice() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_guard_notice';
COMMENT ON FUNCTION apm.guard_notice() IS 'notes a write that did not come from apm';
REVOKE ALL ON FUNCTION apm.guard_notice() FROM PUBLIC;

CREATE FUNCTION apm.guard_block() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_guard_block';
COMMENT ON FUNCTION apm.guard_block() IS 'refuses a block that does not link, meet its difficulty or carry a listed node''s signature';
REVOKE ALL ON FUNCTION apm.guard_block() FROM PUBLIC;

CREATE FUNCTION apm.guard_leaf() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_guard_leaf';
COMMENT ON FUNCTION apm.guard_leaf() IS 'refuses a leaf that cannot stand in a block';
REVOKE ALL ON FUNCTION apm.guard_leaf() FROM PUBLIC;

CREATE FUNCTION apm.guard_body() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_guard_body';
COMMENT ON FUNCTION apm.guard_body() IS 'refuses a body that is not the transaction of its id';
REVOKE ALL ON FUNCTION apm.guard_body() FROM PUBLIC;

CREATE TRIGGER block_links AFTER INSERT ON apm.block FOR EACH ROW EXECUTE FUNCTION apm.guard_block();
CREATE TRIGGER leaf_fits BEFORE INSERT ON apm.leaf FOR EACH ROW EXECUTE FUNCTION apm.guard_leaf();
CREATE TRIGGER body_fits BEFORE INSERT ON apm.body FOR EACH ROW EXECUTE FUNCTION apm.guard_body();
ALTER TABLE apm.block ENABLE ALWAYS TRIGGER block_links;
ALTER TABLE apm.leaf ENABLE ALWAYS TRIGGER leaf_fits;
ALTER TABLE apm.body ENABLE ALWAYS TRIGGER body_fits;

DO LANGUAGE plpgsql $guards$
DECLARE
	guarded pg_catalog.text;
BEGIN
	FOREACH guarded IN ARRAY ARRAY['block', 'leaf', 'body']
	LOOP
		EXECUTE pg_catalog.format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE ON apm.%I '
			'FOR EACH ROW EXECUTE FUNCTION apm.guard_keep()', pg_catalog.format('%s_append_only', guarded), guarded);
		EXECUTE pg_catalog.format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE OR TRUNCATE ON apm.%I '
			'FOR EACH STATEMENT EXECUTE FUNCTION apm.guard_keep()', pg_catalog.format('%s_no_change', guarded), guarded);
		EXECUTE pg_catalog.format('ALTER TABLE apm.%I ENABLE ALWAYS TRIGGER %I, ENABLE ALWAYS TRIGGER %I',
			guarded, pg_catalog.format('%s_append_only', guarded), pg_catalog.format('%s_no_change', guarded));
	END LOOP;
	FOREACH guarded IN ARRAY ARRAY['chain', 'tip', 'member', 'contract_item', 'ledger_patient', 'ledger_profile', 'ledger_void',
		'ledger_record', 'ledger_token', 'ledger_query', 'ledger_consent', 'ledger_export', 'ledger_count', 'submission', 'queue', 'pool', 'candidate', 'final_queue', 'outbox', 'waiting', 'final_transaction', 'load_notice']
	LOOP
		EXECUTE pg_catalog.format('CREATE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON apm.%I '
			'FOR EACH STATEMENT EXECUTE FUNCTION apm.guard_notice()', pg_catalog.format('%s_noticed', guarded), guarded);
		EXECUTE pg_catalog.format('CREATE TRIGGER %I BEFORE TRUNCATE ON apm.%I '
			'FOR EACH STATEMENT EXECUTE FUNCTION apm.guard_keep()', pg_catalog.format('%s_no_truncate', guarded), guarded);
		EXECUTE pg_catalog.format('ALTER TABLE apm.%I ENABLE ALWAYS TRIGGER %I, ENABLE ALWAYS TRIGGER %I',
			guarded, pg_catalog.format('%s_noticed', guarded), pg_catalog.format('%s_no_truncate', guarded));
	END LOOP;
END
$guards$;

-- cloud (src/cloud) ----------------------------------------------------------
CREATE FUNCTION @extschema@.apm_cloud_attach(foreign_table regclass) RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_cloud_attach';
REVOKE ALL ON FUNCTION @extschema@.apm_cloud_attach(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_cloud_attach(regclass) TO apm_admin;
COMMENT ON FUNCTION @extschema@.apm_cloud_attach(regclass) IS
	'makes a table with rid uuid, apid text, apr bytea, tokens bytea[] the cloud store; moves there what the embedded store holds';

CREATE FUNCTION @extschema@.apm_verify_cloud(OUT ok boolean, OUT checked bigint, OUT missing bigint,
	OUT altered bigint, OUT unknown bigint, OUT erased_left bigint, OUT pending bigint, OUT fault text)
	RETURNS record LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_verify_cloud';
REVOKE ALL ON FUNCTION @extschema@.apm_verify_cloud() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_verify_cloud() TO apm_admin, apm_auditor;
COMMENT ON FUNCTION @extschema@.apm_verify_cloud() IS
	'holds the cloud against the ledger, record by record and row by row, counts what is wrong and names the first fault';

CREATE PROCEDURE @extschema@.apm_rebuild_cloud(batch_rows integer DEFAULT 1000)
	LANGUAGE c AS 'MODULE_PATHNAME', 'apm_rebuild_cloud';
REVOKE ALL ON PROCEDURE @extschema@.apm_rebuild_cloud(integer) FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE @extschema@.apm_rebuild_cloud(integer) TO apm_admin;
COMMENT ON PROCEDURE @extschema@.apm_rebuild_cloud(integer) IS
	'sends the cloud what it lacks of the ledger and deletes what it should not have, a transaction a batch; called again, it goes on';

CREATE VIEW apm.rebuild AS
	SELECT b.started_at, b.height, b.records_total, b.records_done, b.records_queued, b.rows_removed, b.finished_at
	FROM ONLY apm.cloud_rebuild AS b;
COMMENT ON VIEW apm.rebuild IS
	'the last rebuild of the cloud: how many records it has to look at, has looked at and has sent again, rows that it deleted';
REVOKE ALL ON apm.rebuild FROM PUBLIC;
GRANT SELECT ON apm.rebuild TO apm_admin, apm_auditor;

-- network server (src/network) -----------------------------------------------
CREATE VIEW apm.refused AS
	SELECT f.tid, apm.kind_name(f.kind) AS kind, apm.rule_name(f.rule) AS rule,
		apm.rule_text(f.rule) AS meaning, f.height, f.position, f.validated_at AS refused_at
	FROM apm.final_transaction AS f WHERE f.rule <> 0;
COMMENT ON VIEW apm.refused IS 'transactions that the contract refused, with the rule and when we learned it';
REVOKE ALL ON apm.refused FROM PUBLIC;
GRANT SELECT ON apm.refused TO apm_admin, apm_auditor;

-- Tells of a Rid, never of a patient: neither pseudonym nor content.
CREATE FUNCTION @extschema@.apm_trace(rid uuid)
	RETURNS TABLE (station text, at timestamptz, detail text)
	LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	WITH record AS (
		SELECT s.tid, s.submitted_at, s.queued_at, s.fingerprint = decode(repeat('00', 32), 'hex') AS forgotten
			FROM apm.submission AS s WHERE s.rid = apm_trace.rid
	), passed (place, station, at, detail) AS (
		SELECT 1, CASE WHEN r.forgotten THEN 'forgotten' ELSE 'submitted' END, r.submitted_at, NULL::text FROM record AS r
		UNION ALL
		SELECT 2, 'waiting', w.since, CASE w.reason WHEN 'new' THEN 'for reception'
				WHEN 'patient' THEN 'for the patient to be registered'
				WHEN 'identity' THEN 'for the identity to be settled'
				ELSE 'cannot be opened or handled' END
			FROM apm.waiting AS w WHERE w.rid = apm_trace.rid
		UNION ALL
		SELECT 3, 'queued', r.queued_at, CASE WHEN q.not_before IS NULL THEN NULL
				WHEN q.tries = 0 THEN 'waits for the registration of the patient'
				ELSE format('tried %s times', q.tries) END
			FROM record AS r LEFT JOIN apm.queue AS q ON q.tid = r.tid WHERE r.queued_at IS NOT NULL
		UNION ALL
		SELECT 4, 'pooled', p.received_at, NULL FROM record AS r JOIN apm.pool AS p ON p.tid = r.tid
		UNION ALL
		SELECT 4, 'pooled', f.pooled_at, NULL
			FROM record AS r JOIN apm.final_transaction AS f ON f.tid = r.tid WHERE f.pooled_at IS NOT NULL
		UNION ALL
		SELECT 5, 'in block', b.stored_at, format('height %s, position %s', b.height, l.position)
			FROM record AS r JOIN apm.leaf AS l ON l.tid = r.tid JOIN apm.block AS b ON b.hash = l.block
		UNION ALL
		SELECT 6, CASE f.rule WHEN 0 THEN 'validated' ELSE 'refused' END, f.validated_at,
				CASE f.rule WHEN 0 THEN NULL ELSE format('rule "%s"', apm.rule_name(f.rule)) END
			FROM record AS r JOIN apm.final_transaction AS f ON f.tid = r.tid
		UNION ALL
		SELECT 7, 'in outbox', o.queued_at, CASE o.tries WHEN 0 THEN NULL ELSE format('tried %s times', o.tries) END
			FROM apm.outbox AS o WHERE o.rid = apm_trace.rid
		UNION ALL
		SELECT 8, 'in cloud', f.stored_at, NULL
			FROM record AS r JOIN apm.final_transaction AS f ON f.tid = r.tid WHERE f.stored_at IS NOT NULL
		UNION ALL
		SELECT 9, 'in quarantine', x.quarantined_at, format('stage %s: %s', x.stage, x.reason)
			FROM record AS r JOIN apm.quarantine AS x ON x.tid = r.tid
	)
	SELECT p.station, p.at, p.detail FROM passed AS p ORDER BY p.place, p.at;
END;
REVOKE ALL ON FUNCTION @extschema@.apm_trace(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_trace(uuid) TO apm_admin, apm_auditor;
COMMENT ON FUNCTION @extschema@.apm_trace(uuid) IS 'every station that a record has passed or is at, with its time';

-- APM (src/anonymize) --------------------------------------------------------

-- Changes of the contract are transactions, in force when their block is final (src/anonymize/contractchange.c).
CREATE FUNCTION @extschema@.apm_set_policy(name text, value text)
	RETURNS uuid LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_set_policy';
COMMENT ON FUNCTION @extschema@.apm_set_policy(text, text) IS
	'sets a policy of the contract, from the block that has it on; returns the Tid';
REVOKE ALL ON FUNCTION @extschema@.apm_set_policy(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_set_policy(text, text) TO apm_admin;

CREATE FUNCTION @extschema@.apm_add_purpose(name text)
	RETURNS uuid LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_add_purpose';
COMMENT ON FUNCTION @extschema@.apm_add_purpose(text) IS
	'adds a purpose to the chain''s list; returns the Tid';
REVOKE ALL ON FUNCTION @extschema@.apm_add_purpose(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_add_purpose(text) TO apm_admin;

CREATE FUNCTION @extschema@.apm_add_reason(name text)
	RETURNS uuid LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_add_reason';
COMMENT ON FUNCTION @extschema@.apm_add_reason(text) IS
	'adds a reason for emergencies to the chain''s list; returns the Tid';
REVOKE ALL ON FUNCTION @extschema@.apm_add_reason(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_add_reason(text) TO apm_admin;

CREATE FUNCTION @extschema@.apm_add_template(name text, kind text, fields jsonb)
	RETURNS uuid LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_add_template';
COMMENT ON FUNCTION @extschema@.apm_add_template(text, text, jsonb) IS
	'adds or replaces a template: the public fields that transactions of a kind carry; returns the Tid';
REVOKE ALL ON FUNCTION @extschema@.apm_add_template(text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_add_template(text, text, jsonb) TO apm_admin;

CREATE FUNCTION @extschema@.apm_drop_template(name text)
	RETURNS uuid LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_drop_template';
COMMENT ON FUNCTION @extschema@.apm_drop_template(text) IS
	'drops a template; returns the Tid';
REVOKE ALL ON FUNCTION @extschema@.apm_drop_template(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_drop_template(text) TO apm_admin;

CREATE FUNCTION @extschema@.apm_add_rule(name text, kind text, predicate jsonb)
	RETURNS uuid LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_add_rule';
COMMENT ON FUNCTION @extschema@.apm_add_rule(text, text, jsonb) IS
	'adds or replaces a rule: a condition that transactions of a kind must meet; returns the Tid';
REVOKE ALL ON FUNCTION @extschema@.apm_add_rule(text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_add_rule(text, text, jsonb) TO apm_admin;

CREATE FUNCTION @extschema@.apm_drop_rule(name text)
	RETURNS uuid LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_drop_rule';
COMMENT ON FUNCTION @extschema@.apm_drop_rule(text) IS
	'drops a rule that apm_add_rule() added; returns the Tid';
REVOKE ALL ON FUNCTION @extschema@.apm_drop_rule(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_drop_rule(text) TO apm_admin;

CREATE FUNCTION @extschema@.apm_add_data_rule(name text, attribute text, check_ jsonb,
	violation text DEFAULT 'refuse')
	RETURNS uuid LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_add_data_rule';
COMMENT ON FUNCTION @extschema@.apm_add_data_rule(text, text, jsonb, text) IS
	'adds or replaces a data rule: a check of an attribute of records, and what its violation does; returns the Tid';
REVOKE ALL ON FUNCTION @extschema@.apm_add_data_rule(text, text, jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_add_data_rule(text, text, jsonb, text) TO apm_admin;

CREATE FUNCTION @extschema@.apm_drop_data_rule(name text)
	RETURNS uuid LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_drop_data_rule';
COMMENT ON FUNCTION @extschema@.apm_drop_data_rule(text) IS
	'drops a data rule; returns the Tid';
REVOKE ALL ON FUNCTION @extschema@.apm_drop_data_rule(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_drop_data_rule(text) TO apm_admin;

CREATE FUNCTION @extschema@.apm_declare_attribute(name text, class text, searchable boolean DEFAULT false,
	exportable boolean DEFAULT false)
	RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_declare_attribute';
COMMENT ON FUNCTION @extschema@.apm_declare_attribute(text, text, boolean, boolean) IS
	'declares attributes of that name as identifying or other, and whether others can be searched for and exported, from now on';
REVOKE ALL ON FUNCTION @extschema@.apm_declare_attribute(text, text, boolean, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_declare_attribute(text, text, boolean, boolean) TO apm_admin;

CREATE FUNCTION @extschema@.apm_register_patient(pid text, identifying jsonb, attributes jsonb DEFAULT '{}')
	RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_register_patient';
COMMENT ON FUNCTION @extschema@.apm_register_patient(text, jsonb, jsonb) IS
	'registers a patient: makes the pseudonym, seals the profile and binds it to the chain';
REVOKE ALL ON FUNCTION @extschema@.apm_register_patient(text, jsonb, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_register_patient(text, jsonb, jsonb) TO apm_registrar, apm_admin;

CREATE FUNCTION @extschema@.apm_update_patient(pid text, identifying jsonb DEFAULT NULL, attributes jsonb DEFAULT NULL)
	RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_update_patient';
COMMENT ON FUNCTION @extschema@.apm_update_patient(text, jsonb, jsonb) IS
	'a new version of a patient''s profile; null leaves that part as it is';
REVOKE ALL ON FUNCTION @extschema@.apm_update_patient(text, jsonb, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_update_patient(text, jsonb, jsonb) TO apm_registrar, apm_admin;

-- The erasure on the ledger, and the end of the patient's key, come later (src/anonymize/erasure.c).
CREATE FUNCTION @extschema@.apm_forget(pid text, reason_code text)
	RETURNS uuid LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_forget';
COMMENT ON FUNCTION @extschema@.apm_forget(text, text) IS
	'has a patient forgotten, from the commit on for everybody here; the ledger, the cloud and the key follow; returns the id of the request';
REVOKE ALL ON FUNCTION @extschema@.apm_forget(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_forget(text, text) TO apm_registrar, apm_admin;

CREATE VIEW apm.erasure_request AS
	SELECT e.id, e.asked_at, apm.reason_name(e.reason) AS reason, e.state, apm.rule_name(e.rule) AS rule,
		e.voided, e.finished_at
	FROM ONLY apm.erasure AS e;
COMMENT ON VIEW apm.erasure_request IS
	'requests to forget a patient: how far each is, the rule that refused it, how many transactions were voided';
REVOKE ALL ON apm.erasure_request FROM PUBLIC;
GRANT SELECT ON apm.erasure_request TO apm_admin, apm_auditor;

CREATE FUNCTION @extschema@.apm_erasure_state(id uuid)
	RETURNS TABLE (state text, asked_at timestamptz, reason text, rule text, voided bigint, finished_at timestamptz)
	LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT r.state, r.asked_at, r.reason, r.rule, r.voided, r.finished_at
		FROM apm.erasure_request AS r WHERE r.id = apm_erasure_state.id;
END;
COMMENT ON FUNCTION @extschema@.apm_erasure_state(uuid) IS 'how far a request to forget a patient is: asked, sent, done or refused';
REVOKE ALL ON FUNCTION @extschema@.apm_erasure_state(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_erasure_state(uuid) TO apm_registrar, apm_admin, apm_auditor;

CREATE FUNCTION @extschema@.apm_submit(pid text, record jsonb, rid uuid DEFAULT NULL, amends uuid DEFAULT NULL)
	RETURNS uuid LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_submit';
COMMENT ON FUNCTION @extschema@.apm_submit(text, jsonb, uuid, uuid) IS
	'stores a record and returns its Rid; the same Rid with the same content again does nothing';
REVOKE ALL ON FUNCTION @extschema@.apm_submit(text, jsonb, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_submit(text, jsonb, uuid, uuid) TO apm_admin, apm_clinician, apm_sensor;

-- Rows go in and none come out: SELECT is there for INSERT ... RETURNING rid.
CREATE VIEW apm.patient_record AS
	SELECT NULL::text AS pid, NULL::jsonb AS record, NULL::uuid AS rid WHERE false;
COMMENT ON VIEW apm.patient_record IS 'INSERT (pid, record) stores records; they are read with apm_fetch()';

CREATE FUNCTION apm.record_insert() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_record_insert';
COMMENT ON FUNCTION apm.record_insert() IS 'collects the rows inserted into apm.patient_record';
REVOKE ALL ON FUNCTION apm.record_insert() FROM PUBLIC;
CREATE FUNCTION apm.record_flush() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_record_flush';
COMMENT ON FUNCTION apm.record_flush() IS 'encrypts and queues the rows inserted into apm.patient_record';
REVOKE ALL ON FUNCTION apm.record_flush() FROM PUBLIC;
CREATE FUNCTION apm.record_refuse() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_record_refuse';
COMMENT ON FUNCTION apm.record_refuse() IS 'refuses UPDATE and DELETE on apm.patient_record';
REVOKE ALL ON FUNCTION apm.record_refuse() FROM PUBLIC;

CREATE TRIGGER record_insert INSTEAD OF INSERT ON apm.patient_record
	FOR EACH ROW EXECUTE FUNCTION apm.record_insert();
CREATE TRIGGER record_flush AFTER INSERT ON apm.patient_record
	FOR EACH STATEMENT EXECUTE FUNCTION apm.record_flush();
CREATE TRIGGER record_refuse BEFORE UPDATE OR DELETE ON apm.patient_record
	FOR EACH STATEMENT EXECUTE FUNCTION apm.record_refuse();
-- without one an UPDATE is refused before the trigger above is asked
CREATE TRIGGER record_unchanged INSTEAD OF UPDATE OR DELETE ON apm.patient_record
	FOR EACH ROW EXECUTE FUNCTION apm.record_refuse();
REVOKE ALL ON apm.patient_record FROM PUBLIC;
GRANT SELECT, INSERT ON apm.patient_record TO apm_admin, apm_clinician, apm_sensor;

-- A table that is there already.  Whoever gives it a partition needs EXECUTE on the trigger's function then, years
-- later; PUBLIC may have it, since no trigger function can be called, and this one serves tables that are attached.
CREATE FUNCTION apm.attached_insert() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_attached_insert';
COMMENT ON FUNCTION apm.attached_insert() IS 'collects the rows inserted into an attached table';
REVOKE ALL ON FUNCTION apm.attached_insert() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION apm.attached_insert() TO PUBLIC;

CREATE FUNCTION apm.attached_flush() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_attached_flush';
COMMENT ON FUNCTION apm.attached_flush() IS 'encrypts and queues the rows inserted into an attached table';
REVOKE ALL ON FUNCTION apm.attached_flush() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION apm.attached_flush() TO apm_admin;

CREATE FUNCTION @extschema@.apm_attach(relation regclass, pid_column name, time_column name DEFAULT NULL)
	RETURNS void LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_attach';
COMMENT ON FUNCTION @extschema@.apm_attach(regclass, name, name) IS
	'from now on each row inserted into the table is a record, submitted in the same transaction';
REVOKE ALL ON FUNCTION @extschema@.apm_attach(regclass, name, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_attach(regclass, name, name) TO apm_admin;

CREATE FUNCTION @extschema@.apm_detach(relation regclass)
	RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_detach';
COMMENT ON FUNCTION @extschema@.apm_detach(regclass) IS 'ends what apm_attach() began; records stay';
REVOKE ALL ON FUNCTION @extschema@.apm_detach(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_detach(regclass) TO apm_admin;

CREATE PROCEDURE @extschema@.apm_backfill(relation regclass, batch_rows integer DEFAULT 1000)
	LANGUAGE c AS 'MODULE_PATHNAME', 'apm_backfill';
COMMENT ON PROCEDURE @extschema@.apm_backfill(regclass, integer) IS
	'submits the rows of an attached table that are not records yet, in batches that are committed one by one';
REVOKE ALL ON PROCEDURE @extschema@.apm_backfill(regclass, integer) FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE @extschema@.apm_backfill(regclass, integer) TO apm_admin;

CREATE FUNCTION @extschema@.apm_attached_rid("row" record)
	RETURNS uuid LANGUAGE c STABLE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_attached_rid';
COMMENT ON FUNCTION @extschema@.apm_attached_rid(record) IS 'the Rid of a row of an attached table';
REVOKE ALL ON FUNCTION @extschema@.apm_attached_rid(record) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_attached_rid(record) TO apm_admin, apm_clinician;

-- The columns as the trigger has them: its arguments, after the first, say what each is.
CREATE VIEW apm.attachment AS
	SELECT a.relation, n.pid_column, n.time_column, n.key_columns,
		t.tgenabled IS NOT NULL AND t.tgenabled <> 'D' AS attached, a.attached_at, a.detached_at,
		a.started_at, a.rows_done, a.rows_refused, a.rows_estimated, a.finished_at
	FROM ONLY apm.attached_table AS a
		JOIN pg_class AS c ON c.oid = a.relation
		LEFT JOIN pg_trigger AS t ON t.tgrelid = a.relation AND t.tgfoid = 'apm.attached_insert()'::regprocedure
		LEFT JOIN LATERAL (
			SELECT max(b.attname::text) FILTER (WHERE w.part LIKE '%pid')::name AS pid_column,
				max(b.attname::text) FILTER (WHERE w.part LIKE '%time')::name AS time_column,
				array_agg(b.attname ORDER BY w.n) FILTER (WHERE w.part LIKE 'key%') AS key_columns
			FROM unnest(t.tgattr::smallint[], (string_to_array(encode(t.tgargs, 'escape'), '\000'))[2:])
					WITH ORDINALITY AS w (attnum, part, n)
				JOIN pg_attribute AS b ON b.attrelid = t.tgrelid AND b.attnum = w.attnum
		) AS n ON true;
COMMENT ON VIEW apm.attachment IS 'tables that are or were attached, and how far a backfill is';
REVOKE ALL ON apm.attachment FROM PUBLIC;
GRANT SELECT ON apm.attachment TO apm_admin, apm_auditor, apm_worker;

CREATE VIEW apm.attachment_refused AS
	SELECT a.relation, r.rid, r.code, r.refused_at
	FROM ONLY apm.attached_refusal AS r JOIN ONLY apm.attached_table AS a ON a.id = r.id;
COMMENT ON VIEW apm.attachment_refused IS 'rows that a backfill could not submit; apm_attached_rid(row) tells which they are, the SQLSTATE why';
REVOKE ALL ON apm.attachment_refused FROM PUBLIC;
GRANT SELECT ON apm.attachment_refused TO apm_admin;

CREATE FUNCTION @extschema@.apm_fetch(pid text, purpose text DEFAULT NULL, all_versions boolean DEFAULT false,
	fields jsonb DEFAULT NULL,
	OUT rid uuid, OUT recorded_at timestamptz, OUT record jsonb, OUT superseded_by uuid, OUT flags text[])
	RETURNS SETOF record LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_fetch';
COMMENT ON FUNCTION @extschema@.apm_fetch(text, text, boolean, jsonb) IS
	'a patient''s records, once the query is in the ledger and the contract allows it';
REVOKE ALL ON FUNCTION @extschema@.apm_fetch(text, text, boolean, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_fetch(text, text, boolean, jsonb)
	TO apm_clinician, apm_researcher, apm_auditor;

CREATE FUNCTION @extschema@.apm_fetch(pids text[], purpose text DEFAULT NULL, all_versions boolean DEFAULT false,
	fields jsonb DEFAULT NULL,
	OUT pid text, OUT rid uuid, OUT recorded_at timestamptz, OUT record jsonb, OUT superseded_by uuid, OUT flags text[])
	RETURNS SETOF record LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_fetch_many';
COMMENT ON FUNCTION @extschema@.apm_fetch(text[], text, boolean, jsonb) IS
	'records of several patients, each with a query of his own; all of them or an error';
REVOKE ALL ON FUNCTION @extschema@.apm_fetch(text[], text, boolean, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_fetch(text[], text, boolean, jsonb)
	TO apm_clinician, apm_researcher, apm_auditor;

CREATE FUNCTION @extschema@.apm_grant_access(pid text, grantee name, until timestamptz DEFAULT NULL,
	purpose text DEFAULT NULL, fields jsonb DEFAULT NULL)
	RETURNS uuid LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_grant_access';
COMMENT ON FUNCTION @extschema@.apm_grant_access(text, name, timestamptz, text, jsonb) IS
	'enters a patient''s consent: that role may read, until then, for that purpose or for every one; returns the Tid';
REVOKE ALL ON FUNCTION @extschema@.apm_grant_access(text, name, timestamptz, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_grant_access(text, name, timestamptz, text, jsonb) TO apm_registrar;

CREATE FUNCTION @extschema@.apm_revoke_access(pid text, grantee name DEFAULT NULL, purpose text DEFAULT NULL,
	fields jsonb DEFAULT NULL)
	RETURNS uuid LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_revoke_access';
COMMENT ON FUNCTION @extschema@.apm_revoke_access(text, name, text, jsonb) IS
	'enters that a patient takes consent back, from a role or from everybody; returns the Tid';
REVOKE ALL ON FUNCTION @extschema@.apm_revoke_access(text, name, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_revoke_access(text, name, text, jsonb) TO apm_registrar;

CREATE FUNCTION @extschema@.apm_search(filter jsonb, purpose text DEFAULT NULL, fields jsonb DEFAULT NULL,
	OUT pid text, OUT rid uuid, OUT recorded_at timestamptz, OUT record jsonb, OUT flags text[])
	RETURNS SETOF record LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_search';
COMMENT ON FUNCTION @extschema@.apm_search(jsonb, text, jsonb) IS
	'records that have these values of searchable attributes, of the patients that the contract lets the caller read';
REVOKE ALL ON FUNCTION @extschema@.apm_search(jsonb, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_search(jsonb, text, jsonb) TO apm_clinician, apm_researcher;

CREATE FUNCTION @extschema@.apm_break_glass(pid text, reason_code text, note text DEFAULT NULL,
	fields jsonb DEFAULT NULL, OUT rid uuid, OUT recorded_at timestamptz, OUT record jsonb, OUT superseded_by uuid,
	OUT flags text[])
	RETURNS SETOF record LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_break_glass';
COMMENT ON FUNCTION @extschema@.apm_break_glass(text, text, text, jsonb) IS
	'a patient''s records in an emergency, without a grant; the reason is on the chain, the note sealed, and somebody else reviews it';
REVOKE ALL ON FUNCTION @extschema@.apm_break_glass(text, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_break_glass(text, text, text, jsonb) TO apm_clinician;

CREATE FUNCTION @extschema@.apm_break_glass_note(tid uuid, fields jsonb DEFAULT NULL)
	RETURNS text LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_break_glass_note';
COMMENT ON FUNCTION @extschema@.apm_break_glass_note(uuid, jsonb) IS
	'the note of an emergency, once the query is in the ledger; null if nothing was written';
REVOKE ALL ON FUNCTION @extschema@.apm_break_glass_note(uuid, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_break_glass_note(uuid, jsonb) TO apm_auditor;

CREATE FUNCTION @extschema@.apm_review_break_glass(tid uuid, justified boolean, fields jsonb DEFAULT NULL)
	RETURNS uuid LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_review_break_glass';
COMMENT ON FUNCTION @extschema@.apm_review_break_glass(uuid, boolean, jsonb) IS
	'the finding on somebody else''s emergency; returns the Tid';
REVOKE ALL ON FUNCTION @extschema@.apm_review_break_glass(uuid, boolean, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_review_break_glass(uuid, boolean, jsonb) TO apm_admin, apm_auditor;

CREATE FUNCTION apm.staff_of(pseudonym bytea, OUT acting text, OUT login text)
	RETURNS record LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_staff_of';
COMMENT ON FUNCTION apm.staff_of(bytea) IS
	'who a staff pseudonym is: acting role and login, or a role alone; the pseudonym itself where that is not known';
REVOKE ALL ON FUNCTION apm.staff_of(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION apm.staff_of(bytea) TO apm_admin, apm_researcher, apm_auditor;

-- A role that acts for a patient, and is in no role of apm, is granted EXECUTE by hand; the contract asks for a grant.
CREATE FUNCTION @extschema@.apm_access_history(pid text, purpose text DEFAULT NULL, fields jsonb DEFAULT NULL,
	OUT tid uuid, OUT asked_at timestamptz, OUT acting text, OUT login text, OUT access text, OUT purpose text,
	OUT reason text, OUT study text, OUT allowed boolean, OUT rule text, OUT height bigint, OUT "position" integer,
	OUT leaf text, OUT block text)
	RETURNS SETOF record LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_access_history';
COMMENT ON FUNCTION @extschema@.apm_access_history(text, text, jsonb) IS
	'every query for a patient, allowed or refused, with who asked, for what, and the leaf and block that prove it';
REVOKE ALL ON FUNCTION @extschema@.apm_access_history(text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_access_history(text, text, jsonb) TO apm_clinician, apm_researcher, apm_auditor;

CREATE FUNCTION apm.break_glass_unreviewed(OUT tid uuid, OUT asked_at timestamptz, OUT acting text, OUT login text,
	OUT reason text, OUT height bigint)
	RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_break_glass_unreviewed';
COMMENT ON FUNCTION apm.break_glass_unreviewed() IS 'emergencies that nobody has reviewed, each checked against its leaf';
REVOKE ALL ON FUNCTION apm.break_glass_unreviewed() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION apm.break_glass_unreviewed() TO apm_admin, apm_auditor;

CREATE VIEW apm.break_glass_review AS
	SELECT tid, asked_at, acting, login, reason, height FROM apm.break_glass_unreviewed();
COMMENT ON VIEW apm.break_glass_review IS 'emergencies that nobody has reviewed: who read without being allowed to, when, and for what reason';
REVOKE ALL ON apm.break_glass_review FROM PUBLIC;
GRANT SELECT ON apm.break_glass_review TO apm_admin, apm_auditor;

CREATE FUNCTION @extschema@.apm_anonymize(pid text, record jsonb, profile text DEFAULT 'apm', salt text DEFAULT NULL)
	RETURNS bytea LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_anonymize';
COMMENT ON FUNCTION @extschema@.apm_anonymize(text, jsonb, text, text) IS
	'Method 1: the aPR of a registered patient''s record, sealed for the APM, or in the paper''s form; nothing is sent';
REVOKE ALL ON FUNCTION @extschema@.apm_anonymize(text, jsonb, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_anonymize(text, jsonb, text, text) TO apm_admin, apm_clinician;

CREATE FUNCTION @extschema@.apm_deanonymize(apr bytea, purpose text DEFAULT NULL, fields jsonb DEFAULT NULL)
	RETURNS jsonb LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'apm_deanonymize';
COMMENT ON FUNCTION @extschema@.apm_deanonymize(bytea, text, jsonb) IS
	'Method 2: the record in an aPR, once the query is in the ledger and the contract allows it';
REVOKE ALL ON FUNCTION @extschema@.apm_deanonymize(bytea, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_deanonymize(bytea, text, jsonb)
	TO apm_clinician, apm_researcher, apm_auditor;

CREATE FUNCTION @extschema@.apm_jwe(envelope bytea)
	RETURNS text LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'apm_jwe';
COMMENT ON FUNCTION @extschema@.apm_jwe(bytea) IS 'an envelope as a JSON Web Encryption text, for any JOSE library';
REVOKE ALL ON FUNCTION @extschema@.apm_jwe(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_jwe(bytea) TO apm_admin, apm_auditor;

-- datasets for research (src/export) -----------------------------------------

CREATE FUNCTION @extschema@.apm_export(study text, attributes text[] DEFAULT NULL, selection jsonb DEFAULT NULL,
	time_step text DEFAULT 'month', fields jsonb DEFAULT NULL) RETURNS SETOF text
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_export';
COMMENT ON FUNCTION @extschema@.apm_export(text, text[], jsonb, text, jsonb) IS
	'a release of a study: one JSON object a row, once the export is in the ledger and the contract allows it patient by patient';
REVOKE ALL ON FUNCTION @extschema@.apm_export(text, text[], jsonb, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_export(text, text[], jsonb, text, jsonb) TO apm_researcher;

CREATE FUNCTION @extschema@.apm_export_encrypted(study text, recipient_key text, attributes text[] DEFAULT NULL,
	selection jsonb DEFAULT NULL, time_step text DEFAULT 'month', fields jsonb DEFAULT NULL) RETURNS bytea
	LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apm_export_encrypted';
COMMENT ON FUNCTION @extschema@.apm_export_encrypted(text, text, text[], jsonb, text, jsonb) IS
	'a release of a study, sealed for an ASCII-armored OpenPGP public key';
REVOKE ALL ON FUNCTION @extschema@.apm_export_encrypted(text, text, text[], jsonb, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apm_export_encrypted(text, text, text[], jsonb, text, jsonb) TO apm_researcher;

-- to watch it ----------------------------------------------------------------

-- The hash that a header has, by pgcrypto and not by our code.  pgcrypto is in a schema of the
-- administrator's choice, which is looked up: a name that the search_path finds could be anybody's.
DO LANGUAGE plpgsql $hash$
BEGIN
	EXECUTE (SELECT pg_catalog.format('CREATE FUNCTION apm.header_hash(header bytea) RETURNS bytea '
			'LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE '
			'RETURN %1$I.digest(%1$I.digest(header, ''sha256''), ''sha256'')', n.nspname)
		FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
		WHERE e.extname = 'pgcrypto');
END
$hash$;
COMMENT ON FUNCTION apm.header_hash(bytea) IS 'the hash of a block with that header, computed by pgcrypto';
REVOKE ALL ON FUNCTION apm.header_hash(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION apm.header_hash(bytea) TO apm_admin, apm_auditor;

-- The fields of a header, by their places in it (src/core/block.h).
CREATE VIEW apm.block_info AS
	SELECT b.height,
		encode(b.hash, 'hex') AS hash,
		encode(substring(b.header FROM 43 FOR 32), 'hex') AS previous,
		encode(substring(b.header FROM 75 FOR 32), 'hex') AS root,
		encode(substring(b.header FROM 143 FOR 32), 'hex') AS contract,
		('x' || encode(substring(b.header FROM 107 FOR 4), 'hex'))::bit(32)::integer AS transactions,
		timestamptz 'epoch' + ('x' || encode(substring(b.header FROM 175 FOR 8), 'hex'))::bit(64)::bigint
			* interval '1 microsecond' AS block_time,
		('x' || encode(substring(b.header FROM 183 FOR 4), 'hex'))::bit(32)::integer AS difficulty,
		encode(substring(b.header FROM 187 FOR 32), 'hex') AS node,
		b.stored_at,
		apm.header_hash(b.header) = b.hash AS hash_fits
	FROM ONLY apm.block AS b;
COMMENT ON VIEW apm.block_info IS 'the blocks, with the fields of their headers; hash_fits is computed by pgcrypto';
REVOKE ALL ON apm.block_info FROM PUBLIC;
GRANT SELECT ON apm.block_info TO apm_admin, apm_auditor;

CREATE VIEW apm.ledger AS
	SELECT i.height, l.position, l.tid,
		apm.kind_name(l.kind) AS kind,
		CASE l.rule WHEN 0 THEN 'valid' ELSE 'refused' END AS verdict,
		apm.rule_name(l.rule) AS rule,
		encode(l.leaf, 'hex') AS leaf,
		i.block_time,
		i.hash AS block,
		v.erasure AS erased_by
	FROM apm.block_info AS i JOIN ONLY apm.leaf AS l ON l.block = decode(i.hash, 'hex')
		LEFT JOIN ONLY apm.ledger_void AS v ON v.tid = l.tid;
COMMENT ON VIEW apm.ledger IS
	'every transaction of the chain with its verdict, and the erasure that voided it; nothing of what it says';
REVOKE ALL ON apm.ledger FROM PUBLIC;
GRANT SELECT ON apm.ledger TO apm_admin, apm_auditor;

CREATE VIEW apm.consent_log AS
	SELECT c.tid, i.block_time AS at,
		CASE c.action WHEN 1 THEN 'grant' WHEN 2 THEN 'revoke' WHEN 3 THEN 'review' END AS action,
		CASE WHEN c.grantee <> '\x00000000000000000000000000000000' THEN g.acting END AS grantee,
		apm.purpose_name(c.purpose) AS purpose,
		CASE WHEN c.until_us > 0 THEN timestamptz 'epoch' + c.until_us * interval '1 microsecond' END AS until,
		c.reviewed, CASE c.finding WHEN 1 THEN true WHEN 2 THEN false END AS justified,
		a.acting, a.login, c.height
	FROM ONLY apm.ledger_consent AS c JOIN apm.block_info AS i ON i.height = c.height
		CROSS JOIN LATERAL apm.staff_of(c.grantee) AS g CROSS JOIN LATERAL apm.staff_of(c.actor) AS a;
COMMENT ON VIEW apm.consent_log IS
	'grants, revocations and reviews on the chain, with who entered them; which patient''s is not told';
REVOKE ALL ON apm.consent_log FROM PUBLIC;
GRANT SELECT ON apm.consent_log TO apm_auditor;

-- A file is release N of its study if its SHA-256 is the digest.
CREATE VIEW apm.export_release AS
	SELECT p.parameters ->> 'study' AS study, e.release, i.block_time AS exported_at, e.rows,
		encode(e.digest, 'hex') AS digest, p.parameters - 'study' AS parameters,
		a.acting, e.tid, e.height, e.position, i.hash AS block
	FROM ONLY apm.ledger_export AS e
		CROSS JOIN LATERAL (SELECT convert_from(e.parameters, 'UTF8')::jsonb AS parameters) AS p
		CROSS JOIN LATERAL apm.staff_of(e.actor) AS a
		JOIN apm.block_info AS i ON i.height = e.height;
COMMENT ON VIEW apm.export_release IS 'datasets that were given out: study, number, rows, SHA-256 of the file, what was asked for, by whom';
REVOKE ALL ON apm.export_release FROM PUBLIC;
GRANT SELECT ON apm.export_release TO apm_admin, apm_auditor, apm_researcher;

-- A worker's input is what waits for it: waiting (what is new there), queue, pool or outbox.
CREATE VIEW apm.status AS
	SELECT w.worker, w.pid, w.state, w.activity, w.last_turn, w.turns, w.errors,
		w.last_error_code, w.last_error, w.last_error_at,
		q.input, q.depth, now() - q.oldest AS oldest_age,
		t.height AS chain_height,
		i.hash AS tip,
		i.block_time AS last_block_at,
		CASE w.worker WHEN 'apm cloud' THEN coalesce(now() - q.oldest, interval '0') END AS cloud_lag,
		CASE w.worker WHEN 'apm cloud' THEN p.height END AS digest_height,
		w.refusal,
		CASE w.worker WHEN 'apm cloud' THEN r.waiting END AS removals,
		CASE w.worker WHEN 'apm cloud' THEN r.failed END AS removals_failed
	FROM @extschema@.apm_worker_status() AS w
		LEFT JOIN (
			SELECT 'apm network server' AS worker, 'queue' AS input, count(*) AS depth, min(q.queued_at) AS oldest
				FROM ONLY apm.queue AS q
			UNION ALL
			SELECT 'apm miner', 'pool', count(*), min(p.received_at) FROM ONLY apm.pool AS p
			UNION ALL
			SELECT 'apm cloud', 'outbox', count(*), min(o.queued_at) FROM ONLY apm.outbox AS o
			UNION ALL
			SELECT 'apm reception', 'waiting', count(*), min(w.since) FROM ONLY apm.waiting AS w WHERE w.reason = 'new'
		) AS q ON q.worker = w.worker
		LEFT JOIN ONLY apm.tip AS t ON true
		LEFT JOIN ONLY apm.digest_published AS p ON true
		LEFT JOIN apm.block_info AS i ON i.height = t.height AND i.hash = encode(t.hash, 'hex')
		CROSS JOIN (SELECT count(*) AS waiting, count(*) FILTER (WHERE c.tries > 0) AS failed
			FROM ONLY apm.cloud_removal AS c) AS r
	WHERE w.database = current_database();
COMMENT ON VIEW apm.status IS
	'one row a worker: its state, last turn and last error, what waits for it, the tip of the chain, the last digest given out, why the node refuses, and how many erased patients the cloud has still to lose or refuses to';
REVOKE ALL ON apm.status FROM PUBLIC;
GRANT SELECT ON apm.status TO apm_admin, apm_auditor;

-- ---------------------------------------------------------------------------
-- What stands beside a table says whose it is.
-- ---------------------------------------------------------------------------
DO LANGUAGE plpgsql $comments$
DECLARE
	beside pg_catalog.record;
BEGIN
	FOR beside IN
		SELECT s.relname, t.relname AS owner FROM pg_catalog.pg_class AS s
			JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
				AND d.objid = s.oid AND d.deptype = 'i'
			JOIN pg_catalog.pg_class AS t ON t.oid = d.refobjid
		WHERE s.relkind = 'S' AND s.relnamespace = 'apm'::pg_catalog.regnamespace
	LOOP
		EXECUTE pg_catalog.format('COMMENT ON SEQUENCE apm.%I IS %L', beside.relname,
			pg_catalog.format('numbers the rows of apm.%s in the order of their arrival', beside.owner));
	END LOOP;
	FOR beside IN
		SELECT g.tgname, t.relname AS owner, pg_catalog.obj_description(g.tgfoid, 'pg_proc') AS does
		FROM pg_catalog.pg_trigger AS g JOIN pg_catalog.pg_class AS t ON t.oid = g.tgrelid
		WHERE NOT g.tgisinternal AND t.relnamespace = 'apm'::pg_catalog.regnamespace
	LOOP
		EXECUTE pg_catalog.format('COMMENT ON TRIGGER %I ON apm.%I IS %L', beside.tgname, beside.owner, beside.does);
	END LOOP;
END
$comments$;
