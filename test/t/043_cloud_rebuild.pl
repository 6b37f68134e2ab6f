# apm_rebuild_cloud(): a cloud that is lost, or not what it should be, is made what the ledger says, whatever ends the
# rebuild meanwhile, while records come and within the outbox's limit.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $limit = 150;
my $user = getpwuid($<);
my ($cloud, $new) = map { cloud_server($_) } qw(cloud second);
my $node = apm_node('hospital', settings => { restart_after_crash => 'on' });
$node->safe_psql(
	'clinic', q(
	CREATE ROLE app LOGIN IN ROLE apm_clinician;
	CREATE ROLE clerk IN ROLE apm_registrar;
	CREATE ROLE admin LOGIN IN ROLE apm_admin;
	SET ROLE clerk;
	SELECT apm_register_patient(p, jsonb_build_object('Firstname', p, 'Lastname', 'Last')) FROM unnest(ARRAY['p0', 'p1', 'p2']) AS p));
attach_cloud($node, $cloud);
submit_many(1, 1500);
wait_for($cloud, 'postgres', 'SELECT count(*) = 1500 FROM ehr', 'a cloud with 1500 records');
my $records = 1500;

# --- who may, and where
fails_with($node, 'clinic', 'CALL apm_rebuild_cloud()', '42501', qr/permission denied/, 'a clinician rebuilds nothing', 'app');
fails_with($node, 'clinic', 'BEGIN; CALL apm_rebuild_cloud()', '2D000', qr/cannot run in a transaction block/, 'nor anybody in a transaction');
fails_with($node, 'clinic', 'CALL apm_rebuild_cloud(0)', '22023', qr/1 to/, 'nor without rows');

# --- a cloud that is all right, or a little wrong
rebuild();
is(progress(), '1500|1500|0|0|t', 'a whole cloud is looked at and left as it is');
my ($one, $two, $three) = split /\n/, on($cloud, q(SELECT rid FROM ehr ORDER BY rid OFFSET 700 LIMIT 3));
on($cloud, qq(ALTER TABLE ehr DROP CONSTRAINT ehr_pkey; ALTER TABLE ehr ALTER rid DROP NOT NULL;
	DELETE FROM ehr WHERE rid = '$one';
	UPDATE ehr SET apr = set_byte(apr, 400, get_byte(apr, 400) # 1) WHERE rid = '$two';
	UPDATE ehr SET tokens = ARRAY['\\x00112233445566778899aabbccddeeff']::bytea[] WHERE rid = '$three';
	INSERT INTO ehr SELECT * FROM ehr WHERE rid = (SELECT min(rid::text)::uuid FROM ehr);
	INSERT INTO ehr SELECT NULL, apid, apr, tokens FROM ehr LIMIT 2;
	INSERT INTO ehr SELECT md5(g::text)::uuid, 'nobody', 'x', '{}' FROM generate_series(1, 5000) AS g;
	INSERT INTO ehr VALUES ('00000000-0000-0000-0000-000000000000', '', '', '{}'), ('ffffffff-ffff-ffff-ffff-ffffffffffff', '', '', '{}')));
like(verify(), qr/^f\|1500\|1\|3\|5004\|0\|0\|/, 'one with damage of every kind');
rebuild();
is(progress(), '1500|1500|4|5004|t', 'gets four records again and loses what is none');
drained();
is(verify(), 't|1500|0|0|0|0|0|', 'and is right then');
on($cloud, 'ALTER TABLE ehr ADD PRIMARY KEY (rid)');

# --- one that deletes nothing
on($cloud, 'CREATE ROLE writer LOGIN; GRANT SELECT, INSERT ON ehr TO writer');
on($cloud, "DELETE FROM ehr WHERE rid = '$one'");
$node->safe_psql('clinic', q(ALTER USER MAPPING FOR apm_worker SERVER cloud OPTIONS (SET user 'writer')));
fails_with($node, 'clinic', 'CALL apm_rebuild_cloud()', 'AP010', qr/cloud store cannot be/, 'a rebuild needs DELETE over there, and says so before it begins');
fails_with($node, 'clinic', q(SELECT apm_cloud_attach('ehr')), '42501', qr/DELETE on the table over there/, 'and so does attaching it');
is($node->safe_psql('clinic', 'SELECT count(*) FROM apm.outbox'), '0', 'nothing has been sent');
$node->safe_psql('clinic', "ALTER USER MAPPING FOR apm_worker SERVER cloud OPTIONS (SET user '$user')");

# --- it is lost, and there is another
$cloud->stop('immediate');
fails_with($node, 'clinic', 'CALL apm_rebuild_cloud()', '08000', qr/cloud store did not answer/, 'a cloud that is down cannot be rebuilt');
on($new, q(CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'busy' USING ERRCODE = '57000'; END $$;
	CREATE TRIGGER busy BEFORE INSERT ON ehr EXECUTE FUNCTION busy()));
$node->safe_psql('clinic', sprintf(q(
	CREATE SERVER second FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '%s', port '%d', dbname 'postgres', connect_timeout '3');
	CREATE USER MAPPING FOR apm_worker SERVER second OPTIONS (user '%s', password_required 'false');
	CREATE FOREIGN TABLE second (rid uuid NOT NULL, apid text COLLATE "C" NOT NULL, apr bytea NOT NULL, tokens bytea[] NOT NULL)
		SERVER second OPTIONS (table_name 'ehr');
	SELECT apm_cloud_attach('second')), $new->host, $new->port, $user));
fails_with($node, 'clinic', q(SELECT * FROM apm_fetch('p1')), 'AP005', qr/is missing/, 'in a new one the records are missing', 'app');
like(verify(), qr/^f\|1500\|1500\|0\|0\|0\|0\|/, 'all of them');

# it takes nothing yet: the outbox fills up to its limit, and the rebuild waits
set_and_reload($node, 'apm.max_outbox', $limit);
my $rebuild = start_rebuild(60);
wait_for($node, 'clinic', 'SELECT records_done > 0 AND records_queued + 60 > 150 FROM apm.rebuild', 'the rebuild fills the outbox');
wait_for($node, 'clinic', q(SELECT wait_event = 'Extension' FROM pg_stat_activity WHERE usename = 'admin'), 'and waits');
cmp_ok($node->safe_psql('clinic', 'SELECT count(*) FROM apm.outbox'), '<=', $limit, 'within its limit');

# killed with the whole server
my $before = $node->safe_psql('clinic', 'SELECT records_done FROM apm.rebuild');
my $pid = $node->safe_psql('clinic', q(SELECT pid FROM pg_stat_activity WHERE usename = 'admin'));
kill('KILL', $pid);
ends_with($rebuild, qr/server closed the connection|terminating connection/, 'it is killed');
poll($node, 'clinic', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid") or die 'server does not come back';
on($new, 'DROP TRIGGER busy ON ehr');

# called again, while records come
my $cancelled = start_rebuild(60);
poll($node, 'clinic', "SELECT records_done > $before FROM apm.rebuild") or die 'the rebuild does not go on';
is($node->safe_psql('clinic', 'SELECT count(*) FROM apm.rebuild WHERE finished_at IS NULL AND records_done >= ' . $before), '1', 'called again it goes on where it was');
$node->safe_psql('clinic', q(SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'admin'));
ends_with($cancelled, qr/^$|canceling statement/, 'cancelled');
my @both = (start_rebuild(60), start_rebuild(60));
submit_many(5, 20);
$records += 100;
ends_with($_, qr/^$/, 'two of them side by side come to the end') foreach @both;
drained();
wait_for($new, 'postgres', "SELECT count(*) = $records FROM ehr", 'the new cloud has every record');
is(verify(), "t|$records|0|0|0|0|0|", 'as the ledger has it');
is($node->safe_psql('clinic', q(SELECT string_agg(DISTINCT n::text, ',') FROM (SELECT count(*) AS n FROM apm.final_transaction WHERE kind = 2 GROUP BY tid) AS t)), '1',
	'no record became a transaction twice');
is(query($node, 'clinic', q(SELECT sum((SELECT count(*) FROM apm_fetch('p' || g))) FROM generate_series(0, 2) AS g), 'app'), $records, 'and all read back');

# --- a new PK_APM
my $old = key_id(1);
is($node->safe_psql('clinic', 'SELECT records_done <= records_total AND finished_at IS NOT NULL FROM apm.rebuild'), 't', 'the view shows the end');
is(sealed_for($old), $records, 'what the cloud has is sealed for the first key');
$node->safe_psql('clinic', q(SELECT apm_rotate_key('apm-envelope')));
fails_with($node, 'clinic', q(SELECT apm_retire_key('apm-envelope', 1)), '55006', qr/still needed/, 'which therefore cannot go');
rebuild();
drained();
is(progress(), "$records|$records|$records|0|t", 'after a rotation a rebuild sends all of it again');
is(sealed_for($old), '0', 'then it opens nothing there any more');
is(verify(), "t|$records|0|0|0|0|0|", 'and all is there, once');
$node->safe_psql('clinic', q(SELECT apm_retire_key('apm-envelope', 1)));
is(query($node, 'clinic', q(SELECT sum((SELECT count(*) FROM apm_fetch('p' || g))) FROM generate_series(0, 2) AS g), 'app'), $records, 'without it all reads back');

$node->stop;
$new->stop;
done_testing();

sub cloud_server
{
	my ($name) = @_;
	my $server = PostgreSQL::Test::Cluster->new($name);

	$server->init;
	$server->start;
	on($server, 'CREATE TABLE ehr (rid uuid PRIMARY KEY, apid text NOT NULL, apr bytea NOT NULL, tokens bytea[] NOT NULL)');
	return $server;
}

sub on
{
	my ($server, $sql) = @_;
	return $server->safe_psql('postgres', $sql);
}

# Submits so many statements of so many records.
sub submit_many
{
	my ($statements, $rows) = @_;

	foreach (1 .. $statements)
	{
		poll($node, 'clinic', "SELECT count(*) + $rows <= $limit OR $rows > $limit FROM apm.outbox") or die 'the outbox does not drain';
		my $done = 0;
		until ($done)
		{
			my ($state) = sqlstate($node, 'clinic', qq(INSERT INTO apm.patient_record (pid, record)
				SELECT 'p' || n % 3, jsonb_build_object('n', n) FROM generate_series(1, $rows) AS n), 'app');
			die "cannot submit: $state" unless $state eq '00000' || $state eq '53400';
			$done = $state eq '00000';
		}
	}
	return;
}

sub rebuild { return $node->safe_psql('clinic', 'CALL apm_rebuild_cloud()', connstr => $node->connstr('clinic') . ' user=admin') }

sub start_rebuild
{
	my ($rows) = @_;
	my %session = (errors => '');

	$session{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('clinic') . ' user=admin', '-c', "CALL apm_rebuild_cloud($rows)" ],
		'<', \undef, '>', \$session{out}, '2>', \$session{errors}, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return \%session;
}

sub ends_with
{
	my ($session, $pattern, $name) = @_;

	$session->{run}->finish;
	return like($session->{errors}, $pattern, $name);
}

sub progress
{
	return $node->safe_psql('clinic', 'SELECT records_total, records_done, records_queued, rows_removed, finished_at IS NOT NULL FROM apm.rebuild');
}

sub drained
{
	poll($node, 'clinic', 'SELECT count(*) = 0 FROM apm.outbox') or die 'the outbox does not drain';
	return;
}

sub verify { return $node->safe_psql('clinic', 'SELECT * FROM apm_verify_cloud()') }

sub key_id
{
	my ($generation) = @_;
	return $node->safe_psql('clinic', "SELECT key_id FROM apm.key WHERE kind = 'apm-envelope' AND generation = $generation");
}

# How many rows of the new cloud have the id of that key in their heads?
sub sealed_for
{
	my ($id) = @_;
	return on($new, "SELECT count(*) FROM ehr WHERE position('\\x$id'::bytea IN substring(apr FROM 1 FOR 256)) > 0");
}
