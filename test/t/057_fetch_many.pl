# Reading several patients with one call: each has his own query in the ledger, all are read or none, and
# nothing that the reader does, or that happens to him or to a worker, takes a query back.

use strict;
use warnings;
use utf8;

use lib 'test/perl';
use ApmTest;
use Test::More;

my $node = apm_node('hospital', settings => { 'apm.pseudonym' => 'random' });
my $many = 2500;     # of one call, more than a block takes

$node->safe_psql('clinic', q(
	CREATE ROLE doctor; GRANT apm_clinician TO doctor;
	CREATE ROLE researcher; GRANT apm_researcher TO researcher;
	CREATE ROLE clerk; GRANT apm_registrar TO clerk;
	CREATE ROLE boss; GRANT apm_admin TO boss));

my $arrived = q{SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool)
	AND NOT EXISTS (SELECT FROM apm.final_queue) AND NOT EXISTS (SELECT FROM apm.outbox)};

sub doctor { return query($node, 'clinic', $_[0], 'doctor') }
sub clerk { return query($node, 'clinic', $_[0], 'clerk') }

sub arrived
{
	my ($name) = @_;
	return wait_for($node, 'clinic', $arrived, $name);
}

# How many queries the ledger has, and how many of them were refused by that rule.
sub queries
{
	my ($rule) = @_;
	return query($node, 'clinic', 'SELECT count(*) FROM apm.leaf WHERE kind = 3'
		  . (defined $rule ? " AND apm.rule_name(rule) = '$rule'" : ''));
}

# Runs something that reads, and says how many queries the ledger has more.
sub leaves
{
	my ($name, $expected, $reads) = @_;
	my $before = queries();

	$reads->();
	return is(queries() - $before, $expected, $name);
}

clerk(q{SELECT count(apm_register_patient(pid, jsonb_build_object('Firstname', upper(pid)), '{"Age": 30}'))
	FROM unnest(ARRAY['p1', 'p2', 'p3', 'p4', 'gone', U&'caf\00E9']) AS pid});
doctor(q{INSERT INTO apm.patient_record (pid, record) SELECT pid, jsonb_build_object('visit', visit)
	FROM unnest(ARRAY['p1', 'p2', 'p3', 'gone', U&'caf\00E9']) AS pid, generate_series(1, 2) AS visit});
arrived('the records are stored');

# --- What comes back -----------------------------------------------------------------------------

my $got;
leaves('three patients are three queries', 3, sub {
	$got = doctor(q{SELECT string_agg(concat_ws(' ', pid, record ->> 'Firstname', record ->> 'Age', record ->> 'visit'), ', ')
		FROM apm_fetch(ARRAY['p3', 'p1', 'p4'], 'treatment')});
});
is($got, 'p3 P3 30 1, p3 P3 30 2, p1 P1 30 1, p1 P1 30 2', 'patient by patient in the order of the array; one has none');
is(query($node, 'clinic', q{SELECT count(DISTINCT apid) FROM (SELECT apid FROM apm.ledger_query ORDER BY height DESC, position DESC LIMIT 3) AS q}),
	'3', 'each has his own');
is(doctor(q{SELECT string_agg(m.rid::text, ' ' ORDER BY m.rid) = (SELECT string_agg(f.rid::text, ' ' ORDER BY f.rid) FROM apm_fetch('p1') AS f)
	FROM apm_fetch(ARRAY['p1']) AS m}), 't', 'one in an array is the same as one');
is(doctor(q{SELECT bool_and(superseded_by IS NULL AND flags = '{}') FROM apm_fetch(ARRAY['p1', 'p2'])}), 't', 'nothing is superseded, nothing flagged');
leaves('one who is named twice is asked for once', 2, sub {
	$got = doctor(q{SELECT string_agg(pid || (record ->> 'visit'), ' ') FROM apm_fetch(ARRAY['p2', 'p1', 'p2', 'p1', 'p2'])});
});
is($got, 'p21 p22 p11 p12', 'and comes once');
leaves('two spellings of one pid are one patient', 1, sub {
	$got = doctor(q{SELECT count(*), min(pid) = U&'cafe\0301', max(pid) = U&'cafe\0301' FROM apm_fetch(ARRAY[U&'cafe\0301', U&'caf\00E9'])});
});
is($got, '2|t|t', 'as he was spelt first');
leaves('nobody is no query', 0, sub { $got = doctor(q{SELECT count(*) FROM apm_fetch('{}'::text[])}) });
is($got, '0', 'and no row');

# one name, two functions
is(doctor(q{SELECT count(*) FROM apm_fetch('p1', 'treatment')}), '2', 'a literal is one pid');
is(doctor(q{PREPARE one AS SELECT count(*) FROM apm_fetch($1); EXECUTE one ('p1')}), '2', 'and so is a parameter without a type');
is(doctor(q{PREPARE more (text[]) AS SELECT count(*) FROM apm_fetch($1); EXECUTE more ('{p1,p2}')}), '4', 'an array says so');

# versions
my $first = query($node, 'clinic', q{SELECT rid FROM apm_fetch('p4') LIMIT 1}, 'doctor');
is($first, '', 'p4 has none yet');
$first = doctor(q{SELECT apm_submit('p4', '{"Disease": "Cold"}')});
arrived('a record is stored');
my $second = doctor(qq{SELECT apm_submit('p4', '{"Disease": "Influenza"}', amends => '$first')});
arrived('and amended');
is(doctor(q{SELECT record ->> 'Disease', superseded_by IS NULL FROM apm_fetch('p4')}), 'Influenza|t', 'what is current');
is(doctor(q{SELECT string_agg(concat_ws(' ', record ->> 'Disease', superseded_by), ', ') FROM apm_fetch('p4', all_versions => true)}),
	"Cold $second, Influenza", 'all versions, the older one with what supersedes it');
is(doctor(q{SELECT string_agg(concat_ws(' ', pid, record ->> 'Disease', superseded_by), ', ') FROM apm_fetch(ARRAY['p4'], NULL, true)}),
	"p4 Cold $second, p4 Influenza", 'of an array, too');

# --- What is wrong -------------------------------------------------------------------------------

leaves('what cannot be asked asks nothing', 0, sub {
	fails_with($node, 'clinic', q{SELECT * FROM apm_fetch(ARRAY['p1', NULL, 'p2'])}, '22004', qr/pid must not be null.*Element 2/s, 'a null', 'doctor');
	fails_with($node, 'clinic', q{SELECT * FROM apm_fetch(NULL::text[])}, '22004', qr/pids must not be null/, 'no array', 'doctor');
	fails_with($node, 'clinic', q{SELECT * FROM apm_fetch(NULL)}, '22004', qr/pid must not be null/, 'no pid', 'doctor');
	fails_with($node, 'clinic', q{SELECT * FROM apm_fetch(ARRAY['p1', ''])}, '22023', qr/pid must not be empty/, 'an empty pid', 'doctor');
	fails_with($node, 'clinic', q{SELECT * FROM apm_fetch(ARRAY['p1'], 'curiosity')}, '22023',
		qr/no such purpose.*treatment, payment, operations, emergency, patient-request, audit, research/s, 'an unknown purpose', 'doctor');
	fails_with($node, 'clinic', q{SELECT * FROM apm_fetch(ARRAY['p1'], fields => '[1]')}, '22023', qr/fields must be a JSON object/, 'fields that are none', 'doctor');
	fails_with($node, 'clinic', q{SELECT * FROM apm_fetch(ARRAY(SELECT 'x' || g FROM generate_series(1, 10001) AS g))}, '54000',
		qr/more than 10000 patients are asked for at once/, 'more than a letter holds', 'doctor');
});

# refused reads are in the ledger, with the rule that refused them
my $refused = queries('patient');
leaves('of all that were asked for, whoever is refused', 3, sub {
	fails_with($node, 'clinic', q{SELECT * FROM apm_fetch(ARRAY['p1', 'nobody', 'p2'], 'treatment')}, 'AP001',
		qr/^query refused by the contract: rule "patient"(?!.*nobody).*element 2/s, 'an unknown patient: no record of the others either', 'doctor');
});
is(queries('patient') - $refused, 1, 'the refused one has its rule');

clerk(q{SELECT apm_revoke_access('gone')});
arrived('a patient withdraws');
$refused = queries('consent');
leaves('who withdrew is asked for', 2, sub {
	fails_with($node, 'clinic', q{SELECT * FROM apm_fetch(ARRAY['p1', 'gone'])}, 'AP001', qr/rule "consent".*element 2/s, 'and refused', 'doctor');
});
is(queries('consent') - $refused, 1, 'which is in the ledger');
is(query($node, 'clinic', q{SELECT count(*) FROM apm.leaf AS l JOIN apm.body AS b USING (tid) WHERE l.kind = 3 AND l.rule <> 0}),
	query($node, 'clinic', q{SELECT count(*) FROM apm.leaf WHERE kind = 3 AND rule <> 0}), 'with the whole query');
fails_with($node, 'clinic', q{SELECT * FROM apm_fetch(ARRAY['p1', 'p2'])}, 'AP001', qr/rule "consent".*element 1/s, 'who has no grant is told the first', 'researcher');
fails_with($node, 'clinic', q{SELECT * FROM apm_fetch(ARRAY['p1'])}, '42501', qr/permission denied/, 'who is nothing may not even ask', 'clerk');
fails_with($node, 'clinic', q{SELECT * FROM apm_fetch('p1', fields => '{"ward": 7}')}, 'AP001', qr/rule "template"/,
	'public fields that no template has', 'doctor');

# --- As a member of roles --------------------------------------------------------------------------

$node->safe_psql('clinic', 'CREATE ROLE ward; CREATE ROLE team; GRANT ward TO team');
clerk(q{SELECT apm_grant_access('p1', 'ward')});
arrived('a role is granted a patient');
my $session = $node->background_psql('clinic', on_error_stop => 0);
my $read = q{SELECT 'rows', count(*) FROM apm_fetch('p1');};
$session->query('SET ROLE researcher');
unlike($session->query($read), qr/rows/, 'who is not in it does not read');
$node->safe_psql('clinic', 'GRANT team TO researcher');
like($session->query($read), qr/rows\|2/, 'made a member of a member of it, in the same session, he does');
$node->safe_psql('clinic', 'REVOKE team FROM researcher');
unlike($session->query($read), qr/rows/, 'and no more when he is not');
$session->quit;
$node->safe_psql('clinic', q{
	CREATE ROLE crowded; GRANT apm_clinician TO crowded;
	DO $$ BEGIN FOR i IN 1 .. 255 LOOP EXECUTE format('CREATE ROLE crowd%s ROLE crowded', i); END LOOP; END $$});
leaves('too many roles', 0, sub {
	fails_with($node, 'clinic', q{SELECT * FROM apm_fetch('p1')}, '54000', qr/belongs to more than 255 roles/, 'are refused before anything is asked', 'crowded');
});

# --- What happens meanwhile ------------------------------------------------------------------------

my $waiting = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND wait_event_type = 'Extension'};

# Lets a reader wait for two verdicts that do not come, does something that lets them come, and returns what he was told.
sub meanwhile
{
	my ($name, $does) = @_;
	my $before = queries();
	my $blocker = $node->background_psql('clinic', on_error_die => 1);
	my $reader = $node->background_psql('clinic', on_error_stop => 0);

	$blocker->query_safe('BEGIN; LOCK TABLE apm.verdict IN SHARE MODE');    # nobody judges
	$reader->query_until(qr/asked/, "SET ROLE doctor;\n\\echo asked\nSELECT 'rows', count(*) FROM apm_fetch(ARRAY['p1', 'p2']);\n");
	wait_for($node, 'clinic', 'SELECT count(*) = 2 FROM apm.pool', "$name: two queries wait in the pool");
	wait_for($node, 'clinic', $waiting, "$name: and one reader for both", '1');
	$does->($blocker);
	wait_for($node, 'clinic', 'SELECT count(*) FROM apm.leaf WHERE kind = 3', "$name: the queries are in the ledger", $before + 2);
	my $told = $reader->query('SELECT 1');
	$told .= $reader->{stderr};
	$reader->quit;
	$blocker->quit;
	return $told;
}

my $told = meanwhile('let be', sub { $_[0]->query_safe('COMMIT') });
like($told, qr/rows\|4/, 'let be, he reads');
$told = meanwhile('cancelled', sub {
	$node->safe_psql('postgres', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND wait_event_type = 'Extension'});
	wait_for($node, 'clinic', $waiting, 'cancelled: he waits no more', '0');
	$_[0]->query_safe('COMMIT');
});
like($told, qr/canceling statement/, 'cancelled, he is told so');
unlike($told, qr/rows/, 'cancelled, he reads nothing');
$told = meanwhile('network server gone', sub {
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'apm network server'});
	wait_for($node, 'clinic', $waiting, 'network server gone: he waits no more', '0');
	$_[0]->query_safe('COMMIT');
});
like($told, qr/worker ended before it had answered/, 'he is told that nobody answers');
unlike($told, qr/rows/, 'and reads nothing');
$told = meanwhile('miner gone', sub {
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'apm miner'});
	$_[0]->query_safe('COMMIT');
});
like($told, qr/rows\|4/, 'the miner gone and come again, he reads');

# somebody's trigger takes one of two queries away
$node->safe_psql('clinic', q{
	CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF EXISTS (SELECT FROM apm.pool) THEN RETURN NULL; END IF; RETURN NEW; END $$;
	CREATE TRIGGER lose BEFORE INSERT ON apm.pool FOR EACH ROW EXECUTE FUNCTION lose()});
leaves('one of two queries is lost', 1, sub {
	fails_with($node, 'clinic', q{SELECT * FROM apm_fetch(ARRAY['p1', 'p2'])}, 'AP007', qr/the chain has lost the query/, 'neither patient is read', 'doctor');
});
$node->safe_psql('clinic', 'DROP TRIGGER lose ON apm.pool');
is(doctor(q{SELECT count(*) FROM apm_fetch(ARRAY['p1', 'p2'])}), '4', 'once it is gone, both are');

# --- How many at once, how many in an hour -----------------------------------------------------------

sub policy
{
	my ($name, $value) = @_;
	query($node, 'clinic', "SELECT apm_set_policy('$name', '$value')", 'boss');
	return arrived("policy $name is $value");
}

policy('fetch_cap', 2);
is(doctor(q{SELECT count(*) FROM apm_fetch(ARRAY['p1', 'p2'])}), '4', 'as many as the policy allows');
leaves('one more: all of them are refused', 3, sub {
	fails_with($node, 'clinic', q{SELECT * FROM apm_fetch(ARRAY['p1', 'p2', 'p3'])}, 'AP001', qr/rule "cap".*element 1/s, 'each by the cap', 'doctor');
});
is(queries('cap'), 3, 'which is in the ledger');
policy('fetch_cap', 0);
my $valid = query($node, 'clinic', q{SELECT count(*) FROM apm.ledger_query WHERE rule = 0 AND actor IN (SELECT pseudonym FROM apm.staff WHERE acting = 'doctor')});
policy('query_rate', $valid + 1);    # none of the doctor's queries is an hour old
fails_with($node, 'clinic', q{SELECT * FROM apm_fetch(ARRAY['p1', 'p2'])}, 'AP001', qr/rule "rate".*element 2/s, 'the second one is one too many', 'doctor');
fails_with($node, 'clinic', q{SELECT * FROM apm_fetch('p1')}, 'AP001', qr/rule "rate"/, 'and every one after it', 'doctor');
is(queries('rate'), 2, 'which is in the ledger');
policy('query_rate', 0);

# --- More than a block takes ---------------------------------------------------------------------------

clerk(qq{SELECT count(apm_register_patient('many' || g, jsonb_build_object('Firstname', 'F' || g))) FROM generate_series(1, $many) AS g});
doctor(qq{INSERT INTO apm.patient_record (pid, record) SELECT 'many' || g, to_jsonb(g) FROM generate_series(1, $many) AS g});
arrived('many patients have a record each');
leaves('many patients are as many queries', $many, sub {
	$got = doctor(qq{SELECT count(*), sum((record #>> '{}')::int), bool_and(pid = 'many' || (record #>> '{}'))
		FROM apm_fetch(ARRAY(SELECT 'many' || g FROM generate_series(1, $many) AS g))});
});
is($got, "$many|" . $many * ($many + 1) / 2 . '|t', 'each with his record');
cmp_ok(query($node, 'clinic', qq{SELECT count(DISTINCT height) FROM (SELECT height FROM apm.ledger_query ORDER BY height DESC, position DESC LIMIT $many) AS q}),
	'>', 1, 'in several blocks');

$node->stop;
done_testing();
