# The network server: what comes into its queue, good or bad, ends in the pool or in
# quarantine; what waits for a patient waits; the caps hold; nobody who asks through the
# gate is left waiting.

use strict;
use warnings;

use File::Basename;
use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('hospital', settings => { max_prepared_transactions => 2 });
my $module = "$FindBin::RealBin/../modules/test_network";

$node->safe_psql(
	'clinic', qq(
	CREATE FUNCTION sealed(bytea) RETURNS bytea AS '$module', 'test_sealed' LANGUAGE c;
	CREATE FUNCTION strangers_record(bytea, bytea, bigint) RETURNS bytea AS '$module', 'test_strangers_record' LANGUAGE c;
	CREATE ROLE app LOGIN;
	GRANT apm_clinician TO app;
	CREATE ROLE clerk IN ROLE apm_registrar;
	CREATE ROLE boss SUPERUSER IN ROLE apm_clinician;
	CREATE ROLE auditor LOGIN;
	GRANT apm_auditor TO auditor;
	SET ROLE clerk;
	SELECT apm_register_patient('p1', '{"Firstname": "First", "Lastname": "Last"}');));

# --- one record, and its trace
my $rid = submit('p1', 'first');
wait_for($node, 'clinic', stored($rid), 'a record reaches the store');
is(query($node, 'clinic', "SELECT string_agg(station, ', ') FROM apm_trace('$rid')", 'auditor'),
	'submitted, queued, pooled, in block, validated, in cloud', 'its trace names every station');
is( query($node, 'clinic',
		"SELECT bool_and(ordered) FROM (SELECT at >= lag(at, 1, at) OVER () AS ordered FROM apm_trace('$rid')) AS t", 'auditor'),
	't', 'in the order of time');
is(query($node, 'clinic', "SELECT count(*) FROM apm_trace('00000000-0000-7000-8000-000000000000')", 'auditor'),
	'0', 'of a Rid that is not there it says nothing');
fails_with($node, 'clinic', "SELECT apm_trace('$rid')", '42501', qr/permission denied/, 'a clinician gets no trace', 'app');

# --- the same envelope many times
$node->safe_psql(
	'clinic', q(
	SET ROLE boss;
	BEGIN;
	CREATE TEMP TABLE sent AS SELECT apm_submit('p1', '{"n": "many"}') AS rid;
	INSERT INTO apm.queue (tid, sealed, queued_at) SELECT tid, sealed, queued_at FROM apm.queue, generate_series(1, 500);
	SELECT count(*) = 501 FROM apm.queue;
	COMMIT;));
accept_load();
wait_for($node, 'clinic', 'SELECT count(*) = 0 FROM apm.queue', 'an envelope that came 501 times is taken 501 times');
wait_for($node, 'clinic', 'SELECT count(*) = 2 FROM apm.cloud_record', 'and is one record in the store');
is(query($node, 'clinic', 'SELECT count(*) FROM apm.final_transaction WHERE kind = 2'), '2', 'one final transaction');
is(query($node, 'clinic', 'SELECT count(*) FROM apm.pool'), '0', 'and nothing is left in the pool');

# --- poison
$node->safe_psql(
	'clinic', q(
	INSERT INTO apm.queue (tid, sealed, queued_at) VALUES
		(gen_random_uuid(), '', now()),
		(gen_random_uuid(), 'nonsense', now()),
		(gen_random_uuid(), decode(repeat('45', 4096), 'hex'), now()),
		(gen_random_uuid(), sealed('not a transaction'), now());));
my $behind = submit('p1', 'behind poison');
$node->safe_psql('clinic', 'SELECT apm_run_network_server()');
is(query($node, 'clinic', 'SELECT count(*), sum(tries) FROM apm.queue'), '5|0', 'what was loaded is let alone until the operator says so');
accept_load();
wait_for($node, 'clinic', q(SELECT count(*) = 4 FROM apm.quarantine WHERE stage = 'queue'), 'poison is quarantined after its tries');
is( query($node, 'clinic', q(SELECT string_agg(DISTINCT reason, ', ' ORDER BY reason) FROM apm.quarantine)),
	'cannot be opened, is not a signed transaction', 'with its reason');
is(query($node, 'clinic', q(SELECT count(*) FROM apm.quarantine WHERE content = 'nonsense')), '1', 'as it came');
wait_for($node, 'clinic', stored($behind), 'what came behind it went on');

# --- strangers
$node->safe_psql(
	'clinic', q(
	INSERT INTO apm.queue (tid, sealed, queued_at)
		SELECT gen_random_uuid(), strangers_record(chain, origin, (extract(epoch FROM now()) * 1e6)::bigint), now() FROM apm.chain
		UNION ALL
		SELECT gen_random_uuid(), strangers_record(chain, sha256('nobody'), (extract(epoch FROM now()) * 1e6)::bigint), now() FROM apm.chain));
accept_load();
wait_for($node, 'clinic', 'SELECT count(*) = 0 FROM apm.queue', q(a stranger's record does not wait for a patient));
wait_for($node, 'clinic', q(SELECT string_agg(rule, ',' ORDER BY rule) = 'origin,signature' FROM apm.refused),
	'the contract refuses it, and who may look sees the rule');
is(query($node, 'clinic', 'SELECT count(*) FROM apm.refused', 'auditor'), '2', 'as the auditor does');

# --- a record waits for its patient's registration
my $blocker = $node->background_psql('clinic', on_error_die => 1);
$blocker->query_safe('BEGIN; LOCK TABLE apm.verdict IN SHARE MODE');    # nobody mines
$node->safe_psql('clinic', q(SET ROLE clerk; SELECT apm_register_patient('p2', '{"Firstname": "Second", "Lastname": "Last"}')));
my @early = map { submit('p2', "early $_") } (1 .. 3);
wait_for($node, 'clinic', 'SELECT count(*) = 3 FROM apm.queue WHERE not_before IS NOT NULL AND tries = 0',
	'records whose registration is on its way wait');
is(query($node, 'clinic', "SELECT detail FROM apm_trace('$early[0]') WHERE station = 'queued'", 'auditor'),
	'waits for the registration of the patient', 'and their trace says so');
$blocker->query_safe('COMMIT');
wait_for($node, 'clinic', stored($_), 'the patient is registered: a record goes on') foreach @early;
is( query($node, 'clinic',
		'SELECT array_agg(s.rid ORDER BY f.height, f.position) = array_agg(s.rid ORDER BY s.submitted_at)'
		  . " FROM apm.final_transaction AS f JOIN apm.submission AS s USING (tid) WHERE s.rid IN ('" . join("','", @early) . "')"),
	't', 'in their order');
is(query($node, 'clinic', 'SELECT count(*) FROM apm.refused'), '2', 'none was refused');

# --- two-phase commit, caps
fails_with($node, 'clinic', q(BEGIN; SELECT apm_submit('p1', '{"n": "prepared"}'); PREPARE TRANSACTION 'two'),
	'0A000', qr/cannot prepare a transaction that has submitted records/, 'a transaction with queued records is not prepared', 'app');
$node->safe_psql('clinic', q(
	SET ROLE app; BEGIN; SAVEPOINT s; SELECT apm_submit('p1', '{"n": "taken back"}'); ROLLBACK TO s; PREPARE TRANSACTION 'two';));
$node->safe_psql('clinic', q(ROLLBACK PREPARED 'two'));
pass('one that took them back is');

$blocker->query_safe('BEGIN; LOCK TABLE apm.pool IN SHARE MODE');    # nobody takes from the queue
submit('p1', "in queue $_") foreach (1 .. 2);
fails_with($node, 'clinic', q(SET apm.max_queue = 2; SELECT apm_submit('p1', '{"n": "too much"}')),
	'53400', qr/queue of the network server is full.*HINT/s, 'a full queue refuses', 'boss');
fails_with($node, 'clinic', q(SET apm.max_queue = 3; INSERT INTO apm.patient_record (pid, record) SELECT 'p1', '{"n": 0}' FROM generate_series(1, 2)),
	'53400', qr/queue of the network server is full/, 'a statement that would overfill it is refused as a whole', 'boss');
$node->safe_psql('clinic', q(SET ROLE boss; SET apm.max_queue = 3; SELECT apm_submit('p1', '{"n": "just fits"}')));
pass('what fits is taken');
$blocker->query_safe('COMMIT');
wait_for($node, 'clinic', drained(), 'everything is drained');
$node->safe_psql('clinic', q(SET ROLE boss; SET apm.max_queue = 2; SELECT apm_submit('p1', '{"n": "again"}')));
pass('then there is room again');
wait_for($node, 'clinic', drained(), 'and that is drained, too');

# --- the gate
$blocker->query_safe('BEGIN; LOCK TABLE apm.verdict IN SHARE MODE');    # nobody judges
my $reader = $node->background_psql('clinic', on_error_stop => 0);
$reader->query_until(qr/asked/, "SET ROLE app;\n\\echo asked\nSELECT count(*) FROM apm_fetch('p1');\n");
wait_for($node, 'clinic', 'SELECT count(*) = 1 FROM apm.pool', 'a query is in the pool while its reader waits');
$node->safe_psql('postgres', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'apm network server'));
wait_for($node, 'clinic', q(SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'client backend' AND state = 'active' AND pid <> pg_backend_pid()),
	'the network server ends: the reader is told');
$blocker->query_safe('COMMIT');
$blocker->quit;
$reader->quit;
wait_for($node, 'clinic', 'SELECT count(*) = 1 FROM apm.final_transaction WHERE kind = 3', 'and the query is in the ledger');

$node->safe_psql('clinic', q(INSERT INTO apm.load_notice (relation) VALUES ('queue')));
wait_for($node, 'clinic', q(SELECT refusal IS NOT NULL FROM apm_worker_status() WHERE worker = 'apm miner'), 'a node that noticed a load refuses');
fails_with($node, 'clinic', q(SELECT * FROM apm_fetch('p1')), 'AP008', qr/this node serves no reads.*HINT.*written/s,
	'a reader is told so at once', 'app');
is(query($node, 'clinic', 'SELECT count(*) FROM apm.pool'), '0', 'and nothing waits for later');
accept_load();

# --- a key of the network server's is gone: who asks is told, who has asked as well
my $keys = key_directory($node);
my $aside = $node->basedir . '/aside';
mkdir($aside) or die "$aside: $!";
$blocker = $node->background_psql('clinic', on_error_die => 1);
$blocker->query_safe('BEGIN; LOCK TABLE apm.verdict IN SHARE MODE');    # nobody judges
$reader = $node->background_psql('clinic', on_error_stop => 0);
$reader->query_until(qr/asked/, "SET ROLE app;\n\\echo asked\nSELECT count(*) FROM apm_fetch('p1');\n");
wait_for($node, 'clinic', 'SELECT count(*) = 1 FROM apm.pool', 'a reader waits for his query');
rename($_, "$aside/" . basename($_)) or die "$_: $!" foreach glob("$keys/apm-envelope.*");
$node->reload;
wait_for($node, 'clinic', q(SELECT last_error_code = 'AP002' FROM apm_worker_status() WHERE worker = 'apm network server'),
	'the status says that a key is missing');
wait_for($node, 'clinic', q(SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'client backend' AND state = 'active' AND pid <> pg_backend_pid()),
	'he is not left waiting');
fails_with($node, 'clinic', q(SET statement_timeout = '60s'; SELECT * FROM apm_fetch('p1')), 'AP002',
	qr/this node serves no reads.*HINT.*public keys of the APM/s, 'another one is told at once', 'app');
$blocker->query_safe('COMMIT');
rename($_, "$keys/" . basename($_)) or die "$_: $!" foreach glob("$aside/*");
$node->reload;
wait_for($node, 'clinic', drained(), 'the key is back: its work goes on');
is(query($node, 'clinic', q(SELECT count(*) > 0 FROM apm_fetch('p1')), 'app'), 't', 'and reads are answered');
$blocker->quit;
$reader->quit;

$node->stop;
done_testing();

sub submit
{
	my ($pid, $text) = @_;
	return query($node, 'clinic', qq(SELECT apm_submit('$pid', '{"n": "$text"}')), 'app');
}

sub stored
{
	my ($rid) = @_;
	return "SELECT count(*) = 1 FROM apm.cloud_record WHERE rid = '$rid'";
}

sub drained
{
	return 'SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool)'
	  . ' AND NOT EXISTS (SELECT FROM apm.final_queue) AND NOT EXISTS (SELECT FROM apm.outbox)';
}

# We wrote to a table of apm by hand, which stops the node; that is tested elsewhere.
sub accept_load
{
	$node->safe_psql('clinic', 'SELECT apm_accept_rollback()');
	poll($node, 'clinic', q(SELECT refusal IS NULL FROM apm_worker_status() WHERE worker = 'apm miner'))
	  or die 'the node goes on refusing';
	return;
}
