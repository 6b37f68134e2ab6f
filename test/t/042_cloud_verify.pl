# apm_verify_cloud(): each kind of damage in the cloud is found and counted, what is on its way is not taken for
# damage, and what comes and goes meanwhile neither.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $records = 603;
my $cloud = PostgreSQL::Test::Cluster->new('cloud');
$cloud->init;
$cloud->start;
on_cloud('CREATE TABLE ehr (rid uuid PRIMARY KEY, apid text NOT NULL, apr bytea NOT NULL, tokens bytea[] NOT NULL)');

my $node = apm_node('hospital');
$node->safe_psql(
	'clinic', q(
	CREATE ROLE app LOGIN IN ROLE apm_clinician;
	CREATE ROLE clerk IN ROLE apm_registrar;
	CREATE ROLE auditor IN ROLE apm_auditor;
	CREATE ROLE admin IN ROLE apm_admin;
	SET ROLE admin;
	SELECT apm_declare_attribute('ward', 'other', searchable => true);
	SET ROLE clerk;
	SELECT apm_register_patient(p, jsonb_build_object('Firstname', p, 'Lastname', 'Last')) FROM unnest(ARRAY['p1', 'p2', 'p3', 'gone']) AS p;));
attach_cloud($node, $cloud);

is(verify(), 't|0|0|0|0|0|0|', 'an empty cloud is that of an empty ledger');
$node->safe_psql('clinic', qq(SET ROLE app;
	INSERT INTO apm.patient_record (pid, record)
		SELECT 'p' || 1 + n % 3, jsonb_build_object('n', n, 'ward', 'w' || n % 5) FROM generate_series(1, $records - 2) AS n));
my $first = submit('p1', 'first');
arrived($records - 1);
my $second = query($node, 'clinic', qq(SELECT apm_submit('p1', '{"n": "second"}', amends => '$first')), 'app');
arrived($records);
is(verify(), "t|$records|0|0|0|0|0|", 'a whole cloud: each record of the ledger, superseded or not');
is(verify('admin'), "t|$records|0|0|0|0|0|", 'for the administrator, too');
fails_with($node, 'clinic', 'SELECT * FROM apm_verify_cloud()', '42501', qr/permission denied/, 'and for nobody else', 'app');

# --- each kind of damage
on_cloud('CREATE TABLE kept AS TABLE ehr');
my $row = "rid = '$first'";
my $other = "(SELECT min(rid::text)::uuid FROM ehr WHERE apid <> (SELECT apid FROM ehr WHERE $row))";
my $named = qr/^record $first is not as the ledger has it$/;

damage("DELETE FROM ehr WHERE $row", '1|0|0|0', qr/^record $first is missing$/, 'a row that is missing');
damage('DELETE FROM ehr', "$records|0|0|0", qr/^record \S+ is missing$/, 'all of them');
foreach my $byte (0, 2, 100, 150, 300, 600)
{
	damage("UPDATE ehr SET apr = set_byte(apr, $byte, get_byte(apr, $byte) # 1) WHERE $row", '0|1|0|0', $named, "byte $byte of an aPR altered");
}
damage("UPDATE ehr SET apr = set_byte(apr, octet_length(apr) - 1, get_byte(apr, octet_length(apr) - 1) # 128) WHERE $row", '0|1|0|0', $named, 'its last one');
damage("UPDATE ehr SET apr = '' WHERE $row", '0|1|0|0', $named, 'an aPR that is empty');
damage("UPDATE ehr AS e SET apr = k.apr FROM kept AS k WHERE e.$row AND k.rid = '$second'", '0|1|0|0', $named, 'another version of a record in its place');
damage("UPDATE ehr AS e SET apr = k.apr FROM kept AS k WHERE e.rid IN ('$first', '$second') AND k.rid IN ('$first', '$second') AND e.rid <> k.rid",
	'0|2|0|0', $named, 'two aPRs of a patient swapped');
damage("UPDATE ehr AS e SET apr = k.apr, apid = k.apid, tokens = k.tokens FROM kept AS k
	WHERE e.rid IN ('$first', $other) AND k.rid IN ('$first', $other) AND e.rid <> k.rid",
	'0|2|0|0', qr/is not as the ledger has it$/, 'two rows of two patients swapped');
damage("UPDATE ehr SET apid = (SELECT apid FROM ehr WHERE rid = $other) WHERE $row", '0|1|0|0', $named, 'another patient\'s aPid');
my $ward = query($node, 'clinic', q(SELECT min(rid::text) FROM apm.ledger_token));
foreach my $tokens ("'{}'", 'tokens || tokens', q(ARRAY['\x00']::bytea[]), 'ARRAY[NULL]::bytea[]', 'ARRAY[tokens]',
	'ARRAY[set_byte(tokens[1], 0, get_byte(tokens[1], 0) # 1)]')
{
	damage("UPDATE ehr SET tokens = $tokens WHERE rid = '$ward'", '0|1|0|0', qr/^record $ward is not as/, "tokens changed to $tokens");
}
foreach my $rid ('00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '01234567-89ab-cdef-0123-456789abcdef')
{
	damage("INSERT INTO ehr SELECT '$rid', apid, apr, tokens FROM ehr WHERE $row", '0|0|1|0', qr/^row $rid belongs to no record$/, "an extra row $rid");
}
damage(q(INSERT INTO ehr SELECT md5(g::text)::uuid, 'nobody', '\x00', '{}' FROM generate_series(1, 10000) AS g), '0|0|10000|0',
	qr/belongs to no record$/, 'ten thousand extra rows');
damage("INSERT INTO ehr SELECT * FROM ehr WHERE $row", '0|1|0|0', $named, 'a row twice');
damage("INSERT INTO ehr SELECT md5('x')::uuid, 'nobody', 'x', '{}' FROM generate_series(1, 5000)", '0|0|4097|0', qr/belongs to no record$/,
	'more rows under one Rid than it is willing to count');
damage("INSERT INTO ehr SELECT NULL, apid, apr, tokens FROM ehr WHERE $row", '0|0|1|0', qr/^row without an id belongs to no record$/, 'a row without a Rid');
damage("UPDATE ehr SET rid = NULL WHERE $row", '1|0|1|0', qr/^(row without an id|record $first)/, 'a row that lost its Rid');
is(verify(), "t|$records|0|0|0|0|0|", 'what was put right is right');
on_cloud('ALTER TABLE ehr RENAME COLUMN apr TO hidden');
fails_with($node, 'clinic', 'SELECT * FROM apm_verify_cloud()', 'AP010', qr/cannot be read/, 'a cloud that cannot be read is no finding');
on_cloud('ALTER TABLE ehr RENAME COLUMN hidden TO apr');

# --- the ledger is compared with, not what the cloud or the outbox says
on_cloud(q(CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'busy' USING ERRCODE = '57000'; END $$;
	CREATE TRIGGER busy BEFORE INSERT ON ehr EXECUTE FUNCTION busy()));
submit('p2', $_) foreach 1 .. 3;
wait_for($node, 'clinic', q(SELECT count(*) = 3 AND NOT EXISTS (SELECT FROM apm.pool) FROM apm.outbox), 'three records wait in the outbox');
is(verify(), 't|' . ($records + 3) . '|0|0|0|0|3|', 'what is in the outbox is pending');
on_cloud('DROP TRIGGER busy ON ehr');
arrived($records + 3);

my ($miner, $server) = map { worker_pid($node, 'clinic', "apm $_") } 'miner', 'network server';
kill('STOP', $miner);
submit('p3', 'late');
wait_for($node, 'clinic', 'SELECT count(*) = 1 FROM apm.pool', 'a record is on its way to the ledger');
kill('STOP', $server);
kill('CONT', $miner);
wait_for($node, 'clinic', 'SELECT count(*) = ' . ($records + 4) . ' FROM apm.ledger_record', 'and is there before the network server knows');
is(verify(), 't|' . ($records + 4) . '|0|0|0|0|1|', 'it is pending, too');
kill('CONT', $server);
arrived($records + 4);

# --- records come while it looks
my $statements = join('', map { sprintf(qq(SELECT apm_submit('p%d', '{"n": 1}');\n), 1 + $_ % 3) } 1 .. 600);
my $busy = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('clinic') . ' user=app' ], '<', \$statements, '>', \my $rids, '2>', \my $errors);
my @seen;
push @seen, verify() while $busy->pumpable && @seen < 1000 && ($busy->pump_nb, 1)[1];
$busy->finish;
is($errors, '', 'a client submits six hundred records one by one');
cmp_ok(scalar(@seen), '>', 3, 'it looks several times while records come: ' . scalar(@seen));
is(join(', ', grep { !/^t\|\d+\|0\|0\|0\|0\|\d+\|$/ } @seen), '', 'and finds nothing wrong');
arrived($records + 604);

# --- the cloud is down
$cloud->stop('fast');
fails_with($node, 'clinic', 'SELECT * FROM apm_verify_cloud()', '08000', qr/cloud store did not answer/, 'a cloud that is down is not a lost one');
$cloud->start;

$node->stop;
$cloud->stop;
done_testing();

sub on_cloud { return $cloud->safe_psql('postgres', @_) }

sub submit
{
	my ($pid, $text) = @_;
	return query($node, 'clinic', qq(SELECT apm_submit('$pid', '{"n": "$text"}')), 'app');
}

sub arrived
{
	my ($n) = @_;

	poll($cloud, 'postgres', "SELECT count(*) = $n FROM ehr") && poll($node, 'clinic', 'SELECT count(*) = 0 FROM apm.outbox')
	  or die 'records do not arrive';
	return;
}

sub verify
{
	my ($role) = @_;
	return query($node, 'clinic', 'SELECT * FROM apm_verify_cloud()', $role // 'auditor');
}

# Damages the cloud, which must be found: missing, altered, unknown and erased ones; then puts it right.
sub damage
{
	my ($change, $counts, $fault, $name) = @_;
	my $found;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	on_cloud("ALTER TABLE ehr DROP CONSTRAINT IF EXISTS ehr_pkey, ALTER rid DROP NOT NULL; $change");
	$found = verify();
	on_cloud('TRUNCATE ehr; INSERT INTO ehr TABLE kept; ALTER TABLE ehr ADD PRIMARY KEY (rid)');
	return like($found, qr/^f\|\d+\|\Q$counts\E\|0\|(.*)$/, $name) && like($found =~ s/.*\|//r, $fault, "$name: the first fault");
}
