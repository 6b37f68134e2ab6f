# Whom the ledger calls erased leaves the cloud, whatever is down or dies meanwhile, and no push brings a row of his back.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $user = getpwuid($<);
my $cloud = PostgreSQL::Test::Cluster->new('cloud');
$cloud->init;
$cloud->start;
on_cloud(q(CREATE TABLE ehr (rid uuid PRIMARY KEY, apid text NOT NULL, apr bytea NOT NULL, tokens bytea[] NOT NULL);
	CREATE INDEX ON ehr (apid); CREATE ROLE writer LOGIN; GRANT SELECT, INSERT ON ehr TO writer;
	CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'busy' USING ERRCODE = '57000'; END $$));

my $node = apm_node('hospital', settings => { restart_after_crash => 'on' });
$node->safe_psql(
	'clinic', q(
	CREATE ROLE app LOGIN IN ROLE apm_clinician;
	CREATE ROLE clerk IN ROLE apm_registrar;
	SET ROLE clerk;
	SELECT apm_register_patient('p' || g, jsonb_build_object('Firstname', 'p' || g)) FROM generate_series(1, 12) AS g));
attach_cloud($node, $cloud);
# final transactions, to handle one again
$node->safe_psql('clinic', q(CREATE TABLE kept_final AS SELECT * FROM apm.final_queue WHERE false;
	CREATE FUNCTION keep_final() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS
		$$ BEGIN INSERT INTO kept_final SELECT NEW.*; RETURN NULL; END $$;
	CREATE TRIGGER keep AFTER INSERT ON apm.final_queue FOR EACH ROW EXECUTE FUNCTION keep_final()));
my $first = query($node, 'clinic', q(SELECT apm_submit('p1', '{"n": 1}')), 'app');
query($node, 'clinic', q(INSERT INTO apm.patient_record (pid, record) SELECT 'p' || 1 + g % 12, jsonb_build_object('n', g) FROM generate_series(1, 120) AS g), 'app');
wait_for($cloud, 'postgres', 'SELECT count(*) = 121 FROM ehr', 'records of twelve patients are in the cloud');
on_cloud('CREATE TABLE kept AS TABLE ehr');
my %apid_of = map { ($_ => apid_of(query($node, 'clinic', "SELECT min(rid::text) FROM apm_fetch('$_')", 'app'))) } map { "p$_" } 1 .. 12;
my ($of_first, $of_second) = @apid_of{qw(p1 p2)};

# --- a removal that nobody ordered
$node->safe_psql('clinic', "INSERT INTO apm.cloud_removal VALUES ('$of_second', now())");
my $tid = $node->safe_psql('clinic', "SELECT tid FROM apm.ledger_record WHERE rid = '$first'");

# --- nothing is in the way
forgotten('p1');
wait_for($cloud, 'postgres', "SELECT count(*) = 0 FROM ehr WHERE apid = '$of_first'", 'an erased patient\'s rows leave the cloud');
is(on_cloud('SELECT count(*) FROM ehr'), '110', 'and no others, of whoever else a row in apm.cloud_removal may be');
$node->safe_psql('clinic', 'DELETE FROM apm.cloud_removal');
is(verify(), 't|110|0|0|0|0|0|', 'the cloud is that of the ledger');

# --- he is put back
on_cloud("INSERT INTO ehr SELECT * FROM kept WHERE rid = '$first'");
is(verify(), "f|110|0|0|0|1|0|row $first is of a patient who is erased", 'a row of his that is put back is found');
on_cloud("UPDATE ehr SET apid = 'somebody' WHERE rid = '$first'");
is(verify(), "f|110|0|0|1|0|0|row $first belongs to no record", 'under another name as well');
$node->safe_psql('clinic', 'CALL apm_rebuild_cloud()');
is(verify(), 't|110|0|0|0|0|0|', 'a rebuild removes it');

# --- a final transaction that comes late, an outbox row that comes late
behind_guards(qq(
	DELETE FROM apm.final_transaction WHERE tid = '$tid';
	INSERT INTO apm.final_queue (height, sealed, pooled_at, queued_at) SELECT height, sealed, pooled_at, now() FROM kept_final
		WHERE height = (SELECT height FROM apm.ledger_void WHERE tid = '$tid')));
wait_for($node, 'clinic', "SELECT count(*) = 1 FROM apm.final_transaction WHERE tid = '$tid' AND rule = 0 AND stored_at IS NULL",
	'a record that is void before its final transaction is handled is written down');
is($node->safe_psql('clinic', 'SELECT (SELECT count(*) FROM apm.outbox) + (SELECT count(*) FROM apm.quarantine)'), '0', 'and goes nowhere');
behind_guards("INSERT INTO apm.outbox (rid, tid, apid, apr, queued_at) VALUES ('$first', '$tid', '$of_first', 'x', now())");
wait_for($node, 'clinic', 'SELECT count(*) = 0 FROM apm.outbox', 'a row of his in the outbox is taken from there');
is(on_cloud("SELECT count(*) FROM ehr WHERE rid = '$first'"), '0', 'and does not get to the cloud');

# --- the cloud is down
$cloud->stop('fast');
forgotten('p2');
wait_for($node, 'clinic', q(SELECT removals = 1 AND last_error_code LIKE '08%' FROM apm.status WHERE worker = 'apm cloud'), 'a cloud that is down delays it');
$cloud->start;
wait_for($cloud, 'postgres', 'SELECT count(*) = 100 FROM ehr', 'when it is back he leaves it');
removed();

# --- his records are in the outbox
on_cloud('CREATE TRIGGER busy BEFORE INSERT ON ehr EXECUTE FUNCTION busy()');
query($node, 'clinic', q(INSERT INTO apm.patient_record (pid, record) SELECT 'p' || 3 + g % 2, '{"n": 0}' FROM generate_series(1, 20) AS g), 'app');
wait_for($node, 'clinic', 'SELECT count(*) = 20 FROM apm.outbox', 'records wait in the outbox');
forgotten('p3');
wait_for($node, 'clinic', 'SELECT count(*) = 10 FROM apm.outbox', 'those of a patient who is erased leave it');
is(on_cloud('SELECT count(*) FROM ehr'), '90', 'and his others the cloud, though it takes nothing');
on_cloud('DROP TRIGGER busy ON ehr');
wait_for($cloud, 'postgres', 'SELECT count(*) = 100 FROM ehr', 'those of others get there when it does');
removed();

# --- the worker is killed while the cloud removes, and when it has
my $holder = $cloud->background_psql('postgres', on_error_stop => 1);
my $apid = $apid_of{p5};
$holder->query_safe("BEGIN; SELECT rid FROM ehr WHERE apid = '$apid' FOR UPDATE");
forgotten('p5');
wait_for($node, 'clinic', q(SELECT activity = 'removing from the cloud' FROM apm.status WHERE worker = 'apm cloud'), 'the cloud is removing');
kill_worker();
$holder->query_safe('COMMIT');
wait_for($cloud, 'postgres', "SELECT count(*) = 0 FROM ehr WHERE apid = '$apid'", 'killed then, it does so after its restart');
removed();
$holder->quit;

$apid = $apid_of{p6};
my $stopper = $node->background_psql('clinic', on_error_stop => 1);
$stopper->query_safe('BEGIN; LOCK TABLE apm.quarantine IN SHARE MODE');
forgotten('p6');
wait_for($cloud, 'postgres', "SELECT count(*) = 0 FROM ehr WHERE apid = '$apid'", 'the cloud has removed another');
wait_for($node, 'clinic', q(SELECT activity = 'recording what is removed' FROM apm.status WHERE worker = 'apm cloud'), 'which is not recorded');
kill_worker();
removed();
eval { $stopper->quit };

# --- it may not delete
$node->safe_psql('clinic', q(ALTER USER MAPPING FOR apm_worker SERVER cloud OPTIONS (SET user 'writer')));
$apid = $apid_of{p7};
forgotten('p7');
wait_for($node, 'clinic', q(SELECT removals = 1 AND last_error_code = '42501' FROM apm.status WHERE worker = 'apm cloud'), 'without the right to delete it waits, and shows');
my $sent = query($node, 'clinic', q(SELECT apm_submit('p12', '{"n": 0}')), 'app');
wait_for($cloud, 'postgres', "SELECT count(*) = 1 FROM ehr WHERE rid = '$sent'", 'other records are pushed meanwhile');
$node->safe_psql('clinic', "ALTER USER MAPPING FOR apm_worker SERVER cloud OPTIONS (SET user '$user')");
removed();
is(on_cloud("SELECT count(*) FROM ehr WHERE apid = '$apid'"), '0', 'with it he leaves');

# --- the cloud refuses to lose one of three
my @three = @apid_of{qw(p8 p9 p10)};
on_cloud(qq(CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'no'; END \$\$;
	CREATE TRIGGER keep BEFORE DELETE ON ehr FOR EACH ROW WHEN (OLD.apid = '$three[1]') EXECUTE FUNCTION keep()));
forgotten($_) foreach qw(p8 p9 p10);
wait_for($cloud, 'postgres', "SELECT count(*) = 0 FROM ehr WHERE apid IN ('$three[0]', '$three[2]')", 'of three, two leave');
wait_for($node, 'clinic', q(SELECT removals = 1 AND removals_failed = 1 AND last_error_code = 'P0001' FROM apm.status WHERE worker = 'apm cloud'),
	'the one whom the cloud refuses to lose shows');
like(verify(), qr/^t\|\d+\|0\|0\|0\|0\|\d+\|$/, 'his rows are on their way out');
on_cloud('DROP TRIGGER keep ON ehr');
removed();
is(on_cloud("SELECT count(*) FROM ehr WHERE apid = '$three[1]'"), '0', 'it is tried until they are gone');
like(verify(), qr/^t\|\d+\|0\|0\|0\|0\|0\|$/, 'the cloud is that of the ledger');
is($node->safe_psql('clinic', 'SELECT ok FROM apm_verify()'), 't', 'and the ledger is right');

$node->stop;
$cloud->stop;
done_testing();

sub on_cloud { return $cloud->safe_psql('postgres', @_) }

sub verify { return $node->safe_psql('clinic', 'SELECT * FROM apm_verify_cloud()') }

# Has a patient forgotten, and waits until he is on the ledger and here.
sub forgotten
{
	my ($pid) = @_;
	my $request = query($node, 'clinic', "SELECT apm_forget('$pid', 'objection')", 'clerk');

	poll($node, 'clinic', "SELECT state FROM apm.erasure_request WHERE id = '$request'", 'done') or die "$pid is not forgotten";
	return;
}

sub removed
{
	return wait_for($node, 'clinic', q(SELECT count(*) = 0 FROM apm.cloud_removal), 'nobody has to be removed any more');
}

sub apid_of
{
	my ($rid) = @_;
	return on_cloud("SELECT apid FROM ehr WHERE rid = '$rid'");
}

# Writes to tables that note who does.
sub behind_guards
{
	my ($change) = @_;
	my @guarded = qw(outbox final_queue final_transaction);

	return $node->safe_psql('clinic', 'BEGIN;'
		. join('', map { "ALTER TABLE apm.$_ DISABLE TRIGGER ${_}_noticed;" } @guarded) . "$change;"
		. join('', map { "ALTER TABLE apm.$_ ENABLE ALWAYS TRIGGER ${_}_noticed;" } @guarded) . 'COMMIT');
}

sub kill_worker
{
	my $pid = worker_pid($node, 'clinic', 'apm cloud');

	kill('KILL', $pid) or die 'no worker to kill';
	poll($node, 'clinic', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid") or die 'server does not come back';
	return;
}
