# Every key is rotated while the hospital works, and nothing is lost.
#
# First the wrapping key, with more than a thousand patients: reception is killed with -9 in the
# middle of moving their keys, goes on where it was, and neither registrations nor reads wait for it.  The
# old generation is not retired while a row needs it; when it is gone nothing opens with it, not
# even what an old backup has, and everything else does.
#
# Then each kind of key twice under a load of clients and a sensor: every acknowledged record
# becomes one valid transaction and reads back, no row is quarantined or refused, the ledger verifies with blocks
# of three node keys in it, and so does a copy that was dumped and restored.  A record that
# was signed before a rotation and mined after it is accepted.  A crash between the new file and the
# transaction leaves a generation that the next call takes.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $patients = 1200;
my $held = 500;    # whose rows somebody has locked
my $clients = 2;
my @kinds = qw(apm-wrapping apm-envelope network-server private-blockchain apm-signing node-signing);
my $settled = 'SELECT count(*) = 0 FROM apm.rotation WHERE finished_at IS NULL';
my $drained = q(SELECT NOT EXISTS (SELECT FROM apm.waiting WHERE reason <> 'patient') AND NOT EXISTS (SELECT FROM apm.queue)
	AND NOT EXISTS (SELECT FROM apm.pool) AND NOT EXISTS (SELECT FROM apm.final_queue) AND NOT EXISTS (SELECT FROM apm.outbox));

my $node = apm_node('hospital', settings => { restart_after_crash => 'on', max_connections => 40 });
my $keys = key_directory($node);
$node->safe_psql('clinic', q(CREATE ROLE clerk IN ROLE apm_registrar; CREATE ROLE doctor LOGIN IN ROLE apm_clinician;
	CREATE ROLE gateway LOGIN IN ROLE apm_sensor));

sub rotate { return query($node, 'clinic', "SELECT apm_rotate_key('$_[0]')") }
sub register { return query($node, 'clinic', qq(SELECT apm_register_patient('$_[0]', '{"Firstname": "Amina"}', '{}')), 'clerk') }
sub submit { return query($node, 'clinic', qq(SELECT apm_submit('$_[0]', '{"n": "$_[1]"}')), 'doctor') }
sub read_of { return query($node, 'clinic', qq(SELECT string_agg(record ->> 'n', ',' ORDER BY record ->> 'n') FROM apm_fetch('$_[0]')), 'doctor') }

# --- 1. the wrapping key -------------------------------------------------------------------

register('p1');
my $apid = query($node, 'clinic', 'SELECT apid FROM apm.patient');
$node->safe_psql('clinic', qq(SET ROLE clerk;
	SELECT count(apm_register_patient('p' || i, '{"Firstname": "Amina"}', '{}')) FROM generate_series(2, $patients) AS i));
wait_for($node, 'clinic', $drained, "$patients patients are registered");
submit("p$_", 'first') foreach (1, $patients);
query($node, 'clinic', q(SELECT apm_submit('later', '{"n": "waited"}')), 'gateway');
wait_for($node, 'clinic', $drained, 'with records, and one that waits for its patient');
is(query($node, 'clinic', 'SELECT generation, reason FROM apm.waiting'), '1|patient', 'under the first generation');

my $old_key = query($node, 'clinic', "SELECT encode(wrapped_key, 'hex') FROM apm.patient WHERE apid = '$apid'");    # as an old backup has it

# Somebody has some rows locked, so that the middle of the work is a state that lasts.
my $session = $node->background_psql('clinic');
$session->query_safe("BEGIN; SELECT count(*) FROM (SELECT FROM apm.patient ORDER BY apid DESC LIMIT $held FOR UPDATE) AS locked");
is(rotate('apm-wrapping'), '2', 'the wrapping key gets a successor');
wait_for($node, 'clinic', q(SELECT items_done FROM apm.rotation WHERE kind = 'apm-wrapping'),
	'all that nobody has locked is moved', $patients + 1 - $held);
is(query($node, 'clinic', 'SELECT items_total, finished_at IS NULL FROM apm.rotation'), ($patients + 1) . '|t', 'the rest is to come');
register('meanwhile');
is(query($node, 'clinic', 'SELECT count(*) FROM apm.patient WHERE generation = 2'), $patients - $held + 1, 'a registration does not wait, and uses the new one');
is(read_of('p1'), 'first', 'nor does a reader');
is(read_of("p$patients"), 'first', 'of whomever');
fails_with($node, 'clinic', q(SELECT apm_retire_key('apm-wrapping', 1)), '55006', qr/still needed.*$held of apm\.patient/s,
	'the old generation is needed');

kill_worker('apm reception');
$session->quit;
wait_for($node, 'clinic', $settled, 'killed in the middle, reception goes on, and comes to the end');
is(query($node, 'clinic', q(SELECT items_done, items_total FROM apm.rotation)), join('|', ($patients + 1) x 2), 'each was moved once');
is(query($node, 'clinic', 'SELECT generation, count(*) FROM apm.patient GROUP BY 1'), '2|' . ($patients + 1), 'all patients');
is(query($node, 'clinic', 'SELECT generation FROM apm.waiting'), '2', 'and who waits');
query($node, 'clinic', q(SELECT apm_retire_key('apm-wrapping', 1)));
ok(!-e "$keys/apm-wrapping.1.key", 'now the old generation goes');

is(read_of("p$_"), 'first', "p$_ reads without it") foreach (1, $patients);
register('later');
wait_for($node, 'clinic', $drained, 'who waited has a patient');
wait_for($node, 'clinic', 'SELECT count(*) FROM apm.cloud_record', 'and is stored', 3);
is(read_of('later'), 'waited', 'and reads');

# what an old backup has, put back
my $new_key = query($node, 'clinic', "SELECT encode(wrapped_key, 'hex') FROM apm.patient WHERE apid = '$apid'");
sub put_back { return query($node, 'clinic', "UPDATE apm.patient SET wrapped_key = '\\x$_[0]', generation = $_[1] WHERE apid = '$apid'") }
put_back($old_key, 1);
fails_with($node, 'clinic', "SELECT * FROM apm_fetch('p1')", 'AP002', qr/lacks the secret key "apm-wrapping, generation 1"/,
	'a key that it wraps does not open any more', 'doctor');
put_back($old_key, 2);
fails_with($node, 'clinic', "SELECT * FROM apm_fetch('p1')", 'AP004', qr/could not open/, 'nor under another number', 'doctor');
put_back($new_key, 2);
is(read_of('p1'), 'first', 'the one that was moved does');

# --- 2. every kind, twice, under load ---------------------------------------------------------

# Clients submit as long as nobody stops them, each record in a transaction of its own and all in one command, which is
# told of no reload before it ends.
$node->safe_psql('clinic', q(
	CREATE TABLE acknowledged (rid uuid PRIMARY KEY);
	CREATE TABLE stop (now boolean);
	GRANT INSERT ON acknowledged TO doctor, gateway;
	GRANT SELECT ON stop TO doctor, gateway;
	CREATE PROCEDURE work(client text) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. 1000000 LOOP
			INSERT INTO acknowledged SELECT apm_submit('p' || 1 + i % 40, jsonb_build_object('n', client || i));
			COMMIT;
			EXIT WHEN EXISTS (SELECT FROM stop);
		END LOOP;
	END $$));
my @load = map { start_client($_ == $clients ? 'gateway' : 'doctor', "c$_-") } (1 .. $clients);

foreach my $round (1, 2)
{
	foreach my $kind (@kinds)
	{
		await_progress();
		my $generation = rotate($kind);
		wait_for($node, 'clinic', $settled, "round $round: generation $generation of $kind is in use");
		like(read_of("p$patients"), qr/first/, 'readers read');
		register("n$generation$kind");
	}
	foreach my $kind (qw(network-server private-blockchain node-signing))
	{
		await_progress();
		ok(retired($kind, $round), "generation $round of $kind goes");
	}
}
await_progress();
query($node, 'clinic', 'INSERT INTO stop VALUES (true)');
foreach my $client (@load)
{
	ok($client->finish, 'a client had all its records acknowledged');
}
wait_for($node, 'clinic', $drained, 'all arrives');

my $acknowledged = query($node, 'clinic', 'SELECT count(*) FROM acknowledged');
cmp_ok($acknowledged, '>', 100, "$acknowledged records were acknowledged meanwhile");
is( query($node, 'clinic', q(SELECT count(*), count(DISTINCT f.tid) FROM acknowledged JOIN apm.submission AS s USING (rid)
		JOIN apm.final_transaction AS f ON f.tid = s.tid AND f.rule = 0 JOIN apm.cloud_record AS c ON c.rid = s.rid)),
	"$acknowledged|$acknowledged", 'each is one valid transaction, and in the cloud');
is(query($node, 'clinic', q(SELECT count(*) FROM apm.quarantine)), '0', 'nothing was quarantined');
is(query($node, 'clinic', q(SELECT count(*) FROM apm.refused)), '0', 'nothing was refused');
is(query($node, 'clinic', 'SELECT count(DISTINCT node) FROM apm.block_info'), '3', 'three keys signed blocks');
is(query($node, 'clinic', 'SELECT ok FROM apm_verify()'), 't', 'the ledger verifies');
is( query($node, 'clinic', q(SELECT sum((SELECT count(*) FROM apm_fetch('p' || i) WHERE record ->> 'n' LIKE 'c%')) FROM generate_series(1, 40) AS i),
		'doctor'),
	$acknowledged, 'every record reads');

# --- 3. across a rotation ---------------------------------------------------------------------

my $rid = submit('p2', 'before');
$session = $node->background_psql('clinic');
$session->query_safe(q(SET ROLE doctor; BEGIN; SELECT apm_submit('p2', '{"n": "signed before"}')));
rotate('apm-signing');
wait_for($node, 'clinic', $settled, 'the origin has another key');
$session->query_safe('COMMIT');
$session->quit;
wait_for($node, 'clinic', $drained, 'what was signed before it is mined after it');
is( query($node, 'clinic', q(SELECT l.height > m.height FROM apm.ledger_record AS l, apm.member AS m
		WHERE m.member = 2 AND m.ended_height IS NULL ORDER BY l.height DESC, l.position DESC LIMIT 1)),
	't', 'in a later block');
like(read_of('p2'), qr/signed before/, 'and valid');
query($node, 'clinic', qq(SELECT apm_submit('p2', '{"n": "amended"}', amends => '$rid')), 'doctor');
query($node, 'clinic', q(SELECT apm_update_patient('p2', '{"Firstname": "Amina"}', '{"Ward": "7"}')), 'clerk');
wait_for($node, 'clinic', $drained, 'a patient of the first key is changed, and his record amended, under the fourth');
unlike(read_of('p2'), qr/\bbefore,/, 'the old record is superseded');
like(read_of('p2'), qr/amended/, 'by the new one');
is(query($node, 'clinic', q(SELECT count(*) FROM apm.refused)), '0', 'nothing was refused');

# --- 4. a crash between file and transaction ----------------------------------------------------

foreach my $kind ('network-server', 'node-signing')
{
	my $dying = $node->background_psql('clinic', on_error_stop => 0);
	my $pid = $dying->query_safe('SELECT pg_backend_pid()');
	my $generation = $dying->query_safe("BEGIN; SELECT apm_rotate_key('$kind')");

	ok(-e "$keys/$kind.$generation.pem", "$kind: the file is there");
	kill_process($pid);
	eval { $dying->quit };
	is(query($node, 'clinic', "SELECT count(*) FROM apm.rotation WHERE kind = '$kind' AND generation = $generation"), '0', 'and nothing else, after the crash');
	is(rotate($kind), $generation, 'called again, it is taken');
	wait_for($node, 'clinic', $settled, 'and comes into use');
}
submit('p2', 'after the crash');
wait_for($node, 'clinic', $drained, 'the journey goes on');
like(read_of('p2'), qr/after the crash/, 'to its end');

# --- 5. a copy -------------------------------------------------------------------------------------

is(query($node, 'clinic', 'SELECT ok FROM apm_verify()'), 't', 'the ledger verifies');
my $dump = $node->basedir . '/clinic.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('clinic') ], 'a dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $dump ], 'is restored');
is(query($node, 'copy', 'SELECT ok FROM apm_verify()'), 't', 'and verifies');
is(query($node, 'copy', 'SELECT count(*) FROM apm.rotation'), query($node, 'clinic', 'SELECT count(*) FROM apm.rotation'), 'with its rotations');

# --- 6. an erasure reaches the copy -----------------------------------------------------------------

my $request = query($node, 'clinic', q(SELECT apm_forget('p3', 'objection')), 'clerk');
wait_for($node, 'clinic', "SELECT state FROM apm_erasure_state('$request')", 'a patient is forgotten', 'done');
my $openable = q(SELECT count(*) FROM apm.patient WHERE generation IN (SELECT generation FROM apm.key WHERE kind = 'apm-wrapping' AND has_private));
cmp_ok(query($node, 'copy', $openable), '>=', $patients, 'with the journal out of the way, the copy\'s bytes and the keys would open him');
my $last = rotate('apm-wrapping');
wait_for($node, 'clinic', $settled, 'the wrapping key gets another successor');
query($node, 'clinic', "SELECT apm_retire_key('apm-wrapping', $_)") foreach (2 .. $last - 1);
is(query($node, 'copy', $openable), '0', 'once the old generations are retired no key is left for anybody in it');
is(query($node, 'clinic', $openable), query($node, 'clinic', 'SELECT count(*) FROM apm.patient'), 'everybody else opens here');
like(read_of('p2'), qr/after the crash/, 'and reads');

my $ledger = $node->basedir . '/ledger';
$node->safe_psql('clinic', "COPY (SELECT apm_export_ledger()) TO '$ledger'");
my ($said, $complaint);
ok(IPC::Run::run([ 'apm-verify', 'ledger', $ledger ], '>', \$said, '2>', \$complaint), 'the whole ledger, with all its signing keys, verifies without a server')
  or diag("$said$complaint");

$node->stop;
done_testing();

sub start_client
{
	my ($role, $name) = @_;
	return IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('clinic') . " user=$role", '-c', "CALL work('$name')" ],
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default * 2));
}

# Until clients have been acknowledged more.
sub await_progress
{
	my $before = query($node, 'clinic', 'SELECT count(*) FROM acknowledged');
	return wait_for($node, 'clinic', "SELECT count(*) >= $before + 20 FROM acknowledged", 'records are acknowledged');
}

# A generation is retired as soon as what is on its way has gone by.
sub retired
{
	my ($kind, $generation) = @_;
	my $deadline = time() + $PostgreSQL::Test::Utils::timeout_default;

	while (time() < $deadline)
	{
		my ($state) = sqlstate($node, 'clinic', "SELECT apm_retire_key('$kind', $generation)");
		return $state eq '00000' if $state ne '55006';
	}
	return 0;
}

sub kill_worker { return kill_process(worker_pid($node, 'clinic', $_[0])) }

# Ends a process, and with it all sessions; returns when the server has recovered.
sub kill_process
{
	my ($pid) = @_;
	kill('KILL', $pid) == 1 or die "process $pid: $!";
	return wait_for($node, 'clinic', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", 'a process is killed');
}
