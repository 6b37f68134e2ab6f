# The cloud: records reach another server through a foreign table, whatever happens to
# it meanwhile; reading never gives a part; a row that it refuses does not stop the others.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $cloud = PostgreSQL::Test::Cluster->new('cloud');
$cloud->init;
$cloud->start;
$cloud->safe_psql('postgres', 'CREATE TABLE ehr (rid uuid PRIMARY KEY, apid text NOT NULL, apr bytea NOT NULL, tokens bytea[] NOT NULL)');

my $node = apm_node('hospital', settings => { restart_after_crash => 'on' });
$node->safe_psql(
	'clinic', q(
	CREATE ROLE app LOGIN;
	GRANT apm_clinician TO app;
	CREATE ROLE clerk IN ROLE apm_registrar;
	CREATE ROLE admin IN ROLE apm_admin;
	GRANT CREATE ON SCHEMA public TO admin;
	CREATE ROLE boss SUPERUSER IN ROLE apm_clinician;
	SET ROLE clerk;
	SELECT apm_register_patient(p, jsonb_build_object('Firstname', p, 'Lastname', 'Last')) FROM unnest(ARRAY['p1', 'p2', 'p3', 'p4']) AS p;));

# --- the embedded store serves until another is attached, to which its records move
my $first = submit('p1', 'first');
wait_for($node, 'clinic', "SELECT count(*) = 1 FROM apm.cloud_record WHERE rid = '$first'", 'the embedded store has a record');
is(query($node, 'clinic', q(SELECT record->>'n' FROM apm_fetch('p1')), 'app'), 'first', 'and it reads back');
attach_cloud($node, $cloud);
wait_for($cloud, 'postgres', "SELECT count(*) = 1 FROM ehr WHERE rid = '$first'", 'it moves to the one that is attached');
is(query($node, 'clinic', 'SELECT count(*) FROM apm.cloud_record'), '0', 'and away from the embedded one');
is(fetch('p1'), 'first', 'and reads back from there');
is(query($cloud, 'postgres', q(SELECT count(*) FROM ehr WHERE position('first' IN encode(apr, 'escape')) > 0 OR apid = 'p1')),
	'0', 'the cloud sees neither record nor patient');

# --- what cannot be attached
foreach my $bad (
	[ 'VIEW bad AS SELECT * FROM apm.cloud_record', qr/neither a foreign table nor a plain one/ ],
	[ 'TEMP TABLE bad (rid uuid PRIMARY KEY, apid text, apr bytea, tokens bytea[])', qr/does not survive a crash/ ],
	[ 'UNLOGGED TABLE bad (rid uuid PRIMARY KEY, apid text, apr bytea, tokens bytea[])', qr/does not survive a crash/ ],
	[ 'TABLE bad (rid uuid PRIMARY KEY, apid text, apr text, tokens bytea[])', qr/no column apr bytea/ ],
	[ 'TABLE bad (rid uuid PRIMARY KEY, apid varchar, apr bytea, tokens bytea[])', qr/no column apid text/ ],
	[ 'TABLE bad (rid uuid PRIMARY KEY, apid text, apr bytea)', qr/no column tokens bytea\[\].*tokens bytea\[\] by/s ],
	[ 'TABLE bad (rid uuid, apid text, apr bytea, tokens bytea[])', qr/no unique key on rid/ ],
	[ 'TABLE bad (rid uuid PRIMARY KEY, apid text, apr bytea, tokens bytea[], more text NOT NULL)', qr/another column must be given a value/ ],
	[ 'TABLE bad (rid uuid PRIMARY KEY, apid text, apr bytea, tokens bytea[]); ALTER TABLE bad ENABLE ROW LEVEL SECURITY', qr/row security/ ],
	[ 'TABLE bad (rid uuid PRIMARY KEY, apid text, apr bytea, tokens bytea[]); ALTER TABLE bad OWNER TO admin', qr/owner is not a superuser/ ],
	[ trigger('EXECUTE FUNCTION public.sneak()'), qr/function of one of its triggers/ ],
	[ trigger('WHEN (public.sneak(NEW.apid)) EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()', 'UPDATE'),
		qr/triggers has a condition/ ])
{
	my ($what, $why) = @$bad;
	fails_with($node, 'clinic', "BEGIN; CREATE $what; SELECT apm_cloud_attach('bad')", 'AP010', $why, "not attached: $what");
}
fails_with($node, 'clinic', q(SELECT apm_cloud_attach('ehr')), '42501', qr/permission denied/, 'a clinician attaches nothing', 'app');
fails_with($node, 'clinic', q(BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT apm_cloud_attach('ehr')), '25001', qr/isolation level/,
	'nor does an old snapshot');
is(query($node, 'clinic', 'SELECT relation FROM apm.cloud_target'), 'ehr', 'the attached one stays');

# --- the cloud is down
$cloud->stop('fast');
my @offline = map { submit('p2', "offline $_") } (1 .. 5);
wait_for($node, 'clinic', 'SELECT count(*) = 5 FROM apm.outbox', 'while the cloud is down, the outbox holds what comes');
wait_for($node, 'clinic', q(SELECT last_error_code = '08001' FROM apm_worker_status() WHERE worker = 'apm cloud'), 'the status tells why');
is(fetch('p2'), join(',', map { "offline $_" } (1 .. 5)), 'what is in the outbox reads back');
is(query($node, 'clinic', 'SELECT bool_and(apr IS NULL) FROM apm.outbox'), 't', 'and its bytes are in the ledger alone');
fails_with($node, 'clinic', q(SELECT * FROM apm_fetch('p1')), '08000', qr/cloud store did not answer/, 'what is in the cloud does not', 'app');
submit('p1', 'second');
wait_for($node, 'clinic', 'SELECT count(*) = 6 FROM apm.outbox', 'one of two records of a patient is in the outbox');
fails_with($node, 'clinic', q(SELECT * FROM apm_fetch('p1')), '08000', qr/cloud store did not answer/, 'and no part of them is returned', 'app');
fails_with($node, 'clinic', q(SET apm.max_outbox = 6; SELECT apm_submit('p1', '{"n": "too much"}')), '53400', qr/outbox to the cloud is full/,
	'a full outbox refuses new records', 'boss');
is(query($node, 'clinic', 'SELECT count(*) FROM apm.quarantine'), '0', 'nothing is quarantined for that');
$cloud->start;
wait_for($node, 'clinic', 'SELECT count(*) = 0 FROM apm.outbox', 'the cloud is back: the outbox drains by itself');
is(count_in_cloud(), '7', 'everything is there');
is(fetch('p1'), 'first,second', 'and reads back');
is(query($node, 'clinic', q(SELECT count(*) FROM apm.final_transaction WHERE kind = 2 AND stored_at IS NULL)), '0',
	'the time at which it was stored is kept');

# --- the foreign table changes
# (postgres_fdw asks for the local schema's name over there unless it is told another)
$node->safe_psql('clinic', q(ALTER FOREIGN TABLE ehr OPTIONS (ADD schema_name 'public')));
$node->safe_psql('clinic', 'CREATE SCHEMA "Odd "" place"; ALTER FOREIGN TABLE ehr SET SCHEMA "Odd "" place";'
	  . 'ALTER FOREIGN TABLE "Odd "" place".ehr RENAME TO "it; DROP"; GRANT USAGE ON SCHEMA "Odd "" place" TO apm_worker');
submit('p1', 'third');
wait_for($cloud, 'postgres', 'SELECT count(*) = 8 FROM ehr', 'a table that was renamed is still the cloud');
is(fetch('p1'), 'first,second,third', 'for reading too');
$node->safe_psql('clinic', 'ALTER FOREIGN TABLE "Odd "" place"."it; DROP" SET SCHEMA public; ALTER FOREIGN TABLE "it; DROP" RENAME TO ehr');
$node->safe_psql('clinic', 'ALTER FOREIGN TABLE ehr DROP COLUMN apr');
submit('p1', 'fourth');
wait_for($node, 'clinic', q(SELECT last_error LIKE '%no column apr bytea' FROM apm_worker_status() WHERE worker = 'apm cloud'),
	'a column that was dropped shows in the status');
fails_with($node, 'clinic', q(SELECT * FROM apm_fetch('p1')), 'AP010', qr/no column apr bytea/, 'and to a reader', 'app');
is(query($node, 'clinic', 'SELECT count(*), max(tries) FROM apm.outbox'), '1|0', 'the rows stay, and none is blamed');
$node->safe_psql('clinic', 'ALTER FOREIGN TABLE ehr ADD COLUMN apr bytea');
wait_for($cloud, 'postgres', 'SELECT count(*) = 9 FROM ehr', 'it is back: they go on');
$cloud->safe_psql('postgres', 'ALTER TABLE ehr RENAME COLUMN apr TO hidden');
fails_with($node, 'clinic', q(SELECT * FROM apm_fetch('p1')), 'AP010', qr/cannot be read/, 'the same when the change is over there', 'app');
$cloud->safe_psql('postgres', 'ALTER TABLE ehr RENAME COLUMN hidden TO apr');

# --- what the cloud should not do
$cloud->safe_psql('postgres', qq(CREATE TABLE kept AS SELECT * FROM ehr; ALTER TABLE ehr DROP CONSTRAINT ehr_pkey; INSERT INTO ehr SELECT * FROM ehr WHERE rid = '$first'));
fails_with($node, 'clinic', q(SELECT * FROM apm_fetch('p1')), 'AP005', qr/with a record twice/, 'a record that comes twice', 'app');
is(fetch('p2'), join(',', map { "offline $_" } (1 .. 5)), 'other patients read on');
$cloud->safe_psql('postgres', 'ALTER TABLE ehr ALTER apr TYPE text USING $$garbage$$');
fails_with($node, 'clinic', q(SELECT * FROM apm_fetch('p1')), 'AP005', qr/./, 'garbage', 'app');
$cloud->safe_psql('postgres', 'DROP TABLE ehr; ALTER TABLE kept RENAME TO ehr; ALTER TABLE ehr ADD PRIMARY KEY (rid)');
is(fetch('p1'), 'first,second,third,fourth', 'all is well again');

# --- a row that the cloud refuses
my $poison = '00000000-0000-7000-8000-00000000dead';
$cloud->safe_psql('postgres', "ALTER TABLE ehr ADD CONSTRAINT picky CHECK (rid <> '$poison')");
$node->safe_psql('clinic', qq(
	SET ROLE app;
	INSERT INTO apm.patient_record (pid, record, rid)
		SELECT 'p3', jsonb_build_object('n', n), CASE n WHEN 77 THEN '$poison'::uuid END FROM generate_series(1, 200) AS n));
wait_for($cloud, 'postgres', 'SELECT count(*) = 199 + 9 FROM ehr', 'the cloud refuses one of 200: the others are stored');
wait_for($node, 'clinic', q(SELECT count(*) = 1 FROM apm.quarantine WHERE stage = 'outbox' AND reason LIKE '%23514%'), 'that one is quarantined');
is(query($node, 'clinic', "SELECT string_agg(station, ', ') FROM apm_trace('$poison')"),
	'submitted, queued, pooled, in block, validated, in quarantine', 'and its trace says so');

# --- cut in the middle
# Each cut has records of its own to interrupt, or to come after: with them there is a connection again.
foreach my $cut (0 .. 4)
{
	$node->safe_psql('clinic', qq(
		SET ROLE app;
		INSERT INTO apm.patient_record (pid, record)
			SELECT 'p4', jsonb_build_object('n', $cut * 1000 + n) FROM generate_series(1, 1000) AS n));
	poll($cloud, 'postgres', q(SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'postgres_fdw'))
	  or die 'no connection to cut';
	$cloud->safe_psql('postgres', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'postgres_fdw'));
}
wait_for($node, 'clinic', 'SELECT (SELECT count(*) FROM apm.outbox) = 0 AND (SELECT count(*) FROM apm.final_transaction WHERE kind = 2) = 5209',
	'the connection is cut again and again: everything arrives');
is(count_in_cloud(), 199 + 9 + 5000, 'once');
is(scalar(() = fetch('p4') =~ /\d+/g), 5000, 'and reads back');

# --- killed between the cloud's commit and ours, and a store without a key
$cloud->safe_psql('postgres', 'ALTER TABLE ehr DROP CONSTRAINT ehr_pkey');
my $blocker = $node->background_psql('clinic');
$cloud->stop('fast');
my $last = submit('p1', 'fifth');
wait_for($node, 'clinic', "SELECT count(*) = 1 FROM apm.outbox WHERE rid = '$last'", 'a record is in the outbox');
$blocker->query_safe("BEGIN; SELECT FROM apm.outbox WHERE rid = '$last' FOR UPDATE");    # it can be sent, and not taken out
$cloud->start;
wait_for($cloud, 'postgres', "SELECT count(*) = 1 FROM ehr WHERE rid = '$last'", 'it is stored, and not taken out yet');
my $pid = worker_pid($node, 'clinic', 'apm cloud');

kill('KILL', $pid) or die 'kill';
eval { $blocker->quit };
wait_for($node, 'clinic', "SELECT count(*) = 0 FROM apm.outbox", 'the worker is killed in between: the outbox drains afterwards');
is(query($cloud, 'postgres', "SELECT count(*) FROM ehr WHERE rid = '$last'"), '1', 'and it is stored once');
is(fetch('p1'), 'first,second,third,fourth,fifth', 'and reads back');

$node->stop;
$cloud->stop;
done_testing();

# A superuser's table on which somebody else, having been granted ALL, has put a trigger.
sub trigger
{
	my ($what, $event) = @_;

	return sprintf(q(TABLE bad (rid uuid PRIMARY KEY, apid text, apr bytea, tokens bytea[]); GRANT ALL ON bad TO admin; SET LOCAL ROLE admin;
		CREATE FUNCTION public.sneak() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
		CREATE FUNCTION public.sneak(text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
		CREATE TRIGGER sneak BEFORE %s ON bad FOR EACH ROW %s; RESET ROLE), $event // 'INSERT', $what);
}

sub submit
{
	my ($pid, $text) = @_;
	return query($node, 'clinic', qq(SELECT apm_submit('$pid', '{"n": "$text"}')), 'app');
}

sub fetch
{
	my ($pid) = @_;
	return query($node, 'clinic', qq(SELECT string_agg(record->>'n', ',' ORDER BY rid) FROM apm_fetch('$pid')), 'app');
}

sub count_in_cloud
{
	return query($cloud, 'postgres', 'SELECT count(*) FROM ehr');
}
