# What a superuser does to a table of the ledger, its pool or a queue by hand is refused or
# noticed, by whatever statement and on whatever way; and a way past the guards ends mining,
# says why, and is not accepted.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('guarded');
my %watched = (
	chain => 'node', tip => 'hash', member => 'spki', contract_item => 'item', ledger_patient => 'profile', ledger_record => 'leaf',
	ledger_token => 'token', ledger_query => 'rule', ledger_consent => 'grantee', ledger_export => 'digest', ledger_count => 'total',
	submission => 'tid', queue => 'sealed', pool => 'pt', candidate => 'hash', final_queue => 'sealed', outbox => 'apr',
	waiting => 'sealed', final_transaction => 'rule', load_notice => 'relation');
my @kept = qw(block leaf body);
my %forged = (
	block => 'sha256(hash), height + 1, header, signature FROM apm.block LIMIT 1',
	leaf => 'block, position + 100, gen_random_uuid(), kind, rule, leaf FROM apm.leaf LIMIT 1',
	body => 'gen_random_uuid(), nonce, transaction, proof FROM apm.body LIMIT 1');

sub sql { return query($node, 'clinic', @_) }

sql('CREATE ROLE doctor; GRANT apm_clinician TO doctor; CREATE ROLE clerk IN ROLE apm_registrar');
sql(q(SELECT apm_register_patient('AF89XI96FD24', '{"Firstname": "Ahmed", "Lastname": "Ali"}')), 'clerk');
sql(q(INSERT INTO apm.patient_record (pid, record) VALUES ('AF89XI96FD24', '{"Temperature": 38}')), 'doctor');
wait_for($node, 'clinic', 'SELECT count(*) = 1 FROM apm.cloud_record', 'a record is stored');
sql('CREATE TABLE nothing (); CREATE TABLE one AS SELECT 1 AS n');

# --- statements
foreach my $role (qw(origin replica))
{
	my $set = "BEGIN; SET session_replication_role = $role;";

	foreach my $table (@kept)
	{
		foreach my $statement ("UPDATE apm.$table SET " . ($table eq 'block' ? 'height = height' : 'tid = tid'),
			"DELETE FROM apm.$table", "TRUNCATE apm.$table", "INSERT INTO apm.$table SELECT " . $forged{$table},
			"MERGE INTO apm.$table USING one ON true WHEN MATCHED THEN DELETE")
		{
			my ($state) = sqlstate($node, 'clinic', "$set $statement");

			is($state, 'AP006', "$role: $statement");
		}
	}
	foreach my $table (sort keys %watched)
	{
		my $column = $watched{$table};

		foreach my $statement ("UPDATE apm.$table SET $column = $column", "DELETE FROM apm.$table",
			"COPY apm.$table FROM PROGRAM 'true'", "MERGE INTO apm.$table USING one ON false WHEN MATCHED THEN DELETE",
			"WITH gone AS (DELETE FROM apm.$table RETURNING 1) SELECT FROM gone")
		{
			is(sql("$set $statement; SELECT count(*) FROM apm.load_notice WHERE relation = '$table'; ROLLBACK"), 1, "$role: $statement");
		}
		fails_with($node, 'clinic', "$set TRUNCATE apm.$table", 'AP006', qr/no_truncate/, "$role: TRUNCATE apm.$table");
	}
}
fails_with($node, 'clinic', 'TRUNCATE apm.queue, apm.pool CASCADE', 'AP006', qr/no_truncate/, 'TRUNCATE with others');
is(sql('SELECT count(*) FROM apm.load_notice'), '0', 'all of this was rolled back');

# --- ways past the guards
my %ways = (
	'a rule' => [ 'CREATE RULE away AS ON INSERT TO apm.queue DO INSTEAD NOTHING', 'DROP RULE away ON apm.queue' ],
	'row security' => [ 'ALTER TABLE apm.ledger_record ENABLE ROW LEVEL SECURITY', 'ALTER TABLE apm.ledger_record DISABLE ROW LEVEL SECURITY' ],
	'a parent' => [ 'CREATE TABLE parent (LIKE apm.pool); ALTER TABLE apm.pool INHERIT parent',
		'ALTER TABLE apm.pool NO INHERIT parent; DROP TABLE parent' ],
	'a partitioned parent' => [ 'CREATE TABLE parts (LIKE apm.outbox) PARTITION BY LIST (rid); ALTER TABLE parts ATTACH PARTITION apm.outbox DEFAULT',
		'ALTER TABLE parts DETACH PARTITION apm.outbox; DROP TABLE parts' ]);
foreach my $way (sort keys %ways)
{
	my ($make, $undo) = @{ $ways{$way} };

	sql($make);
	sql('SELECT apm_run_miner()');
	wait_for($node, 'clinic', q(SELECT refusal ~ 'guards the ledger' FROM apm.status WHERE worker = 'apm miner'), "$way: the node refuses");
	fails_with($node, 'clinic', q(SELECT * FROM apm_fetch('AF89XI96FD24')), 'AP006', qr/serves no reads.*guards the ledger/s, "$way: a reader is told so", 'doctor');
	fails_with($node, 'clinic', 'SELECT apm_accept_rollback()', 'AP006', qr/written past its guards.*HINT/s, "$way: it is not accepted");
	fails_with($node, 'clinic', q(INSERT INTO apm.patient_record (pid, record) VALUES ('AF89XI96FD24', '{"Temperature": 39}')), 'AP006',
		qr/not written as they were given/, "$way: nothing is acknowledged that is not there", 'doctor') if $way eq 'a rule';
	sql($undo);
	sql('SELECT apm_accept_rollback()');
	wait_for($node, 'clinic', q(SELECT refusal IS NULL FROM apm.status WHERE worker = 'apm miner'), "$way: undone, it goes on");
}
sql(q(CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
	CREATE TRIGGER swallow BEFORE INSERT ON apm.queue FOR EACH ROW EXECUTE FUNCTION swallow()));
fails_with($node, 'clinic', q(INSERT INTO apm.patient_record (pid, record) VALUES ('AF89XI96FD24', '{"Temperature": 40}')), 'AP006',
	qr/not written as they were given/, 'nor what a trigger takes away', 'doctor');
sql('DROP TRIGGER swallow ON apm.queue');
is(query($node, 'clinic', q(SELECT count(*) FROM apm_fetch('AF89XI96FD24')), 'doctor'), '1', 'reads work again');

done_testing();
