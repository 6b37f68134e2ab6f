# Where the stages look for their next rows: rows that were handled and that a held snapshot keeps in the tables are not
# walked past each time, and a row that comes late, behind others of higher ids, is found all the same.

use strict;
use warnings;

use ApmTest;
use PostgreSQL::Test::Cluster;
use Test::More;

my $node = apm_node('hospital');
my $many = 2000;
my $few = 20;

$node->safe_psql('clinic', 'CREATE ROLE app; GRANT apm_clinician TO app; CREATE ROLE clerk IN ROLE apm_registrar');
query($node, 'clinic', q(SELECT apm_register_patient('p', '{"Firstname": "F", "Lastname": "L"}')), 'clerk');

my $submitted = 0;

# So many records in one statement, until they are in the cloud.
sub submit
{
	my ($number) = @_;

	query($node, 'clinic', qq(INSERT INTO apm.patient_record (pid, record)
		SELECT 'p', jsonb_build_object('visit', i) FROM generate_series(1, $number) AS i), 'app');
	$submitted += $number;
	wait_for($node, 'clinic', "SELECT count(*) = $submitted FROM apm.final_transaction WHERE stored_at IS NOT NULL",
		"$submitted records are stored");
}

# Entries of the indexes by which rows are looked for that the workers have met, once they have told of all that they did.
sub met
{
	wait_for($node, 'clinic', qq(SELECT n_tup_del >= $submitted FROM pg_stat_user_tables WHERE relid = 'apm.$_'::regclass),
		"what the workers did to apm.$_ is counted") foreach qw(queue pool outbox);
	return $node->safe_psql('clinic', q(SELECT sum(idx_tup_read) FROM pg_stat_user_indexes
		WHERE indexrelname IN ('queue_ready_idx', 'pool_pkey', 'final_queue_pkey', 'outbox_pkey')));
}

# --- a snapshot is held
my $holder = $node->background_psql('clinic', on_error_die => 1);
$holder->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM apm.final_transaction');
submit($many / 10) foreach 1 .. 10;
my $before = met();
submit(1) foreach 1 .. $few;
my $took = met() - $before;

# A stage that began at the beginning would meet all of them for each record, in its table alone.  Each of the four may do so once in
# ten seconds, and as long as its front has not followed yet.
cmp_ok($took, '<', $few * $many, "$few records after $many: the stages do not walk past those each time");
$holder->query_safe('COMMIT');
$holder->quit;

# --- a record that is committed after others with higher ids
my $late = $node->background_psql('clinic', on_error_die => 1);
$late->query_safe(q(BEGIN; SET ROLE app; INSERT INTO apm.patient_record (pid, record) VALUES ('p', '{"visit": "late"}')));
submit(1) foreach 1 .. $few;
$late->query_safe('COMMIT');
$late->quit;
$submitted++;
wait_for($node, 'clinic', "SELECT count(*) = $submitted FROM apm.final_transaction WHERE stored_at IS NOT NULL",
	'the late one is stored');

$node->stop;
done_testing();
