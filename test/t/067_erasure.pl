# Ten of a hundred patients are forgotten, with all that a hospital knows of a patient: records current and superseded,
# some of them still in the outbox and in the queue, consents, emergencies with notes, last values, searchable values,
# and sensors' records that wait.  None of it opens any more: not on the server, not from the cloud, and not from a
# backup of before that is started with today's key directory.  The ninety others notice nothing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use Digest::SHA qw(hmac_sha256 hmac_sha256_base64);
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use Test::More;

my $cloud = PostgreSQL::Test::Cluster->new('cloud');
$cloud->init;
$cloud->start;
$cloud->safe_psql('postgres', q(
	CREATE TABLE ehr (rid uuid PRIMARY KEY, apid text NOT NULL, apr bytea NOT NULL, tokens bytea[] NOT NULL);
	CREATE INDEX ON ehr (apid)));

my $node = apm_node('hospital', setup => 0);
my $keys = key_directory($node);
my $on_ledger = q(SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool) AND NOT EXISTS (SELECT FROM apm.final_queue)
	AND NOT EXISTS (SELECT FROM apm.waiting WHERE reason = 'new'));
my $in_cloud = "$on_ledger AND NOT EXISTS (SELECT FROM apm.outbox)";
my $ended = q(SELECT count(*) = 10 AND bool_and(state = 'done') FROM apm.erasure_request);

$node->safe_psql('clinic', 'SELECT apm_setup(8)');
$node->safe_psql(
	'clinic', q(
	CREATE ROLE clerk LOGIN IN ROLE apm_registrar; CREATE ROLE doctor LOGIN IN ROLE apm_clinician;
	CREATE ROLE chief LOGIN IN ROLE apm_admin; CREATE ROLE auditor LOGIN IN ROLE apm_auditor;
	CREATE ROLE gauge LOGIN IN ROLE apm_sensor; CREATE ROLE scholar LOGIN IN ROLE apm_researcher;
	CREATE ROLE deputy LOGIN IN ROLE apm_registrar, apm_clinician; CREATE ROLE relative LOGIN;
	GRANT CREATE ON SCHEMA public TO doctor;
	SELECT apm_declare_attribute('diagnosis', 'other', searchable => true, exportable => true);
	CREATE TABLE person AS SELECT 'p' || n AS pid, n, n <= 10 AS goes FROM generate_series(1, 100) AS n;
	GRANT SELECT ON person TO PUBLIC;
	CREATE FUNCTION outcome(sql text) RETURNS text LANGUAGE plpgsql AS $$
		DECLARE answer text;
		BEGIN EXECUTE sql INTO answer; RETURN answer; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$));
attach_cloud($node, $cloud);

sub as { my ($role, $sql) = @_; return in_session($node, 'clinic', $role, $sql) }
sub sql { return query($node, 'clinic', @_) }

# The different answers that a statement gives for those who go (or for those who stay), with %1$L for what column has.
sub answers
{
	my ($role, $template, $column, $from) = @_;

	return as($role, "SELECT string_agg(DISTINCT outcome(format(\$q\$$template\$q\$, $column)), ' ') FROM $from");
}

# --- a hospital --------------------------------------------------------------------------------

as('chief', q(SELECT apm_add_data_rule('weight', 'weight', '{"non-decreasing": true}')));
wait_for($node, 'clinic', q(SELECT count(*) = 1 FROM apm.contract WHERE name = 'weight'), 'a data rule is in force');
as('clerk', q(SELECT count(apm_register_patient(pid, jsonb_build_object('Firstname', 'First' || n, 'Lastname', 'Last'), '{"town": "El Oued"}')) FROM person));
as('doctor', q(CREATE TABLE kept AS SELECT pid, goes, v, apm_submit(pid, jsonb_build_object('diagnosis', 'd' || n % 7, 'weight', 60 + v)) AS rid
	FROM person, generate_series(1, 3) AS v ORDER BY v, n));
as('doctor', q(INSERT INTO kept SELECT pid, goes, 4, apm_submit(pid, '{"diagnosis": "amended"}', amends => rid) FROM kept WHERE v = 1));
as('clerk', q(SELECT count(apm_grant_access(pid, 'relative')) FROM person WHERE n <= 20));
as('gauge', q(SELECT count(apm_submit(pid, '{"Firstname": "Somebody", "weight": 90}')) FROM person WHERE n <= 20));
wait_for($node, 'clinic', $in_cloud, 'all is on the ledger and in the cloud');
as('doctor', q(SELECT count(*) FROM person, LATERAL apm_break_glass(pid, 'unconscious', 'was found by ' || pid) WHERE n <= 15));

# What people have kept elsewhere: record ids, sealed records, ids of emergencies.
sql(q(CREATE USER MAPPING FOR CURRENT_USER SERVER cloud OPTIONS (password_required 'false');
	CREATE TABLE evidence AS SELECT k.pid, k.goes, k.v, k.rid, r.tid, r.apid, e.apr FROM kept AS k JOIN apm.ledger_record AS r USING (rid) JOIN ehr AS e USING (rid);
	CREATE TABLE note AS SELECT DISTINCT n.tid, e.goes FROM apm.note AS n JOIN evidence AS e USING (apid);
	GRANT SELECT ON evidence, note TO PUBLIC));
is(sql('SELECT count(*), count(DISTINCT apid), count(*) FILTER (WHERE goes) FROM evidence'), '400|100|40', 'every record was in the cloud');
is(sql('SELECT count(*) FILTER (WHERE goes), count(*) FILTER (WHERE NOT goes) FROM note'), '10|5', 'and every note was kept');

# The ways to something of a patient, and what each answers as long as he is there.
my @ways = (
	[ 'fetch', 'doctor', q(SELECT count(*) FROM apm_fetch(%1$L, 'treatment')), 'pid', 'person', qr/^\d+$/ ],
	[ 'fetch of all versions', 'doctor', q(SELECT count(*) FROM apm_fetch(%1$L, 'treatment', all_versions => true)), 'pid', 'person', qr/^\d+$/ ],
	[ 'emergency', 'doctor', q(SELECT count(*) FROM apm_break_glass(%1$L, 'unconscious')), 'pid', 'person', qr/^\d+$/ ],
	[ 'history', 'auditor', q(SELECT count(*) > 0 FROM apm_access_history(%1$L)), 'pid', 'person', qr/^true$/ ],
	[ 'kept records', 'doctor', q(SELECT apm_deanonymize(%1$L, 'treatment') IS NOT NULL), 'apr', 'evidence', qr/^true$/ ],
	[ 'notes', 'auditor', q(SELECT length(apm_break_glass_note(%1$L)) > 10), 'tid', 'note', qr/^true$/ ],
	[ 'anonymizing', 'doctor', q(SELECT apm_anonymize(%1$L, '{"a": 1}') IS NOT NULL), 'pid', 'person', qr/^true$/ ]);

# Of those who stay, some are enough.
my %some = (person => 'AND n <= 20', evidence => 'AND v = 4', note => '');

# All ways are open, or none is, to those who go or to those who stay.
sub ways_are
{
	my ($open, $who, $name) = @_;

	foreach my $way (@ways)
	{
		my ($what, $role, $template, $column, $from, $expected) = @$way;
		my $answer = answers($role, $template, $column, "$from WHERE " . ($who eq 'goes' ? 'goes' : "NOT goes $some{$from}"));

		like($answer, $open ? $expected : qr/^((AP00\d|57P03) ?)+$/, "$name: $what");
	}
	return;
}

# What those who stay read, and what a search and a dataset show of whom.
sub content
{
	return as('doctor', q(SELECT count(*) || ' ' || md5(string_agg(concat_ws(' ', p.pid, f.rid, f.record, f.superseded_by, f.flags), E'\n' ORDER BY p.n, f.rid))
		FROM (SELECT * FROM person WHERE NOT goes) AS p, LATERAL apm_fetch(p.pid, 'treatment', all_versions => true) AS f
		WHERE f.record->>'diagnosis' NOT IN ('outbox', 'queue')));
}

sub found
{
	return as('doctor', q(SELECT count(DISTINCT p.pid) FILTER (WHERE p.goes) || ' ' || count(DISTINCT p.pid) FILTER (WHERE NOT p.goes)
		FROM apm_search('{"diagnosis": "d3"}', 'treatment') AS s JOIN person AS p USING (pid)));
}

sub exported { return as('scholar', q(SELECT count(DISTINCT r->>'patient') FROM (SELECT apm_export('study')::jsonb AS r) AS e)) }

ways_are(1, 'goes', 'before');
my $content = content();
like($content, qr/^360 /, 'those who stay have 360 records');
is(found(), '2 12', 'a search finds patients of both');
is(exported(), '100', 'a dataset has all');

# What ANALYZE may have copied from the rows that an erasure deletes.
sql(q(ANALYZE;
	CREATE TABLE copied AS SELECT encode(c.v, 'hex') AS v FROM apm.patient AS p JOIN evidence AS e USING (apid)
		LEFT JOIN apm.profile AS f USING (apid) LEFT JOIN apm.last_value AS l USING (apid) LEFT JOIN apm.note AS n USING (apid)
		LEFT JOIN apm.submission AS s USING (rid) LEFT JOIN apm.body AS b ON b.tid = e.tid,
		unnest(ARRAY[p.index_key, p.wrapped_key, f.sealed, l.sealed, n.sealed, s.fingerprint, b.nonce, b.transaction, b.proof]) AS c (v)
		WHERE e.goes AND c.v IS NOT NULL
	UNION SELECT encode(w.v, 'hex') FROM apm.waiting, unnest(ARRAY[index_key, sealed]) AS w (v)));

# --- records on their way, and a backup -----------------------------------------------------------

$cloud->stop;
as('doctor', q(INSERT INTO kept SELECT pid, goes, 5, apm_submit(pid, '{"diagnosis": "outbox"}') FROM person WHERE n <= 20));
wait_for($node, 'clinic', "$on_ledger AND (SELECT count(*) = 20 FROM apm.outbox)", 'some records are on the ledger and not in the cloud');
$node->backup('before');

my $blocker = $node->background_psql('clinic', on_error_stop => 1);
$blocker->query_safe('BEGIN; LOCK TABLE apm.pool IN SHARE MODE');
as('doctor', q(INSERT INTO kept SELECT pid, goes, 6, apm_submit(pid, '{"diagnosis": "queue"}') FROM person WHERE n <= 20));
as('clerk', q(SELECT count(apm_forget(pid, 'consent-withdrawn')) FROM person WHERE n <= 5));
as('deputy', qq(BEGIN; SELECT apm_submit('p$_', '{"diagnosis": "same transaction"}'); SELECT apm_forget('p$_', 'objection'); COMMIT)) foreach (6 .. 10);
$blocker->query_safe('COMMIT');
$blocker->quit;
wait_for($node, 'clinic', $ended, 'ten patients are forgotten, though the cloud is down');
wait_for($node, 'clinic', $on_ledger, 'the ledger is at rest');
is(sql(q(SELECT min(voided), max(voided), sum(voided) FROM apm.erasure_request)), '7|8|75', 'with a registration and six or seven records each');
$cloud->start;
wait_for($node, 'clinic', "$in_cloud AND NOT EXISTS (SELECT FROM apm.cloud_removal)", 'the cloud has followed');

# --- the live server ------------------------------------------------------------------------------

ways_are(0, 'goes', 'forgotten');
ways_are(1, 'stays', 'kept');
is(as('doctor', q(SELECT count(*) FROM (SELECT pid FROM person WHERE NOT goes AND n <= 20) AS p, LATERAL apm_fetch(p.pid, 'treatment') AS f
	WHERE f.record->>'diagnosis' IN ('outbox', 'queue'))), '20',
	'those who stay have the records that were under way');
is(sql(q(SELECT count(*) FROM ehr JOIN evidence USING (apid) WHERE goes)), '0', 'the cloud has nothing of them');
is(sql(q(SELECT count(*) > 100, count(*) FILTER (WHERE EXISTS (SELECT FROM pg_stats AS t WHERE t.schemaname = 'apm'
		AND concat(t.most_common_vals, t.histogram_bounds) LIKE '%' || c.v || '%')) FROM copied AS c)), 't|0', 'nor has what ANALYZE copied');
is(sql(q(SELECT count(*) FROM ehr)), 90 * 4 + 20, 'and everything of the others');
is(found(), '0 12', 'a search finds none of them');
is(exported(), '90', 'nor is one in a dataset');
is(as('auditor', 'SELECT ok, fault FROM apm_verify()'), 't|', 'the ledger verifies');
is(as('auditor', 'SELECT erased FROM apm_verify()'), '75', 'and says how much of it was erased');

# --- what leads from a person to his pseudonym ------------------------------------------------------

# The tables of apm in which one of these texts stands, in plain or in hex.
sub tables_with
{
	my ($texts) = @_;
	my $tables = sql(q(SELECT string_agg(relname, ' ' ORDER BY relname COLLATE "C") FROM pg_class WHERE relnamespace = 'apm'::regnamespace AND relkind = 'r'));

	return join(' ', grep { sql("SELECT EXISTS (SELECT FROM apm.$_ AS t, ($texts) AS w (text)
			WHERE position(w.text IN t::text) > 0 OR position(encode(convert_to(w.text, 'UTF8'), 'hex') IN t::text) > 0
				OR position(replace(w.text, '-', '') IN t::text) > 0)") eq 't' } split(/ /, $tables));
}

my %secret = map { $_ => slurp_file("$keys/apm-$_.key") } qw(index pepper);
my $pid_of = sub { return pack('N/a* N/a*', 'pid', $_[0]) };
my $index_of = sub { return unpack('H*', hmac_sha256($pid_of->($_[0]), $secret{index})) };

is(tables_with("VALUES ('" . $index_of->('p11') . "')"), 'patient waiting', 'a pid leads to who is there, by its index');
is(tables_with('VALUES ' . join(', ', map { "('" . $index_of->("p$_") . "')" } (1 .. 10))), '', 'and to nobody who is forgotten');
is(tables_with('SELECT rid::text FROM kept WHERE goes'), 'submission', 'of a record only the Rid is left where it was submitted');
is(sql(q(SELECT count(*), bool_and(tid IS NULL AND submitted_at IS NULL AND queued_at IS NULL AND fingerprint = decode(repeat('00', 32), 'hex'))
	FROM kept JOIN apm.submission USING (rid) WHERE goes)), '60|t', 'and nothing beside it');
is(tables_with('SELECT tid::text FROM evidence WHERE goes'), 'body final_transaction leaf ledger_void', 'its Tid stands in the ledger');
is(tables_with('SELECT DISTINCT apid FROM evidence WHERE goes'), 'body ledger_consent ledger_patient ledger_query ledger_void', 'and so does the pseudonym');
is(tables_with(q(SELECT id::text FROM apm.erasure)), 'erasure', 'a request leads nowhere');
is(tables_with(q(SELECT DISTINCT apid FROM evidence WHERE NOT goes AND pid = 'p20')),
	'body last_value ledger_consent ledger_patient ledger_profile ledger_query ledger_record patient profile', 'where one who is there stands');
my @tried = map { [ split(/\|/) ] } split(/\n/, sql(q(SELECT DISTINCT pid, apid FROM evidence WHERE goes)));
is(scalar(grep { my $secret = hmac_sha256_base64($pid_of->($_->[0]), $secret{pepper}) . '='; crypt($secret, $_->[1]) eq $_->[1] } @tried), 0,
	'the pepper tries out no pid against the pseudonyms that the ledger keeps');
is(scalar(grep { /^\$2b\$04\$/ } map { $_->[1] } @tried), 10, 'which are hashes of it');

# --- who returns ------------------------------------------------------------------------------------

as('clerk', q(SELECT apm_register_patient('p1', '{"Firstname": "First1", "Lastname": "Last"}')));
as('doctor', q(SELECT apm_submit('p1', '{"diagnosis": "new"}')));
wait_for($node, 'clinic', $in_cloud, 'a patient returns');
is(as('doctor', q(SELECT string_agg(record->>'diagnosis', ' ') FROM apm_fetch('p1', 'treatment'))), 'new', 'and begins anew');
is(sql(q(SELECT count(*) FROM apm.patient WHERE apid IN (SELECT apid FROM evidence))), '90', 'under a new pseudonym');
is(content(), $content, 'those who stayed read what they read before');

# --- what opens of bytes, with keys and without a server

# Patients as apm.patient has them, as JSON.
sub patients_json
{
	return sql(q(SELECT json_agg(json_build_object('goes', goes, 'pid', pid, 'apid', apid, 'generation', generation, 'wrapped', encode(wrapped_key, 'hex')))
		FROM apm.patient JOIN (SELECT DISTINCT pid, apid, goes FROM evidence) AS e USING (apid)));
}

# What is sealed in this database, and the records that were kept from the cloud, as JSON.
sub sealed_json
{
	my $indexes = join(', ', map { "decode('" . $index_of->("p$_") . "', 'hex')" } (1 .. 10));

	return sql(qq(SELECT json_agg(t) FROM (
		SELECT goes, 'profile' AS kind, encode(sealed, 'hex') AS data, apid, version, NULL AS rid FROM apm.profile JOIN (SELECT DISTINCT apid, goes FROM evidence) AS e USING (apid)
		UNION ALL SELECT goes, 'last value', encode(sealed, 'hex'), apid, NULL, NULL FROM apm.last_value JOIN (SELECT DISTINCT apid, goes FROM evidence) AS e USING (apid)
		UNION ALL SELECT goes, 'note', encode(sealed, 'hex'), apid, NULL, NULL FROM apm.note JOIN (SELECT DISTINCT apid, goes FROM evidence) AS e USING (apid)
		UNION ALL SELECT index_key IN ($indexes), 'waiting', encode(sealed, 'hex'), NULL, NULL, rid::text FROM apm.waiting
		UNION ALL SELECT goes, 'record', encode(apr, 'hex'), NULL, NULL, NULL FROM evidence) AS t));
}

# What a stranger opens of a backup with the key directory, and wrapped keys of today; checked against kind => count.
sub opens
{
	my ($who, $backup, $today, $expected, $name) = @_;
	my $task = qq({"keys": "$keys", "today": $today, "patients": $backup->{patients}, "sealed": $backup->{sealed}});
	my ($out, $err);

	IPC::Run::run([ '/usr/bin/python3', "$FindBin::RealBin/../python/open_backup.py" ], '<', \$task, '>', \$out, '2>', \$err) or die $err;
	my $answer = decode_json($out);
	is_deeply($answer->{opened}{$who}, $expected, $name);
	return $answer->{secrets};
}

# --- the backup of before, with today's key directory -------------------------------------------------

$node->stop;
rename($node->data_dir, $node->data_dir . '.today') or die $!;
PostgreSQL::Test::RecursiveCopy::copypath($node->backup_dir . '/before', $node->data_dir);
chmod(0700, $node->data_dir);
$node->append_conf('postgresql.conf', 'port = ' . $node->port);
$node->append_conf('postgresql.conf', q(apm.databases = ''));
$node->start;
is(sql(q(SELECT count(*) FROM apm.patient WHERE apid IN (SELECT apid FROM apm.ledger_record))), '100', 'a backup has all hundred');
ways_are(0, 'goes', 'restored, without workers');
my %backup = (patients => patients_json(), sealed => sealed_json());
my %all = ('wrapped key' => 10, profile => 10, 'last value' => 10, note => 10, waiting => 10, record => 40);
my $secrets = opens('goes', \%backup, '[]', \%all, 'whoever has its bytes and the keys still opens all of them');
is(scalar(grep { crypt($secrets->{ $_->[0] }, $_->[1]) eq $_->[1] } @tried), 10, 'and finds whose the pseudonyms are');

# reception cannot destroy anybody, and the ledger that came back knows of no erasure: the journal alone keeps them closed
$blocker = $node->background_psql('clinic', on_error_stop => 1);
$blocker->query_safe('BEGIN; LOCK TABLE apm.note IN SHARE MODE');
set_and_reload($node, 'apm.databases', 'clinic');
wait_for($node, 'clinic', q(SELECT refusal ~ 'set back' FROM apm.status WHERE worker = 'apm miner'), 'restored, the node refuses to mine');
ways_are(0, 'goes', 'restored, not accepted');
sql('SELECT apm_accept_rollback(give_up => true)');
wait_for($node, 'clinic', q(SELECT count(*) = 1 FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
	WHERE a.backend_type = 'apm reception' AND NOT l.granted AND l.relation = 'apm.note'::regclass), 'restored and accepted, reception is about to destroy them');
is(sql(q(SELECT count(*) FROM apm.patient JOIN apm.ledger_patient USING (apid) WHERE erased_height IS NULL)), '100', 'they are still here');
ways_are(0, 'goes', 'restored and accepted, not erased yet');
is(found(), '0 12', 'restored and accepted, not erased yet: a search finds none of them');
is(exported(), '90', 'restored and accepted, not erased yet: nor has a dataset one');
$blocker->query_safe('COMMIT');
$blocker->quit;
wait_for($node, 'clinic', 'SELECT count(*) = 90 FROM apm.patient', 'then their keys are destroyed once more');
wait_for($node, 'clinic', $ended, 'restored and accepted, the ten are erased in this ledger, too');
wait_for($node, 'clinic', "$in_cloud AND NOT EXISTS (SELECT FROM apm.cloud_removal)", 'and the cloud has what this ledger has');
ways_are(0, 'goes', 'restored and accepted');
is(sql(q(SELECT count(*) FROM apm.ledger_patient WHERE erased_height IS NOT NULL)), '10', 'no one more');
is(sql(q(SELECT count(*) FROM ehr AS e WHERE EXISTS (SELECT FROM apm.ledger_void AS v WHERE v.apid = e.apid))), '0', 'what the old outbox brought to the cloud is gone again');
is(as('auditor', 'SELECT ok, fault FROM apm_verify()'), 't|', 'and it verifies');
is(as('auditor', 'SELECT erased FROM apm_verify()'), '60', 'with what it had of them');
is(found(), '0 12', 'restored, a search finds none of them');
is(exported(), '90', 'nor has a dataset one');

# --- the end of the key's generation -------------------------------------------------------------------

sql(q(SELECT apm_rotate_key('apm-wrapping')));
wait_for($node, 'clinic', q(SELECT count(*) = 0 FROM apm.rotation WHERE finished_at IS NULL), 'the wrapping key is rotated');
sql(q(SELECT apm_retire_key('apm-wrapping', 1)));
ok(!-e "$keys/apm-wrapping.1.key", 'and its first generation is gone');
my $today = patients_json();
my %none = map { $_ => 0 } keys %all;
$secrets = opens('goes', \%backup, $today, \%none, 'of the backup nothing of theirs opens any more, with every key that there is');
is(join(' ', keys %$secrets), '', 'and no key leads to a pseudonym of that time');
opens('stays', \%backup, $today, { 'wrapped key' => 0, profile => 90, 'last value' => 90, note => 5, waiting => 0, record => 360 },
	'while what the others have is not lost');
is(content(), $content, 'who read what they read before');
is(as('auditor', 'SELECT ok, fault FROM apm_verify()'), 't|', 'and the ledger verifies');

done_testing();
